"""`jaxprop demo`: the whole path once, on real handwritten digits, in under a minute."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxprop import plot
from jaxprop.check.compare import compare
from jaxprop.cli import train
from jaxprop.cli.predict import predictions
from jaxprop.cli.runs import SavedRun, open_run, print_json, rows_of, with_targets
from jaxprop.train import evaluate, predict


def demonstrate(out: Path, seed: int, json: bool) -> None:
    """Do all of it, and exit with what it says."""

    def say(text: str) -> None:
        if not json:
            print(text, flush=True)

    say("1. Train 64 → 32 → 10 units on 1,438 handwritten digits of 8×8 pixels; 359 are held out.")
    seconds = train_digits(out, seed, progress=not json)
    saved = open_run(out)  # from here on, only what was saved
    x, targets = with_targets(saved, rows_of(saved, None, ":"))
    accuracy = evaluate(saved.net, saved.cost)(x, saved.params, targets)["accuracy"]
    say(f"   saved in {out}, reloaded: {100 * accuracy:.1f} % of the held-out digits are right.\n")

    report = compare(saved.net, saved.cost)(x[:16], saved.params, targets[:16])
    say("2. Check the gradient of every parameter: the chain rule by hand, jax.grad, and a nudge of the weight.")
    say("   " + str(report).replace("\n", "\n   ") + "\n")

    say("3. Predict digits it has never seen:")
    answers = predictions(saved, rows_of(saved, None, "0:6"))
    say(digits_as_text(x[:6], [f"{a['prediction']} ({a['probability']:.2f})" for a in answers]))
    picture = draw(saved, x, targets, out / "demo.png")
    say(f"\n   drawn: {picture}" if picture else '\n   no picture: matplotlib is missing (pip install ".[plot]")')
    if json:
        facts = {"accuracy": accuracy, "gradients_agree": report.ok, "seconds": seconds}
        print_json({"out": str(out), "picture": picture and str(picture), **facts, "predictions": answers})
    say(f"\nNext:\n  jaxprop predict {out} --rows 0:5\n  jaxprop summary {out}\n  jaxprop check {out} --rows 0:100")
    say(f"  jaxprop explain {out} --param 1.W --index 20,3     one weight's derivative, written out with its numbers")
    say(f"  jaxprop serve {out}                               over HTTP and gRPC, until Ctrl-C")
    say("  jaxprop train square --layers 1,16,1 --activation tanh")
    sys.exit(0 if report.ok and accuracy >= 0.95 else 1)


def train_digits(out: Path, seed: int, progress: bool) -> float:
    """Train and save as `jaxprop train digits --grad manual` does; return the seconds it took."""
    plan = train.Plan(
        data="digits", layers="64,32,10", activation="sigmoid", epochs=40, seed=seed, grad="manual",
        out=out, progress=progress,
    )  # fmt: skip
    outcome = train.run(plan)
    if outcome.interrupted:
        print(outcome.text, file=sys.stderr)
        sys.exit(128 + outcome.interrupted)
    return outcome.summary["seconds"]


def digits_as_text(images: np.ndarray, captions: list[str]) -> str:
    """8×8 digits side by side in shades of a terminal, what was predicted below each."""
    shades = " ░▒▓█"
    lines = []
    for row in range(8):
        cells = ["".join(2 * shades[min(4, int(v) * 5 // 17)] for v in image.reshape(8, 8)[row]) for image in images]
        lines.append("   " + "  ".join(cells))
    lines.append("   " + "  ".join(caption.center(16) for caption in captions))
    return "\n".join(lines)


def draw(saved: SavedRun, x: np.ndarray, targets: np.ndarray, file: Path) -> Path | None:
    """The training history, and held-out digits with what was predicted; None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    panels: Any = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    left, right = panels
    plot.history(saved.training["history"], ax=left.subplots())
    y = np.argmax(predict(saved.net, x, saved.params), axis=1)
    wrong, right_ones = np.flatnonzero(y != targets), np.flatnonzero(y == targets)
    chosen = [*right_ones[: 15 - min(5, len(wrong))], *wrong[:5]]
    right.suptitle(f"Held-out digits: {np.mean(y == targets):.1%} right, {len(wrong)} of {len(y)} wrong (red)")
    for axes, i in zip(right.subplots(3, 5).ravel(), chosen, strict=False):
        axes.imshow(x[i].reshape(8, 8), cmap="gray_r")
        is_wrong = y[i] != targets[i]
        axes.set_title(f"{y[i]}, is {targets[i]}" if is_wrong else str(y[i]), color="crimson" if is_wrong else "black")
        axes.axis("off")
    figure.savefig(file, dpi=120)
    return file
