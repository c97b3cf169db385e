"""Manual against `jax.grad` of the cache-free call, layer by layer: step, temporary memory, trace + lower. float32.

    python tests/benchmarks/gradients.py [--rounds 15] [--json FILE] [--only NAME]       --rounds 0 takes no times

Every exported activation and cost is here, and the other layers from a list, each with neighbours to take an error from
and to hand one to. Two limits a row: operations from the layers' formulas, and the fewest bytes, each input read once
and each result written once.
Marks (benchmarks.md, section 1): time ≤ 1.02, memory ≤ 1.00 everywhere; LSTM 0.56 / 0.78 / 0.38.
"""

import functools
import time

import jax
from measure import arguments, columns, in_turn, report

import jaxprop as jp
from jaxprop.cli.build import activations, cost_kinds

HALF, SOFTMAX = jp.HalfSquaredError(), jp.SoftmaxCrossEntropy()
N, F = 256, 512
ROWS, SEQUENCES, IMAGES, IDS = (N, F), (32, 64, 128), (32, 32, 32, 3), (32, 64)
MAPS = (32, 32, 32, 16)


def around(layer):
    """A layer between two Linears."""
    return jp.Chain(jp.Linear(F), layer, jp.Linear(10))


def after_conv(layer):
    """A layer on 16 channels, after a convolution."""
    return jp.Chain(jp.Conv(16, (3, 3)), layer)


def before_conv(layer):
    """A layer on 16 channels, between two convolutions."""
    return jp.Chain(jp.Conv(16, (3, 3)), layer, jp.Conv(16, (3, 3)))


DENSE = jp.Chain(jp.Linear(F), jp.Tanh())
TIED = jp.Chain(jp.Linear(F, bias=False), jp.Tanh(), jp.Linear(F, bias=False))

ON_ROWS = [
    *(kind() for kind in activations().values()), jp.GELU(approximate=True),
    jp.Affine(), jp.LayerNorm(), jp.RMSNorm(), jp.BatchNorm(), jp.GroupNorm(8), jp.Dropout(0.5), jp.Reshape((F,)),
    jp.Residual(DENSE), jp.Repeat(DENSE, 4), jp.Remat(DENSE), jp.Repeat(jp.Remat(DENSE), 4),
    *(jp.Parallel(DENSE, DENSE, join=join) for join in ("sum", "concatenate", "multiply")),
    jp.Shared(TIED, ties=(("0.W", "2.W", True),)),
]  # fmt: skip
BETWEEN_CONVOLUTIONS = [jp.ReLU(), jp.GroupNorm(8), jp.BatchNorm(), jp.LayerNorm()]
AFTER_CONVOLUTION = [
    *(kind(*settings) for kind in (jp.MaxPool, jp.AvgPool) for settings in (((2, 2),), ((3, 3), 2, "SAME"))),
    jp.GlobalAvgPool(), jp.Transpose((2, 0, 1)),
]  # fmt: skip
ON_SEQUENCES = [
    jp.Linear(128), jp.RNN(128), jp.GRU(128), jp.LSTM(128), jp.LSTM(128, sequence=False), jp.PositionalEmbedding(64),
    jp.MultiHeadAttention(4), jp.MultiHeadAttention(4, causal=True),
]  # fmt: skip
COSTS = [*(kind() for kind in cost_kinds().values()), jp.SoftmaxCrossEntropy(label_smoothing=0.1, ignore=-1)]

# name: network, cost, shape of x
CASES = {
    "MLP 784-512-512-10": (jp.models.mlp((784, 512, 512, 10), jp.ReLU()), SOFTMAX, (N, 784)),
    "MLP 784-30-10 sigmoid": (jp.Chain(jp.models.mlp((784, 30, 10)), jp.Sigmoid()), HALF, (10, 784)),
    "Linear(512)": (jp.Linear(F), HALF, ROWS),
    "Standardize": (jp.Chain(jp.Standardize(0.5, 2.0), jp.Linear(10)), HALF, ROWS),
    "Unstandardize": (jp.Chain(jp.Linear(10), jp.Unstandardize(0.5, 2.0)), HALF, ROWS),
    "Flatten": (jp.Chain(jp.Flatten(), jp.Linear(10)), HALF, (N, 16, 32)),
    "Embedding": (jp.Chain(jp.Embedding(1000, 128), jp.Linear(10)), HALF, IDS),
    "Conv 3 × 3, strides 1 and 2": (jp.Chain(jp.Conv(16, (3, 3)), jp.ReLU(), jp.Conv(32, (3, 3), 2)), HALF, IMAGES),
    "Conv 3 × 3, 4 groups": (before_conv(jp.Conv(16, (3, 3), groups=4)), HALF, IMAGES),
    "Conv, 1-D, dilation 2": (jp.Chain(jp.Conv(128, (3,)), jp.Conv(128, (3,), dilation=2)), HALF, SEQUENCES),
    "ConvTranspose, strides 2": (
        jp.Chain(jp.ConvTranspose(16, (3, 3), 2), jp.ReLU(), jp.ConvTranspose(3, (3, 3), 2)), HALF, (32, 8, 8, 32),
    ),
    **{repr(layer): (around(layer), HALF, ROWS) for layer in ON_ROWS},
    **{f"images: {layer!r}": (before_conv(layer), HALF, MAPS) for layer in BETWEEN_CONVOLUTIONS},
    **{f"images: {layer!r}": (after_conv(layer), HALF, IMAGES) for layer in AFTER_CONVOLUTION},
    **{f"sequences: {layer!r}": (jp.Chain(jp.Linear(128), layer), HALF, SEQUENCES) for layer in ON_SEQUENCES},
    **{f"cost: {cost!r}": (jp.Linear(F), cost, (N, 64)) for cost in COSTS},
}  # fmt: skip


def problem(net, cost, shape):
    """x, targets and a key of the kinds that the network and its cost take; a Dropout is the one to draw."""
    key = jax.random.key(1)
    lookup = isinstance(net, jp.Chain) and isinstance(net.layers[0], jp.Embedding)
    x = jax.random.randint(key, shape, 0, 1000) if lookup else jax.random.normal(key, shape)
    y = jax.eval_shape(lambda x: net(x, net.init(key, x)), x)
    if cost.takes_labels and cost.applies is not None:
        targets = jax.random.randint(key, y.shape[:-1], 0, y.shape[-1])
    else:
        targets = jax.random.uniform(key, (*y.shape[:-1], y.shape[-1] // cost.outputs_per_target))
    return x, targets, key if "Dropout" in repr(net) else None


def compiled(net, cost, *inputs, lowerings=5):
    """The compiled step of manual and of auto, and seconds to trace and lower each: the least of some, in turn."""
    steps = {"manual": jp.manual.value_and_grad(net, cost), "auto": jp.auto.value_and_grad(net, cost)}
    seconds = {name: [] for name in steps}
    lowered = {}
    for _ in range(lowerings):
        for name, step in steps.items():
            jax.clear_caches()
            start = time.perf_counter()
            lowered[name] = jax.jit(lambda x, p, t, rng, step=step: step(x, p, t, rng=rng)).lower(*inputs)
            seconds[name].append(time.perf_counter() - start)
    return {name: low.compile() for name, low in lowered.items()}, {name: min(s) for name, s in seconds.items()}


def measured(name, net, cost, x, targets, rng, rounds):
    """One row: a step of manual against one of auto."""
    inputs = (x, net.init(jax.random.key(0), x), targets, rng)
    programs, lower = compiled(net, cost, *inputs)
    memory = {way: program.memory_analysis() for way, program in programs.items()}
    temporary = {way: sizes.temp_size_in_bytes for way, sizes in memory.items()}
    found = jp.summary(net, x)
    row = {
        "case": name,
        "memory": round(temporary["manual"] / temporary["auto"], 3) if temporary["auto"] else None,
        "trace + lower": round(lower["manual"] / lower["auto"], 2),
        "manual bytes": temporary["manual"],
        "auto bytes": temporary["auto"],
        "operations": found.total("forward") + found.total("backward"),
        "fewest bytes": memory["auto"].argument_size_in_bytes + memory["auto"].output_size_in_bytes,
    }
    if rounds:
        row |= times(programs, inputs, rounds)
    return row


def times(programs, inputs, rounds, at_least=0.005):
    """Steps of both in turn; a small one is repeated until a run takes 5 ms."""
    once = min(in_turn({"auto": functools.partial(programs["auto"], *inputs)}, 3)["auto"])
    repeats = max(1, round(at_least / once))
    runs = {way: functools.partial(repeat, program, inputs, repeats) for way, program in programs.items()}
    seconds = in_turn(runs, rounds)
    milliseconds = round(1000 * min(seconds["auto"]) / repeats, 3)
    return columns(seconds, "manual", "auto") | {"auto ms": milliseconds}


def repeat(program, inputs, times):
    for _ in range(times):
        jax.block_until_ready(program(*inputs))


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=15, named=True)
    rows = [
        measured(name, net, cost, *problem(net, cost, shape), options.rounds)
        for name, (net, cost, shape) in CASES.items()
        if options.only in name
    ]
    report(options, "manual ÷ auto", rows)
