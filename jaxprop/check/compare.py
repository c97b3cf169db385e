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
from jax import Array

from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import DIFFERENCES, FACTOR, tolerance
from jaxprop.backward import auto, manual
from jaxprop.check.differences import central_differences, choose
from jaxprop.check.factors import ACTIVATION, INPUT, Judge
from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network import by_path
from jaxprop.network.call import call, environment, require_layer
from jaxprop.uses import weighted, weighted_sum

COST = "the derivative of the cost ∂C/∂y"


@dataclass(frozen=True)
class Agreement:
    """How far two arrays are apart: max|Δ|, max|Δ| / max|reference|, and the cosine between them."""

    absolute: float
    relative: float
    cosine: float

    @classmethod
    def of(cls, found: Any, reference: Any, scale: float | None = None) -> "Agreement":
        """Compare two arrays of one shape (relative to `scale` if given); NaN anywhere makes them disagree."""
        found, reference = (np.asarray(v, dtype=np.float64).ravel() for v in (found, reference))
        absolute = float(np.max(np.abs(found - reference), initial=0.0))
        scale = float(np.max(np.abs(reference), initial=0.0)) if scale is None else scale
        lengths = float(np.linalg.norm(found) * np.linalg.norm(reference))
        cosine = float(found @ reference) / lengths if lengths > 0 else float(absolute == 0)
        return cls(absolute, absolute / scale if scale > 0 else absolute, cosine)

    def within(self, tolerance: float) -> bool:
        """Whether max|Δ| / max|reference| is at most `tolerance` (false for NaN)."""
        return bool(self.relative <= tolerance)


@dataclass(frozen=True)
class Row:
    """One parameter: manual against auto, both against central differences of `checked` entries, and the verdict."""

    path: str
    shape: tuple[int, ...]
    auto: Agreement
    differences: Agreement
    auto_differences: Agreement
    checked: int
    at_kinks: int
    ok: bool


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
class Report:
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
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        head = (
            "parameter",
            "shape",
            "manual|auto",
            "relative",
            "cosine",
            "manual|differences",
            "relative",
            "verdict",
        )
        lines: list[tuple[str, ...]] = [head]
        for r in self.rows:
            auto = (f"{r.auto.absolute:.1e}", f"{r.auto.relative:.1e}", f"{r.auto.cosine:.6f}")
            verdict = "agree" if r.ok else "DISAGREE" if r.checked else "NOT CHECKED: kinks everywhere"
            by_nudge = (f"{r.differences.absolute:.1e} ({r.checked})", f"{r.differences.relative:.1e}")
            lines.append((r.path or "θ", str(list(r.shape)), *auto, *by_nudge, verdict))
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        kinks = sum(r.at_kinks for r in self.rows)
        notes = [f"{kinks} entries left out of the differences: a nudge moves a unit across a kink"] if kinks else []
        verdict = f"{'three witnesses agree' if self.ok else 'the witnesses DISAGREE'} on {self.examples} rows "
        notes.append(verdict + f"({self.dtype}; differences in float64, number of entries nudged in brackets)")
        return "\n".join(line.rstrip() for line in [*table, *map(str, self.wrong), *notes])


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

    def run(
        x: Any, params: Any, targets: Any, *, weights: Array | None = None, rng: Array | None = None, mask: Any = None
    ) -> Report:
        y = call(net, x, params, rng, mask)
        cost.check(y, targets)
        cost.check_values(y, targets)
        (_, by_hand), (_, by_jax) = _compiled(_both, net, cost)(x, params, targets, weights, rng, mask)
        with jax.enable_x64(True):
            x64, params64, targets64, weights64 = _float64((x, params, targets, weights))
            exact = _Exact(net, cost, x64, params64, targets64, weights64, rng, mask)
            rows = _rows(by_hand, by_jax, exact, entries)
            wrong = _wrong_factors(exact)
        return Report(tuple(rows), tuple(wrong), jnp.result_type(y).name, y.shape[0])

    return run


def _float64(tree: Any) -> Any:
    def convert(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, tree)


class _Exact(NamedTuple):
    """The same question in float64."""

    net: Layer
    cost: Cost
    x: Any
    params: Any
    targets: Any
    weights: Any
    rng: Any
    mask: Any

    def C(self, params: Any) -> Any:
        costs = self.cost(call(self.net, self.x, params, self.rng, self.mask), self.targets)
        return weighted(lambda w: weighted_sum(costs, w), self.weights, costs.shape[0])

    def local_derivatives(self, params: Any) -> list[Any]:
        tape = manual.trace(self.net, self.cost)(self.x, params, self.targets, rng=self.rng, mask=self.mask)
        return [record.derivative for record in tape.values() if record.derivative is not None]


def _compiled(function: Callable[..., Any], net: Layer, cost: Cost) -> Callable[..., Any]:
    """Compile anew at every call: a rule changed in place (in a notebook, say) must not be judged from a cache."""
    return jax.jit(functools.partial(function, net, cost))


def _both(
    net: Layer, cost: Cost, x: Any, params: Any, targets: Any, weights: Any, rng: Any, mask: Any
) -> tuple[Any, Any]:
    """(value, gradient) by hand and by `jax.grad`."""
    ways = (way.value_and_grad(net, cost) for way in (manual, auto))
    by_hand, by_jax = (run(x, params, targets, weights=weights, rng=rng, mask=mask) for run in ways)
    return by_hand, by_jax


def _judged(
    net: Layer, cost: Cost, x: Any, params: Any, targets: Any, rng: Any, mask: Any
) -> tuple[Any, dict[str, Any]]:
    """The error of the cost's delta, and the walk's judgement of every layer."""
    passed = manual.backpropagate(Judge(), net, cost, x, params, targets, environment(rng, mask))
    delta = jax.grad(lambda y: jnp.sum(cost(y, targets)))(passed.y)
    return relative(cost.delta(passed.y, targets), delta), passed.notes


def _paths(tree: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in by_path(tree).items()}


def _rows(by_hand: Any, by_jax: Any, exact: _Exact, entries: int) -> list[Row]:
    """One row a parameter."""
    (value, hand64), (_, jax64) = _compiled(_both, *exact[:2])(*exact[2:])
    hand64, jax64 = _paths(hand64), _paths(jax64)
    if not jax64:
        return []
    chosen = {path: choose(g, entries) for path, g in jax64.items()}
    nudged = central_differences(exact.C, exact.params, chosen, watch=exact.local_derivatives)
    round_off = 1e-15 * abs(float(value)) / 1e-5 / DIFFERENCES  # no difference can see below this
    hand, found_jax, rows = _paths(by_hand), _paths(by_jax), []
    for path, found in nudged.items():
        # measured against the parameter's largest gradient, not that of the entries nudged
        scale = max(float(np.max(np.abs(jax64[path]), initial=0.0)), round_off)
        agreement = Agreement.of(hand[path], found_jax[path])
        by_nudge, jax_by_nudge = (
            Agreement.of(g[path].ravel()[found.entries], found.slopes, scale) for g in (hand64, jax64)
        )
        ok = agreement.within(tolerance(hand[path].dtype))
        ok = ok and by_nudge.within(DIFFERENCES) and jax_by_nudge.within(DIFFERENCES)
        shape, count = hand[path].shape, len(found.entries)
        ok = ok and count > 0  # two witnesses are not three
        rows.append(Row(path, shape, agreement, by_nudge, jax_by_nudge, count, found.at_kinks, ok))
    return rows


def _wrong_factors(exact: _Exact) -> list[Wrong]:
    """Every factor of every layer, and the cost's, against JAX's own, in float64."""
    net, cost, x, params, targets, _, rng, mask = exact
    at_cost, judgements = _compiled(_judged, net, cost)(x, params, targets, rng, mask)
    errors = [("", type(cost).__name__, COST, at_cost)]
    for path, judged in sorted(
        judgements.items(), key=lambda item: [int(i) for i in item[0].split(".") if i.isdigit()]
    ):
        errors += [(path, judged.layer, factor, error) for factor, error in judged.errors.items()]
    found = [Wrong(path, layer, factor, float(np.max(error))) for path, layer, factor, error in errors]
    wrong = [w for w in found if not w.relative <= FACTOR]
    # a wrong φ' makes dx = dy · φ' wrong as well: say it once
    named = {w.path for w in wrong if w.factor == ACTIVATION}
    return [w for w in wrong if not (w.factor == INPUT and w.path in named)]
