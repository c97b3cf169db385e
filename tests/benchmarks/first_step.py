"""The first step: seconds from the import to the first gradient, ours beside Flax NNX, Equinox and PyTorch.

    python tests/benchmarks/first_step.py [--rounds 5] [--json FILE] [--only NAME]

Every measurement is a fresh process without a compilation cache: import, a new network with its θ, one jitted gradient
(PyTorch: eager, as its users do), waited for. Processor seconds count every thread, and are steadier than the clock on
a machine that does other things. Marks: not slower than the fastest JAX peer, and half of 4.5 / 14.3 / 9.5 processor
seconds (MLP / ResNet / GPT, before `init` was one program).

The same networks in each: an MLP 784-512-512-10 with batch 256; a residual network with GroupNorm, 14 layers with
weights, on 32 images of 32 × 32 × 3; a GPT with 4 blocks, 128 wide, 4 heads, 8 × 128 ids of 96. The peers' GPT does not
tie the last layer to the embedding, and their blocks are unrolled, as their guides write them.
"""

import json
import random
import statistics
import subprocess
import sys
import time

WIDTH, DEPTH, HEADS, VOCABULARY, CONTEXT = 128, 4, 4, 96, 128
STAGES = ((16, False), (16, False), (32, True), (32, False), (64, True), (64, False))  # channels, halved first
NETWORKS = ("MLP", "ResNet", "GPT")
LIBRARIES = ("jaxprop", "nnx", "equinox", "torch")


def rows(network):
    """Inputs and labels as numpy arrays."""
    import numpy as np

    if network == "GPT":
        ids = np.arange(8 * CONTEXT).reshape(8, CONTEXT) % VOCABULARY
        return ids, ids
    shape = (256, 784) if network == "MLP" else (32, 32, 32, 3)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    return x, np.arange(len(x)) % 10


def jaxprop(network, x, labels):
    import jax
    import jax.numpy as jnp

    import jaxprop as jp

    net = {
        "MLP": lambda: jp.models.mlp((784, 512, 512, 10), jp.ReLU()),
        "ResNet": lambda: jp.models.resnet(10, 16, 2),
        "GPT": lambda: jp.models.gpt(VOCABULARY, WIDTH, DEPTH, HEADS, CONTEXT),
    }[network]()
    x, labels = jnp.asarray(x), jnp.asarray(labels)
    params = net.init(jax.random.key(0), x)
    gradient = jax.jit(jp.manual.value_and_grad(net, jp.SoftmaxCrossEntropy()))
    return jax.block_until_ready(gradient(x, params, labels))


def nnx(network, x, labels):
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    def mlp(rngs):
        return nnx.Sequential(
            *(nnx.Linear(784, 512, rngs=rngs), nnx.relu, nnx.Linear(512, 512, rngs=rngs), nnx.relu),
            nnx.Linear(512, 10, rngs=rngs),
        )

    class Residual(nnx.Module):
        def __init__(self, before, channels, halve, rngs):
            strides = 2 if halve else 1
            conv = dict(kernel_size=(3, 3), use_bias=False, rngs=rngs)
            self.ways = nnx.Sequential(
                *(nnx.Conv(before, channels, strides=strides, **conv), nnx.GroupNorm(channels, 8, rngs=rngs), nnx.relu),
                *(nnx.Conv(channels, channels, **conv), nnx.GroupNorm(channels, 8, rngs=rngs)),
            )
            short = nnx.Conv(before, channels, (1, 1), strides=2, use_bias=False, rngs=rngs) if halve else None
            self.around = nnx.data(short)

        def __call__(self, x):
            return nnx.relu(self.ways(x) + (x if self.around is None else self.around(x)))

    def resnet(rngs):
        before, blocks = 16, []
        for channels, halve in STAGES:
            blocks.append(Residual(before, channels, halve, rngs))
            before = channels
        first = nnx.Conv(3, 16, (3, 3), use_bias=False, rngs=rngs), nnx.GroupNorm(16, 8, rngs=rngs), nnx.relu
        return nnx.Sequential(*first, *blocks, lambda x: x.mean((1, 2)), nnx.Linear(64, 10, rngs=rngs))

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
            self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
            self.wide, self.narrow = nnx.Linear(WIDTH, 512, rngs=rngs), nnx.Linear(512, WIDTH, rngs=rngs)

        def __call__(self, x):
            mask = nnx.make_causal_mask(x[..., 0])
            x = x + self.attention(self.norms[0](x), mask=mask)
            return x + self.narrow(nnx.gelu(self.wide(self.norms[1](x))))

    class GPT(nnx.Module):
        def __init__(self, rngs):
            self.ids = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
            self.places = nnx.Embed(CONTEXT, WIDTH, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(DEPTH)])
            self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
            self.last = nnx.Linear(WIDTH, VOCABULARY, use_bias=False, rngs=rngs)

        def __call__(self, ids):
            x = self.ids(ids) + self.places(jnp.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.last(self.norm(x))

    model = {"MLP": mlp, "ResNet": resnet, "GPT": GPT}[network](nnx.Rngs(0))

    @nnx.jit
    def gradient(model, x, labels):
        return nnx.value_and_grad(
            lambda m: optax.softmax_cross_entropy_with_integer_labels(m(x), labels).mean(),
        )(model)

    return jax.block_until_ready(gradient(model, jnp.asarray(x), jnp.asarray(labels)))


def equinox(network, x, labels):
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    keys = iter(jax.random.split(jax.random.key(0), 64))
    relu, gelu = eqx.nn.Lambda(jax.nn.relu), jax.nn.gelu

    def mlp():
        return eqx.nn.MLP(784, 10, 512, 2, key=next(keys))

    class Residual(eqx.Module):
        ways: eqx.nn.Sequential
        around: eqx.nn.Conv2d | None

        def __init__(self, before, channels, halve):
            conv = dict(kernel_size=3, padding=1, use_bias=False)
            self.ways = eqx.nn.Sequential(
                [
                    eqx.nn.Conv2d(before, channels, stride=2 if halve else 1, **conv, key=next(keys)),
                    *(eqx.nn.GroupNorm(8, channels), relu),
                    *(eqx.nn.Conv2d(channels, channels, **conv, key=next(keys)), eqx.nn.GroupNorm(8, channels)),
                ]
            )
            short = dict(kernel_size=1, stride=2, use_bias=False)
            self.around = eqx.nn.Conv2d(before, channels, **short, key=next(keys)) if halve else None

        def __call__(self, x, key=None):
            return jax.nn.relu(self.ways(x) + (x if self.around is None else self.around(x)))

    def resnet():
        before, blocks = 16, []
        for channels, halve in STAGES:
            blocks.append(Residual(before, channels, halve))
            before = channels
        first = eqx.nn.Conv2d(3, 16, 3, padding=1, use_bias=False, key=next(keys)), eqx.nn.GroupNorm(8, 16), relu
        head = eqx.nn.Lambda(lambda x: x.mean((1, 2))), eqx.nn.Linear(64, 10, key=next(keys))
        return eqx.nn.Sequential([*first, *blocks, *head])

    class Block(eqx.Module):
        norms: list
        attention: eqx.nn.MultiheadAttention
        wide: eqx.nn.Linear
        narrow: eqx.nn.Linear

        def __init__(self):
            self.norms = [eqx.nn.LayerNorm(WIDTH) for _ in range(2)]
            biases = dict(use_query_bias=True, use_key_bias=True, use_value_bias=True, use_output_bias=True)
            self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, **biases, key=next(keys))
            self.wide = eqx.nn.Linear(WIDTH, 512, key=next(keys))
            self.narrow = eqx.nn.Linear(512, WIDTH, key=next(keys))

        def __call__(self, x):
            h = jax.vmap(self.norms[0])(x)
            x = x + self.attention(h, h, h, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
            return x + jax.vmap(lambda h: self.narrow(gelu(self.wide(self.norms[1](h)))))(x)

    class GPT(eqx.Module):
        ids: eqx.nn.Embedding
        places: eqx.nn.Embedding
        blocks: list
        norm: eqx.nn.LayerNorm
        last: eqx.nn.Linear

        def __init__(self):
            self.ids = eqx.nn.Embedding(VOCABULARY, WIDTH, key=next(keys))
            self.places = eqx.nn.Embedding(CONTEXT, WIDTH, key=next(keys))
            self.blocks = [Block() for _ in range(DEPTH)]
            self.norm = eqx.nn.LayerNorm(WIDTH)
            self.last = eqx.nn.Linear(WIDTH, VOCABULARY, use_bias=False, key=next(keys))

        def __call__(self, ids):
            x = jax.vmap(self.ids)(ids) + jax.vmap(self.places)(jnp.arange(len(ids)))
            for block in self.blocks:
                x = block(x)
            return jax.vmap(lambda h: self.last(self.norm(h)))(x)

    model = {"MLP": mlp, "ResNet": resnet, "GPT": GPT}[network]()
    x = jnp.moveaxis(jnp.asarray(x), -1, 1) if network == "ResNet" else jnp.asarray(x)

    @eqx.filter_jit
    def gradient(model, x, labels):
        return eqx.filter_value_and_grad(
            lambda m: optax.softmax_cross_entropy_with_integer_labels(jax.vmap(m)(x), labels).mean(),
        )(model)

    return jax.block_until_ready(gradient(model, x, jnp.asarray(labels)))


def torch(network, x, labels):
    import torch
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, before, channels, halve):
            super().__init__()
            conv = dict(kernel_size=3, padding=1, bias=False)
            self.ways = nn.Sequential(
                *(nn.Conv2d(before, channels, stride=2 if halve else 1, **conv), nn.GroupNorm(8, channels), nn.ReLU()),
                *(nn.Conv2d(channels, channels, **conv), nn.GroupNorm(8, channels)),
            )
            self.around = nn.Conv2d(before, channels, 1, stride=2, bias=False) if halve else nn.Identity()

        def forward(self, x):
            return torch.relu(self.ways(x) + self.around(x))

    def resnet():
        before, blocks = 16, []
        for channels, halve in STAGES:
            blocks.append(Residual(before, channels, halve))
            before = channels
        first = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.GroupNorm(8, 16), nn.ReLU()
        return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.ids, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            settings = dict(activation="gelu", batch_first=True, norm_first=True, dropout=0.0)
            block = nn.TransformerEncoderLayer(WIDTH, HEADS, 512, **settings)
            self.blocks = nn.TransformerEncoder(block, DEPTH, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
            self.last = nn.Linear(WIDTH, VOCABULARY, bias=False)

        def forward(self, ids):
            x = self.ids(ids) + self.places(torch.arange(ids.shape[1]))
            mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
            return self.last(self.blocks(x, mask=mask, is_causal=True))

    def mlp():
        widths = zip((784, 512, 512), (512, 512, 10), strict=True)
        return nn.Sequential(*[part for i, o in widths for part in (nn.Linear(i, o), nn.ReLU())][:-1])

    model = {"MLP": mlp, "ResNet": resnet, "GPT": GPT}[network]()
    x = torch.from_numpy(x)
    y = model(x.movedim(-1, 1) if network == "ResNet" else x)
    value = nn.functional.cross_entropy(y.flatten(0, -2), torch.from_numpy(labels).flatten())
    value.backward()
    return value.item()


def one(library, network):
    """In a process of its own: {"seconds", "processor"} from here to the gradient, or {} without the library."""
    start, processor = time.perf_counter(), time.process_time()
    try:
        globals()[library](network, *rows(network))
    except ModuleNotFoundError:
        return {}
    return {"seconds": time.perf_counter() - start, "processor": time.process_time() - processor}


def main():
    from measure import arguments, ratios, report  # imports JAX, which is part of what is measured

    options = arguments(__doc__.splitlines()[0], rounds=5, named=True)
    names = [(network, library) for network in NETWORKS if options.only in network for library in LIBRARIES]
    found = {name: [] for name in names}
    for number in range(options.rounds):
        for network, library in random.Random(number).sample(names, len(names)):
            command = [sys.executable, __file__, "--one", library, network]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            found[network, library].append(json.loads(ran.stdout.splitlines()[-1]))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    table = []
    for (network, library), runs in found.items():
        if not all(runs):
            print(f"{library} is not installed: left out")
            continue
        seconds = {who: [run["processor"] for run in found[network, who]] for who in (library, "jaxprop")}
        row = {"network": network, "library": library, "seconds": statistics.median(run["seconds"] for run in runs)}
        row |= {"processor s": statistics.median(seconds[library])}
        row |= {f"÷ jaxprop, {key}": value for key, value in ratios(seconds, library, "jaxprop").items()}
        table.append(row)
    report(options, "first step", table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(*sys.argv[2:])))
    else:
        main()
