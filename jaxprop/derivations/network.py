"""`explain`: the derivative of one weight or bias of a network, written out with the network's own numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Key, PyTree

from jaxprop.arrays.one_run import quickly
from jaxprop.costs import Cost
from jaxprop.derivations.cost_formulas import cost_formula
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, to_text, worked
from jaxprop.derivations.formula import Derivative, Formula, H, Number, Symbol, evaluate, parts
from jaxprop.derivations.general import General
from jaxprop.derivations.moments import Moment, check_quantity, with_quantity
from jaxprop.derivations.names import named, symbols_of
from jaxprop.derivations.passing import record
from jaxprop.derivations.question import (
    Given,
    Question,
    X,
    ask,
    check_row,
    check_settings,
    examples_of,
    read_place,
    rows_of,
)
from jaxprop.derivations.reading import C, Reading, float64, is_read, read
from jaxprop.derivations.steps import Steps
from jaxprop.derivations.writing import Writer
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer, Linear
from jaxprop.network import by_path, leaves
from jaxprop.network.call import call, require_layer

Facts = dict[str, Any]
Values = dict[Formula, float]
ROUNDING = 1e-15  # of C: some roundings of float64
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


def explain(
    net: Layer, cost: Cost, learning_rate: float = 0.1, most: int = 5, *,
    names: Mapping[str, str] | None = None, columns: Sequence[str] | None = None,
    quantity: Moment | None = None,
) -> Callable[..., Derivation]:  # fmt: skip
    """Return a function that writes out the chain rule for one weight, bias or input, with this network's numbers.

        ∂C/∂w  =  ∂C/∂a · ∂a/∂z · ∂z/∂w        δ = ∂C/∂z

    In a chain of `Linear` and activations ∂C/∂a of a hidden weight is the sum over every path back from the cost, the
    `most` largest written, the others summed and counted. In any other network the derivative is a sum over all the
    places where the parameter was used: positions, windows of a convolution, ids, steps in time, each with what came in
    and its error, and tied weights use by use. The error of the largest term is traced back layer by layer, the sum in
    front of each layer written as far as its `most` largest terms. Layers are told there by their path in the code.

    Beside it stand the value by `jax.grad` and by a nudge, and what the update w - η·∂C/∂w changes. Everything is
    computed in float64, whatever the dtype of x and the parameters. What is compiled for one parameter serves for all.

    Args:
        net: any network. One that mixes the examples of a batch (`BatchNorm`) is written out for all rows of x
            together: C is their mean. Of a layer of your own, slopes are what `jax.jvp` finds.
        cost: C. One without a formula is taken by its numbers.
        learning_rate: η, the step size of the update.
        most: how many terms of a sum, and how many paths, are written out.
        names: your own names of what is printed: {"w5": "2.W[0,0]", "i1": "x[0]", "out_h1": "a1[0]", "E": "C"}, where
            a1, z1 are of the first Linear, and y, target and C (the cost) may have names as well.
        columns: the names of the inputs, in their order: x[age] is written where it would be x[3].
        quantity: one more step, what all the rows of x say of this weight: `jp.stats.Variance()`, `SecondMoment()`,
            `SignalToNoise()` or `NoiseScale()`, with the derivatives of the rows that it is made of.

    Returns:
        `run(x, params, targets, path=None, index=None, *, row=0, rng=None) -> Derivation`, for the parameter `path`
        ("0.W") at `index` ((12, 3): from input 12 to unit 3) and one row of x `[N, ...]` and targets `[N, ...]`.
        "0.W[12,3]", "x[3]" (an input: ∂C/∂x), the name of a column and a name of your own are paths too. Without a
        path, the weight of the first Linear with the largest derivative in size is taken, and without an index the
        largest of the path; `facts["picked"]` and the first step say so. What a layer draws with `rng` is drawn in
        float64 too. `.facts`, which come first in the JSON: path, index, row, layer, cost, picked,
        value, jax_grad, finite_difference, delta, factors (their product is the value), paths (the largest, with the
        units from the parameter to the output) and rest (how many more, and their sum), learning_rate, parameter,
        updated, before, after, predicted_change, actual_change, flipped_change. Of a sum over places the only factor is
        the derivative itself, and there are terms (label, the index of the place, product, and factors with their
        symbols; with `rest` they add up to the value, and `paths` has the same numbers) and trail (the layers from the
        parameter to the cost, with the error in front of each). layer is then the path of the layer.

    Raises:
        JaxpropError: for a path, an index or a row that is not there, for a derivative by whole numbers, such as ids,
            and for a quantity of rows where a layer mixes them.

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
    >>> net, x = jp.Chain(jp.Conv(1, (2,)), jp.Flatten(), jp.Linear(1)), jnp.array([[[1.0], [3.0], [2.0]]])
    >>> params = net.init(jax.random.key(0), x)
    >>> facts = explain(net, jp.HalfSquaredError())(x, params, jnp.array([[1.0]]), "0.W", (0, 0, 0)).facts
    >>> sorted(term["label"] for term in facts["terms"]), [link["layer"] for link in facts["trail"]]
    (['window 0', 'window 1', 'window 2'], ['1', '2'])
    """
    if isinstance(net, str):
        raise JaxpropError(f"explain: {net!r:.60} is an expression; write jp.derive({net!r:.60}, at=2.0)")
    require_layer(net, "explain")
    check_settings(cost, learning_rate, most)
    check_quantity(quantity)
    if not isinstance(names or {}, Mapping) or not all(isinstance(name, str) for name in names or ()):
        raise JaxpropError(f'explain: names must be a mapping such as {{"w5": "0.W[0,0]"}}, found {names!r}')
    names, columns = dict(names or {}), None if columns is None else tuple(columns)

    def run(
        x: ArrayLike, params: PyTree, targets: ArrayLike, path: str | None = None,
        index: int | tuple[int, ...] | None = None, *, row: int = 0, rng: Key[Array, ""] | None = None,
    ) -> Derivation:  # fmt: skip
        examples = examples_of(x, targets)
        known: dict[str, ArrayLike] = dict(by_path(params))
        if not isinstance(x, tuple):  # a pair, as of queries and memory, has no number that x[3] could mean
            known.setdefault(X, np.asarray(x)[0])
        labels = columns if len(columns or ()) == np.size(known.get(X, 0)) else None
        place, at_index = read_place(path, index, names, labels)
        row = check_row(row, examples)
        # an rng draws for the whole batch, so the row keeps what was drawn for it
        all_rows = rng is not None or net.mixes_examples
        rows, at = (slice(None), row) if all_rows else (slice(row, row + 1), 0)
        with jax.enable_x64(True):
            inputs = float64(rows_of(x, rows))
            if place == X and X in known and X not in by_path(params):
                inputs = np.asarray(inputs, np.float64)
            given = Given(inputs, float64(params), float64(np.asarray(targets)[rows]), rng, at)
            picked = ""
            if at_index is None and place in known and not np.ndim(known[str(place)]):
                at_index = ()
            if place is None and not by_path(params):
                raise JaxpropError("explain: this network has no parameters, so there is nothing to change")
            if place is None or (at_index is None and place in known and np.ndim(known[str(place)])):
                place, at_index, picked = _pick(net, cost, given, None if place is None else str(place))
            question = ask(net, cost, most, known, place, at_index, row, picked)
            y = np.zeros(_outputs(question, given))
            cost.check(y, given.targets)
            cost.check_values(y, given.targets)
            measured = _measure(question, given, float(learning_rate))
            reading = read(question, given) if is_read(question) else None
            if reading is not None:
                derivation = _of_chain(question, reading, measured)
            else:
                derivation = _of_any(question, given, measured)
            symbols = symbols_of(names, labels, question, known, numbered=reading is not None)
            if quantity is not None:
                every = given._replace(x=float64(rows_of(x, slice(None))), targets=float64(np.asarray(targets)))
                derivation = with_quantity(derivation, question, every, quantity)
            return named(derivation, symbols)

    return run


def _outputs(question: Question, given: Given) -> tuple[int, ...]:
    """The shape of the answer; refuses a derivative by inputs that can only be whole numbers."""
    try:
        return jax.eval_shape(lambda g: call(question.net, g.x, g.params, g.rng), given).shape
    except JaxpropError as error:
        if question.is_input and "ids" in str(error):
            raise JaxpropError(
                "explain: x is whole numbers, which are looked up: there is no derivative by x"
            ) from None
        raise


def _of_chain(question: Question, reading: Reading, measured: Measured) -> Derivation:
    """The derivation for a parameter of a `Linear` in a chain of layers on vectors: every path is known."""
    values, formulas = {}, None
    if reading.levels[-1].way == "cost":
        formulas = cost_formula(question.cost, reading.y, reading.targets, values)
        values |= {Symbol("y", (k,)): float(v) for k, v in enumerate(reading.y)}
    steps = Steps(question, reading, Writer(reading, formulas, values, question.most))
    written = list(steps.write(measured.before))
    paths, last = steps.whole_way()
    factors = [
        {"name": name, "symbol": factor, "value": values[factor]}
        for name, factor in zip(_roles(steps, reading), steps.factors, strict=True)
    ]
    facts = {"delta": float(reading.levels[0].nodes[0].errors[steps.unit]), "factors": factors, **paths}
    return _derivation(question, measured, steps.parameter, steps.gradient, facts, (*written, *last), values)


def _roles(steps: Steps, reading: Reading) -> list[str]:
    """The names of the factors whatever the layer: ∂C/∂a, ∂a/∂z, ∂z/∂w."""
    level = reading.levels[0]
    names = [level.nodes[0].name, *(f"u{i}" for i in range(1, len(level.stages))), *(["a"] if level.stages else [])]
    own = [] if steps.is_input else [Symbol("w" if steps.is_weight else "b")]
    chain = [C, *map(Symbol, reversed(names)), *own]
    return [to_text(Derivative(of, by)) for of, by in pairwise(chain)]


def _of_any(question: Question, given: Given, measured: Measured) -> Derivation:
    """The derivation for a parameter of any layer: from its use, and its largest error traced back."""
    written = General(question, given, record(question.net, question.cost, given), measured.before)
    steps = written.steps()
    written.values[written.parameter] = measured.parameter
    return _derivation(question, measured, written.parameter, written.gradient, written.facts(), steps, written.values)


def _derivation(
    question: Question, measured: Measured, parameter: Symbol, gradient: Formula, own: Facts, steps: tuple[Step, ...],
    values: Values,
) -> Derivation:  # fmt: skip
    """The steps found so far, and what follows whatever the layer: the witnesses, the update and the facts."""
    rate, value = measured.learning_rate, values[gradient]
    of = "the whole batch" if question.net.mixes_examples else f"row {question.row}"
    title: Prose = (Equation((gradient, Number(value))), f" for {of}: the chain rule, written out")
    facts = {
        **{"path": question.path, "index": list(question.index), "row": question.row, "layer": parameter.layer},
        **{"cost": repr(question.cost), "picked": question.picked or None},
        **{"value": value, "jax_grad": measured.jax_grad},
        **{"finite_difference": measured.finite_difference, "learning_rate": rate},
        **{"parameter": measured.parameter, "updated": measured.parameter - rate * value},
        **{"before": measured.before, "after": measured.after, "predicted_change": -rate * value**2},
        **{"actual_change": measured.after - measured.before, "flipped_change": measured.flipped - measured.before},
        **own,
    }
    last = [_witnesses("input" if question.is_input else "parameter", gradient, value, measured)]
    if question.is_input:  # it is given, and no step changes it
        facts |= dict.fromkeys(
            ("learning_rate", "updated", "after", "predicted_change", "actual_change", "flipped_change")
        )
    else:
        last.append(_update(parameter, gradient, measured, values))
    return Derivation(title, (*steps, *last), values, facts)


def _pick(net: Layer, cost: Cost, given: Given, path: str | None) -> tuple[str, tuple[int, ...], str]:
    """Return the path, the index and the words of what tells most: what changes the cost of this row the most.

    Where no path is given, of the weights of the first Linear with any derivative but 0: their way back is the longest.
    """
    slopes = _slopes(given, np.asarray(_cost_and_slopes(net, cost, given, path == X, 0, 0.0)[1]), path == X)
    weights = [f"{leaf.path}.W".lstrip(".") for leaf in leaves(net) if type(leaf.layer) is Linear]
    asked = path
    if path is None:
        able = [*(each for each in weights if each in slopes), *slopes]
        path = next((each for each in able if np.any(slopes[each])), able[0])
    found = np.unravel_index(int(np.argmax(np.abs(slopes[path]))), slopes[path].shape)
    index = tuple(int(i) for i in found)
    where = f"Of {path}" if asked else f"Nothing else was asked, so it is about {_farthest(path, able)}: of {path}"
    whose = "the whole batch" if net.mixes_examples else "this row"
    return path, index, f"{where}, this number has the largest derivative in size for {whose}. "


def _farthest(path: str, able: Sequence[str]) -> str:
    """What was picked is called: the weights farthest from the cost, where some farther ones do not matter here."""
    if path == able[0]:
        return "the layer farthest from the cost"
    return "the layer farthest from the cost with a derivative that is not 0"


def _slopes(given: Given, slopes: np.ndarray, of_x: bool) -> dict[str, np.ndarray]:
    """The derivatives by path, out of one long row of them: the parameters', or those of one example of x."""
    if of_x:
        return {X: slopes.reshape(np.shape(given.x))[given.at]}
    known = by_path(given.params)
    ends = np.cumsum([np.size(leaf) for leaf in known.values()])
    return {p: part.reshape(np.shape(known[p])) for p, part in zip(known, np.split(slopes, ends[:-1]), strict=True)}


def _measure(question: Question, given: Given, learning_rate: float) -> Measured:
    """Evaluate C around one parameter; call it in float64."""
    index, of_x = question.index, question.is_input
    known = {X: given.x} if of_x else by_path(given.params)
    if of_x:
        index = (given.at, *index)
    parameter = float(known[question.path][index])
    first = sum(np.size(known[path]) for path in list(known)[: list(known).index(question.path)])
    place = first + int(np.ravel_multi_index(index, np.shape(known[question.path])))

    values, slopes = _cost_and_slopes(question.net, question.cost, given, of_x, place, learning_rate)
    before, right, left, after, flipped = map(float, np.asarray(values))
    slope = float(np.asarray(slopes)[place])
    if not (math.isfinite(before) and math.isfinite(slope)):
        raise JaxpropError(
            f"explain: C of row {question.row} is {before:g} and its derivative {slope:g}: there is nothing to write "
            "out; look for NaN or infinity in x, the parameters and the targets"
        )
    h = H * max(1.0, abs(parameter))
    return Measured(learning_rate, parameter, before, slope, (right - left) / (2 * h), h, after, flipped)


@quickly(0, 1, 3)
def _cost_and_slopes(
    net: Layer, cost: Cost, given: Given, of_x: bool, place: int, learning_rate: float
) -> tuple[Array, Array]:
    """C with the number at `place` of all parameters (or of x) as it is, nudged both ways, and a step down and up;

    and ∂C/∂(each of them). It is one program for all of them.
    """
    theta, tree = ravel_pytree(given.x if of_x else given.params)

    def of(theta: Array) -> Array:
        x, params = (tree(theta), given.params) if of_x else (given.x, tree(theta))
        costs = cost(call(net, x, params, given.rng), given.targets)
        return jnp.mean(costs) if net.mixes_examples else costs[given.at]

    slopes = jax.grad(of)(theta)
    h, step = H * jnp.maximum(1.0, jnp.abs(theta[place])), learning_rate * slopes[place]
    moves = jnp.stack([jnp.zeros_like(h), h, -h, -step, step])
    return jax.lax.map(lambda by: of(theta.at[place].add(by)), moves), slopes


def _witnesses(what: str, gradient: Formula, value: float, measured: Measured) -> Step:
    """The step with the value by `jax.grad` and by a central difference."""
    nudge = f"nudged both ways by {measured.h:g}"
    equations = (
        Equation((gradient, Number(value)), "the chain rule"),
        Equation((gradient, Number(measured.jax_grad)), "jax.grad"),
        Equation((gradient, Number(measured.finite_difference)), nudge, exact=False),
    )
    sentence = f"Two ways that use none of the formulas above: jax.grad, and a small nudge of the {what} itself."
    apart, found = abs(measured.finite_difference - value), max(abs(measured.finite_difference), abs(value))
    if apart > 1e-3 * found and apart > 1e-9 * abs(measured.before):  # which is more than what C rounds to, over h
        sentence += (
            " The nudge finds another number here: within it C has a corner or a jump, as relu has a corner at 0, or "
            "bends sharply, or the derivative of a layer is a convention."
        )
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
    if measured.learning_rate * measured.jax_grad**2 <= ROUNDING * abs(measured.before):
        return "So small a change is lost where C is rounded: what C does here says nothing."
    down, up = measured.after - measured.before, measured.flipped - measured.before
    fall = "Here C falls" if down < 0 else "Here C rises: the step is too large" if down > 0 else "Here C does not move"
    flipped = "it rises" if up > 0 else "it falls as well: this step is too large" if up < 0 else "it does not move"
    return f"{fall}; with the sign flipped {flipped}."
