"""Digits learned with differential privacy: DP-SGD, by clipped gradients of one backward pass.

    python docs/examples/dp_sgd.py [steps] [noise]         300 steps with σ = 4; a quarter of a minute

Every step takes each image with probability q, adds up their gradients, each clipped to a norm of C, and adds Gaussian
noise of standard deviation σ C. Then whether any one image was among the training images can hardly be told from what
was learned: that is (ε, δ)-privacy, and what a step costs of it is counted by the accountant of jax_privacy. The same
network is trained without privacy beside it.

Not private here are the accuracies on the way, which are of held-out images, and what noise is drawn from:
`jax.random` is for study, a release needs numbers that nobody can predict.
Source: Abadi et al., "Deep Learning with Differential Privacy" (2016), algorithm 1.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp

try:
    import dp_accounting
    from jax_privacy.batch_selection import CyclicPoissonSampling, split_and_pad_global_batch
except ImportError:
    sys.exit("this example counts privacy with the accountant of jax_privacy: pip install jax-privacy")
try:
    from jax_privacy.accounting import dpsgd_event
except ImportError:  # where it stands up to version 2.0
    from jax_privacy.experimental.accounting import dpsgd_event

NORM = 1.0  # C
DELTA = 1e-4  # less than one in N
EXPECTED = 256  # images a step, q N
PADDED = 128  # images at once: a step is several batches of this size, of which the last is padded

# pixels run from 0 to 16: a mean and a standard deviation of the images would tell of the images
NET = jp.Chain(jp.Standardize(8.0, 8.0), jp.Linear(64), jp.Tanh(), jp.Linear(10))
COST = jp.SoftmaxCrossEntropy()
OPTIMIZER = optax.sgd(0.5)


def epsilon(steps, noise, q):
    """ε at DELTA of so many steps, one image more or less being what is hidden."""
    accountant = dp_accounting.pld.PLDAccountant()
    accountant.compose(dpsgd_event(noise, steps, sampling_prob=q))
    return accountant.get_epsilon(DELTA)


collected = jax.jit(jp.stats.collect(NET, COST, [jp.stats.ClippedGradient(NORM)]))


def clipped_sum(rows, params, chosen):
    """Σ_n c_n g_n over the chosen images and the share that was clipped; as many batches as it takes, all of one shape.

    A sum over parts of a batch is the batch's. Padding is of weight 0 and adds nothing.
    """
    total, clipped = jax.tree.map(jnp.zeros_like, params), 0.0
    for part in split_and_pad_global_batch(chosen, PADDED):
        real = jnp.asarray(part >= 0, jnp.float32)
        (found,) = collected(rows.x[part], params, rows.targets[part], weights=real).found
        total = optax.tree.add(total, found.gradient)
        clipped += float(found.fraction * real.sum())
    return total, clipped / max(1, len(chosen))


@jax.jit
def noisy_update(total, params, state, key, noise):
    """A step of the optimizer with the noisy sum, divided by how many images a step expects, not by how many came."""
    drawn = optax.tree.random_like(key, total, jax.random.normal)
    mean = jax.tree.map(lambda g, z: (g + noise * NORM * z) / EXPECTED, total, drawn)
    updates, state = OPTIMIZER.update(mean, state, params)
    return optax.apply_updates(params, updates), state


@jax.jit
def update(x, params, targets, state):
    """A step without privacy, of the same optimizer."""
    _, grads = jp.manual.value_and_grad(NET, COST)(x, params, targets)
    updates, state = OPTIMIZER.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def accuracy(params, rows):
    """The share of held-out images that are recognised."""
    x, labels = rows.validation
    return float(jnp.mean(jnp.argmax(NET(x, params), axis=1) == labels))


def private(rows, params, steps, noise):
    """Train with privacy; return θ."""
    q, state = EXPECTED / len(rows.x), OPTIMIZER.init(params)
    batches = CyclicPoissonSampling(sampling_prob=q, iterations=steps).batch_iterator(len(rows.x), rng=0)
    for step, chosen in enumerate(batches):
        total, share = clipped_sum(rows, params, chosen)
        params, state = noisy_update(total, params, state, jax.random.fold_in(jax.random.key(1), step), noise)
        if (step + 1) % max(1, steps // 8) == 0:
            share, right, spent = f"{share:4.0%} clipped", accuracy(params, rows), epsilon(step + 1, noise, q)
            print(f"step {step + 1:4}: {len(chosen)} images, {share}, accuracy {right:.3f}, ε = {spent:.2f}")
    return params


def openly(rows, params, steps):
    """Train as long with batches of the same size and without privacy; return θ."""
    state, draw = OPTIMIZER.init(params), np.random.default_rng(0)
    for _ in range(steps):
        chosen = draw.choice(len(rows.x), EXPECTED, replace=False)
        params, state = update(rows.x[chosen], params, rows.targets[chosen], state)
    return params


def main(steps=300, noise=4.0):
    """Train with and without privacy, and return both accuracies and ε."""
    rows = jp.data.digits()
    params = NET.init(jax.random.key(0), rows.x[:1])
    spent = epsilon(steps, noise, EXPECTED / len(rows.x))
    print(f"{len(rows.x)} digits, {steps} steps of about {EXPECTED}, C = {NORM:g}, σ = {noise:g}")
    with_privacy = accuracy(private(rows, params, steps, noise), rows)
    without = accuracy(openly(rows, params, steps), rows)
    print(f"accuracy {with_privacy:.3f} with ε = {spent:.2f} at δ = {DELTA:g}; {without:.3f} without privacy")
    return with_privacy, without, spent


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float), sys.argv[1:], strict=False)))
