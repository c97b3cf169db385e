"""A program that runs once, or seldom and on little: compiled quickly rather than well."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.stages import Compiled, Lowered

Made = TypeVar("Made")
QUICK = {"xla_backend_optimization_level": 0}
# many small kernels, a third of the time to compile: the emitters of fused ones are slow; jax 0.12 leaves no choice
SIMPLE = {**QUICK, "xla_cpu_use_fusion_emitters": False}


def compiled_for_one_run(lowered: Lowered, many_kernels: bool = False) -> Compiled:
    """Return the program, on a CPU compiled without LLVM's optimisations: they take longer than one run saves.

    lowered: what `jax.jit(f).lower(...)` or `.trace(...).lower()` gives, of a program that runs once and on little.
    many_kernels: whether it computes hundreds of small numbers, as a check does; it then compiles quicker still.

    >>> print(compiled_for_one_run(jax.jit(lambda x: 2 * x).lower(1.0))(3.0))
    6.0
    """
    if jax.default_backend() != "cpu":
        return lowered.compile()
    return lowered.compile(_simple() if many_kernels else QUICK)  # pyright: ignore[reportArgumentType]


def quickly(*static_argnums: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Make a decorator like `jax.jit` whose programs are compiled in a quarter of the time, and run slower.

    For programs that compute little and that somebody waits for: on a CPU only, and as far as JAX lets one choose.

    static_argnums: the arguments that are no arrays, as `jax.jit` takes them.

    >>> @quickly(0)
    ... def power(n, x):
    ...     return x**n
    >>> print(power(3, 2.0))
    8.0
    """

    def decorate(function: Callable[..., Made]) -> Callable[..., Made]:
        @functools.cache
        def program() -> Callable[..., Made]:
            options = _simple() if jax.default_backend() == "cpu" else None
            return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

        @functools.wraps(function)
        def run(*args: Any) -> Made:
            return program()(*args)

        return run

    return decorate


@functools.cache
def _simple() -> dict[str, Any]:
    """What this JAX knows of SIMPLE, asked once: a program that is refused takes as long as a small one compiled."""
    try:
        jax.jit(lambda: 0, compiler_options=SIMPLE)()
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return QUICK
    return SIMPLE
