"""Manual against `jax.grad` of the cache-free call: step, temporary memory, trace + lower. float32.

    python tests/benchmarks/gradients.py [--rounds 30] [--json FILE]

Limits of a Linear layer with N rows, I inputs, O outputs: 6 N I O operations (2 forward, 4 back) and, at the least, W
read twice, its gradient written once, x, z, δ and dx moved once each: 4 (3 I O + 2 N I + 2 N O) bytes.
Marks (benchmarks.md, section 1): time ≤ 1.02, memory ≤ 1.00 everywhere; MLP 1.00 / 1.00 / 0.85; LSTM 0.56 / 0.78.
"""

import functools
import time

import jax
import jax.numpy as jnp
from measure import arguments, in_turn, ratios, report

import jaxprop as jp

HALF, SOFTMAX = jp.HalfSquaredError(), jp.SoftmaxCrossEntropy()
N, F = 256, 512


def mlp(*sizes, activation=jp.ReLU):
    layers = [layer for size in sizes[:-1] for layer in (jp.Linear(size), activation())]
    return jp.Chain(*layers, jp.Linear(sizes[-1]))


def around(layer):
    """A layer between two Linears, so that its error has somewhere to come from and to go."""
    return jp.Chain(jp.Linear(F), layer, jp.Linear(10))


ACTIVATIONS = [
    jp.Identity(), jp.Sigmoid(), jp.Tanh(), jp.ReLU(), jp.LeakyReLU(), jp.ELU(), jp.SELU(), jp.GELU(),
    jp.GELU(approximate=True), jp.SiLU(), jp.Softplus(), jp.Softsign(), jp.HardTanh(), jp.Softmax(),
]  # fmt: skip

ATTENTION = {
    "MultiHeadAttention": (jp.Chain(jp.MultiHeadAttention(4)), HALF, (8, 128, 128)),
    "MultiHeadAttention, causal": (jp.Chain(jp.MultiHeadAttention(4, causal=True)), HALF, (8, 128, 128)),
}
RECURRENT = {
    **{
        f"{kind.__name__} 128, T = 64": (jp.Chain(kind(128)), HALF, (32, 64, 128)) for kind in (jp.RNN, jp.GRU, jp.LSTM)
    },
    "LSTM 128, T = 64, last": (jp.Chain(jp.LSTM(128, sequence=False), jp.Linear(10)), SOFTMAX, (32, 64, 128)),
}

IMAGES = (32, 32, 32, 3)
CONVOLUTIONS = {
    "Conv 3 × 3, 16": (jp.Chain(jp.Conv(16, (3, 3)), jp.ReLU(), jp.Conv(16, (3, 3))), HALF, (32, 32, 32, 16)),
    "Conv 3 × 3, strides 2": (jp.Chain(jp.Conv(16, (3, 3)), jp.ReLU(), jp.Conv(32, (3, 3), 2)), HALF, IMAGES),
    "ConvTranspose": (
        jp.Chain(jp.ConvTranspose(16, (3, 3), 2), jp.ReLU(), jp.ConvTranspose(3, (3, 3), 2)), HALF, (32, 8, 8, 32),
    ),
    **{
        repr(layer): (jp.Chain(jp.Conv(16, (3, 3)), layer), HALF, IMAGES)
        for kind in (jp.MaxPool, jp.AvgPool) for layer in (kind((2, 2)), kind((3, 3), 2, "SAME"))
    },
    "GlobalAvgPool": (jp.Chain(jp.Conv(16, (3, 3)), jp.GlobalAvgPool()), HALF, IMAGES),
    "Reshape": (jp.Chain(jp.Reshape((16, 32)), jp.Linear(10)), HALF, (N, F)),
    "Transpose": (jp.Chain(jp.Conv(16, (3, 3)), jp.Transpose((2, 0, 1))), HALF, IMAGES),
}  # fmt: skip

CASES = {
    "MLP 784-512-512-10": (mlp(512, 512, 10), SOFTMAX, (N, 784)),
    "MLP 784-30-10 sigmoid": (jp.Chain(*mlp(30, 10, activation=jp.Sigmoid).layers, jp.Sigmoid()), HALF, (10, 784)),
    "Linear 512": (jp.Linear(F), HALF, (N, F)),
    "Linear 128, T = 64": (jp.Chain(jp.Linear(128), jp.Tanh(), jp.Linear(128)), HALF, (16, 64, 128)),
    "Standardize": (jp.Chain(jp.Standardize(0.5, 2.0), jp.Linear(10)), HALF, (N, F)),
    "Unstandardize": (jp.Chain(jp.Linear(10), jp.Unstandardize(0.5, 2.0)), HALF, (N, F)),
    "Flatten": (jp.Chain(jp.Flatten(), jp.Linear(10)), HALF, (N, 16, 32)),
    **ATTENTION,
    **RECURRENT,
    **CONVOLUTIONS,
    **{f"around {layer!r}": (around(layer), HALF, (N, F)) for layer in ACTIVATIONS},
}


def compiled(way, net, cost, *arguments):
    """The compiled step, and seconds to trace and lower it (the least of five)."""
    seconds = []
    for _ in range(5):
        jax.clear_caches()
        start = time.perf_counter()
        lowered = jax.jit(way.value_and_grad(net, cost)).lower(*arguments)
        seconds.append(time.perf_counter() - start)
    return lowered.compile(), min(seconds)


def case(name, net, cost, shape, rounds):
    x = jax.random.normal(jax.random.key(0), shape)
    y = jax.eval_shape(lambda x: net(x, net.init(jax.random.key(0), x)), x)
    targets = jnp.zeros(shape[0], int) if cost is SOFTMAX else jax.random.normal(jax.random.key(2), y.shape)
    return measured(name, net, cost, x, targets, rounds)


def measured(name, net, cost, x, targets, rounds, repeats=10):
    """One row: a step of manual against one of auto."""
    arguments = (x, net.init(jax.random.key(0), x), targets)
    manual, manual_lower = compiled(jp.manual, net, cost, *arguments)
    auto, auto_lower = compiled(jp.auto, net, cost, *arguments)
    runs = {
        name: functools.partial(repeat, program, arguments, repeats)
        for name, program in (("manual", manual), ("auto", auto))
    }
    step = ratios(in_turn(runs, rounds), "manual", "auto")
    memory = [program.memory_analysis().temp_size_in_bytes for program in (manual, auto)]
    found = jp.summary(net, x)
    return {
        "case": name,
        "operations": found.total("forward") + found.total("backward"),
        "step": round(step["of_minima"], 3),
        "median": round(step["median"], 3),
        "spread": f"{step['low']:.2f}–{step['high']:.2f}",
        "memory": round(memory[0] / memory[1], 3) if memory[1] else float(memory[0] > 0),
        "manual bytes": memory[0],
        "auto bytes": memory[1],
        "trace + lower": round(manual_lower / auto_lower, 2),
    }


def repeat(program, arguments, times=10):
    return [program(*arguments) for _ in range(times)][-1]


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=30)
    rows = [case(name, *rest, options.rounds) for name, rest in CASES.items()]
    report(options, "manual ÷ auto", rows)
