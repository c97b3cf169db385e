"""Products of a curvature matrix with a vector, without the matrix: a few passes through the network each.

    G v = Σ_n w_n J_nᵀ H_n J_n v            Gauss-Newton: never negative, and it ignores how the network itself bends
    H v = d/dε ∇C(θ + ε v) at ε = 0         the Hessian itself, which has negative directions too

with J_n = ∂y_n/∂θ and H_n = ∂²C_n/∂y_n² of the cost alone. G v goes forward with a tangent (J v), through the cost, and
back (Jᵀ): the error of this walk back is H_n J_n v in the place of the cost's own. H v is the forward derivative of the
gradient by hand. Both cost about two gradients in operations, and no more than the cache of one or two in memory.

Of a network that mixes examples (`BatchNorm`) both are those of the batch as a whole: J = ∂(y_1 … y_N)/∂θ.
Source: Pearlmutter, "Fast Exact Multiplication by the Hessian" (1994); Schraudolph, "Fast Curvature Matrix-Vector
Products for Second-Order Gradient Descent" (2002).
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.arrays.varying import vary_with
from jaxprop.backward import auto, manual
from jaxprop.checks import kind_of
from jaxprop.costs import Cost
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Walk
from jaxprop.network.call import (
    Network,
    Rng,
    Targets,
    Weights,
    call,
    environment,
    require,
    require_cost,
    takes_rows,
)
from jaxprop.uses import rounded, weighted
from jaxprop.uses.use import scale


class Product(Protocol):
    """What the factories of a product return: a function of x, θ, targets and a vector in the tree of θ.

    >>> from jaxprop import HalfSquaredError, Linear
    >>> product: Product = ggn_product(Linear(1), HalfSquaredError())
    """

    def __call__(
        self,
        x: PyTree,
        params: PyTree,
        targets: Targets,
        vector: PyTree,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
    ) -> PyTree:
        """Return the matrix times the vector, in the tree of θ."""
        ...


def ggn_product(net: Network, cost: Cost) -> Product:
    """Return `run`, which computes G v, the generalised Gauss-Newton matrix of C = Σ_n w_n C_n times a vector.

    Args:
        net: a Layer, or any callable f(x, params) whose params are a pytree of arrays.
        cost: C_n, such as `SoftmaxCrossEntropy()`.

    Returns:
        `run(x, params, targets, vector, *, weights=None, rng=None, mask=None)`, which returns G v in the tree, shapes
        and dtypes of params. vector: v, of the tree and shapes of params. weights: w `[N]`, by default 1/N each. It is
        linear in v, symmetric, and v · G v ≥ 0 for every cost whose H_n is never negative.

    Raises:
        ShapeError: the vector is not of params' tree and shapes.

    >>> import functools
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0, 2.0], [3.0, 0.0]])
    >>> params = net.init(jax.random.key(0), x)
    >>> G = functools.partial(ggn_product(net, HalfSquaredError()), x, params, jnp.zeros((2, 1)))
    >>> print(G(params._replace(W=jnp.array([[1.0], [0.0]]))).W.ravel())       # a column of the mean of x xᵀ
    [5. 1.]
    """
    require(net, cost, "stats.ggn_product")
    require_cost(cost, "stats.ggn_product")

    def run(
        x: PyTree,
        params: PyTree,
        targets: Targets,
        vector: PyTree,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
    ) -> PyTree:
        y, moved, back = _linearized(net, x, params, vector, environment(rng, mask))
        error = cost.hessian_product(y, targets, moved)
        found = weighted(lambda w: back(scale(error, w)), weights, jax.tree.leaves(x)[0].shape[0])
        return rounded(found, params)

    return _taking("stats.ggn_product", run)


def hessian_product(net: Network, cost: Cost) -> Product:
    """Return `run`, which computes H v, the Hessian of C = Σ_n w_n C_n times a vector.

    Args:
        net: a Layer, or any callable f(x, params) whose params are a pytree of arrays.
        cost: C_n, such as `SoftmaxCrossEntropy()`.

    Returns:
        `run(x, params, targets, vector, *, weights=None, rng=None, mask=None)`, as that of `ggn_product`. It is the
        forward derivative along v of the gradient: the one by hand, or `jax.grad`'s of a plain function. The one by
        hand is the faster for all but plain MLPs, for which they are alike: about half of the time of a transformer.

    Raises:
        ShapeError: the vector is not of params' tree and shapes.

    >>> import functools
    >>> from jaxprop import HalfSquaredError
    >>> f, x, w = lambda x, w: w[0] * w[1] * x, jnp.ones((1, 1)), (jnp.array(0.4), jnp.array(0.3))
    >>> H = functools.partial(hessian_product(f, HalfSquaredError()), x, w, 2 * jnp.ones((1, 1)))
    >>> print(*H((jnp.array(1.0), jnp.array(0.0))))            # w₁² and y − ŷ + w₀ w₁: a saddle
    0.09 -1.76
    """
    require(net, cost, "stats.hessian_product")
    require_cost(cost, "stats.hessian_product")
    gradient = manual.value_and_grad(net, cost) if isinstance(net, Layer) else auto.value_and_grad(net, cost)

    def run(x: PyTree, params: PyTree, targets: Targets, vector: PyTree, **given: Any) -> PyTree:
        return jax.jvp(lambda params: gradient(x, params, targets, **given)[1], (params,), (vector,))[1]

    return _taking("stats.hessian_product", run)


def _linearized(
    net: Network, x: PyTree, params: PyTree, vector: PyTree, env: Env | None
) -> tuple[Array, Array, Callable[[Array], PyTree]]:
    """y = f(x, θ), J v, and the function error -> Jᵀ error, of one forward pass."""
    if not isinstance(net, Layer):
        y, forward = jax.linearize(lambda params: call(net, x, params, *(env or (None, None))), params)
        return y, forward(vector), lambda error: jax.linear_transpose(forward, params)(error)[0]
    walk = Walk().closing(lambda use, path: use.total(None))
    (y, cache), (moved, _) = jax.jvp(lambda params: walk.push(net, x, params, env, ""), (params,), (vector,))
    return y, moved, lambda error: walk.close_all(walk.pull(net, error, cache, params, "")[1])


def _taking(what: str, run: Product) -> Product:
    """`run` for rows and keys as every function takes them, with a vector that fits params."""

    @functools.wraps(run)
    def product(x: Any, params: PyTree, targets: Any, vector: PyTree, **given: Any) -> PyTree:
        def with_vector(x: PyTree, params: PyTree, targets: Targets, **given: Any) -> PyTree:
            params, fitting = (jax.tree.map(lambda p: vary_with(p, x), t) for t in (params, _fit(what, vector, params)))
            return run(x, params, targets, fitting, **given)

        return takes_rows(with_vector)(x, params, targets, **given)

    return product


def _fit(what: str, vector: PyTree, params: PyTree) -> PyTree:
    """The vector in the dtypes of params."""
    expected, found = by_path(params), by_path(vector)

    def fits(path: str) -> bool:
        return path in expected and path in found and jnp.shape(expected[path]) == jnp.shape(found[path])

    odd = [path for path in {**expected, **found} if not fits(path)]
    if jax.tree.structure(vector) != jax.tree.structure(params) or odd:
        path = odd[0] if odd else ""
        one, other = (kind_of(tree[path]) if path in tree else "nothing" for tree in (found, expected))
        at = f"{one} at {path or 'the root'}, expected {other}" if odd else "another tree"
        raise ShapeError(f"{what}: the vector must be of the tree and shapes of params, found {at}")
    return jax.tree.map(lambda v, p: jnp.asarray(v, jnp.result_type(p)), vector, params)
