"""The idiomatic training loops a user would write in Equinox, Flax NNX and PyTorch (`pip install ".[bench]"`)."""

import jax
import jax.numpy as jnp


def loops(x, targets, plain, batch_size, rate, epochs):
    """{name: run} for the peers that are installed; each goes over the rows in batches, in Python."""
    found = {}
    for name, make in (("equinox", equinox), ("nnx", nnx), ("torch", torch)):
        try:
            found[name] = make(x, targets, [tuple(w.shape) for w, _ in plain], batch_size, rate, epochs)
        except ImportError as missing:
            print(f"{name} left out: {missing}")
    return found


def batches(x, targets, batch_size, epochs):
    for _ in range(epochs):
        for i in range(0, len(x), batch_size):
            yield x[i : i + batch_size], targets[i : i + batch_size]


def equinox(x, targets, shapes, batch_size, rate, epochs):
    import equinox as eqx
    import optax

    x, targets = jnp.asarray(x), jnp.asarray(targets)
    optimizer = optax.sgd(rate)

    def C(model, x, targets):
        for layer in model:
            x = jax.nn.sigmoid(jax.vmap(layer)(x))
        return 0.5 * jnp.mean(jnp.sum((x - targets) ** 2, axis=1))

    @eqx.filter_jit
    def step(model, state, x, targets):
        value, grads = eqx.filter_value_and_grad(C)(model, x, targets)
        updates, state = optimizer.update(grads, state, model)
        return eqx.apply_updates(model, updates), state, value

    def run():
        model = [eqx.nn.Linear(i, o, key=jax.random.key(0)) for i, o in shapes]
        state = optimizer.init(eqx.filter(model, eqx.is_array))
        for batch in batches(x, targets, batch_size, epochs):
            model, state, value = step(model, state, *batch)
        return value

    return run


def nnx(x, targets, shapes, batch_size, rate, epochs):
    import optax
    from flax import nnx

    x, targets = jnp.asarray(x), jnp.asarray(targets)

    class Network(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([nnx.Linear(i, o, rngs=nnx.Rngs(0)) for i, o in shapes])

        def __call__(self, x):
            for layer in self.layers:
                x = jax.nn.sigmoid(layer(x))
            return x

    def C(model, x, targets):
        return 0.5 * jnp.mean(jnp.sum((model(x) - targets) ** 2, axis=1))

    @nnx.jit
    def step(model, optimizer, x, targets):
        value, grads = nnx.value_and_grad(C)(model, x, targets)
        optimizer.update(model, grads)
        return value

    def run():
        model = Network()
        optimizer = nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param)
        for batch in batches(x, targets, batch_size, epochs):
            value = step(model, optimizer, *batch)
        return value

    return run


def torch(x, targets, shapes, batch_size, rate, epochs):
    import torch

    x, targets = torch.from_numpy(x), torch.from_numpy(targets)

    def run():
        model = torch.nn.Sequential(*(m for i, o in shapes for m in (torch.nn.Linear(i, o), torch.nn.Sigmoid())))
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for rows, wanted in batches(x, targets, batch_size, epochs):
            optimizer.zero_grad()
            value = 0.5 * ((model(rows) - wanted) ** 2).sum(1).mean()
            value.backward()
            optimizer.step()
        return value.item()

    return run
