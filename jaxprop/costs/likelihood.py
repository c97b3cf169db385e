"""Costs that are the −ln of a probability: y are the parameters of a distribution, targets what was drawn from it."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Key

from jaxprop.costs.cost import Cost, diagonal, do_not_fit, per_example
from jaxprop.errors import DataError, ShapeError


@dataclass(frozen=True)
class PoissonNegativeLogLikelihood(Cost):
    """C = Σ_o e^{y_o} − k_o y_o + ln k_o! for counts k and log-rates y = ln λ `[N, ...]`; δ = e^y − k.

    P(k) = λᵏ e^{−λ} / k!, so −ln P = λ − k ln λ + ln k! with λ = e^y, which is positive for any y. ln k! does not move
    with y (it makes C the likelihood itself, never below 0 for whole k; the optimum is the same without it). H is
    diagonal, e^y, whatever k is: the variance of a count drawn with rate e^y.

    Edge cases: counts below 0 are refused; amounts between whole numbers are taken, with ln k! = ln Γ(k + 1). e^y
    overflows above 88 in float32: C and δ are then infinite, and `fit` says where.
    Source: McCullagh and Nelder, Generalized Linear Models, ch. 6; torch's `PoissonNLLLoss` with exact ln k!.

    >>> cost, y = PoissonNegativeLogLikelihood(), jnp.log(jnp.array([[2.0]]))
    >>> print(cost(y, jnp.array([[3]])), -math.log(2**3 * math.exp(-2) / 6), cost.delta(y, jnp.array([[3]])))
    [1.712...] 1.712... [[-1...]]
    """

    outputs: ClassVar[str] = "log-rates"
    applies: ClassVar[str] = "the exponential"

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """Σ_o e^{y_o} − k_o y_o + ln k_o!."""
        k = self._like(y, targets)
        return jnp.sum(per_example(jnp.exp(y) - k * y + jax.scipy.special.gammaln(k + 1)), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """e^y − k."""
        return jnp.exp(y) - self._like(y, targets)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """e^{y/2} on the diagonal."""
        self.check(y, targets)
        return diagonal(jnp.exp(y / 2))

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """Counts drawn with rate e^y."""
        return jax.random.poisson(key, jnp.exp(y)).astype(y.dtype)

    def expected(self, y: Any) -> Any:
        """λ = e^y."""
        return jnp.exp(y)

    def check_values(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise DataError for counts below 0."""
        super().check_values(y, targets)
        targets = np.asarray(targets)
        wrong = targets[targets < 0]
        if wrong.size:
            raise DataError(f"PoissonNegativeLogLikelihood: targets hold {wrong.flat[0]}, expected counts ≥ 0")


@dataclass(frozen=True)
class GaussianNegativeLogLikelihood(Cost):
    """C = ½ Σ_o [s_o + (ŷ_o − μ_o)² e^{−s_o} + ln 2π], where y = (μ, s): means, then log-variances s = ln σ².

    y is `[N, ..., 2O]` for targets ŷ `[N, ..., O]`: its first O outputs are μ, its last O are s, free of any sign
    condition. The network learns how sure to be: with r = ŷ − μ and u = r² e^{−s},

        ∂C/∂μ = −r e^{−s}             an error counts less where the variance is large
        ∂C/∂s = ½ (1 − u)             the variance grows until it is the mean square of r

    Its Hessian, with e^{−s}, r e^{−s} and ½ u for (μ, μ), (μ, s) and (s, s), is indefinite wherever r ≠ 0, so that no
    root of it exists. In its place stands its mean over targets drawn from the model, the Fisher: with E[r] = 0 and
    E[u] = 1

        H = diag(e^{−s}, ½)           E[δ̲ δ̲ᵀ] exactly: E[r²] e^{−2s} = e^{−s}, and ¼ Var(u) = ½

    and `hessian_root` and `hessian_product` are those of this H, so that the Gauss-Newton matrix is never negative.

    Edge cases: y with an odd last axis, or targets of another shape than half of it, are a ShapeError. e^{−s}
    overflows below s = −88 in float32. A constant target drives s to −∞: bound it if yours are.
    Source: Nix and Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994; torch's
    `GaussianNLLLoss(full=True)`, which takes the variance itself.

    >>> cost, y = GaussianNegativeLogLikelihood(), jnp.array([[1.0, 0.0]])
    >>> print(cost(y, jnp.array([[3.0]])), cost.delta(y, jnp.array([[3.0]])))
    [2.918...] [[-2.  -1.5]]
    """

    outputs: ClassVar[str] = "means and log-variances"
    outputs_per_target: ClassVar[int] = 2

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """½ Σ_o [s_o + (ŷ_o − μ_o)² e^{−s_o} + ln 2π]."""
        r, s = self._residual(y, targets)
        return 0.5 * jnp.sum(per_example(s + r * r * jnp.exp(-s) + math.log(2 * math.pi)), axis=1)

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """(−r e^{−s}, ½ (1 − r² e^{−s}))."""
        r, s = self._residual(y, targets)
        pull = r * jnp.exp(-s)
        return jnp.concatenate([-pull, 0.5 * (1 - r * pull)], axis=-1)

    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """(e^{−s/2}, √½) on the diagonal: the root of the Fisher, where the Hessian has none."""
        return diagonal(jnp.sqrt(self._fisher(y, targets)))

    def hessian_product(self, y: Array, targets: ArrayLike, v: Array) -> Array:
        """(e^{−s}, ½) ⊙ v: the Fisher's."""
        return self._fisher(y, targets) * v

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """μ + e^{s/2} N(0, I)."""
        mean, s = jnp.split(y, 2, axis=-1)
        return mean + jnp.exp(s / 2) * jax.random.normal(key, mean.shape, y.dtype)

    def expected(self, y: Any) -> Any:
        """μ."""
        return y[..., : y.shape[-1] // 2]

    def check(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise ShapeError unless y has two outputs per target."""
        shape, outputs = jnp.shape(y), jnp.shape(y)[-1]
        if outputs % 2 or jnp.shape(targets) != (*shape[:-1], outputs // 2):
            raise ShapeError(
                f"GaussianNegativeLogLikelihood: {do_not_fit(y, targets)}: expected outputs [N, ..., 2·O], the means "
                "and then the log-variances, for targets [N, ..., O]"
            )

    def _residual(self, y: Array, targets: ArrayLike) -> tuple[Array, Array]:
        """r = ŷ − μ, and s."""
        targets = self._like(y, targets)
        mean, s = jnp.split(y, 2, axis=-1)
        return targets - mean, s

    def _fisher(self, y: Array, targets: ArrayLike) -> Array:
        """Its diagonal, (e^{−s}, ½), of y's shape."""
        self.check(y, targets)
        s = jnp.split(y, 2, axis=-1)[1]
        return jnp.concatenate([jnp.exp(-s), jnp.full_like(s, 0.5)], axis=-1)
