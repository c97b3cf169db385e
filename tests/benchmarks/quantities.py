"""Quantities of one backward pass ÷ the plain gradient of `auto`: step, temporary memory, compile time. float32.

    python tests/benchmarks/quantities.py [--rounds 15] [--json FILE] [--only NAME] [--peers]

`--rounds 0` takes no times, `--processor` those of the processor, `--quantities norms,clipped` only those. Beside them
`vmap(grad)`, and with `--peers` the clipped gradient of jax_privacy (`pip install ".[bench]"`). BackPACK and Opacus,
each ÷ its own gradient, are in `quantities_torch.py`. A program that needs more than 2 GiB is compiled and not run.

Limits: operations of the gradient, from the layers' formulas: norms of a gradient that is taken anyway need no product
more (Σ_n G_n is that gradient). Fewest bytes: every input read once and every result written once.
Marks, time / memory: value, gradient and norms GPT 0.85 / 0.55, LSTM 0.75 / 0.75, MLP 0.95 / 1.00, ResNet 0.95 / 1.00;
clipped gradient, time 1.00 / 0.90 / 1.05 / 1.30; second moment 1.6 on MLPs; K-FAC factors 1.45 on MLPs, 1.5 on the GPT;
memory 1.15 where no per-example gradient is asked for; compile time 2. Curvature times a vector: curvlinops has 0.86
(GGN) and 1.05 (Hessian) of its own compiled gradient on the MLP of seven layers, on a GPU.
"""

import functools
import time

import jax
import jax.numpy as jnp
from measure import arguments, beside_gradient, columns, report
from networks import CASES as NETWORKS

import jaxprop as jp

COST = jp.SoftmaxCrossEntropy()


def mlp(*sizes):
    """A ReLU network without a last activation, and a batch for it."""

    def case(batch):
        x = jax.random.normal(jax.random.key(1), (batch, sizes[0]))
        return jp.models.mlp(sizes, jp.ReLU()), x, jnp.zeros(batch, int)

    return case


CASES = {
    "MLP 5120-2560-1280, batch 32": mlp(5120, 2560, 1280)(32),
    "MLP 784-512-512-10, batch 256": NETWORKS["MLP 784-512-512-10, batch 256"],
    "MLP 784-2048-2048-10, batch 512": mlp(784, 2048, 2048, 10)(512),
    "MLP 784-1024-512-256-128-64-10, batch 512": mlp(784, 1024, 512, 256, 128, 64, 10)(512),
    "LSTM 128, T = 128, batch 32": NETWORKS["LSTM 128, T = 128, batch 32"],
    "ResNet, 14 layers, 32 × 32 × 3": NETWORKS["ResNet, 14 layers, 32 × 32 × 3"],
    "GPT in Repeat": NETWORKS["GPT in Repeat"],
}

# name: how the quantity is made from jp.stats
ASKED = {
    "norms": lambda stats: stats.ExampleNorms(),
    "clipped": lambda stats: stats.ClippedGradient(1.0),
    "second moment": lambda stats: stats.SecondMoment(),
    "K-FAC factors": lambda stats: stats.KroneckerFactors(),
    "GGN diagonal, sampled": lambda stats: stats.GGNDiagonal("sampled"),
    "GGN diagonal, exact": lambda stats: stats.GGNDiagonal(),
}


def quantities(net):
    """{name: step(x, params, targets)}."""
    stats, found = jp.stats, {}
    for name, make in ASKED.items():
        asked = [make(stats)]
        found[name] = functools.partial(keyed, stats.collect(net, COST, asked), name != "clipped")
    return found


def products(net):
    """{name: step(x, params, targets)} of curvature times θ, by hand and as a plain function has it by JAX."""

    def by_jax(x, params):
        return net(x, params)

    return {
        f"{name}{by}": functools.partial(with_params, make(f, COST))
        for name, make in (("GGN matvec", jp.stats.ggn_product), ("Hessian matvec", jp.stats.hessian_product))
        for by, f in (("", net), (" by jax", by_jax))
    }


def with_params(product, x, params, targets):
    """A product with θ itself for the vector."""
    return product(x, params, targets, params)


def keyed(step, with_gradient, x, params, targets):
    """A step with a key for what draws its errors. Who clips does not want the gradient that is not clipped."""
    value, grads, found = step(x, params, targets, rng=jax.random.key(2))
    return (value, grads, found) if with_gradient else (value, found)


def by_vmap(net):
    """Value, gradient and norms as one writes them in JAX: the gradient of every example, squared and summed."""

    def one(params, x, target):
        return COST(net(x[None], params), target[None])[0]

    def step(x, params, targets):
        values, grads = jax.vmap(jax.value_and_grad(one), (None, 0, 0))(params, x, targets)
        norms = jax.tree.map(lambda g: jnp.sum(g * g, axis=tuple(range(1, g.ndim))), grads)
        return jnp.mean(values), jax.tree.map(lambda g: jnp.mean(g, axis=0), grads), norms

    return step


def by_jax_privacy(net):
    """The clipped gradient of jax_privacy."""
    from jax_privacy.clipping import clipped_grad

    def C(params, x, target):
        return jnp.mean(COST(net(x, params), target))

    clipped = clipped_grad(C, batch_argnums=(1, 2), l2_clip_norm=1.0, return_values=True, return_grad_norms=True)
    return lambda x, params, targets: clipped(params, x, targets)


def compiled(step, inputs):
    """The program, and seconds to trace, lower and compile it."""
    jax.clear_caches()
    start = time.perf_counter()
    program = jax.jit(lambda *inputs: step(*inputs)).lower(*inputs).compile()
    return program, time.perf_counter() - start


def measured(name, net, x, targets, options):
    """A row for each quantity: its step against one of auto."""
    inputs = (x, net.init(jax.random.key(0), x), targets)
    steps = {"gradient": jp.auto.value_and_grad(net, COST), **quantities(net), "norms by vmap(grad)": by_vmap(net)}
    steps |= products(net)
    if options.peers:
        steps["clipped by jax_privacy"] = by_jax_privacy(net)
    words = options.quantities.split(",")
    steps = {what: s for what, s in steps.items() if what == "gradient" or any(word in what for word in words)}
    programs, seconds = {}, {}
    for what, step in steps.items():
        programs[what], seconds[what] = compiled(step, inputs)
    sizes = {what: program.memory_analysis() for what, program in programs.items()}
    memory = {what: size.temp_size_in_bytes for what, size in sizes.items()}
    times = beside_gradient(programs, inputs, memory, options) if options.rounds else {}
    summary = jp.summary(net, x)
    rows = []
    for what in list(steps)[1:]:
        row = {
            "case": name,
            "quantity": what,
            "memory": round(memory[what] / memory["gradient"], 3),
            "compile": round(seconds[what] / seconds["gradient"], 2),
            "bytes": memory[what],
            "operations": summary.total("forward") + summary.total("backward"),
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
        for name, (net, x, targets) in CASES.items()
        if options.only in name
        for row in measured(name, net, x, targets, options)
    ]
    report(options, "quantities ÷ the gradient of auto", rows)
