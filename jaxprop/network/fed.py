"""A weight that travels with a feedback matrix: how a backward rule reaches a layer without changing it."""

from dataclasses import dataclass
from typing import Any

import jax
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Fed:
    """An array W of θ with the feedback B that goes beside it: forward sees W, a rule on the way back sees both.

    It stands in W's place in params. A `Repeat` slices both, and what ties weights hands both on.

    >>> import jax.numpy as jnp
    >>> fed = Fed(jnp.ones((2, 3)), jnp.zeros((2, 3)))
    >>> fed.T.array.shape, fed.T.feedback.shape
    ((3, 2), (3, 2))
    """

    array: Any
    feedback: Any

    @property
    def T(self) -> "Fed":
        """Both, transposed."""
        return Fed(self.array.T, self.feedback.T)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of W."""
        return self.array.shape


def is_fed(node: Any) -> bool:
    """Tell whether a node of params is a `Fed` (for `jax.tree.map(..., is_leaf=is_fed)`)."""
    return isinstance(node, Fed)


def without_feedback(params: Any) -> Any:
    """Return params with W in the place of every `Fed`.

    >>> without_feedback({"W": Fed(1.0, 2.0), "b": 3.0})
    {'W': 1.0, 'b': 3.0}
    """
    return jax.tree.map(lambda node: node.array if is_fed(node) else node, params, is_leaf=is_fed)


def feedback_of(params: Any) -> Any:
    """Return B in the place of every `Fed`, None in that of every other array.

    >>> feedback_of({"W": Fed(1.0, 2.0), "b": 3.0})
    {'W': 2.0, 'b': None}
    """
    return jax.tree.map(lambda node: node.feedback if is_fed(node) else None, params, is_leaf=is_fed)


def fed(array: Array, feedback: Array | None) -> Any:
    """Return W beside B, or W alone where there is no B.

    >>> fed(1.0, None), fed(1.0, 2.0)
    (1.0, Fed(array=1.0, feedback=2.0))
    """
    return array if feedback is None else Fed(array, feedback)
