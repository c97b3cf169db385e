"""Arrays without their numbers: what can be said of a tree before anything is computed."""

import jax
from jaxtyping import PyTree


def spec(tree: PyTree) -> PyTree:
    """Return shape and dtype of every array of a tree, as `jax.ShapeDtypeStruct`.

    >>> import jax.numpy as jnp
    >>> spec({"W": jnp.ones((2, 3), "float32")})["W"].shape
    (2, 3)
    """
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
