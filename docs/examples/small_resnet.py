"""A small ResNet on the 8 × 8 digits, trained through the hand-derived backward pass alone.

python docs/examples/small_resnet.py [epochs]
"""

import sys

import jax
import optax
from character_gpt import difference

import jaxprop as jp


def main(epochs=4):
    """Train, and return the held-out accuracy, and how far the two gradients are apart."""
    data = jp.data.digits()
    (x, targets), (xv, tv) = (data.x, data.targets), data.validation
    net = jp.Chain(jp.Standardize(8.0, 4.0), jp.Reshape((8, 8, 1)), jp.models.resnet(classes=10, width=8))
    cost = jp.SoftmaxCrossEntropy()
    params = net.init(jax.random.key(0), x[:1])
    apart = difference(net, cost, params, x[:32], targets[:32])
    print(f"{data.source}: {len(x)} rows; max|manual − auto| / max|auto| = {apart:.1e}")
    result = jp.fit(
        net, cost, optax.adam(3e-3), (x, targets), params=params, epochs=epochs, batch_size=32, grad="manual",
        validation=(xv, tv), progress=False,
    )  # fmt: skip
    for row in result.history:
        print(f"epoch {row['epoch']}: cost {row['cost']:.3f}, held-out accuracy {row['validation_accuracy']:.3f}")
    return result.history[-1]["validation_accuracy"], apart


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
