"""Whole networks, manual against `jax.grad` of the cache-free call: step, temporary memory, trace + lower. float32.

    python tests/benchmarks/networks.py [--rounds 40] [--json FILE] [--only NAME]     --rounds 0 takes no times
        [--torch PYTHON]    an interpreter that has torch: its eager GPT (`networks_torch.py`) stands in turn with ours
        [--processor]       seconds of the processor instead of the clock's, for a busy machine

Every case is measured in two processes, without and with huge pages (GLIBC_TUNABLES=glibc.malloc.hugetlb=1): part of a
large step is the kernel's, which gives fresh temporary memory page by page.
Limits: 6 operations a weight and position (2 forward, 4 back), and each activation written once and read once. The GPT
(4 layers, 128 wide, T = 128, batch 8) has 0.8 M weights in dense maps at 1,024 positions: 5 GFLOP, 2.1 M scores.
Marks with huge pages, manual ÷ auto, step / memory: GPT 0.70 / 0.50 and not behind PyTorch, LSTM 0.60 / 0.70, ResNet
0.90 / 0.50; MLP and the others 1.02 / 1.00.
"""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
from gradients import compiled, repeat
from measure import arguments, columns, in_turn, ratios, report

import jaxprop as jp

VOCABULARY, WIDTH, DEPTH, HEADS, CONTEXT = 96, 128, 4, 4, 128
HERE, INSIDE = pathlib.Path(__file__), "JAXPROP_BENCHMARK_PAGES"
PAGES = {"small": "", "huge": "glibc.malloc.hugetlb=1"}


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


class Torch:
    """PyTorch's process: called, it takes some steps of the same GPT."""

    def __init__(self, python):
        command = [python, str(HERE.with_name("networks_torch.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, steps=1):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def seconds(self):
        """The seconds of the processor that it has had: its clock's number is made of the process's."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def row(name, net, x, targets, options):
    """One line of the table: a step of manual against one of auto, and one of PyTorch against both."""
    inputs = (x, net.init(jax.random.key(0), x), targets, None)
    programs, lower = compiled(net, jp.SoftmaxCrossEntropy(), *inputs, lowerings=3)
    temporary = {way: program.memory_analysis().temp_size_in_bytes for way, program in programs.items()}
    found = {
        "case": name,
        "pages": os.environ[INSIDE],
        "memory": round(temporary["manual"] / temporary["auto"], 3),
        "trace + lower": round(lower["manual"] / lower["auto"], 2),
        "manual MB": round(temporary["manual"] / 1e6, 1),
    }
    if not options.rounds:
        return found
    peer = Torch(options.torch) if options.torch and "GPT" in name else None
    repeats = 4 if "MLP" in name else 1
    runs = {way: functools.partial(repeat, program, inputs, repeats) for way, program in programs.items()}
    clock = time.process_time if options.processor else time.perf_counter
    if peer:
        runs["torch"] = peer
        clock = (lambda: time.process_time() + peer.seconds()) if options.processor else clock
    seconds = in_turn(runs, options.rounds, clock)
    found |= columns(seconds, "manual", "auto")
    found |= {f"{way} ms": round(1000 * min(each) / repeats, 1) for way, each in seconds.items()}
    if peer:
        found["÷ torch"] = round(ratios(seconds, "manual", "torch")["of_minima"], 3)
        peer.close()
    return found


def in_both():
    """Measure in two processes, of which one has huge pages; return their lines side by side."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for pages, tunables in PAGES.items():
            files[pages] = pathlib.Path(folder) / pages
            environment = {**os.environ, INSIDE: pages, "GLIBC_TUNABLES": tunables}
            command = [sys.executable, __file__, *sys.argv[1:], "--json", str(files[pages])]
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        each = [json.loads(file.read_text())["rows"] for file in files.values()]
    return [line for lines in zip(*each, strict=True) for line in lines]


if __name__ == "__main__":
    options = arguments(__doc__.splitlines()[0], rounds=40, named=True, torch=True)
    if INSIDE in os.environ:
        rows = [row(name, *case, options) for name, case in CASES.items() if options.only in name]
    else:
        rows = in_both()
    report(options, "whole networks, manual ÷ auto", rows)
