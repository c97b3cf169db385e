"""θ drawn by numpy, for tests in which its values do not matter: no program is compiled for it, as `net.init` does."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprop.arrays.paths import by_path


def draw(net, x, seed=0):
    """θ of the shapes and dtypes of `net.init(key, x)`, no entry 0 or 1: `y = net(x, draw(net, x))` keeps x's size.

    x: an array or `jax.ShapeDtypeStruct`, or a tuple of them.
    """
    spec = jax.eval_shape(net.init, jax.random.key(0), x)
    rng = np.random.default_rng(seed)
    drawn = [jnp.asarray(_array(rng, path, leaf.shape), leaf.dtype) for path, leaf in by_path(spec).items()]
    return jax.tree.unflatten(jax.tree.structure(spec), drawn)


def _array(rng, path, shape):
    """Weights of variance 1/fan-in, biases of a third, gains of 1 ± a third."""
    if len(shape) > 1:
        return rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))
    return 0.3 * rng.normal(size=shape) + path.endswith("scale")
