"""A research script with no layer of ours: a hand-written f(x, θ), trained for many seeds at once, then by `fit`.

    python docs/examples/plain_function.py

`auto`, optax, `vmap` and `fit` take any callable f(x, params) over any pytree of arrays.
"""

import jax
import jax.numpy as jnp
import optax

import jaxprop as jp


def f(x, params):
    """A residual network of two blocks, θ a dict."""
    h = jnp.tanh(x @ params["in"])
    for W in params["blocks"]:
        h = h + jnp.tanh(h @ W)
    return h @ params["out"]


def init(key, width=16):
    """θ, drawn from one key."""
    keys = jax.random.split(key, 4)
    draw = jax.nn.initializers.glorot_normal()
    return {
        "in": draw(keys[0], (2, width)),
        "blocks": [draw(k, (width, width)) for k in keys[1:3]],
        "out": draw(keys[3], (width, 1)),
    }


def train_by_hand(key, x, targets, optimizer, steps=300):
    """A training loop one writes oneself: `auto` gives the gradient, optax the update, `scan` the loop."""
    params = init(key)
    gradient = jp.auto.value_and_grad(f, jp.HalfSquaredError())

    def step(carry, _):
        params, state = carry
        value, grads = gradient(x, params, targets)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return params, values


def main(seeds=8):
    """Train `seeds` networks in one program, then one more by `fit`; return the costs they end with."""
    x = jax.random.uniform(jax.random.key(0), (256, 2), minval=-1, maxval=1)
    targets = jnp.sin(3 * x[:, :1]) + x[:, 1:] ** 3  # odd, like every f(x, θ) here: no biases
    optimizer = optax.adam(1e-2)

    keys = jax.random.split(jax.random.key(1), seeds)
    _, values = jax.jit(jax.vmap(lambda key: train_by_hand(key, x, targets, optimizer)))(keys)
    print(f"{seeds} seeds at once: cost {float(values[:, 0].mean()):.4f} → {float(values[:, -1].mean()):.6f}")

    start = init(jax.random.key(2))
    result = jp.fit(
        f, jp.HalfSquaredError(), optimizer, (x, targets), params=start, epochs=100, batch_size=64, progress=False
    )
    measured = jp.evaluate(f, jp.HalfSquaredError())(x, result.params, targets)
    print(f"fit: cost {result.history[0]['cost']:.4f} → {measured['cost']:.6f}, R² {measured['r2']:.4f}")
    return [float(v) for v in values[:, -1]], measured


if __name__ == "__main__":
    main()
