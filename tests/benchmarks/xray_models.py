"""Models in Flax (linen), as someone writes them who has never heard of jaxprop; the loss is that of one example."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

VOCABULARY, WIDTH, DEPTH, HEADS, CONTEXT = 96, 128, 4, 4, 128


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        for features in (512, 512):
            x = nn.relu(nn.Dense(features)(x))
        return nn.Dense(10)(x)


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        for features in (32, 64):
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(128)(x.reshape(*x.shape[:-3], -1)))
        return nn.Dense(10)(x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, mask):
        x = x + nn.MultiHeadDotProductAttention(HEADS)(nn.LayerNorm()(x), mask=mask)
        hidden = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
        return x + nn.Dense(WIDTH)(hidden), None


class Transformer(nn.Module):
    scanned: bool = False

    @nn.compact
    def __call__(self, ids):
        mask = nn.make_causal_mask(ids)
        places = self.param("places", nn.initializers.normal(0.02), (CONTEXT, WIDTH))
        x = nn.Embed(VOCABULARY, WIDTH)(ids) + places
        if self.scanned:
            blocks = nn.scan(
                Block, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=DEPTH
            )
            x, _ = blocks(name="blocks")(x, mask)
        else:
            for number in range(DEPTH):
                x, _ = Block(name=f"block_{number}")(x, mask)
        return nn.Dense(VOCABULARY)(nn.LayerNorm()(x))


class LSTM(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(nn.OptimizedLSTMCell(128))(x)[-1])


def case(model, x, targets):
    """The loss of one example, parameters, a batch and its targets."""

    def loss(params, x, target):
        logits = model.apply({"params": params}, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, target))

    return loss, model.init(jax.random.key(0), x[0])["params"], x, targets


def cases():
    """{name: what `case` gives}."""

    def rows(*shape):
        return jax.random.normal(jax.random.key(1), shape)

    ids = jax.random.randint(jax.random.key(1), (8, CONTEXT), 0, VOCABULARY)
    return {
        "MLP 784-512-512-10, batch 256": case(MLP(), rows(256, 784), jnp.zeros(256, int)),
        "CNN 32-64-128-10, 28 × 28, batch 64": case(CNN(), rows(64, 28, 28, 1), jnp.zeros(64, int)),
        "transformer, 4 blocks, 128 wide, T = 128, batch 8": case(Transformer(), ids, ids),
        "transformer, scanned": case(Transformer(scanned=True), ids, ids),
        "LSTM 128, T = 128, batch 32": case(LSTM(), rows(32, 128, 64), jnp.zeros(32, int)),
    }
