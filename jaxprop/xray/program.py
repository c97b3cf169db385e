"""`program`: any JAX function, run once with its gradient while every array inside it is measured.

    1  trace      f becomes a program: a list of equations (`versions.py` opens it)
    2  plan       which equations errors reach, and what their probes need (`planning.py`)
    3  run        the same program, with a measure of each value and a probe behind it (`rewriting.py`, `probe.py`)
    4  pull       one ordinary `jax.vjp`: beside the gradients, the measures of all errors land in the sinks

All of it is JAX: the function that comes out may be jitted, put under `lax.cond` in a training loop, or vmapped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.xray import measures
from jaxprop.xray.arguments import ArgNums, Arguments, arguments, check_asked, is_inexact
from jaxprop.xray.modules import Modules, find_modules
from jaxprop.xray.passing import passing
from jaxprop.xray.planning import Path, Sinks, is_real, plan
from jaxprop.xray.probe import probe
from jaxprop.xray.rewriting import Seen, Visitor, run
from jaxprop.xray.sites import LAYOUT, Site, sites
from jaxprop.xray.versions import Equation, evaluate, opened


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Reading:
    """Hold what one run of `program` leaves: f and its gradient, and the measures of all values and errors.

    value: f(*args).    aux: what f returns beside it, with has_aux.    grads: as `jax.grad` returns them; None forward.
    values: {path: measures of each output of the equation there}, `[*axes, measures]`; None for whole numbers.
    errors: the same of the cotangents that came back to these outputs, where some came.
    sites: the equations, in the order in which they run; the arguments of f stand first, at the paths (-1, i).
    light: whether the measures are `measures.LIGHT` or `measures.FULL`.

    >>> import jax.numpy as jnp
    >>> reading = program(lambda x: jnp.sum(x**2))(jnp.array([3.0, 4.0]))
    >>> print(reading.value, reading.grads, list(reading.values))
    25.0 [6. 8.] [(0,), (1,), (-1, 0)]
    """

    value: PyTree
    aux: PyTree
    grads: PyTree
    values: dict[Path, tuple[Array | None, ...]]
    errors: dict[Path, tuple[Array | None, ...]]
    sites: tuple[Site, ...] = field(metadata={"static": True})
    light: bool = field(metadata={"static": True})


def program(
    f: Callable[..., Any], argnums: ArgNums = 0, *, has_aux: bool = False, light: bool = False
) -> Callable[..., Reading]:
    """Return the pure function that computes f, its gradient and the measures of everything inside: a `Reading`.

    It is called as `jax.grad(f, argnums)(*args)` is, and is as pure as f: jit it.

    Args:
        f: a function that returns one real number, or with has_aux a pair of it and anything.
        argnums: the arguments to differentiate, as for `jax.grad`. None looks at the values alone, and f may return
            anything then.
        has_aux: whether f returns a pair.
        light: measure only what passes from one line or module to another, and of it the mean square and the largest
            absolute value, for a training loop: it costs little beside the gradient.

    Raises:
        JaxpropError: f is no function, an argument to differentiate holds no real numbers, or argnums names none.
        ShapeError: f returns no single number, or no pair with has_aux.

    >>> import jax, jax.numpy as jnp
    >>> reading = jax.jit(program(lambda w, x: jnp.sum(x * w**2)))(jnp.float32(2.0), jnp.ones(3))
    >>> print(reading.value, reading.grads, [site.primitive for site in reading.sites])
    12.0 12.0 ['argument', 'argument', 'integer_pow', 'mul', 'reduce_sum']
    """
    check_asked(f, argnums)

    def run(*args: Any, **kwargs: Any) -> Reading:
        traced = trace(f, argnums, args, kwargs, has_aux=has_aux)
        listed = sites(traced.jaxpr, traced.names, traced.modules)
        visitor = Light(passing(listed)) if light else _Measuring()
        pulled = pull(traced, visitor)
        values, errors = pulled.seen, pulled.landed
        for i, (argument, gradient) in enumerate(zip(traced.inputs, pulled.gradients, strict=True)):
            if is_inexact(argument):
                values[(-1, i)] = (visitor.measured(argument),)
            if gradient is not None:
                errors[(-1, i)] = (visitor.measured(gradient),)
        return Reading(pulled.value, pulled.aux, pulled.grads, values, errors, listed, light)

    return run


class Traced(NamedTuple):
    """A function as a program, and what it was given."""

    jaxpr: Any
    consts: list[Any]
    inputs: list[Any]  # the arrays among the arguments
    names: list[str]  # of the inputs, such as "params['Dense_0']['kernel']"
    differentiated: list[bool]
    returned: Any  # the tree of what f returns
    has_aux: bool
    given: Arguments  # what f was called with, without the inputs
    modules: Modules  # whose parameters the inputs are


def trace(
    f: Callable[..., Any], argnums: ArgNums, args: tuple[Any, ...], kwargs: dict[str, Any], *, has_aux: bool = False
) -> Traced:
    """Make f a program of the arrays among its arguments; anything else stays as it is."""
    given, inputs = arguments(argnums, args, kwargs)

    def flat(*arrays: Any) -> Any:
        args, kwargs = given.filled(arrays)
        returned = f(*args, **kwargs)
        _check_arrays(returned, f)
        return returned

    closed, returned = jax.make_jaxpr(flat, return_shape=True)(*inputs)
    if has_aux and not (isinstance(returned, tuple) and len(returned) == 2):
        raise ShapeError(f"has_aux: {getattr(f, '__name__', 'f')} returns no pair (C, aux), found {_found(returned)}")
    if any(given.is_differentiated):
        _check_scalar(returned[0] if has_aux else returned, f)
    jaxpr, consts = opened(closed)

    names, differentiated = given.names(f), given.of_inputs(given.is_differentiated)
    modules = find_modules(given.of_inputs(given.paths), (args, kwargs), given.owners(f), differentiated)
    return Traced(jaxpr, list(consts), inputs, names, differentiated, returned, has_aux, given, modules)


class Pulled(NamedTuple):
    """What one run of a program and one way back through it leave."""

    value: PyTree
    aux: PyTree
    grads: PyTree  # as `jax.grad` returns them
    gradients: list[Any]  # of each input; None where it is not differentiated
    seen: Seen
    landed: Sinks


def pull(traced: Traced, visitor: Visitor) -> Pulled:
    """Run a program under the eyes of a visitor, and go back through it once: what was seen, and what landed."""
    returned = jax.tree.structure(traced.returned)
    asked = [i for i, flag in enumerate(traced.differentiated) if flag]
    if not asked:
        outputs, seen = run(traced.jaxpr, traced.consts, traced.inputs, {}, visitor)
        value, aux = _parted(returned.unflatten(outputs), traced.has_aux)
        return Pulled(value, aux, None, [None] * len(traced.inputs), seen, {})
    planned, _ = plan(traced.jaxpr, traced.differentiated, visitor.sinks)
    sinks = jax.tree.map(lambda sink: jnp.zeros(sink.shape, sink.dtype), planned)

    def forward(differentiated: list[Any], sinks: Sinks) -> tuple[Any, Any]:
        inputs = list(traced.inputs)
        for i, leaf in zip(asked, differentiated, strict=True):
            inputs[i] = leaf
        outputs, seen = run(traced.jaxpr, traced.consts, inputs, sinks, visitor)
        value, aux = _parted(returned.unflatten(outputs), traced.has_aux)
        return value, (aux, seen)

    value, back, (aux, seen) = jax.vjp(forward, [traced.inputs[i] for i in asked], sinks, has_aux=True)
    try:
        found, landed = back(jnp.ones_like(value))
    except ValueError as error:
        _check_whiles(traced.jaxpr, error)
        raise
    gradients: list[Any] = [None] * len(traced.inputs)
    for i, gradient in zip(asked, found, strict=True):
        gradients[i] = gradient
    return Pulled(value, aux, traced.given.as_gradient(gradients), gradients, seen, landed)


def _check_whiles(jaxpr: Any, error: ValueError) -> None:
    """Say it in our words if an error of JAX is that nothing is differentiated in reverse through a while."""
    if "while_loop" in str(error):
        inside = next((f", such as that around {site.line}" for site in sites(jaxpr) if "while" in site.around), "")
        raise JaxpropError(
            f"the gradient of f goes through a while{inside}, and JAX takes none there; expected lax.scan, or a "
            "fori_loop between fixed numbers; argnums=None looks at the values alone"
        ) from error


class _Measuring:
    """Measure every value that an equation computes, and the error that comes back to it."""

    names = measures.FULL
    measure = staticmethod(measures.full)

    def looks_at(self, path: Path, equation: Equation) -> bool:
        return equation.primitive.name not in LAYOUT

    def sinks(self, path: Path, equation: Equation, errors: list[bool]) -> Any:
        if not self.looks_at(path, equation):
            return None
        return tuple(self._sink(v) if reached else None for v, reached in zip(equation.outvars, errors, strict=True))

    def _sink(self, variable: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(self.names),), measures.width(variable.aval.dtype))

    def visit(self, path: Path, equation: Equation, inputs: list[Any], sinks: Any) -> tuple[list[Any], Any]:
        outputs = evaluate(equation, inputs)
        real = [is_real(v) for v in equation.outvars]
        if not self.looks_at(path, equation) or not any(real):
            return outputs, None
        seen = tuple(self.measured(y) if flag else None for y, flag in zip(outputs, real, strict=True))
        if sinks is not None:
            outputs = [
                y if sink is None else probe(self._landing, y, (), sink) for y, sink in zip(outputs, sinks, strict=True)
            ]
        return outputs, seen

    def measured(self, array: Any) -> Array:
        return self.measure(jax.lax.stop_gradient(array))  # nobody differentiates a measure: half the time to trace

    def _landing(self, kept: Any, error: Array) -> Array:
        return self.measured(error)

    def join(self, before: Any, now: Any) -> Any:
        return jax.tree.map(lambda a, b: measures.joined(jnp.stack([a, b]), jnp), before, now)


class Light(_Measuring):
    """Measure less, and only at some places: where a value passes from line to line, say."""

    names = measures.LIGHT
    measure = staticmethod(measures.light)

    def __init__(self, places: frozenset[Path]) -> None:
        self.places = places

    def looks_at(self, path: Path, equation: Equation) -> bool:
        """Say whether an equation is one of the places."""
        return path in self.places


def _check_arrays(returned: Any, f: Callable[..., Any]) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(returned):
        if isinstance(leaf, (str, bytes)) or callable(leaf):
            raise JaxpropError(
                f"{getattr(f, '__name__', 'f')} returns {leaf!r:.60} at {jax.tree_util.keystr(path) or 'its value'}, "
                "expected arrays and numbers, as of a jitted function"
            )


def _check_scalar(returned: Any, f: Callable[..., Any]) -> None:
    leaves = jax.tree.leaves(returned)
    if len(leaves) != 1 or leaves[0].shape != () or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        raise ShapeError(
            f"{getattr(f, '__name__', 'f')} returns {_found(returned)}, expected one real number, as for jax.grad: "
            "take a sum or a mean, say has_aux=True where f returns more beside it, or argnums=None to look at the "
            "values alone"
        )


def _found(returned: Any) -> str:
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(returned)) or "nothing"


def _parted(returned: Any, has_aux: bool) -> tuple[Any, Any]:
    return returned if has_aux else (returned, None)
