"""Everything that is computed of a layer: three witnesses for its backward pass, and what JAX may do to it.

A `Witness` is two functions. `numbers` computes what is compared and can be traced, so that one program computes the
numbers of all witnesses; `judge` turns them into lines of the report.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from jaxprop.arrays.one_run import compiled_for_one_run
from jaxprop.arrays.paths import by_path
from jaxprop.arrays.tolerances import DIFFERENCES, tolerance
from jaxprop.check.differences import Nudged, Slopes, choose, nudge
from jaxprop.check.factors import VALUE, factor_of
from jaxprop.check.quantities import QUANTITIES, by_examples, by_uses, some_weights
from jaxprop.check.report import Check, agree
from jaxprop.check.subject import At, Found, answer, as_dtype, backward, both_ways, by_hand, by_jax, other_dtypes
from jaxprop.layers.layer import Layer
from jaxprop.network import Inner, Repeat

DRAWS = 16  # of x and dy in bfloat16, for one draw has few roundings
SMALL, ENTRIES = 256, 32  # all entries of a small array are nudged, and of a larger one so many


class Inputs(NamedTuple):
    """What the one program is given: x, θ and dy in float64, a direction v of x and θ, and the same in other dtypes.

    low: {"float32": At, "bfloat16": At with DRAWS of x and dy on a leading axis}.
    """

    at: At
    v: Found
    low: dict[str, At]

    @classmethod
    def of(cls, at: At, seed: int = 7) -> "Inputs":
        """Draw what is drawn, by numpy: nothing is compiled for it."""
        rng = np.random.default_rng(seed)

        def normal(a: Array, *draws: int) -> np.ndarray:
            return rng.normal(size=(*draws, *a.shape))

        def near(a: Array) -> np.ndarray:
            return np.asarray(a) * (1 + 0.1 * normal(a, DRAWS)) if at.has_gradient else np.asarray(a)

        v = jax.tree.map(lambda a: jnp.asarray(normal(a), a.dtype), at.primals)
        host = At(jax.tree.map(np.asarray, at.x), jax.tree.map(np.asarray, at.params), at.env, np.asarray(at.dy))
        many = host._replace(x=jax.tree.map(near, at.x), dy=normal(at.dy, DRAWS))
        return cls(at, v, {"float32": as_dtype(host, "float32"), "bfloat16": as_dtype(many, "bfloat16")})


# A judge is given the line's name, what was computed, the layer, what it was tried at, and the floor of `agree`
Judge = Callable[[str, Any, Layer, At, float], Iterable[Check]]


def one_line(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Compare (found, expected) and say in one line that all arrays agree, or name those that do not."""
    mine, theirs = found
    yield from agree(name, mine, theirs, tolerance("float64"), at.examples, floor=floor)


def line_by_line(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Compare (found, expected) with a line for every array."""
    mine, theirs = found
    yield from agree(name, mine, theirs, tolerance("float64"), at.examples, each=True, floor=floor)


@dataclass(frozen=True)
class Witness:
    """Something to try on a layer.

    names: of its lines in the report, for each of which `numbers(layer, inputs)` returns what `judge` is given (one
    alone, or a tuple of several). skip(layer, at): why it does not apply, "" if it does.
    """

    names: tuple[str, ...]
    numbers: Callable[[Layer, Inputs], Any]
    judge: Judge = one_line
    skip: Callable[[Layer, At], str] = lambda layer, at: ""

    def answers(self, layer: Layer, inputs: Inputs) -> dict[str, Any]:
        """Return {name: numbers}."""
        numbers = self.numbers(layer, inputs)
        return dict(zip(self.names, numbers if len(self.names) > 1 else (numbers,), strict=True))

    def why_not(self, layer: Layer, at: At) -> str:
        """Why it does not apply; where that cannot be told, it is tried and says itself what it raises."""
        try:
            return self.skip(layer, at)
        except Exception:
            return ""


def compute(layer: Layer, inputs: Inputs, witnesses: Iterable[Witness]) -> dict[str, Any]:
    """Return {name: numbers} of all witnesses, from one compiled program.

    In place of numbers stands a text where a witness does not apply, and the error where it raises. It is compiled
    anew at every call: a rule changed in place must not be judged from a cache.
    """

    def run(chosen: list[Witness]) -> dict[str, Any]:
        def program(inputs: Inputs) -> dict[str, Any]:
            return {name: found for each in chosen for name, found in each.answers(layer, inputs).items()}

        return compiled_for_one_run(jax.jit(program).lower(inputs), many_kernels=True)(inputs)

    skipped = {name: why for each in witnesses if (why := each.why_not(layer, inputs.at)) for name in each.names}
    tried = [witness for witness in witnesses if witness.names[0] not in skipped]
    try:
        return run(tried) | skipped
    except Exception:  # whatever a layer under test may do: find out in which of them, and leave those out
        errors = {each.names[0]: error for each in tried if (error := _error(layer, inputs, each))}
        return run([witness for witness in tried if witness.names[0] not in errors]) | errors | skipped


def _error(layer: Layer, inputs: Inputs, witness: Witness) -> Exception | None:
    """What a witness raises when it is traced."""
    try:
        jax.eval_shape(lambda inputs: witness.answers(layer, inputs), inputs)
    except Exception as error:
        return error
    return None


# The witnesses


def forward_is_the_call(layer: Layer, inputs: Inputs) -> tuple[PyTree, PyTree]:
    """The cache changes nothing."""
    x, params, env, _ = inputs.at
    return {VALUE: layer.forward(x, params, env)[0]}, {VALUE: layer(x, params, env)}


def vjp(layer: Layer, inputs: Inputs) -> tuple[Found, Found]:
    """Every factor against `jax.vjp` of this layer alone."""
    mine, theirs = both_ways(layer, inputs.at)
    return mine._replace(y=None), theirs._replace(y=None)


def differences(layer: Layer, inputs: Inputs) -> tuple[dict[str, Array], dict[str, Nudged], Array]:
    """Every factor against nudges of x and θ by h = 1e-5; the third is the size of C = Σ dy·y, term by term."""
    at = inputs.at
    mine = by_path(by_hand(layer, at)._replace(y=None))

    def C(primals: Found) -> Array:
        return jnp.sum(at.dy * answer(layer, at)(primals))

    chosen = {path: choose(g, ENTRIES if g.size > SMALL else g.size) for path, g in mine.items()}
    size = jnp.sum(jnp.abs(at.dy * answer(layer, at)(at.primals)))
    return mine, nudge(C, at.primals, chosen, watch=jax.grad(C)), size


def judge_differences(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Leave out entries whose nudge crosses a kink; no difference can see below the round-off of C's terms."""
    mine, nudged, size = found
    round_off = 1e-15 * float(size) / 1e-5 / DIFFERENCES
    for path, gradient in mine.items():
        gradient, slopes = np.asarray(gradient).ravel(), Slopes.of(nudged[path])
        scale = max(float(np.max(np.abs(gradient), initial=0)), round_off)
        error = float(np.max(np.abs(gradient[slopes.entries] - slopes.slopes), initial=0)) / (scale or 1.0)
        count = len(slopes.entries)
        said = f"{error:.2g} ({count} nudged)" if count else "kinks everywhere"
        yield Check(name, factor_of(path), said, f"{DIFFERENCES:.0e}", count > 0 and error <= DIFFERENCES)


def adjoint(layer: Layer, inputs: Inputs) -> tuple[Array, Array, Array]:
    """⟨Jv, w⟩ = ⟨v, Jᵀw⟩: truth that needs no reference, J by forward mode. The third is ‖Jv‖ ‖w‖."""
    at, v, _ = inputs
    Jv = jax.jvp(answer(layer, at), (at.primals,), (v,))[1]
    back = ravel_pytree(by_hand(layer, at)._replace(y=None))[0]
    return jnp.sum(Jv * at.dy), ravel_pytree(v)[0] @ back, jnp.linalg.norm(Jv) * jnp.linalg.norm(at.dy)


def judge_adjoint(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Measure the difference against ‖Jv‖ ‖w‖: the products themselves may cancel."""
    there, back, size = map(float, found)
    error = abs(there - back) / (size or 1.0)
    yield Check(name, "all of them", f"{error:.2g}", f"{tolerance('float64'):.0e}", error <= tolerance("float64"))


def linear(layer: Layer, inputs: Inputs) -> tuple[Found, Found]:
    """Twice the error gives twice the gradients, a sum their sum."""
    at, other = inputs.at, inputs.at.dy[::-1]
    errors = jnp.stack([at.dy, other, 2 * at.dy - 3 * other])
    each = jax.vmap(lambda dy: by_hand(layer, at._replace(dy=dy))._replace(y=None))(errors)
    return jax.tree.map(lambda g: g[2], each), jax.tree.map(lambda g: 2 * g[0] - 3 * g[1], each)


def alone(layer: Layer, inputs: Inputs) -> tuple[PyTree, PyTree]:
    """y_n depends on x_n alone, unless the layer says that it mixes examples."""
    at = inputs.at
    single = jax.vmap(lambda one: layer(*_batch_of_one(one)[:3])[0], (_each(at),))(at)
    return {"y": layer(*at[:3])}, {"y": single}


def uses(layer: Layer, inputs: Inputs) -> tuple[tuple[PyTree, PyTree], ...]:
    """What is said of single examples, against `jax.vmap(jax.grad)`."""
    at, weights = inputs.at, some_weights(inputs.at.examples, inputs.at.dy.dtype)

    def C(params: PyTree, one: At) -> Array:
        one = _batch_of_one(one)
        return jnp.sum(one.dy * layer(one.x, params, one.env))

    gradients = jax.vmap(jax.grad(C), (None, _each(at)))(at.params, at)
    mine, theirs = by_uses(backward(layer, at)[2], weights), by_examples(gradients, weights)
    return tuple((Found(params=mine[name]), Found(params=theirs[name])) for name in QUANTITIES)


def jit(layer: Layer, inputs: Inputs) -> Found:
    """What the judge computes again without compiling it."""
    return by_hand(layer, inputs.at)


def judge_jit(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Compiled, the same numbers."""
    yield from one_line(name, (found, by_hand(layer, at)), layer, at, floor)


def vmap(layer: Layer, inputs: Inputs) -> tuple[Found, Found]:
    """Two batches and two θ at once, as one after the other."""
    at = inputs.at
    other = jax.tree.map(lambda a: a[::-1], at.x), jax.tree.map(lambda p: p * 0.9, at.params)

    def one(x: PyTree, params: PyTree) -> Found:
        return by_hand(layer, at._replace(x=x, params=params))

    stacked = jax.tree.map(lambda *both: jnp.stack(both), (at.x, at.params), other)
    apart = jax.tree.map(lambda *both: jnp.stack(both), one(at.x, at.params), one(*other))
    return jax.vmap(one)(*stacked), apart


def repeat(layer: Layer, inputs: Inputs) -> tuple[Found, Found]:
    """Two of it in one scan, which makes tracers of whatever numbers a cache holds."""
    at = inputs.at
    twice = Repeat(layer, 2)
    at = at._replace(params=Inner(jax.tree.map(lambda p: jnp.stack([p, 0.9 * p]), at.params)))
    return by_hand(twice, at)._replace(y=None), by_jax(twice, at)._replace(y=None)


def float32(layer: Layer, inputs: Inputs) -> tuple[Found, Found]:
    """The layer's answer and rule in float32, against JAX's."""
    at = inputs.low["float32"]
    return by_hand(layer, at), by_jax(layer, at)


def judge_float32(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Measure against the largest array: each was judged in float64, and one that cancels would be round-off here."""
    mine, theirs = (way._replace(y=None) for way in found)  # y has another scale
    yield from agree(name, mine, theirs, tolerance("float32"), at.examples, floor=1.0)


def bfloat16(layer: Layer, inputs: Inputs) -> tuple[Found, Found, Found]:
    """The layer's rule in half precision, JAX's, and the truth in float64, for every draw."""

    def one(at: At) -> tuple[Found, Found, Found]:
        mine, theirs, truth = by_hand(layer, at), by_jax(layer, at), by_jax(layer, as_dtype(at, "float64"))
        return mine._replace(y=None), theirs._replace(y=None), truth._replace(y=None)

    return jax.vmap(one, (At(0, None, None, 0),))(inputs.low["bfloat16"])


def judge_bfloat16(name: str, found: Any, layer: Layer, at: At, floor: float) -> Iterator[Check]:
    """Allow JAX's own distance from float64, a quarter more for chance, and half a unit in the last place."""
    mine, theirs, truth = found
    error, jaxs = _rms(mine, truth), _rms(theirs, truth)
    allowed = 1.25 * jaxs + 2**-9
    yield Check(name, "all of them", f"{error:.2g}", f"{allowed:.2g}", error <= allowed)


def _rms(found: PyTree, reference: PyTree) -> float:
    """√(Σ Δ² / Σ g²)."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(reference), strict=True)
    found, reference = zip(*((np.asarray(f, np.float64).ravel(), np.asarray(r).ravel()) for f, r in pairs), strict=True)
    found, reference = np.concatenate(found), np.concatenate(reference)
    return float(np.linalg.norm(found - reference) / (np.linalg.norm(reference) or 1.0))


# One example


def _batch_of_one(one: At) -> At:
    """One example as a batch; θ is no example's."""
    return jax.tree.map(lambda a: a[None], one._replace(params=()))._replace(params=one.params)


def _each(at: At) -> Any:
    """The axes that vmap goes over."""
    return At(0, None, None if at.env is None else at.env._replace(mask=None if at.env.mask is None else 0), 0)


# Why a witness does not apply


def _nothing(layer: Layer, at: At) -> str:
    return "" if jax.tree.leaves(at.primals) else "nothing to differentiate"


def _no_example(layer: Layer, at: At) -> str:
    if layer.mixes_examples:
        return "the layer mixes examples: no quantity of one exists"
    return "rng draws for the whole batch" if at.env is not None and at.env.rng is not None else ""


def _no_use(layer: Layer, at: At) -> str:
    return _no_example(layer, at) or ("" if jax.tree.leaves(at.params) else "no parameters")


def _no_repeat(layer: Layer, at: At) -> str:
    same = hasattr(at.x, "shape") and (at.x.shape, at.x.dtype) == (at.dy.shape, at.dy.dtype)
    return "" if same else "it does not keep x's shape and dtype"


def _no_dtype(dtype: str) -> Callable[[Layer, At], str]:
    def skip(layer: Layer, at: At) -> str:
        if not at.has_gradient:
            return "x is of integers"
        return f"what goes in in {dtype} does not come out in it" if other_dtypes(layer, at, dtype) else ""

    return skip


WITNESSES = (
    Witness(("forward is the call",), forward_is_the_call, line_by_line),
    Witness(("jax.vjp",), vjp, line_by_line, _nothing),
    Witness(("central differences",), differences, judge_differences, _nothing),
    Witness(("⟨Jv, dy⟩ = ⟨v, dx⟩",), adjoint, judge_adjoint, _nothing),
    Witness(("linear in dy",), linear, one_line, _nothing),
    Witness(("no example sees another",), alone, line_by_line, _no_example),
    Witness(tuple(QUANTITIES), uses, one_line, _no_use),
    Witness(("jit is eager",), jit, judge_jit),
    Witness(("vmap over x and θ",), vmap),
    Witness(("twice, in a Repeat",), repeat, line_by_line, _no_repeat),
    Witness(("float32 against jax.vjp",), float32, judge_float32, _no_dtype("float32")),
    Witness(("bfloat16 against float64",), bfloat16, judge_bfloat16, _no_dtype("bfloat16")),
)
