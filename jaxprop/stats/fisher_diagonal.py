"""The diagonal of the Fisher information, true or empirical: two matrices that share a name and little else.

    F  = Σ_n w_n E_{ŷ ~ P(·|y_n)} [g_n(ŷ) g_n(ŷ)ᵀ]       targets drawn from the network's predictions   "sampled"
    F̂  = Σ_n w_n g_n g_nᵀ                                 the targets that were given: the empirical one    "cost"

with g_n(ŷ) = ∂C_n/∂θ for the target ŷ. F is the generalised Gauss-Newton matrix of every cost here that draws targets
(E[δ̲ δ̲ᵀ] = H_n). F̂ needs no drawing, and is no approximation of it: as the network learns, its g_n go to 0 and with
them F̂, while the curvature stays.
Source: Kunstner, Hennig and Balles, "Limitations of the Empirical Fisher Approximation for Natural Gradient Descent"
(2019), arXiv 1905.12558.
"""

from dataclasses import dataclass
from typing import Literal

from jaxprop.checks import check_whole
from jaxprop.stats.ggn_diagonal import Squares


@dataclass(frozen=True)
class FisherDiagonal(Squares):
    """Ask for the diagonal of the Fisher information, in the tree of θ: Σ_n w_n of mean squares of ∂C_n/∂θ.

    Args:
        errors: "sampled", of targets drawn from the network's predictions, the Fisher in the mean (give `rng`); or
            "cost", of the targets that were given, the empirical Fisher, which is `SecondMoment` by another name.
        samples: how many targets are drawn. All outcomes at once are `GGNDiagonal(errors="exact")`, equal to the
            Fisher for every cost that draws targets.

    In half precision it is float32.

    Raises:
        JaxpropError: at the first call, by `collect`, for a network that mixes examples, and for "sampled" errors
            without rng or of a cost that is no likelihood.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import Linear, SigmoidCrossEntropy, stats
    >>> net, x, targets = Linear(1, bias=False), jnp.ones((1, 1)), jnp.ones((1, 1))
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> both = [FisherDiagonal(samples=1000), FisherDiagonal(errors="cost")]
    >>> fisher, empirical = stats.collect(net, SigmoidCrossEntropy(), both)(
    ...     x, params, targets, rng=jax.random.key(0)
    ... ).found
    >>> print(f"{fisher.W[0, 0]:.2f} {empirical.W[0, 0]:.4f}")       # σ(3) σ(−3) = 0.045; (σ(3) − 1)² = 0.0022
    0.04 0.0022
    """

    errors: Literal["sampled", "cost"] = "sampled"
    samples: int = 1

    def __post_init__(self) -> None:
        check_whole(self.samples, "FisherDiagonal: samples")
