"""The diagonal of the generalised Gauss-Newton matrix: how sharply the cost bends along each parameter alone.

With y_n = f(x_n, θ), J_n = ∂y_n/∂θ and H_n = ∂²C_n/∂y_n², the Hessian of C = Σ_n w_n C_n is

    ∂²C/∂θ² = G + Σ_n w_n Σ_k (∂C_n/∂y_nk) ∂²y_nk/∂θ²,      G = Σ_n w_n J_nᵀ H_n J_n

G leaves out how the network itself bends, needs first derivatives alone and is never negative. With H_n = S_n S_nᵀ

    G_θθ = Σ_n w_n Σ_v (∂(S_vn · y_n)/∂θ)²

and ∂(S_vn · y_n)/∂θ is what a walk back with the error S_vn leaves: its second moment, added up over the columns. What
meets at several positions is added up before it is squared, which the uses see to.
Source: Schraudolph, "Fast Curvature Matrix-Vector Products for Second-Order Gradient Descent" (2002); Dangel et al.,
"BackPACK: Packing more into Backprop" (2020), appendix A.3.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Array, Float, PyTree

from jaxprop.checks import check_whole
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Use, weighted


class Squares(Quantity):
    """What the diagonals share: the squares of what comes back, added up over examples and columns of errors."""

    def close(self, use: Use, path: str, weights: Float[Array, " N"] | None) -> Array:
        """Keep Σ_n w_n g_n², as wide as sums are taken."""
        return weighted(use.squares, weights, use.examples)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Return the sums in the tree of θ: squares of numbers are soon more, or less, than float16 can hold."""
        return kept


@dataclass(frozen=True)
class GGNDiagonal(Squares):
    """Ask for the diagonal of the generalised Gauss-Newton matrix, Σ_n w_n diag(J_nᵀ H_n J_n), in the tree of θ.

    Args:
        errors: "exact", all V columns of the root of H_n, where V is the number of an example's outputs (T·C with
            positions) and each costs a walk back; or "sampled", the errors of targets drawn from the network's own
            predictions, which needs `rng` and gives the exact one in the mean.
        samples: how many targets are drawn; the standard error falls as 1/√samples.

    In half precision it is float32.

    Raises:
        JaxpropError: at the first call, by `collect`, for a network that mixes examples, and for "sampled" errors
            without rng or of a cost that is no likelihood.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1), jnp.array([[1.0, 2.0], [3.0, 0.0]])
    >>> params = net.init(jax.random.key(0), x)
    >>> value, grads, (ggn,) = stats.collect(net, HalfSquaredError(), [GGNDiagonal()])(x, params, jnp.zeros((2, 1)))
    >>> print(ggn.W.ravel(), ggn.b)             # the mean of x²: a linear network's Hessian
    [5. 2.] [1.]
    """

    errors: Literal["exact", "sampled"] = "exact"
    samples: int = 1

    def __post_init__(self) -> None:
        check_whole(self.samples, "GGNDiagonal: samples")
