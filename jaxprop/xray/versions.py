"""What differs between JAX versions in the programs that JAX writes (jaxprs), in one place.

A program is a list of equations. Some hold programs of their own: a jitted function, a scan, the branches of a cond.
This file opens each of them, and evaluates what holds none, on jax 0.10 and on 0.12 alike.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import jax
from jax.interpreters import partial_eval
from jax.typing import ArrayLike

CALLS = {"jit", "closed_call"}
REMATS = {"remat2"}
CUSTOM = {"custom_jvp_call", "custom_vjp_call"}

Equation = Any  # jax.extend.core.JaxprEqn


class Inner(NamedTuple):
    """A program inside an equation, with the constants that it closes over."""

    jaxpr: Any
    consts: Sequence[Any]


class Split(NamedTuple):
    """How many inputs of a scan are constants and how many are carried on; the rest are scanned over."""

    consts: int
    carried: int


def opened(program: Any) -> Inner:
    """Take a program apart, closed (jax 0.10) or with constants of its own (0.12)."""
    inner = getattr(program, "jaxpr", program)
    return Inner(inner, list(getattr(program, "consts", ())))


def inner(equation: Equation) -> Inner:
    """Open the program of a call, a remat, a scan or a shard_map."""
    return opened(equation.params.get("jaxpr", equation.params.get("call_jaxpr")))


def scan_split(equation: Equation) -> Split:
    """Say how the inputs of a scan are divided."""
    params = equation.params
    if "num_consts" in params:
        return Split(params["num_consts"], params["num_carry"])
    consts, carried, _ = params["ft_in"].unpack()  # jax 0.12
    return Split(len(consts), len(carried))


def evaluate(equation: Equation, inputs: Sequence[ArrayLike]) -> list[Any]:
    """Evaluate an equation as it stands: custom rules, precision and all."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)  # jax 0.12 has no functions
    context = getattr(getattr(equation, "ctx", None), "manager", nullcontext())
    with context:
        outputs = equation.primitive.bind(*functions, *inputs, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def needed(jaxpr: Any) -> Any:
    """Leave out of a program what no output needs, within its scans and calls too."""
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)[0]


def is_literal(variable: object) -> bool:
    """Say whether an input stands in the program as a number."""
    from jax.extend.core import Literal  # here: jax.extend imports Pallas, which nothing else asks for

    return isinstance(variable, Literal)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let programs run as a whole, whatever they compute: people who look for NaN have JAX's own switches on.

    `jax_debug_nans` and `jax_debug_infs` would stop the run that is to tell where NaN comes from, and
    `jax_disable_jit` would take it apart.
    """
    with jax.debug_nans(False), jax.debug_infs(False), jax.disable_jit(False):
        yield


def explicit_sharding(value: Any) -> Any:
    """Give how a value lies on a mesh with explicit axes, as its type says; None where the type says nothing of it."""
    sharding = jax.typeof(value).sharding
    return sharding if any(axis is not None for axis in sharding.spec) else None
