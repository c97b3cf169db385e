"""A quantity of a batch for one parameter: the derivatives of its rows, and what is made of their mean and squares."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, worked
from jaxprop.derivations.formula import Derivative, Formula, Number, Product, Symbol, evaluate
from jaxprop.derivations.question import Given, Question
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer
from jaxprop.network import by_path
from jaxprop.stats import NoiseScale, Quantity, SecondMoment, SignalToNoise, Variance, collect
from jaxprop.uses import Outer, is_use

m, s, v, u, r, G, B = map(Symbol, "msvurGB")
ε = Symbol("ε")
Moment = SecondMoment | NoiseScale  # and what is made of it: Variance, SignalToNoise
KNOWN = "SecondMoment(), Variance(), SignalToNoise() or NoiseScale()"


class OfRows(NamedTuple):
    """The derivative of every row's cost by one parameter, what met there if that was one pair, and the quantity."""

    slopes: Any
    activations: Any
    errors: Any
    found: Any


def check_quantity(quantity: object) -> None:
    """Raise `JaxpropError` for a quantity that has no number for one weight, or none that is written out."""
    if quantity is not None and not isinstance(quantity, Moment):
        raise JaxpropError(f"explain: quantity must be {KNOWN}, found {quantity!r}")


def with_quantity(derivation: Derivation, question: Question, given: Given, quantity: Moment) -> Derivation:
    """Return a derivation with one more step: a quantity of all rows of `given`, for the parameter asked about."""
    if question.is_input:
        raise JaxpropError("explain: a quantity is of a parameter, and x is none; ask for one such as 0.W")
    rows = _of_rows(question.net, question.cost, given, quantity, question.path, question.index)
    rows = OfRows(*(None if each is None else np.asarray(each) for each in rows))
    gradient = _gradient(derivation)
    values: dict[Formula, float] = {}
    equations = _equations(quantity, rows, values)
    N = len(rows.slopes)
    words: Prose = (
        *("Above is one row. Each of the ", Number(N), " rows has such a derivative, "),
        *(*((_met(gradient), " again, ") if rows.errors is not None else ()), "and the gradient is their mean "),
        *(m, ". How far they differ from it is seen in the mean of their squares, ", s, "."),
    )
    step = Step(f"{type(quantity).__name__} over {N} rows", words, equations, _table(gradient, rows, question.most))
    facts = {"quantity": {"name": repr(quantity), "rows": N, **_facts(rows, values, question.most)}}
    return replace(
        derivation,
        steps=(*derivation.steps, step),
        values={**derivation.values, **values},
        facts={**derivation.facts, **facts},
    )


@partial(jax.jit, static_argnums=(0, 1, 3, 4, 5))
def _of_rows(net: Layer, cost: Cost, given: Given, quantity: Quantity, path: str, index: tuple[int, ...]) -> OfRows:
    """What every row says of one number of θ: its use meets the direction of that number alone."""
    _, uses = manual.uses(net, cost)(given.x, given.params, given.targets, rng=given.rng)
    use = by_path(uses, is_use)[path]
    slopes = use.dots(jnp.zeros(use.shape, use.dtype).at[index].set(1))
    single = isinstance(use, Outer) and use.a.ndim == 2
    found = None
    if isinstance(quantity, SecondMoment):
        (tree,) = collect(net, cost, [quantity])(given.x, given.params, given.targets, rng=given.rng).found
        found = by_path(tree)[path][index]
    return OfRows(slopes, use.a[:, index[0]] if single else None, use.delta[:, index[1]] if single else None, found)


def _gradient(derivation: Derivation) -> Derivative:
    """∂C/∂w, which the title begins with."""
    first = derivation.title[0]
    assert isinstance(first, Equation) and isinstance(first.sides[0], Derivative)
    return first.sides[0]


def _met(gradient: Derivative) -> Product:
    """δ · a of a weight."""
    w = gradient.by
    assert isinstance(w, Symbol)
    i, j = w.index
    if isinstance(w.layer, str):  # a path: what comes in has no number
        return Symbol("δ", (j,), w.layer) * Symbol("x", (i,), w.layer)
    return Symbol("δ", (j,), w.layer) * Symbol("a", (i,), None if w.layer is None else w.layer - 1)


def _equations(quantity: Quantity, rows: OfRows, values: dict[Formula, float]) -> tuple[Equation, ...]:
    """The mean, the mean square, and what the quantity makes of them."""
    N = Number(len(rows.slopes))
    total, squares = (Number(float(np.sum(terms))) for terms in (rows.slopes, rows.slopes**2))
    written: list[Equation] = []

    def write(symbol: Symbol, formula: Formula, label: str) -> None:
        written.append(worked(symbol, formula, values=values, label=label))
        values[symbol] = evaluate(formula, values)

    write(m, total / N, "the mean, the gradient")
    write(s, squares / N, "the second moment")
    last = s
    unbiased = isinstance(quantity, NoiseScale) or (isinstance(quantity, Variance) and quantity.unbiased)
    if unbiased and N.value == 1:
        raise JaxpropError(f"explain: {quantity!r} of one row is 0/0; give it the rows of a batch")
    if isinstance(quantity, Variance | SignalToNoise | NoiseScale):
        write(last := v, s - m**2, "the variance")
    if unbiased:
        write(last := u, v * N / Number(N.value - 1), "without bias")
    if isinstance(quantity, SignalToNoise):
        values[ε] = quantity.epsilon
        write(last := r, m**2 / (v + ε), "signal to noise")
    if isinstance(quantity, NoiseScale):
        write(G, m**2 - u / N, "the gradient squared, without its noise")
        if values[G] != 0:  # of a weight that never moves it is 0/0
            write(B, u / G, "the noise scale of this weight alone")
    if rows.found is not None:
        written.append(Equation((last, Number(float(rows.found))), "by jp.stats.collect"))
    return tuple(written)


def _table(gradient: Derivative, rows: OfRows, most: int) -> tuple[tuple[Prose, ...], ...]:
    """The rows with the largest derivatives, the others together, and all."""
    N, slopes = len(rows.slopes), rows.slopes
    largest = _largest(slopes, most)
    columns: list[tuple[Prose, np.ndarray]] = []
    if rows.activations is not None and rows.errors is not None:
        delta, a = _met(gradient).factors
        columns = [((a,), rows.activations), ((delta,), rows.errors)]
    summed: list[tuple[Prose, np.ndarray]] = [((gradient,), slopes), ((gradient**2,), slopes**2)]

    def sums(name: str, of: np.ndarray) -> tuple[Prose, ...]:
        return ((name,), *((),) * len(columns), *((Number(float(np.sum(each[of]))),) for _, each in summed))

    head: tuple[Prose, ...] = (("row",), *(name for name, _ in columns), *(name for name, _ in summed))
    body = [((f"{n}",), *((Number(float(each[n])),) for _, each in (*columns, *summed))) for n in largest]
    others = np.setdiff1d(np.arange(N), largest)
    more = [sums(f"the other {len(others)} together", others)] if len(others) else []
    return (head, *body, *more, sums(f"all {N}", np.arange(N)))


def _largest(slopes: np.ndarray, most: int) -> np.ndarray:
    """The rows with the largest derivatives; all of them, if one more than `most` is all there is."""
    return np.argsort(-np.abs(slopes), kind="stable")[: most if len(slopes) > most + 1 else None]


def _facts(rows: OfRows, values: dict[Formula, float], most: int) -> dict[str, Any]:
    names = {m: "mean", s: "second_moment", v: "variance", u: "unbiased", r: "signal_to_noise", B: "noise_scale"}
    found = {name: values[symbol] for symbol, name in names.items() if symbol in values}
    largest = [{"row": int(n), "derivative": float(rows.slopes[n])} for n in _largest(rows.slopes, most)]
    return {**found, "largest": largest}
