"""`explain`: the derivative of one weight or bias of a network, written out with the network's own numbers."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Key, PyTree

from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.derivations.cost_formulas import cost_formula
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, to_text, worked
from jaxprop.derivations.formula import Derivative, Formula, H, Number, Symbol, evaluate, parts
from jaxprop.derivations.question import Given, Question, ask, check_settings, examples_of, is_ours
from jaxprop.derivations.reading import C, Reading, float64, read
from jaxprop.derivations.steps import Steps
from jaxprop.derivations.writing import Writer, joined
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer, Linear
from jaxprop.network import by_path
from jaxprop.network.call import call, require_layer
from jaxprop.uses import is_use

Facts = dict[str, Any]
Values = dict[Formula, float]
THIS_IS = "this is the number that its own backward pass gives. "
AFTER, FLIPPED, η = Symbol("C", ("after",)), Symbol("C", ("flipped",)), Symbol("η")


class Measured(NamedTuple):
    """C of the row, its slope in one parameter by `jax.grad` and by a nudge of `h`, and C after a step each way."""

    learning_rate: float
    parameter: float
    before: float
    jax_grad: float
    finite_difference: float
    h: float
    after: float
    flipped: float


def explain(net: Layer, cost: Cost, learning_rate: float = 0.1, most: int = 5) -> Callable[..., Derivation]:
    """Return a function that writes out the chain rule for one weight or bias, with this network's numbers.

        ∂C/∂w  =  ∂C/∂a · ∂a/∂z · ∂z/∂w        δ = ∂C/∂z

    For a hidden weight ∂C/∂a is the sum over every path back from the cost, the `most` largest written, the others
    summed and counted. Beside it stand the value by `jax.grad` and by a nudge, and what the update w - η·∂C/∂w changes.
    Everything is computed in float64, whatever the dtype of x and the parameters. What is compiled for one parameter
    serves for all of them.

    Args:
        net: a Chain, of Chains too, whose layers answer one number per unit. Where a layer stands in between for which
            no formula is written, its numbers are taken as they are.
        cost: C. One without a formula is taken by its numbers.
        learning_rate: η, the step size of the update.
        most: how many terms of a sum, and how many paths, are written out.

    Returns:
        `run(x, params, targets, path, index, *, row=0, rng=None) -> Derivation`, for the parameter `path` ("0.W") at
        `index` ((12, 3): from input 12 to unit 3) and one row of x `[N, ...]` and targets `[N, ...]`. What a layer
        draws with `rng` is drawn in float64 too. `.facts`, which come first in the JSON: path, index, row, layer, cost,
        value, jax_grad, finite_difference, delta, factors (their product is the value), paths (the largest, with the
        units from the parameter to the output) and rest (how many more, and their sum), learning_rate, parameter,
        updated, before, after, predicted_change, actual_change, flipped_change.

    Raises:
        JaxpropError: for a path, an index or a row that is not there, and for a net that cannot be written out.

    >>> import jax.numpy as jnp
    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(1), jp.Sigmoid()), jnp.array([[1.0, 3.0, 2.0]])
    >>> W, b = jnp.array([[0.5], [-0.25], [0.75]]), jnp.array([0.1])
    >>> params = (net.init(jax.random.key(0), x)[0]._replace(W=W, b=b), ())
    >>> found = explain(net, jp.HalfSquaredError())(x, params, jnp.array([[1.0]]), "0.W", (1, 0))
    >>> [(factor["name"], round(factor["value"], 5)) for factor in found.facts["factors"]]
    [('∂C/∂a', -0.20587), ('∂a/∂z', 0.16349), ('∂z/∂w', 3.0)]
    >>> round(found.facts["value"], 5), round(found.facts["jax_grad"], 5)
    (-0.10097, -0.10097)
    """
    require_layer(net, "explain")
    check_settings(cost, learning_rate, most)
    if net.mixes_examples:
        raise JaxpropError("explain: a layer of this net mixes examples, so no cost belongs to one row alone")

    def run(
        x: ArrayLike, params: PyTree, targets: ArrayLike, path: str, index: int | tuple[int, ...], *,
        row: int = 0, rng: Key[Array, ""] | None = None,
    ) -> Derivation:  # fmt: skip
        question = ask(net, cost, most, params, path, index, row, examples_of(x, targets))
        # an rng draws for the whole batch, so the row keeps what was drawn for it
        rows, at = (slice(None), question.row) if rng is not None else (slice(question.row, question.row + 1), 0)
        with jax.enable_x64(True):
            given = Given(float64(np.asarray(x)[rows]), float64(params), float64(np.asarray(targets)[rows]), rng, at)
            y = np.zeros(jax.eval_shape(lambda g: call(net, g.x, g.params, g.rng), given).shape)
            cost.check(y, given.targets)
            cost.check_values(y, given.targets)
            measured = _measure(question, given, float(learning_rate))
            write = _linear if type(question.layer) is Linear else _unwritten
            return write(question, given, measured)

    return run


def _linear(question: Question, given: Given, measured: Measured) -> Derivation:
    """The derivation for a parameter of a `Linear`."""
    reading = read(question, given)
    values, formulas = {}, None
    if reading.levels[-1].way == "cost":
        formulas = cost_formula(question.cost, reading.y, reading.targets, values)
        values |= {Symbol("y", (k,)): float(v) for k, v in enumerate(reading.y)}
    steps = Steps(question, reading, Writer(reading, formulas, values, question.most))
    written = list(steps.write(measured.before))
    paths, last = steps.whole_way()
    factors = [
        {"name": name, "symbol": to_text(factor), "value": values[factor]}
        for name, factor in zip(_roles(steps, reading), steps.factors, strict=True)
    ]
    facts = {"delta": float(reading.levels[0].nodes[0].errors[steps.unit]), "factors": factors, **paths}
    return _derivation(question, measured, steps.parameter, steps.gradient, facts, (*written, *last), values)


def _roles(steps: Steps, reading: Reading) -> list[str]:
    """The names of the factors whatever the layer: ∂C/∂a, ∂a/∂z, ∂z/∂w."""
    level = reading.levels[0]
    names = ["z", *(f"u{i}" for i in range(1, len(level.stages))), *(["a"] if level.stages else [])]
    chain = [C, *map(Symbol, reversed(names)), Symbol("w" if steps.is_weight else "b")]
    return [to_text(Derivative(of, by)) for of, by in pairwise(chain)]


def _unwritten(question: Question, given: Given, measured: Measured) -> Derivation:
    """The derivation for a parameter of a layer without a formula: its numbers."""
    gradients = by_path(_gradients(question.net, question.cost, given))
    value = float(gradients[question.path][question.index])
    parameter = Symbol(question.path.rsplit(".", 1)[-1], question.index)
    gradient = Derivative(C, parameter)
    name, index = type(question.layer).__name__, ", ".join(map(str, question.index))
    unknown = f", a layer of your own. Its formula is not known here, so {THIS_IS}"
    ours = f". No formula is written for it yet, so {THIS_IS}"
    words = joined(
        *(parameter, f", in the code {question.path}[{index}], belongs to {name}"),
        *(ours if is_ours(question.layer) else unknown, C, f" is the cost of row {question.row} alone."),
    )
    step = Step("The derivative", words, (Equation((gradient, Number(value))),))
    factors = [{"name": to_text(Derivative(C, Symbol(parameter.name))), "symbol": to_text(gradient), "value": value}]
    paths = [{"units": [], "product": value, "factors": [value]}]
    facts = {"delta": None, "factors": factors, "paths": paths, "rest": {"count": 0, "sum": 0.0}}
    values: Values = {gradient: value, parameter: measured.parameter}
    return _derivation(question, measured, parameter, gradient, facts, (step,), values)


@partial(jax.jit, static_argnums=(0, 1))
def _gradients(net: Layer, cost: Cost, given: Given) -> PyTree:
    """The gradient of one example's cost by the layers' own backward passes."""
    _, found = manual.uses(net, cost)(given.x, given.params, given.targets, rng=given.rng)
    return jax.tree.map(lambda use: use.per_example()[given.at], found, is_leaf=is_use)


def _derivation(
    question: Question, measured: Measured, parameter: Symbol, gradient: Formula, own: Facts, steps: tuple[Step, ...],
    values: Values,
) -> Derivation:  # fmt: skip
    """The steps found so far, and what follows whatever the layer: the witnesses, the update and the facts."""
    rate, value = measured.learning_rate, values[gradient]
    title: Prose = (Equation((gradient, Number(value))), f" for row {question.row}: the chain rule, written out")
    facts = {
        **{"path": question.path, "index": list(question.index), "row": question.row, "layer": parameter.layer},
        **{"cost": repr(question.cost), "value": value, "jax_grad": measured.jax_grad},
        **{"finite_difference": measured.finite_difference, "learning_rate": rate},
        **{"parameter": measured.parameter, "updated": measured.parameter - rate * value},
        **{"before": measured.before, "after": measured.after, "predicted_change": -rate * value**2},
        **{"actual_change": measured.after - measured.before, "flipped_change": measured.flipped - measured.before},
        **own,
    }
    last = (_witnesses(gradient, value, measured), _update(parameter, gradient, measured, values))
    return Derivation(title, (*steps, *last), values, facts)


def _measure(question: Question, given: Given, learning_rate: float) -> Measured:
    """Evaluate C around one parameter; call it in float64."""
    known = by_path(given.params)
    parameter = float(known[question.path][question.index])
    first = sum(np.size(known[path]) for path in list(known)[: list(known).index(question.path)])
    place = first + int(np.ravel_multi_index(question.index, np.shape(known[question.path])))

    def at(by: float) -> tuple[float, float]:
        value, slope = _cost_and_slope(question.net, question.cost, given, place, by)
        return float(value), float(slope)

    before, slope = at(0.0)
    if not (math.isfinite(before) and math.isfinite(slope)):
        raise JaxpropError(
            f"explain: C of row {question.row} is {before:g} and its derivative {slope:g}: there is nothing to write "
            "out; look for NaN or infinity in x, the parameters and the targets"
        )
    h, step = H * max(1.0, abs(parameter)), learning_rate * slope
    difference = (at(h)[0] - at(-h)[0]) / (2 * h)
    return Measured(learning_rate, parameter, before, slope, difference, h, at(-step)[0], at(step)[0])


@partial(jax.jit, static_argnums=(0, 1))
def _cost_and_slope(net: Layer, cost: Cost, given: Given, place: int, by: float) -> tuple[Array, Array]:
    """C with the number at `place` of all parameters moved, and ∂C/∂(it): one program for every path and index."""
    theta, tree = ravel_pytree(given.params)

    def of(theta: Array) -> Array:
        return cost(call(net, given.x, tree(theta), given.rng), given.targets)[given.at]

    value, slopes = jax.value_and_grad(of)(theta.at[place].add(by))
    return value, slopes[place]


def _witnesses(gradient: Formula, value: float, measured: Measured) -> Step:
    """The step with the value by `jax.grad` and by a central difference."""
    nudge = f"nudged both ways by {measured.h:g}"
    equations = (
        Equation((gradient, Number(value)), "the chain rule"),
        Equation((gradient, Number(measured.jax_grad)), "jax.grad"),
        Equation((gradient, Number(measured.finite_difference)), nudge, exact=False),
    )
    sentence = "Two ways that use none of the formulas above: jax.grad, and a small nudge of the parameter itself."
    return Step("The same number by other ways", (sentence,), equations)


def _update(parameter: Symbol, gradient: Formula, measured: Measured, values: Values) -> Step:
    """The step of gradient descent: the new parameter, and the predicted and the actual change of C."""
    new = Symbol(parameter.name + "'", parameter.index, parameter.layer)
    values |= {η: measured.learning_rate, C: measured.before, AFTER: measured.after, FLIPPED: measured.flipped}
    descent = parameter - η * gradient
    equations = [worked(new, descent, values=values)]
    for label, change in (
        ("predicted change of C", -(η * gradient**2)),
        ("actual change of C", AFTER - C),
        ("with the sign flipped", FLIPPED - C),
    ):
        written = worked(change, change, values=values, label=label)
        equations.append(written if _shows(written) else Equation((change, written.sides[-1]), label))
    values[new] = evaluate(descent, values)
    return Step("The update", _sentence(parameter, measured), tuple(equations))


def _shows(change: Equation) -> bool:
    """Whether the two costs whose difference it is can be told apart as they are written."""
    numbers = [to_text(part) for part in parts(change.sides[1]) if isinstance(part, Number)]
    return len(set(numbers)) == len(numbers)


def _sentence(parameter: Symbol, measured: Measured) -> Prose:
    w = Symbol("w" if len(parameter.index) > 1 else parameter.name)
    slope = Derivative(C, w)
    if measured.jax_grad == 0:
        return ("The derivative is 0, so gradient descent, with its step ", η * slope, ", leaves ", w, " where it is.")
    rate = Equation((η, Number(measured.learning_rate)))
    return (
        *("Backpropagation ends here; gradient descent uses its result. It replaces ", w, " by ", w - η * slope),
        *(": minus, for ", C, " should fall; ", rate, " is the learning rate. Here ", parameter, " alone is moved. "),
        *("Along a straight line ", C, " would change by ", -(η * slope**2), "; ", C, " bends, so the smaller ", η),
        *(" is, the closer this comes. ", _outcome(measured)),
    )


def _outcome(measured: Measured) -> str:
    down, up = measured.after - measured.before, measured.flipped - measured.before
    fall = "Here C falls" if down < 0 else "Here C rises: the step is too large" if down > 0 else "Here C does not move"
    flipped = "it rises" if up > 0 else "it falls as well: this step is too large" if up < 0 else "it does not move"
    return f"{fall}; with the sign flipped {flipped}."
