"""Six ways back through a LeNet on MNIST, beside BioTorch's table, and how far each gradient is from the true one.

    python docs/examples/feedback_alignment.py ../shared/data/mnist [--epochs 8] [--seeds 1] [--picture angles.png]

The folder has the four files of MNIST. The network, SGD with momentum 0.9 and weight decay 1e-3, batches of 64, a rate
that falls to a tenth after half and after three quarters of the epochs, and B drawn as Glorot and Bengio draw W are
BioTorch's, which trains for 100 epochs. It reports its best epoch on the rows that choose it, and so does the table
here. BioTorch tunes a rate for each rule and does not say which for MNIST. Here it is 0.01, and 0.003 for the two that
see nothing of W, for which it was the best of 0.001, 0.003, 0.01 and 0.03. `--short` is for tests: 1 epoch, 1,000 rows.
"""

import argparse
import time

import jax
import numpy as np
import optax

import jaxprop as jp

NET = jp.Chain(
    *(jp.Reshape((28, 28, 1)), jp.Conv(6, (5, 5), padding="VALID"), jp.ReLU(), jp.MaxPool((2, 2))),
    *(jp.Conv(16, (5, 5), padding="VALID"), jp.ReLU(), jp.MaxPool((2, 2)), jp.Flatten()),
    *(jp.Linear(120), jp.ReLU(), jp.Linear(84), jp.Linear(10)),
)
COST = jp.SoftmaxCrossEntropy()
RULES = {  # name: (rule, learning rate, BioTorch's error in percent)
    "BP": (jp.rules.Backprop(), 0.01, 0.91),
    "uSF": (jp.rules.SignSymmetry("uniform"), 0.01, 0.94),
    "brSF": (jp.rules.SignSymmetry("redrawn"), 0.01, 0.91),
    "frSF": (jp.rules.SignSymmetry("fixed"), 0.01, 0.97),
    "DFA": (jp.rules.DirectFeedbackAlignment(init="glorot_uniform"), 0.003, 1.61),
    "FA": (jp.rules.FeedbackAlignment(init="glorot_uniform"), 0.003, 1.70),
}


def optimizer(rate, steps):
    """SGD as PyTorch has it, with its rate by step."""
    rate = optax.piecewise_constant_schedule(rate, {steps // 2: 0.1, 3 * steps // 4: 0.1})
    return optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(rate, momentum=0.9))


def train(rule, rate, rows, held, epochs, seed):
    """Return the least error in percent on the rows held out, and after every epoch the angles of the gradient."""
    start, back, key = jax.random.split(jax.random.key(seed), 3)
    params = NET.init(start, rows[0][:1])
    feedback = rule.init(back, NET, params, rows[0][:1])
    measure, angles = jax.jit(jp.rules.alignment(NET, COST, rule)), []

    def look(params):
        angles.append(measure(rows[0][:1000], params, rows[1][:1000], rng=key, feedback=feedback))

    look(params)
    steps = epochs * -(-len(rows[0]) // 64)
    result = jp.fit(
        NET, COST, optimizer(rate, steps), rows, params=params, epochs=epochs, batch_size=64, key=key,
        validation=held, rule=rule, feedback=feedback, progress=False, on_epoch=lambda row, state: look(state.params),
    )  # fmt: skip
    best = max(row["validation_accuracy"] for row in result.history)
    angles = jax.tree.map(lambda *a: np.array(a), *angles)
    return 100 * (1 - best), angles._replace(layers=dict(sorted(angles.layers.items(), key=lambda one: int(one[0]))))


def draw(angles, file):
    """The angle of every layer as training goes, a part for each rule that has some."""
    import matplotlib.pyplot as plt

    names = [name for name in angles if name != "BP"]
    figure, axes = plt.subplots(1, len(names), figsize=(13, 3.2), sharey=True, layout="constrained")
    for ax, name in zip(axes, names, strict=True):
        for i, (path, values) in enumerate(angles[name].layers.items()):
            ax.plot(values, color=plt.cm.viridis(i / 5), label=f"{path} {type(NET.layers[int(path)]).__name__}")
        ax.axhline(90, color="0.6", linewidth=0.8, linestyle="--")
        ax.set(title=name, xlabel="epoch", ylim=(-3, 110))
    axes[0].set_ylabel("angle to the true gradient, degrees")
    axes[-1].legend(fontsize=8, frameon=False)
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main(folder, epochs=8, seeds=1, names=tuple(RULES), rows=None, picture=None):
    """Train by every rule; print the table; return {rule: errors in percent by seed} and the angles of the first."""
    data = jp.data.mnist(folder, validation=0)
    training, held = (data.x[:rows], data.targets[:rows]), data.test
    print(f"{len(training[0]):,} rows, {epochs} epochs, {seeds} seeds; BioTorch: 100 epochs")
    print(f"\n{'rule':6}{'error %, ours':>16}{'BioTorch':>10}   angle to the true gradient in the end, by layer")
    errors, angles = {}, {}
    for name in names:
        rule, rate, published = RULES[name]
        began = time.perf_counter()
        found = [train(rule, rate, training, held, epochs, seed) for seed in range(seeds)]
        errors[name], angles[name] = [error for error, _ in found], found[0][1]
        spread = f" ± {np.std(errors[name], ddof=1):.2f}" if seeds > 1 else ""
        ends = "  ".join(f"{path} {values[-1]:.0f}°" for path, values in angles[name].layers.items())
        ours = f"{np.mean(errors[name]):.2f}{spread}"
        print(f"{name:6}{ours:>16}{published:>10.2f}   {ends}   ({time.perf_counter() - began:.0f} s)", flush=True)
    if picture:
        draw(angles, picture)
    return errors, angles


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="with train-images-idx3-ubyte.gz and the other three")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES), metavar="RULE")
    parser.add_argument("--short", action="store_true", help="1 epoch on 1,000 rows")
    parser.add_argument("--picture", help="where the angles are drawn")
    asked = parser.parse_args()
    few = {"epochs": 1, "rows": 1000} if asked.short else {"epochs": asked.epochs}
    main(asked.folder, seeds=asked.seeds, names=asked.rules, picture=asked.picture, **few)
