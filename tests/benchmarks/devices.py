"""What a training step sends between devices: collectives and bytes a step, for each model and mesh. float32.

    python tests/benchmarks/devices.py [--json FILE] [--only NAME]

Nothing is timed: eight devices of one CPU are threads on the same cores. The program of one step is compiled, and its
collective operations are counted, those in a loop as often as it goes round. Bytes are of what comes out of them on one
device. The least that a step can send: θ once for `data` (gradients summed), and for `fsdp` θ twice gathered (forward,
back) and once summed. θ held is the share of θ's bytes that one device has.
"""

import math
import os
import re
from collections import defaultdict

import jax
import numpy as np
import optax

import jaxprop as jp
from jaxprop.train.devices import Devices
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, begin, step

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
MESHES = ("data=8", "fsdp=8", "data=4,model=2", "data=2,fsdp=2,model=2")


def collectives(program: str) -> dict[str, tuple[int, int]]:
    """Return how often each collective of a compiled program (its HLO as text) runs, and the bytes that it makes."""
    bodies, name, entry = defaultdict(list), "", ""
    for line in program.splitlines():
        if start := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = start.group(2)
            entry = name if start.group(1) else entry
        bodies[name].append(line)
    found = defaultdict(lambda: (0, 0))

    def visit(name: str, times: int) -> None:
        for line in bodies[name]:
            if made := re.search(rf"= (.*?) ({KINDS})(?:-start)?\(", line):
                count, size = found[made.group(2)]
                found[made.group(2)] = count + times, size + times * _bytes(made.group(1))
                continue
            rounds = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            for part in re.findall(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)", line):
                visit(part, times * (int(rounds.group(1)) if rounds else 1))

    visit(entry, 1)
    return dict(found)


def _bytes(shapes: str) -> int:
    """Of all arrays that a text such as (f32[2,3]{1,0}, s32[]) names."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
    return sum(BYTES.get(kind, 4) * math.prod(int(n) for n in axes.split(",") if n) for kind, axes in arrays)


RNG = np.random.default_rng(0)


def images(n, side=16):
    return RNG.normal(size=(n, side, side, 3)).astype("f4"), RNG.integers(0, 10, n)


def ids(n, t):
    return RNG.integers(0, 96, (n, t)), RNG.integers(0, 96, (n, t))


def sequences(n, t):
    return RNG.normal(size=(n, t, 64)).astype("f4"), RNG.integers(0, 8, n)


CASES = {
    "MLP 784-512-512-16": (
        jp.models.mlp((784, 512, 512, 16), jp.ReLU()),
        (RNG.normal(size=(64, 784)).astype("f4"), RNG.integers(0, 16, 64)),
    ),
    "convnet": (jp.models.convnet(10), images(64)),
    "ResNet, 8 layers": (jp.models.resnet(10), images(64)),
    "GPT, 4 layers, 128 wide": (jp.models.gpt(96, 128, 4, 4, 32), ids(16, 32)),
    "RNN 128, T = 32": (jp.models.rnn_classifier("rnn", 128, 8), sequences(64, 32)),
    "GRU 128, T = 32": (jp.models.rnn_classifier("gru", 128, 8), sequences(64, 32)),
    "LSTM 128, T = 32": (jp.models.rnn_classifier("lstm", 128, 8), sequences(64, 32)),
}


def compiled(net, rows, mesh, way, optimizer):
    """The program of one step, and the state as it lies before it."""
    devices = Devices.of(mesh, net)
    recipe = Recipe(net, jp.SoftmaxCrossEntropy(), optimizer, way, devices=devices)
    state = devices.place(begin(recipe, net.init(jax.random.key(0), rows[0])))
    run = jax.jit(lambda state, rows, key: step(recipe, state, rows, key), donate_argnums=0)
    return run.lower(state, devices.rows(Rows(*rows)), devices.everywhere(jax.random.key(1))).compile(), state


def held(tree) -> float:
    """The share of a tree's bytes that the first device holds."""
    arrays = jax.tree.leaves(tree)
    return sum(a.addressable_shards[0].data.nbytes for a in arrays) / sum(a.nbytes for a in arrays)


if __name__ == "__main__":
    # nothing is timed, so compile quickly
    more = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {more}"
    from measure import arguments, report

    options = arguments(__doc__.splitlines()[0], rounds=0, named=True)
    found = []
    for name, (net, rows) in CASES.items():
        for mesh in MESHES:
            for way in ("auto", "manual"):
                if options.only not in f"{name} {mesh} {way}":
                    continue
                program, state = compiled(net, rows, mesh, way, optax.adam(1e-3))
                size = sum(a.nbytes for a in jax.tree.leaves(state.params))
                row = {"network": name, "mesh": mesh, "way": way, "θ held": round(held(state.params), 3)}
                row |= {"θ KiB": size // 1024, "temp KiB": program.memory_analysis().temp_size_in_bytes // 1024}
                for kind, (count, bytes_) in sorted(collectives(program.as_text()).items()):
                    row |= {kind: f"{count} · {bytes_ / size:.2f} θ"}
                found.append(row)
                print(" · ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        report(options, "what a step sends between devices", found)
