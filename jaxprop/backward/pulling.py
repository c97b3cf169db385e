"""The backward pass for any loss: y first, and later a pull from ∂L/∂y back to the uses, as often as one likes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.backward.mixing import refuse_mixing
from jaxprop.checks import is_floating
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Layer
from jaxprop.network import Walk
from jaxprop.network.call import Rng, environment, require_layer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pull:
    """The way back through one forward pass of `manual.vjp`: `pull(dy)` gives the uses, `pull.through(dy)` dx as well.

    It is a pytree: what the forward pass kept are its arrays, and it may go into and out of `jit`, `vmap` and `scan`.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Linear, manual
    >>> net, x = Linear(1, bias=False), jnp.array([[2.0], [3.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[5.0]]))
    >>> y, pull = manual.vjp(net)(x, params)
    >>> dx, uses = pull.through(jnp.ones((2, 1)))
    >>> print(dx.ravel(), uses.W.per_example().ravel())
    [5. 5.] [2. 3.]
    """

    cache: PyTree
    params: PyTree
    net: Layer = field(metadata={"static": True})
    y: Any = field(metadata={"static": True})  # its shape and dtype

    def __call__(self, dy: Array) -> PyTree:
        """Return the uses, the tree of params, for dy = ∂L/∂y `[N, ...]`; nothing is averaged."""
        return self.through(dy)[1]

    def through(self, dy: Array) -> tuple[PyTree, PyTree]:
        """Return dx = ∂L/∂x (None for integer inputs) and the uses: dx is the dy of a network that made x."""
        dy = as_arrays(dy, "dy")
        if jnp.shape(dy) != self.y.shape:
            raise ShapeError(f"pull: found dy of shape {jnp.shape(dy)}, expected y's own, {self.y.shape}: dy = ∂L/∂y")
        dx, uses, _ = Walk().pull(self.net, jnp.asarray(dy, self.y.dtype), self.cache, self.params, "")
        return dx, Walk().close_all(uses)


def vjp(net: Layer) -> Callable[..., tuple[Array, Pull]]:
    """Return `run`, which computes y = f(x, θ) and a `Pull`, from ∂L/∂y back to the uses: for any loss L.

    Where a `Cost` compares y with targets row by row, a loss of your own may do anything, such as compare the outputs
    of two networks. Its ∂L/∂y comes from `jax.grad` or by hand:

        y, pull = manual.vjp(net)(x, params)
        uses = pull(jax.grad(loss)(y))              ∂L/∂θ = jp.gradients(uses, 1.0) = Σ_n of the uses

    dy is what you say it is. If L is a mean over examples already, dy holds the 1/N, and the gradient is the sum of the
    uses (weights 1.0); of dy = N ∂L/∂y the uses are per example as everywhere, and the gradient is their mean.

    Args:
        net: a Layer that does not mix the examples of a batch.

    Returns:
        `run(x, params, *, rng=None, mask=None)`, which returns (y, pull). One forward pass serves many pulls.

    Raises:
        JaxpropError: `net` is a plain function, or mixes examples, or y is of integers.
        ShapeError: dy is not of y's shape.

    >>> from jaxprop import Linear, gradients
    >>> net, x = Linear(2), jnp.ones((3, 4))
    >>> params = net.init(jax.random.key(0), x)
    >>> y, pull = vjp(net)(x, params)
    >>> loss = lambda y: jnp.log(jnp.sum(y**2))                   # of the whole batch, not of a row
    >>> by_hand = gradients(pull(jax.grad(loss)(y)), 1.0)
    >>> by_jax = jax.grad(lambda params: loss(net(x, params)))(params)
    >>> bool(jnp.allclose(by_hand.W, by_jax.W, atol=1e-6))
    True
    """
    require_layer(net, "manual.vjp")
    refuse_mixing(net, "manual.vjp")

    def run(x: PyTree, params: PyTree, *, rng: Rng = None, mask: PyTree = None) -> tuple[Array, Pull]:
        env = environment(as_key(rng, "rng"), as_arrays(mask, "mask"))
        y, cache = Walk().push(net, as_arrays(x, "x"), params, env, "")
        if not is_floating(y):
            raise JaxpropError(f"manual.vjp: y is of {y.dtype.name}, which has no derivative")
        return y, Pull(cache, params, net, jax.ShapeDtypeStruct(y.shape, y.dtype))

    return run
