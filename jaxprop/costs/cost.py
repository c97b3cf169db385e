"""The contract of a cost, and the few words about shapes that all of them use."""

import abc
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Key

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.given import as_arrays
from jaxprop.checks import is_floating, is_real, kind_of
from jaxprop.errors import DataError, JaxpropError, ShapeError
from jaxprop.layers.described import Described


def per_example(values: Array) -> Array:
    """Return values `[N, ...]` as `[N, F]`."""
    return values.reshape(values.shape[0], math.prod(values.shape[1:]))


def positions(y: Array) -> int:
    """Return T of y `[N, (T,) C]`, which is 1 without positions."""
    return math.prod(y.shape[1:-1])


def diagonal(root: Array) -> Array:
    """Return S `[F, N, ...]` of a Hessian that is diagonal, from the roots of its diagonal, which have y's shape."""
    flat = per_example(root)
    F = flat.shape[1]
    return (jnp.eye(F, dtype=root.dtype)[:, None, :] * flat[None]).reshape(F, *root.shape)


def divided(values: Array, T: int) -> Array:
    """Return values / T; T may be more than float16 holds, so half precision goes by way of float32."""
    return values if T == 1 else (values.astype(wide(values.dtype)) / T).astype(values.dtype)


def is_integer(targets: ArrayLike) -> bool:
    """Tell whether targets may be labels."""
    return jnp.issubdtype(jnp.result_type(targets), jnp.integer)


def labels_of(targets: ArrayLike) -> Array:
    """Return integer targets in a type that holds any class: a byte would count from 0 again after 255."""
    labels = jnp.asarray(targets)
    return labels.astype(jnp.int64 if labels.dtype.itemsize == 8 else jnp.int32)


def do_not_fit(y: ArrayLike, targets: ArrayLike) -> str:
    """Say which two shapes do not fit, for an error."""
    return f"targets {tuple(jnp.shape(targets))} do not fit outputs {tuple(jnp.shape(y))}"


def _taking_rows(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of (y, targets) that takes lists and data frames too."""

    @functools.wraps(method)
    def taking(self: "Cost", y: Any, targets: Any, *given: Any) -> Any:
        y, targets, name = as_arrays(y, "y"), as_arrays(targets, "targets"), type(self).__name__
        for array, what in ((y, "outputs"), (targets, "targets")):
            if not hasattr(array, "shape") or not is_real(array):
                raise ShapeError(f"{name}: {what} must be one array of real numbers [N, ...], found {kind_of(array)}")
        least = 1 + (self.applies == "softmax")  # its classes have an axis
        if not is_floating(y) or len(y.shape) < least or 0 in y.shape[1:]:
            axes = "[N, (T,) C]" if least > 1 else "[N, ...]"
            raise ShapeError(f"{name}: outputs must be floating {axes}, found {kind_of(y)}")
        return method(self, y, targets, *given)

    return taking


@dataclass(frozen=True)
class Cost(Described, abc.ABC):
    """C(y, targets) -> [N] and its delta; frozen, hashable and JSON-able like a layer.

    Its curvature in y stands beside the delta: H_n = ∂²C_n/∂y_n², by default found by differentiating the delta.

        hessian_root(y, targets)         [V, N, ...]   S, with Σ_v S_vn S_vnᵀ = H_n
        hessian_product(y, targets, v)   y's shape     H_n v_n
        sample(y, key)                   targets       drawn from the model that the cost is the −ln of
        sampled_delta(y, targets, key)   y's shape     a random δ̲ with E[δ̲ δ̲ᵀ] = H_n: one column instead of V

    None of them is divided by N.

    A class says beside its formulas what the command line, the metrics and the server need to know of it:

        outputs             what y is: "values" in the targets' own unit, "class logits", "logits" or another word
        applies             the function that C applies to y itself, so that a network must not end with it, or None
        takes_labels        whether integer labels `[N, (T)]` are taken as they are; else they become one-hot rows
        outputs_per_target  how many outputs a target needs

    Raises ShapeError, naming `targets` and both shapes, at trace time.

    >>> from jaxprop import HalfSquaredError
    >>> HalfSquaredError()(jnp.zeros((3, 1)), jnp.zeros(3))
    Traceback (most recent call last):
        ...
    jaxprop.errors.ShapeError: HalfSquaredError: targets (3,) do not fit outputs (3, 1): expected the same shape; ...
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("__call__", "delta", "hessian_root", "hessian_product", "sampled_delta", "check", "check_values"):
            if name in vars(cls):
                setattr(cls, name, _taking_rows(vars(cls)[name]))

    @staticmethod
    def of(function: Callable[[Array, Array], Array]) -> "Cost":
        """Return the cost whose C_n is a function of one example, C_n = f(y_n, t_n), its delta by `jax.grad` of f.

        Args:
            function: f(y_n, t_n), a number, of the outputs and targets of one example, without the axis N: no example
                can see another. Targets come as they are (labels are integers), floating ones in y's dtype.

        The cost is used as any other: in `manual`, `auto`, `compare`, `fit`. It is equal to another one of the same
        function, so keep the function: a new `lambda` for every `fit` compiles anew. It cannot be saved, since a file
        holds no function, and `save(cost=...)` says so: for that write a class, as in `jaxprop/costs/README.md`.
        `explain` has no formula for it.

        Raises:
            JaxpropError: `function` cannot be called.
            ShapeError: at the first call, if it does not return a number.

        >>> import jax
        >>> pinball = Cost.of(lambda y, t: jnp.sum(jnp.maximum(0.9 * (t - y), 0.1 * (y - t))))
        >>> y, t = jnp.array([[1.0], [3.0]]), jnp.array([[2.0], [2.0]])
        >>> print(pinball(y, t), pinball.delta(y, t).ravel())
        [0.9 0.1] [-0.9  0.1]
        """
        return CostOf(function)

    outputs: ClassVar[str] = "values"
    applies: ClassVar[str | None] = None
    takes_labels: ClassVar[bool] = False
    outputs_per_target: ClassVar[int] = 1

    @abc.abstractmethod
    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """Return C_n, `[N]`."""

    @abc.abstractmethod
    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """Return ∂C_n/∂y_n in y's shape and dtype."""

    @_taking_rows
    def hessian_root(self, y: Array, targets: ArrayLike) -> Array:
        """Return S `[V, N, ...]`, V columns of y's shape with Σ_v S_vn S_vnᵀ = H_n = ∂²C_n/∂y_n².

        Here, for any cost, by H_n = U λ Uᵀ: S = U √λ, which has V = F columns, one for each of an example's F outputs,
        and costs F derivatives of delta and an eigendecomposition `[F, F]` an example. An H_n that is not positive
        semidefinite has no root: its columns are NaN (under jit nothing can be raised).

        >>> from jaxprop import HalfSquaredError
        >>> print(HalfSquaredError().hessian_root(jnp.zeros((1, 2)), jnp.ones((1, 2)))[:, 0])
        [[1. 0.]
         [0. 1.]]
        """
        F = math.prod(y.shape[1:])
        each = jnp.broadcast_to(jnp.eye(F, dtype=y.dtype)[:, None], (F, y.shape[0], F)).reshape(F, *y.shape)
        H = jax.vmap(lambda v: per_example(self.hessian_product(y, targets, v)))(each)
        H = jnp.moveaxis(H, 0, 1).astype(wide(y.dtype))
        found, U = jnp.linalg.eigh(H)
        rounding = 4 * F * float(jnp.finfo(y.dtype).eps) * jnp.max(jnp.abs(found), axis=1, keepdims=True)
        root = jnp.sqrt(jnp.where(found < -rounding, jnp.nan, jnp.maximum(found, 0)))
        return jnp.einsum("nfv,nv->vnf", U, root).astype(y.dtype).reshape(F, *y.shape)

    @_taking_rows
    def hessian_product(self, y: Array, targets: ArrayLike, v: Array) -> Array:
        """Return H_n v_n in y's shape, v being of that shape too: how delta changes as y moves along v.

        >>> from jaxprop import SigmoidCrossEntropy
        >>> print(SigmoidCrossEntropy().hessian_product(jnp.zeros((1, 1)), jnp.ones((1, 1)), jnp.ones((1, 1))))
        [[0.25]]
        """
        return jax.jvp(lambda y: self.delta(y, targets), (y,), (v,))[1]

    def sample(self, y: Array, key: Key[Array, ""]) -> Array:
        """Return targets drawn from P(targets | y), where C = −ln P and y are the parameters of P.

        Raises:
            JaxpropError: the cost is the −ln of no probability, or of one whose errors say nothing of its Hessian.

        >>> import jax
        >>> from jaxprop import SoftmaxCrossEntropy
        >>> print(SoftmaxCrossEntropy().sample(jnp.array([[-jnp.inf, 0.0]]), jax.random.key(0)))
        [1]
        """
        raise JaxpropError(
            f"{self}: there is no model here that targets could be drawn from so that the errors' mean square is the "
            'Hessian; use errors="exact", or errors="cost" for the targets given, or a cost that is a likelihood, such '
            "as HalfSquaredError or SoftmaxCrossEntropy; for a cost of your own define sample(y, key)"
        )

    @_taking_rows
    def sampled_delta(self, y: Array, targets: ArrayLike, key: Key[Array, ""]) -> Array:
        """Return δ̲ of y's shape, of targets drawn from the model, with E[δ̲_n δ̲_nᵀ] = H_n.

        It is the delta of `sample(y, key)`. Where C_n is a mean over positions or weighs them, it is scaled to keep
        E[δ̲ δ̲ᵀ] = H, which is why the real targets are asked for: they say what is weighted, and what ignored.

        Raises:
            JaxpropError: targets cannot be drawn, as `sample` has it.

        >>> import jax
        >>> from jaxprop import SigmoidCrossEntropy
        >>> y, cost = jnp.zeros((1, 1)), SigmoidCrossEntropy()
        >>> found = jax.vmap(lambda key: cost.sampled_delta(y, y, key))(jax.random.split(jax.random.key(0), 9))
        >>> print(jnp.mean(found**2))
        0.25
        """
        return self.delta(y, self.sample(y, key))

    def expected(self, y: Any) -> Any:
        """Return the targets that y speaks for: y itself, unless y are logits or other parameters of a distribution."""
        return y

    @_taking_rows
    def check(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise ShapeError unless targets have y's own shape."""
        if jnp.shape(y) != jnp.shape(targets):
            hint = ""
            if jnp.shape(targets) == jnp.shape(y)[:-1] and jnp.shape(y)[-1:] == (1,):
                hint = "; numpy would broadcast them to a square: write targets[:, None]"
            elif is_integer(targets) and jnp.ndim(targets) == jnp.ndim(y) - 1:
                hint = "; integer labels need SoftmaxCrossEntropy, or jax.nn.one_hot(targets, classes)"
            raise ShapeError(f"{type(self).__name__}: {do_not_fit(y, targets)}: expected the same shape{hint}")

    @_taking_rows
    def check_values(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise DataError for concrete targets that no output could match (y is only looked at for its shape)."""
        if not np.all(np.isfinite(np.asarray(targets, dtype=np.float64))):
            raise DataError(f"{type(self).__name__}: targets hold NaN or infinity; remove those rows")

    def _like(self, y: Array, targets: ArrayLike) -> Array:
        """Targets that fit y, in its dtype."""
        self.check(y, targets)
        return jnp.asarray(targets).astype(y.dtype)

    def _difference(self, y: Array, targets: ArrayLike) -> Array:
        return y - self._like(y, targets)


@dataclass(frozen=True)
class CostOf(Cost):
    """C_n = f(y_n, t_n), δ_n = ∂f/∂y_n by `jax.grad`: what `Cost.of` makes."""

    function: Callable[[Array, Array], Array]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise JaxpropError(
                f"Cost.of: found {self.function!r}, expected a function f(y_n, t_n) of one example, returning a number"
            )

    def __repr__(self) -> str:
        return f"Cost.of({getattr(self.function, '__name__', repr(self.function))})"

    def __call__(self, y: Array, targets: ArrayLike) -> Array:
        """f of every example."""
        return jax.vmap(self._number)(y, self._like(y, targets))

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """∂f/∂y of every example."""
        return jax.vmap(jax.grad(self._number))(y, self._like(y, targets))

    def check(self, y: ArrayLike, targets: ArrayLike) -> None:
        """Raise ShapeError unless there is a target for every example; the rest is f's own business."""
        if jnp.shape(targets)[:1] != jnp.shape(y)[:1]:
            raise ShapeError(f"{self}: {do_not_fit(y, targets)}: expected as many rows of each")

    def _like(self, y: Array, targets: ArrayLike) -> Array:
        self.check(y, targets)
        targets = jnp.asarray(targets)
        return targets.astype(y.dtype) if jnp.issubdtype(targets.dtype, jnp.floating) else targets

    def _number(self, y: Array, target: Array) -> Array:
        found = self.function(y, target)
        if jnp.shape(found) != ():
            raise ShapeError(
                f"{self}: found an answer of shape {jnp.shape(found)} for one example (y_n {y.shape}, t_n "
                f"{target.shape}), expected a number: sum or average over its axes"
            )
        return jnp.asarray(found, y.dtype)
