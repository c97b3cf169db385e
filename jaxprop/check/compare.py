"""Three witnesses for every gradient, and, when they disagree, which layer lies and in which factor.

The chain rule is only as right as each local derivative, so `compare` asks twice. Per parameter: do the hand-derived
gradient, `jax.grad` and central differences agree? Per layer: does its backward pass agree with `jax.vjp` of that layer
alone, for an error drawn at random? The second question names the culprit, since one wrong layer spoils the gradient of
every parameter before it.
"""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxprop.arrays.one_run import compiled_for_one_run
from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative, relative_beyond
from jaxprop.arrays.tolerances import DIFFERENCES, FACTOR, tolerance
from jaxprop.backward import auto, manual
from jaxprop.check.differences import Nudged, Slopes, choose, nudge, rounding_of_slopes
from jaxprop.check.factors import ACTIVATION, INPUT, VALUE, Judge, Judgement
from jaxprop.check.report import Agreement
from jaxprop.check.rounding import rounding_of
from jaxprop.check.subject import in_float64
from jaxprop.checks import is_floating
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network import in_order
from jaxprop.network.call import call, environment, require_cost, require_layer, takes_rows
from jaxprop.tables import Table, Tabular
from jaxprop.uses import weighted, weighted_sum

COST = "the derivative of the cost ∂C/∂y"


@dataclass(frozen=True)
class Row:
    """One parameter: manual against auto, also in float64, both against central differences of `checked` entries."""

    path: str
    shape: tuple[int, ...]
    auto: Agreement
    auto_in_float64: Agreement
    differences: Agreement
    auto_differences: Agreement
    checked: int
    at_kinks: int
    agrees: bool

    @property
    def ok(self) -> bool:
        """Whether three witnesses agree: where kinks are everywhere there are only two."""
        return self.agrees and self.checked > 0


@dataclass(frozen=True)
class Wrong:
    """A factor that disagrees with `jax.vjp` of its layer alone."""

    path: str
    layer: str
    factor: str
    relative: float

    def __str__(self) -> str:
        where = f"layer {self.path} ({self.layer})" if self.path else self.layer
        return f"{where}: {self.factor} is wrong (relative error {self.relative:.2g})"


@dataclass(frozen=True)
class Report(Tabular):
    """What the witnesses said: `.ok`, `.rows` by parameter, `.wrong` factors; `print(report)` is a table."""

    rows: tuple[Row, ...]
    wrong: tuple[Wrong, ...]
    dtype: str
    examples: int

    @property
    def ok(self) -> bool:
        """Whether all agree."""
        return not self.wrong and all(row.ok for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        rows = [{**asdict(row), "ok": row.ok} for row in self.rows]
        return {"ok": self.ok, **asdict(self), "rows": rows}

    def as_table(self) -> Table:
        """Return a row for every parameter; below it the factors that are wrong, and the verdict."""
        lines = [
            ("parameter", "shape", "manual|auto", "relative", "cosine", "manual|differences", "relative", "verdict")
        ]
        for r in self.rows:
            auto = (f"{r.auto.absolute:.1e}", f"{r.auto.relative:.1e}", f"{r.auto.cosine:.6f}")
            verdict = "agree" if r.ok else "DISAGREE" if not r.agrees else "NOT CHECKED: kinks everywhere"
            by_nudge = (f"{r.differences.absolute:.1e} ({r.checked})", f"{r.differences.relative:.1e}")
            lines.append((r.path or "θ", str(list(r.shape)), *auto, *by_nudge, verdict))
        kinks = sum(r.at_kinks for r in self.rows)
        notes = [f"{kinks} entries left out of the differences: a nudge crosses a kink"] if kinks else []
        disagree = self.wrong or not all(row.agrees for row in self.rows)
        two = "two witnesses agree, the third saw only kinks of a parameter,"
        verdict = "the witnesses DISAGREE" if disagree else "three witnesses agree" if self.ok else two
        how = f"({self.dtype}; differences in float64, number of entries nudged in brackets)"
        notes.append(f"{verdict} on {self.examples} rows {how}")
        return Table(lines, notes=(*map(str, self.wrong), *notes))


def compare(net: Layer, cost: Cost, entries: int = 32) -> Callable[..., Report]:
    """Return `run(x, params, targets, *, weights=None, rng=None, mask=None)`: a `Report` of the three witnesses.

    Per parameter at most `entries` entries are nudged, half of them those of the largest gradient, half evenly spread
    (all of a small parameter), in float64 with h = 1e-5. An entry whose nudge carries a unit across a kink has no
    central difference there: it is left out and counted. Not for use under `jit`: it compares numbers.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(1)), jax.random.normal(jax.random.key(1), (8, 2))
    >>> report = compare(net, jp.HalfSquaredError())(x, net.init(jax.random.key(0), x), x[:, :1] ** 2)
    >>> report.ok, len(report.rows)
    (True, 4)
    """
    require_layer(net, "compare")
    require_cost(cost, "compare")

    @takes_rows
    def run(
        x: PyTree,
        params: PyTree,
        targets: Any,
        *,
        weights: Float[Array, " N"] | None = None,
        rng: Key[Array, ""] | None = None,
        mask: PyTree = None,
    ) -> Report:
        y = jax.eval_shape(lambda x, params: call(net, x, params, rng, mask), x, params)
        cost.check(y, targets)
        cost.check_values(y, targets)
        given = jax.device_put((x, params, targets, weights))
        # in float64 the two gradients are among what is computed exactly
        is_exact = all(leaf.dtype == jnp.float64 for leaf in filter(is_floating, jax.tree.leaves(given)))
        with jax.enable_x64(True):
            given64 = in_float64(given)
            exact = _compiled(_exact, net, cost, entries)(*given64, rng, mask)
        ways = exact[:2] if is_exact else _compiled(_both, net, cost)(*given, rng, mask)
        rows, wrong = _rows(ways, exact), _wrong_factors(net, cost, exact)
        if wrong or not all(row.agrees for row in rows):  # is it more than rounding? Seldom asked: it is compiled apart
            with jax.enable_x64(True):
                rounding64, *errors = _compiled(_beyond_rounding, net, cost)(*given64, rng, mask)
            rounding = rounding64 if is_exact else _compiled(_rounding, net, cost)(*given, rng, mask)
            exact = exact._replace(at_cost=errors[0], at_leaves=errors[1])
            rows, wrong = _rows(ways, exact, rounding, rounding64), _wrong_factors(net, cost, exact)
        return Report(rows, wrong, y.dtype.name, y.shape[0])

    return run


class _Exact(NamedTuple):
    """What is computed in float64: (value, gradient) twice, nudges by path, the cost's error and every leaf's."""

    by_hand: tuple[Array, PyTree]
    by_jax: tuple[Array, PyTree]
    nudged: dict[str, Nudged]
    at_cost: Array
    at_leaves: dict[str, Judgement]


def _compiled(function: Callable[..., Any], *static: Any) -> Callable[..., Any]:
    """Compile anew at every call: a rule changed in place (in a notebook, say) must not be judged from a cache."""
    program = jax.jit(functools.partial(function, *static))
    return lambda *given: compiled_for_one_run(program.lower(*given), many_kernels=True)(*given)


def _both(
    net: Layer, cost: Cost, x: PyTree, params: PyTree, targets: Array, weights: Array | None, rng: Any, mask: PyTree
) -> tuple[tuple[Array, PyTree], ...]:
    """(value, gradient) by hand and by `jax.grad`."""
    ways = (way.value_and_grad(net, cost) for way in (manual, auto))
    return tuple(run(x, params, targets, weights=weights, rng=rng, mask=mask) for run in ways)


def _exact(
    net: Layer,
    cost: Cost,
    entries: int,
    x: PyTree,
    params: PyTree,
    targets: Array,
    weights: Array | None,
    rng: Any,
    mask: PyTree,
) -> _Exact:
    """All of it, one program."""

    def C(params: PyTree) -> Array:
        costs = cost(call(net, x, params, rng, mask), targets)
        return weighted(lambda w: weighted_sum(costs, w), weights, costs.shape[0])

    def local_derivatives(params: PyTree) -> list[Array]:
        passed = manual.backpropagate(manual.Tape(), net, cost, x, params, targets, environment(rng, mask))
        found = [record.derivative for record in passed.notes.values() if record.derivative is not None]
        return [*found, _delta_by_jax(cost, targets, passed.y)]

    by_hand, by_jax = _both(net, cost, x, params, targets, weights, rng, mask)
    chosen = {path: choose(g, entries) for path, g in by_path(by_jax[1]).items()}
    nudged = nudge(C, params, chosen, watch=local_derivatives)
    passed = manual.backpropagate(Judge(), net, cost, x, params, targets, environment(rng, mask))
    at_cost = jnp.asarray(relative(cost.delta(passed.y, targets), _delta_by_jax(cost, targets, passed.y)))
    return _Exact(by_hand, by_jax, nudged, at_cost, passed.notes)


def _delta_by_jax(cost: Cost, targets: Array, y: Array) -> Array:
    """∂C_n/∂y_n."""
    return jax.grad(lambda y: jnp.sum(cost(y, targets)))(y)


def _rounding(
    net: Layer, cost: Cost, x: PyTree, params: PyTree, targets: Array, weights: Array | None, rng: Any, mask: PyTree
) -> PyTree:
    """How much of the gradient by `jax.grad` is rounding: the tree of params, a number for every array."""

    def gradient(at: tuple[PyTree, PyTree]) -> PyTree:
        return auto.value_and_grad(net, cost)(*at, targets, weights=weights, rng=rng, mask=mask)[1]

    return rounding_of(gradient, (x, params))


def _beyond_rounding(
    net: Layer, cost: Cost, x: PyTree, params: PyTree, targets: Array, weights: Array | None, rng: Any, mask: PyTree
) -> tuple[PyTree, Array, dict[str, Judgement]]:
    """In float64: the gradient's rounding, and the errors of the cost and of every leaf that are more than theirs."""
    passed = manual.backpropagate(Judge(True), net, cost, x, params, targets, environment(rng, mask))
    by_jax = functools.partial(_delta_by_jax, cost, targets)
    found, reference = cost.delta(passed.y, targets), by_jax(passed.y)
    difference, scale = jnp.max(jnp.abs(found - reference)), jnp.max(jnp.abs(reference))
    at_cost = relative_beyond(difference, scale, rounding_of(by_jax, passed.y), jnp)
    return _rounding(net, cost, x, params, targets, weights, rng, mask), at_cost, passed.notes


def _rows(
    ways: tuple[tuple[Array, PyTree], ...], exact: _Exact, rounding: PyTree = (), rounding64: PyTree = ()
) -> tuple[Row, ...]:
    """One row a parameter; rounding: of the gradients in the dtype asked about, and in float64."""
    gradients = [gradient for _, gradient in (*ways, exact.by_hand, exact.by_jax)]
    hand, found_jax, hand64, jax64 = (jax.tree.map(np.asarray, by_path(tree)) for tree in gradients)
    allowed, allowed64 = by_path(rounding), by_path(rounding64)
    nudged = {path: Slopes.of(found) for path, found in exact.nudged.items()}
    # no difference can see below what C itself rounds to
    of_slopes = max(1e-15 * abs(float(exact.by_hand[0])) / 1e-5, rounding_of_slopes(nudged.values()))
    rows = []
    for path in jax64:
        found = nudged[path]
        # measured against the parameter's largest gradient, not that of the entries nudged
        scale = float(np.max(np.abs(jax64[path]), initial=0.0))
        gate = tolerance(hand[path].dtype)
        way = Agreement.judged(hand[path], found_jax[path], gate, float(allowed.get(path, 0)))
        way64 = Agreement.judged(hand64[path], jax64[path], FACTOR, float(allowed64.get(path, 0)))
        by_nudge, jax_by_nudge = (
            Agreement.judged(g[path].ravel()[found.entries], found.slopes, DIFFERENCES, of_slopes, scale)
            for g in (hand64, jax64)
        )
        agrees = way.within(gate) and way64.within(FACTOR)
        agrees = agrees and by_nudge.within(DIFFERENCES) and jax_by_nudge.within(DIFFERENCES)
        count, shape = len(found.entries), hand[path].shape
        rows.append(Row(path, shape, way, way64, by_nudge, jax_by_nudge, count, found.at_kinks, agrees))
    return tuple(rows)


def _wrong_factors(net: Layer, cost: Cost, exact: _Exact) -> tuple[Wrong, ...]:
    """Every factor of every layer, and the cost's, that is not JAX's own."""
    errors = [("", type(cost).__name__, COST, exact.at_cost)]
    for path, judged in in_order(net, exact.at_leaves).items():
        by_factor = sorted(judged.errors.items(), key=lambda item: _rank(item[0]))
        errors += [(path, judged.layer, factor, error) for factor, error in by_factor]
    found = [Wrong(path, layer, factor, float(np.max(np.asarray(error)))) for path, layer, factor, error in errors]
    wrong = [w for w in found if not w.relative <= FACTOR]
    # a wrong φ' makes dx = dy · φ' wrong as well: say it once
    named = {w.path for w in wrong if w.factor == ACTIVATION}
    return tuple(w for w in wrong if not (w.factor.startswith(INPUT) and w.path in named))


def _rank(factor: str) -> int:
    """Value, derivative, input, parameters: JAX returns dicts in the order of the alphabet."""
    return [VALUE, ACTIVATION, INPUT, factor].index(factor)
