"""What is wrong with the outputs: C_n, its own error, and the columns of errors that stand for its curvature."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array
from jaxtyping import Float

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.network.call import Rng, Targets

Kind = tuple[str, int]  # of errors, and how many samples
COST: Kind = ("cost", 1)
SAMPLED = ("sampled", "exact")  # come in columns
SAMPLING = 83  # folded into rng: targets are drawn with a key that no layer draws with


class Errors(NamedTuple):
    """Hold C_n, ∂C_n/∂y_n, and the function that returns the columns of errors of a kind, `[V, N, ...]`.

    >>> Errors._fields
    ('costs', 'delta', 'columns')
    """

    costs: Float[Array, " N"]
    delta: Array
    columns: Callable[[Kind], Array]


def of_cost(cost: Cost, y: Array, targets: Targets, rng: Rng) -> Errors:
    """Return the errors that a cost finds; those of targets that are drawn need a key.

    >>> import jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError
    >>> errors = of_cost(HalfSquaredError(), jnp.array([[3.0]]), jnp.array([[1.0]]), None)
    >>> print(errors.costs, errors.delta, errors.columns(("exact", 1)))
    [2.] [[2.]] [[[1.]]]
    """

    def columns(kind: Kind) -> Array:
        errors, samples = kind
        if errors == "exact":
            return cost.hessian_root(y, targets)
        if rng is None:
            raise JaxpropError(
                'stats.collect: errors="sampled" draws targets from what the network predicts: '
                "give rng=jax.random.key(0)"
            )
        keys = jax.random.split(jax.random.fold_in(rng, SAMPLING), samples)
        return jax.vmap(lambda key: cost.sampled_delta(y, targets, key))(keys) / math.sqrt(samples)

    return Errors(cost(y, targets), cost.delta(y, targets), columns)
