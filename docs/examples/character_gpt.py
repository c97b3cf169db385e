"""A character GPT, trained through the hand-derived backward pass alone, on the eight chapters of docs/.

    python docs/examples/character_gpt.py [steps]

Prints how far manual and auto are apart at the start, how training went, and what the network writes.
"""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp

CHAPTERS = pathlib.Path(__file__).parents[1] / "chapters"
CONTEXT = 64


def read():
    """The chapters as ids, and the characters that the ids stand for."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(CHAPTERS.glob("*.md")))
    text = "".join(c if " " <= c <= "~" or c == "\n" else "" for c in text)
    characters = sorted(set(text))
    number = {c: i for i, c in enumerate(characters)}
    return np.array([number[c] for c in text], np.int32), characters


def windows(ids):
    """x and targets: every window of the text, and the same one character on."""
    starts = np.arange(0, len(ids) - CONTEXT - 1, CONTEXT // 2)
    x = np.stack([ids[s : s + CONTEXT] for s in starts])
    return x, np.stack([ids[s + 1 : s + CONTEXT + 1] for s in starts])


def write(net, params, characters, start, length=120):
    """Go on from `start`, always with the likeliest character."""
    logits = jax.jit(net)
    ids = [characters.index(c) for c in start]
    for _ in range(length):
        x = np.zeros((1, CONTEXT), np.int32)  # one shape: one compilation; causal, so what follows changes nothing
        recent = ids[-CONTEXT:]
        x[0, : len(recent)] = recent
        ids.append(int(np.argmax(logits(x, params)[0, len(recent) - 1])))
    return "".join(characters[i] for i in ids)


def main(steps=800):
    """Train, and return the cost before and after, and how far the two gradients are apart."""
    ids, characters = read()
    x, targets = windows(ids)
    net = jp.models.gpt(vocabulary=len(characters), width=64, depth=2, heads=4, context=CONTEXT)
    cost = jp.SoftmaxCrossEntropy()
    params = net.init(jax.random.key(0), x[:1])
    apart = difference(net, cost, params, x[:8], targets[:8])
    print(f"{len(ids):,} characters, {len(characters)} different; max|manual − auto| / max|auto| = {apart:.1e}")
    epochs = max(1, steps * 16 // len(x))
    result = jp.fit(
        net, cost, optax.adam(3e-3), (x, targets), params=params, epochs=epochs, batch_size=16, grad="manual",
        progress=False,
    )  # fmt: skip
    costs = [row["cost"] for row in result.history]
    print(f"cost a character: {np.log(len(characters)):.2f} (chance) → {costs[0]:.2f} → {costs[-1]:.2f} nats")
    print(write(net, result.params, characters, "The chain rule "))
    return costs, apart


def difference(net, cost, params, x, targets):
    """max|manual − auto| / max|auto| over all parameters."""
    by_hand, by_jax = (jax.jit(way.value_and_grad(net, cost))(x, params, targets)[1] for way in (jp.manual, jp.auto))
    apart = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))), by_hand, by_jax)
    return max(jax.tree.leaves(apart))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
