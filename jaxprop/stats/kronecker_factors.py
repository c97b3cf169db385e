"""`KroneckerFactors`: the curvature of every parameter as a product of two small matrices (K-FAC)."""

from dataclasses import dataclass
from typing import Literal

import jax
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.checks import check_whole
from jaxprop.errors import pick
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Use
from jaxprop.uses.kronecker import Factors

Errors = Literal["cost", "true", "sampled", "exact"]


@dataclass(frozen=True)
class KroneckerFactors(Quantity):
    """Compute A and B of every parameter, whose product A ⊗ B stands for its block of the GGN or Fisher information.

    With z_nt = W a_nt and a column of errors δ_nt, "expand" takes positions t for independent of each other and
    "reduce" takes them for all alike; without positions the two are one:

        expand    A = Σ_n w_n Σ_t a_nt a_ntᵀ            B = Σ_n w_n Σ_t δ_nt δ_ntᵀ / (T Σ_n w_n)
        reduce    A = Σ_n w_n (Σ_t a_nt)(Σ_t a_nt)ᵀ     B = Σ_n w_n δ̄_n δ̄_nᵀ / Σ_n w_n,    δ̄_n = Σ_t δ_nt / T

    Both are summed over the columns of errors. Only the product means anything, not which side has which scale. A
    weight and its bias have a block each; a bias, a gain or a shift has A = 1 and B `[C, C]`. A table that is looked up
    has A's diagonal: how often each row was. Of a convolution a are the patches, with A and B for each group. An array
    used in several places (`Shared`) has the partial traces of the sum of their blocks. What has no better use has its
    diagonal.

    Args:
        kind: "expand" or "reduce".
        errors: "sampled" for the Fisher information by drawn targets, "exact" for the GGN by all columns of the root
            of the cost's Hessian, "cost" or "true" for the errors of the targets themselves (empirical Fisher).
        samples: how many targets are drawn of each example, for "sampled".

    Returns: a tree like θ with one `Factors` for each array: its A, B, `times(θ)` and `matrix()`.

    Raises:
        JaxpropError: kind or errors is another word, or samples no whole number ≥ 1.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0, 2.0], [3.0, 0.0]])
    >>> params, asked = net.init(jax.random.key(0), x), [KroneckerFactors(errors="exact")]
    >>> *_, (factors,) = stats.collect(net, HalfSquaredError(), asked)(x, params, jnp.zeros((2, 1)))
    >>> print(factors.W.A, factors.W.B)
    [[5. 1.]
     [1. 2.]] [[1.]]

    Sources: Martens and Grosse, arXiv 1503.05671; Grosse and Martens, arXiv 1602.01407; Eschenhagen et al., arXiv
    2311.00636.
    """

    kind: Literal["expand", "reduce"] = "expand"
    errors: Errors = "sampled"  # pyright: ignore[reportIncompatibleVariableOverride]
    samples: int = 1  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        pick(self.kind, ("expand", "reduce"), "KroneckerFactors: kind")
        pick(self.errors, ("cost", "true", "sampled", "exact"), "KroneckerFactors: errors")
        check_whole(self.samples, "KroneckerFactors: samples")

    def close(self, use: Use, path: str, weights: Float[Array, " N"] | None) -> Factors:
        """Keep A and B of one column of errors."""
        return use.kronecker_factors(weights, self.kind)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Return the factors of all columns."""
        return jax.tree.map(lambda factors: factors.settled(context.columns), kept, is_leaf=is_factors)


def is_factors(node: object) -> bool:
    """Tell whether a node of a tree is one parameter's factors."""
    return isinstance(node, Factors)
