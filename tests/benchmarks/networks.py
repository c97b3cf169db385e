"""Whole networks, manual against `jax.grad` of the cache-free call: step, temporary memory, trace + lower. float32.

    python tests/benchmarks/networks.py [--rounds 40] [--json FILE] [--only NAME]     --rounds 0 takes no times

Limits: 6 operations a weight and position (2 forward, 4 back), and each activation written once and read once. The GPT
(4 layers, 128 wide, T = 128, batch 8) has 0.8 M weights in dense maps at 1,024 positions: 5 GFLOP, 2.1 M scores.
Marks, manual ÷ auto, step / memory / trace + lower: GPT in Repeat 0.75 / 0.52 / 0.60; unrolled 0.80 / 0.76 / 0.63;
Repeat + Remat 1.00 / 0.78 / 0.54; ResNet 0.9 / 0.80 / 0.6; LSTM 0.56 / 0.78 / 0.38; MLP 1.00 / 1.00 / 0.85.
"""

import jax
import jax.numpy as jnp
from gradients import measured
from measure import arguments, report

import jaxprop as jp

VOCABULARY, WIDTH, DEPTH, HEADS, CONTEXT = 96, 128, 4, 4, 128


def gpt(blocks):
    """The builder's GPT around other blocks."""
    whole = jp.models.gpt(VOCABULARY, WIDTH, DEPTH, HEADS, CONTEXT)
    before, after = whole.inner.layers[:2], whole.inner.layers[3:]
    return whole.with_children([jp.Chain(*before, blocks, *after)])


BLOCK = jp.models.gpt_block(WIDTH, HEADS)
IDS = jax.random.randint(jax.random.key(1), (8, CONTEXT), 0, VOCABULARY)
IMAGES = jax.random.normal(jax.random.key(1), (32, 32, 32, 3))

CASES = {
    "MLP 784-512-512-10, batch 256": (
        jp.models.mlp((784, 512, 512, 10), jp.ReLU()),
        jax.random.normal(jax.random.key(1), (256, 784)),
        jnp.zeros(256, int),
    ),
    "LSTM 128, T = 128, batch 32": (
        jp.models.rnn_classifier("lstm", 128, 10),
        jax.random.normal(jax.random.key(1), (32, 128, 64)),
        jnp.zeros(32, int),
    ),
    "ResNet, 14 layers, 32 × 32 × 3": (jp.models.resnet(10, 16, 2), IMAGES, jnp.zeros(32, int)),
    "GPT in Repeat": (gpt(jp.Repeat(BLOCK, DEPTH)), IDS, IDS),
    "GPT unrolled": (gpt(jp.Chain(*[BLOCK] * DEPTH)), IDS, IDS),
    "GPT in Repeat + Remat": (gpt(jp.Repeat(jp.Remat(BLOCK), DEPTH)), IDS, IDS),
}

if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=40, named=True)
    rows = [
        measured(name, net, jp.SoftmaxCrossEntropy(), x, targets, None, options.rounds)
        for name, (net, x, targets) in CASES.items()
        if options.only in name
    ]
    report(options, "whole networks, manual ÷ auto", rows)
