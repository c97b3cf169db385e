"""A program that runs once: compiled quickly rather than well."""

import jax
from jax.stages import Compiled, Lowered

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
    if many_kernels:
        try:
            return lowered.compile(SIMPLE)  # pyright: ignore[reportArgumentType]
        except jax.errors.JaxRuntimeError as error:
            if "No such compile option" not in str(error):
                raise
    return lowered.compile(QUICK)  # pyright: ignore[reportArgumentType]
