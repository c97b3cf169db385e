r"""Costs C(y, targets) -> [N], one number per example, each beside its delta ∂C_n/∂y_n: where the backward pass starts.

    cost(y, targets)          [N]         never averaged here: the mean over examples is taken once, at the end
    cost.delta(y, targets)    y's shape   BP1 without the activation's factor

y is what the network answers, targets what it should have answered. `targets` of another shape than y are an error,
also where numpy would broadcast ([N] against [N, 1] would silently become [N, N]).
"""

from jaxprop.costs.absolute import AbsoluteError as AbsoluteError, Huber as Huber
from jaxprop.costs.cost import Cost as Cost
from jaxprop.costs.hinge import Hinge as Hinge
from jaxprop.costs.kl_divergence import KLDivergence as KLDivergence
from jaxprop.costs.likelihood import (
    GaussianNegativeLogLikelihood as GaussianNegativeLogLikelihood,
    PoissonNegativeLogLikelihood as PoissonNegativeLogLikelihood,
)
from jaxprop.costs.sigmoid_cross_entropy import SigmoidCrossEntropy as SigmoidCrossEntropy
from jaxprop.costs.softmax_cross_entropy import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from jaxprop.costs.squared import HalfSquaredError as HalfSquaredError, MeanSquaredError as MeanSquaredError

# `jaxprop` exports the classes above, and not the files that they come from.
__all__ = [name for name, value in vars().items() if isinstance(value, type)]  # pyright: ignore[reportUnsupportedDunderAll]
