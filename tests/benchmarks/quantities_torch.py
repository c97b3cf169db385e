"""BackPACK and Opacus, each ÷ its own plain gradient, on the MLPs of `quantities.py`: PyTorch in float32, on the CPU.

    python tests/benchmarks/quantities_torch.py [--rounds 10] [--only NAME]

It needs an environment of its own with torch, backpack-for-pytorch and opacus, and imports nothing of jaxprop. Ratios
of minima, in turn in one process. Limits: as in `quantities.py`.
"""

import argparse
import itertools
import time

import backpack.extensions as extensions
import torch
from backpack import backpack, extend
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from torch import nn

CASES = {
    "MLP 784-512-512-10, batch 256": ((784, 512, 512, 10), 256),
    "MLP 784-2048-2048-10, batch 512": ((784, 2048, 2048, 10), 512),
    "MLP 784-1024-512-256-128-64-10, batch 512": ((784, 1024, 512, 256, 128, 64, 10), 512),
}


def mlp(sizes):
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def steps(sizes, batch):
    """{name: step}, each with a network of its own."""
    torch.manual_seed(0)
    x, labels, cost = torch.randn(batch, sizes[0]), torch.zeros(batch, dtype=torch.long), nn.CrossEntropyLoss()

    def gradient(net, *asked):
        def step():
            net.zero_grad()
            with backpack(*asked):
                cost(net(x), labels).backward()

        return step

    def plain(net, cost=cost):
        def step():
            for parameter in net.parameters():
                parameter.grad = parameter.grad_sample = None
            cost(net(x), labels).backward()

        return step

    def extended():
        return extend(mlp(sizes))

    cost = extend(cost)
    found = {
        "gradient": plain(mlp(sizes), nn.CrossEntropyLoss()),
        "BackPACK norms": gradient(extended(), extensions.BatchL2Grad()),
        "BackPACK second moment": gradient(extended(), extensions.SumGradSquared()),
        "BackPACK K-FAC": gradient(extended(), extensions.KFAC()),
    }
    if batch * sum(a * b for a, b in itertools.pairwise(sizes)) < 3e8:  # gradients of all examples
        found["Opacus gradients of examples"] = plain(GradSampleModule(mlp(sizes)), nn.CrossEntropyLoss())
    ghost = GradSampleModuleFastGradientClipping(mlp(sizes), max_grad_norm=1.0, use_ghost_clipping=True)
    found["Opacus ghost norms, first of two passes"] = plain(ghost, nn.CrossEntropyLoss())
    return found


def seconds(candidates, rounds):
    least = dict.fromkeys(candidates, float("inf"))
    for round in range(rounds + 1):
        for name, step in candidates.items():
            start = time.perf_counter()
            step()
            if round:  # the first warms up
                least[name] = min(least[name], time.perf_counter() - start)
    return least


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="the cases that have this in their name")
    options = parser.parse_args()
    for name, case in CASES.items():
        if options.only in name:
            least = seconds(steps(*case), options.rounds)
            for what, time_ in list(least.items())[1:]:
                print(f"{name}  {what}: {time_ / least['gradient']:.2f}")
