"""Tests run in float64 with strict dtype promotion, on any platform; doctests run in the user's default float32.

Most of a run is XLA compiling. The default run compiles quickly: without LLVM's optimisations, and on jax 0.10 without
XLA's slow emitters, in a third of the time. With TESTS_OPTIMISED=1 programs are compiled as users' are: so CI runs
layers and quantities once more, and on another Python everything that computes.
"""

import gc
import os
import pathlib
import resource
import sys

import jax
import pytest

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"  # every core has a worker already
if jax.__version_info__[:2] == (0, 10):  # later ones know no such flag, and end at one they do not know
    QUICK += " --xla_cpu_use_fusion_emitters=false"
if not os.environ.get("TESTS_OPTIMISED"):  # in the environment, for the processes that tests start too
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}"

# what is imported stays: the collector need not walk through it again and again (a tenth of a run)
gc.freeze()
gc.set_threshold(50_000, 20, 50)

# they import MLServer and PyTorch, which have environments of their own
collect_ignore, collect_ignore_glob = ["benchmarks/mlserver_mlp.py"], ["benchmarks/*_torch.py"]


def pytest_configure(config: pytest.Config) -> None:
    cache = os.environ.get("TESTS_CACHE") or str(pathlib.Path(config.rootpath) / ".jax_cache")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_num_cpu_devices", 2)  # for what is tested sharded
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(autouse=True)
def strict_float64():
    """64 bits, and no silent promotion anywhere in our own code."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(autouse=True)
def close_figures():
    """Commands, and doctests before them, leave what they drew to the end of their process, which is not a test's."""

    def close():
        if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
            pyplot.close("all")

    close()
    yield
    close()


@pytest.fixture(autouse=True, scope="module")
def forget():
    """A worker keeps all that it compiled; once it has grown large, it forgets after every file what that one made."""
    yield
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 1_000_000:  # kB
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def compilations(request: pytest.FixtureRequest):
    """Count what XLA is asked to compile: `with compilations() as count: ...; count[0]`."""
    import contextlib

    @contextlib.contextmanager
    def counting():
        count = [0]

        def listen(event: str, *_: object, **__: object) -> None:
            if event == "/jax/core/compile/backend_compile_duration":
                count[0] += 1

        jax.monitoring.register_event_duration_secs_listener(listen)
        jax.jit(lambda x: x + 1)(1)
        assert count[0] > 0, "JAX no longer reports compilations under this name: this fixture sees nothing"
        count[0] = 0
        try:
            yield count
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    return counting
