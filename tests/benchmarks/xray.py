"""The X-ray of Flax models ÷ their plain gradient: step, temporary memory, trace + lower + compile. float32.

    python tests/benchmarks/xray.py [--rounds 15] [--json FILE] [--only NAME] [--quantities norms,light] [--processor]

The plain gradient is `jax.grad` of the mean of `vmap` of the loss of one example (`xray_models.py`). Beside it stand
the light and the full X-ray, the norms of the examples' gradients, and those by `vmap(grad)`, which take their turns
apart for what they do to the caches. `--rounds 0` takes no times. What needs more than 2 GiB is compiled and not run.

Limits: the operations of the gradient, as XLA counts them, and the fewest bytes: every input read once, every result
written once. An X-ray reads beside that each value and each error once more, where they are not fused into it; norms
need two numbers per example and parameter, but both factors of every product.
Marks, time / memory: norms MLP 0.7 / 1.3, CNN 0.9 / 1.1, transformer 1.0 / 1.05; light X-ray 2 / 1.3, compile time 3.
"""

import time

import jax
import jax.numpy as jnp
from measure import arguments, beside_gradient, columns, report
from xray_models import cases

import jaxprop as jp

COMPILATIONS = 3


def steps(loss):
    """{name: step(params, x, targets)}, the plain gradient first."""

    def mean(params, x, targets):
        return jnp.mean(jax.vmap(loss, (None, 0, 0))(params, x, targets))

    return {
        "gradient": jax.grad(mean),
        "light X-ray": jp.xray.program(mean, light=True),
        "full X-ray": jp.xray.program(mean),
        "norms": jp.example_norms(loss),
        "norms by vmap(grad)": by_vmap(loss),
    }


def by_vmap(loss):
    """Norms as one writes them in JAX: the gradient of every example, squared and summed."""

    def norms(params, x, targets):
        grads = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, targets)
        squares = [jnp.sum(g * g, axis=tuple(range(1, g.ndim))) for g in jax.tree.leaves(grads)]
        return jnp.sqrt(sum(squares))

    return norms


def compiled(asked, inputs):
    """{name: program} and {name: least seconds to trace, lower and compile it}; all in turn, nothing kept between."""
    programs, seconds = {}, {name: [] for name in asked}
    for _ in range(COMPILATIONS):
        for name, step in asked.items():
            jax.clear_caches()
            start = time.perf_counter()
            programs[name] = jax.jit(lambda *inputs, step=step: step(*inputs)).lower(*inputs).compile()
            seconds[name].append(time.perf_counter() - start)
    return programs, {name: min(each) for name, each in seconds.items()}


def measured(name, loss, inputs, options):
    """A row for each step, against the plain gradient."""
    words = options.quantities.split(",")
    asked = {what: s for what, s in steps(loss).items() if what == "gradient" or any(word in what for word in words)}
    programs, seconds = compiled(asked, inputs)
    sizes = {what: program.memory_analysis() for what, program in programs.items()}
    memory = {what: size.temp_size_in_bytes for what, size in sizes.items()}
    times = beside_gradient(programs, inputs, memory, options) if options.rounds else {}
    rows = []
    for what in list(asked)[1:]:
        row = {
            "case": name,
            "asked": what,
            "memory": round(memory[what] / memory["gradient"], 3),
            "compile": round(seconds[what] / seconds["gradient"], 2),
            "compile s": round(seconds[what], 2),
            "gradient MB": round(memory["gradient"] / 1e6, 1),
            "operations": int(programs["gradient"].cost_analysis()["flops"]),
            "fewest bytes": sizes[what].argument_size_in_bytes + sizes[what].output_size_in_bytes,
        }
        if what in times:
            row |= columns(times[what], what, "gradient")
            row["gradient ms"] = round(1000 * min(times[what]["gradient"]), 2)
        rows.append(row)
    return rows


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=15, named=True, peers=True)
    rows = [
        row
        for name, (loss, *inputs) in cases().items()
        if options.only in name
        for row in measured(name, loss, inputs, options)
    ]
    report(options, "X-ray ÷ the plain gradient", rows)
