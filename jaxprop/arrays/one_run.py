"""A program that runs once: compiled quickly rather than well."""

import jax
from jax.stages import Compiled, Lowered


def compiled_for_one_run(lowered: Lowered) -> Compiled:
    """Return the program, on a CPU compiled without LLVM's optimisations: they take longer than one run saves.

    lowered: what `jax.jit(f).lower(...)` or `.trace(...).lower()` gives, of a program that runs once and on little.

    >>> print(compiled_for_one_run(jax.jit(lambda x: 2 * x).lower(1.0))(3.0))
    6.0
    """
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return lowered.compile(options)  # pyright: ignore[reportArgumentType]
