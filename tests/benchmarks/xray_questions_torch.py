"""The questions of `xray_questions.py`, put to TorchLens about the same functions in PyTorch.

PYTHON tests/benchmarks/xray_questions_torch.py        an interpreter that has torch and torchlens
"""

import pathlib
import subprocess
import sys
import time

import torch
import torchlens as tl
from torch import nn


class Distances(nn.Module):
    """Distances between neighbouring points: the gradient of a norm at 0 is NaN."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 3)

    def forward(self, x):
        y = self.dense(x)
        steps = y[1:] - y[:-1]
        return torch.sqrt((steps**2).sum(-1)).sum()


class Logarithm(nn.Module):
    """The logarithm of a probability that is 0: −∞, and 0 · (−∞) in the entropy."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 3)

    def forward(self, x):
        p = torch.softmax(100 * self.dense(x), -1)
        return -(p * torch.log(p)).sum()


class Steps(nn.Module):
    """A recurrence that leaves the domain of the square root in the seventh step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        for _ in range(12):
            x = torch.sqrt(x * self.weight) - 0.35
        return x.sum()


class Masked(nn.Module):
    """NaN in rows that a mask takes out again: nothing is wrong."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 1)

    def forward(self, x):
        y = self.dense(x)[:, 0]
        logs = torch.log(x[:, 0])
        return (y * torch.where(x[:, 0] > 0, logs, 0.0)).sum()


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))

    def forward(self, x):
        return torch.nn.functional.cross_entropy(self.layers(x), torch.zeros(len(x), dtype=torch.long))


def traced(model, x):
    """A trace with the gradients of a whole backward pass."""
    log = tl.trace(model, x, capture=tl.options.CaptureOptions(save_grads=True))
    log.log_backward(log[log.output_layers[0]].out.sum())
    return log


def plain(model, x):
    """The gradient alone."""
    model.zero_grad()
    model(x).backward()


def say(question, answer):
    print(f"--- {question}\n{str(answer)[:600]}")


def milliseconds(run, model, x, rounds=9):
    """The least of some rounds, after one."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run(model, x)
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds[1:])


def peak():
    """The most memory that this process has had, in megabytes."""
    (line,) = [line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return int(line.split()[1]) / 1024


def megabytes(name):
    """How far the memory of a process of its own rises above the model and a first batch of two rows."""
    command = [sys.executable, "-W", "ignore", __file__, name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


RUNS = {"plain": plain, "traced": traced}

if __name__ == "__main__":
    torch.manual_seed(0)
    if len(sys.argv) > 1:
        run, model = RUNS[sys.argv[1]], MLP()
        run(model, torch.randn(2, 784))
        x = torch.randn(8192, 784)
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = peak()
        kept = run(model, x)
        print(peak() - before)
        sys.exit()
    say("forward", tl.debug.find_nan(Logarithm(), torch.tensor([[1.0, 2.0, 3.0]])))
    points = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    say("gradient", tl.debug.bisect_nan_backward(traced(Distances(), points)).birth)
    say("which step", tl.debug.find_nan(Steps(), torch.tensor([1.0])))
    rows = torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
    say("masked", tl.debug.find_nan(Masked(), rows))
    model, x = MLP(), torch.randn(256, 784)
    for each in tl.debug.gradient_flow_audit_rows(traced(model, x)):
        say("gradient at each module", each)
    times = {name: milliseconds(run, model, x) for name, run in RUNS.items()}
    say("time ÷ the plain gradient", f"{times['traced'] / times['plain']:.1f} ({times})")
    memory = {name: megabytes(name) for name in RUNS}
    say("memory ÷ the plain gradient", f"{memory['traced'] / memory['plain']:.1f} ({memory} MB)")
