"""The same derivative by two other ways, and what one step of gradient descent does with it."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network import by_path
from jaxprop.network.call import call

from .derivation import Equation, Prose, Step, worked
from .formula import Derivative, Formula, Number, Symbol, parts
from .printers import to_text
from .question import Given, Question
from .reading import C

STEP = 2.0**-17  # near the cube root of float64's epsilon, where truncation and rounding are in balance
AFTER, FLIPPED, η = Symbol("C", ("after",)), Symbol("C", ("flipped",)), Symbol("η")


class Measured(NamedTuple):
    """C of the row as it is, its slope in one parameter by `jax.grad` and by a nudge of `h`, and C after two steps."""

    parameter: float
    before: float
    jax_grad: float
    finite_difference: float
    h: float
    after: float
    flipped: float


def measure(question: Question, net: Layer, cost: Cost, given: Given, learning_rate: float) -> Measured:
    """Evaluate C around one parameter; call it in float64."""
    found = Measured(*map(float, _measure(net, cost, question.path, given, question.index, learning_rate)))
    if not (math.isfinite(found.before) and math.isfinite(found.jax_grad)):
        raise JaxpropError(
            f"explain: C of row {question.row} is {found.before:g} and its derivative {found.jax_grad:g}: there is "
            "nothing to write out; look for NaN or infinity in x, the parameters and the targets"
        )
    return found


@partial(jax.jit, static_argnums=(0, 1, 2))
def _measure(net: Layer, cost: Cost, path: str, given: Given, index: tuple[int, ...], learning_rate: float) -> Measured:
    tree, known = jax.tree.structure(given.params), by_path(given.params)
    leaf = known[path]

    def of(changed: Any) -> Any:
        filled = jax.tree.unflatten(tree, [changed if name == path else p for name, p in known.items()])
        return cost(call(net, given.x, filled, given.rng), given.targets)[given.at]

    grad = jax.grad(of)(leaf)[index]
    parameter = leaf[index]
    h = STEP * jnp.maximum(1, jnp.abs(parameter))
    moves = jnp.stack([jnp.zeros_like(grad), h, -h, -learning_rate * grad, learning_rate * grad])
    before, right, left, after, flipped = jax.lax.map(lambda by: of(leaf.at[index].add(by)), moves)
    return Measured(parameter, before, grad, (right - left) / (2 * h), h, after, flipped)  # pyright: ignore


def witnesses(gradient: Formula, value: float, measured: Measured) -> Step:
    """Return the step with the value by `jax.grad` and by a central difference."""
    nudge = f"nudged both ways by {measured.h:g}"
    equations = (
        Equation((gradient, Number(value)), "the chain rule"),
        Equation((gradient, Number(measured.jax_grad)), "jax.grad"),
        Equation((gradient, Number(measured.finite_difference)), nudge, exact=False),
    )
    sentence = "Two ways that use none of the formulas above: jax.grad, and a small nudge of the parameter itself."
    return Step("The same number by other ways", (sentence,), equations)


def update(parameter: Symbol, gradient: Formula, learning_rate: float, measured: Measured, values: Any) -> Step:
    """Return the step of gradient descent: the new parameter, and the predicted and the actual change of C."""
    new = Symbol(parameter.name + "'", parameter.index, parameter.layer)
    values |= {η: learning_rate, C: measured.before, AFTER: measured.after, FLIPPED: measured.flipped}
    descent = parameter - η * gradient
    predicted = -(η * gradient**2)

    def equations() -> Iterator[Equation]:
        yield worked(new, descent, values=values)
        for label, change in (
            ("predicted change of C", predicted),
            ("actual change of C", AFTER - C),
            ("with the sign flipped", FLIPPED - C),
        ):
            written = worked(change, change, values=values, label=label)
            yield written if _shows(written) else Equation((written.sides[0], written.sides[-1]), label)

    found = tuple(equations())
    values[new] = found[0].sides[-1].value  # pyright: ignore[reportAttributeAccessIssue]
    return Step("The update", _sentence(parameter, learning_rate, measured), found)


def _shows(change: Equation) -> bool:
    """Whether the two costs whose difference it is can be told apart as they are written."""
    numbers = [to_text(part) for part in parts(change.sides[1]) if isinstance(part, Number)]
    return len(set(numbers)) == len(numbers)


def _sentence(parameter: Symbol, η_value: float, measured: Measured) -> Prose:
    w = Symbol("w" if len(parameter.index) > 1 else parameter.name)
    slope = Derivative(C, w)
    if measured.jax_grad == 0:
        return ("The derivative is 0, so gradient descent, with its step ", η * slope, ", leaves ", w, " where it is.")
    rate = Equation((η, Number(η_value)))
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
