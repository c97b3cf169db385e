r"""What RNN, GRU and LSTM share: one cell, used at every position, and backpropagation through time.

Forward: the state s_t = (h_t, …) starts at 0, and one `scan` takes it through time. What x contributes to the gates is
one product for all positions before it:

    z_t = x_t W_input + b                            x [N, T, I]   W_input [I, GF]   b [GF]
    s_t = cell(z_t, s_{t−1}, W_hidden)               h [N, T, F]   W_hidden [F, GF]         y = h, or its last, h_T

Backward: s_t reaches C by two ways, through y_t and through all that comes later, so errors are gathered from the end:

    ds_t   = dy_t + (what came back from t + 1)      one reverse `scan`
    δ_t    = ∂C/∂z_t,  ds_{t−1}                      from ds_t: the cell's own derivation
    ∂C/∂W_input = Σ_t x_t ⊗ δ_t,   ∂C/∂W_hidden = Σ_t h_{t−1} ⊗ δ_t,   ∂C/∂b = Σ_t δ_t,   dx_t = δ_t W_inputᵀ

The last line is no part of the scan: x, h and δ of all positions make one use a parameter, and so one product for all T
where `jax.grad` adds an outer product to ∂C/∂W at every step. That is half of its time.

A padding mask (`env.mask`, booleans `[N, T]`, True = real) carries the state over a masked position unchanged: there
s_t = s_{t−1}, ds_{t−1} = ds_t, δ_t = 0. So the last h is that of the last real position; with none it is 0.

Edge cases: with T = 1 the gradient of W_hidden is 0 (h_0 = 0), and so is that of LSTM's forget gate (c_0 = 0). What
stands at a masked position changes nothing and gets no error (it must be finite). T = 0 is refused.
Source: Werbos 1990, "Backpropagation through time"; gates as in Flax (`flax.linen.SimpleCell`, `GRUCell`, `LSTMCell`).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.dtypes import wide
from jaxprop.checks import Spec, check_floating, check_key, check_whole
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.layers.masks import check_mask
from jaxprop.uses import Outer, Shift

State = tuple[Array, ...]  # (h, …), each [N, F]


class RecurrentCache(NamedTuple):
    """What the backward pass needs: x `[N, T, I]`, h_{t−1} `[T, N, F]` and h_T `[N, F]`, what the cell kept, the mask.

    z `[T, N, GF]` is room alone: every δ_t is written over z_t, which nobody reads again.

    >>> RecurrentCache._fields
    ('x', 'z', 'h_before', 'last', 'kept', 'mask')
    """

    x: Array
    z: Array
    h_before: Array
    last: Array
    kept: Any
    mask: Array | None

    @property
    def h(self) -> Array:
        """h_t `[T, N, F]`."""
        return jnp.concatenate([self.h_before[1:], self.last[None]])


@dataclass(frozen=True)
class Recurrent(Layer):
    """x `[N, T, I]` to h `[N, T, features]`, or to the last h `[N, features]` with sequence=False.

    A cell is `step`, its derivation `step_back`, and how many gates and states it has.

    >>> from jaxprop.layers.rnn import RNN
    >>> isinstance(RNN(3), Recurrent)
    True
    """

    features: int
    sequence: bool = True

    gates: ClassVar[int]
    states: ClassVar[int] = 1
    instead: ClassVar = {"sequence": "the inputs are read off x: what is LSTM(10, 20) elsewhere is LSTM(20) here"}

    def step(self, z: Array, state: State, params: Any) -> tuple[State, Any]:
        """Return s_t and what `step_back` needs beside h."""
        raise TypeError(f"{type(self).__name__} must define step(z, state, params) -> (state, kept)")

    def step_back(self, d: State, h: Array, h_before: Array, kept: Any, params: Any) -> tuple[State, Array]:
        """Return ds_{t−1} and δ_t, from ds_t."""
        raise TypeError(f"{type(self).__name__} must define step_back(d, h, h_before, kept, params) -> (d, delta)")

    def __post_init__(self) -> None:
        check_whole(self.features, f"{self._name}: features")

    def init(self, key: Array | None, x: Spec) -> Any:
        W_input, W_hidden = self._draw(key, x)
        return self.params_of(W_input, W_hidden, jnp.zeros(self.gates * self.features, x.dtype))

    def params_of(self, W_input: Array, W_hidden: Array, b: Array) -> Any:
        """Make θ of its three common arrays."""
        raise TypeError(f"{type(self).__name__} must define params_of(W_input, W_hidden, b)")

    def __call__(self, x: Array, params: Any, env: Env | None = None) -> Array:
        def step(state: State, at_t: Any) -> tuple[State, Any]:
            z, real = at_t
            state = _where(real, self.step(z + across(params.b, z), state, params)[0], state)
            return state, state[0] if self.sequence else None

        last, h = jax.lax.scan(step, *self._start(x, params, env))
        return jnp.swapaxes(h, 0, 1) if self.sequence else last[0]

    def forward(self, x: Array, params: Any, env: Env | None = None) -> tuple[Array, RecurrentCache]:
        def step(state: State, at_t: Any) -> tuple[State, Any]:
            z, real = at_t
            after, kept = self.step(z + across(params.b, z), state, params)
            return _where(real, after, state), (state[0], kept)

        start, (z, mask) = self._start(x, params, env)
        (last, *_), (h_before, kept) = jax.lax.scan(step, start, (z, mask))
        cache = RecurrentCache(x, z, h_before, last, kept, mask)
        return jnp.swapaxes(cache.h, 0, 1) if self.sequence else last, cache

    def backward(self, dy: Array, cache: RecurrentCache, params: Any) -> tuple[Array, Any]:
        x, z, h_before, last, kept, mask = cache

        def step(carried: tuple[State, Array], at_t: Any) -> tuple[tuple[State, Array], None]:
            (d, delta), (t, dy, h, h_before, kept, real) = carried, at_t
            d = d if dy is None else (d[0] + dy, *d[1:])
            before, delta_t = self.step_back(d, h, h_before, kept, params)
            delta_t = _where(real, delta_t, jnp.zeros_like(delta_t))
            return (_where(real, before, d), jax.lax.dynamic_update_index_in_dim(delta, delta_t, t, 0)), None

        zero = jnp.zeros_like(last)
        end = (zero if self.sequence else dy, *[zero] * (self.states - 1))
        errors = jnp.swapaxes(dy, 0, 1) if self.sequence else None
        steps = (jnp.arange(len(z)), errors, cache.h, h_before, kept, mask)
        (_, delta), _ = jax.lax.scan(step, (end, z), steps, reverse=True)
        dx = jnp.swapaxes(delta @ params.W_input.T, 0, 1)
        return dx, self.uses(x, jnp.swapaxes(h_before, 0, 1), jnp.swapaxes(delta, 0, 1), kept, params)

    def uses(self, x: Array, h_before: Array, delta: Array, kept: Any, params: Any) -> Any:
        """Return one use for each parameter, over all positions: of x, h_{t−1} and δ `[N, T, ...]`."""
        W_input, W_hidden, b = params
        return self.params_of(
            Outer(x, delta, W_input.shape, W_input.dtype, scanned=True),  # pyright: ignore[reportArgumentType]
            Outer(h_before, delta, W_hidden.shape, W_hidden.dtype, scanned=True),  # pyright: ignore[reportArgumentType]
            Shift(delta, b.shape, b.dtype),  # pyright: ignore[reportArgumentType]
        )

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        (N, T, I), F, G = x.shape, self.features, self.gates
        multiply_adds = 2 * N * T * (I + F) * G * F
        elementwise = 4 * N * T * G * F
        return multiply_adds + elementwise, 2 * multiply_adds + elementwise

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _draw(self, key: Array | None, x: Spec) -> tuple[Array, Array]:
        """W_input and W_hidden, each gate drawn by itself, as Flax does."""
        self._check_inputs(x)
        key = check_key(key, f"{self._name}.init")
        into, again = jax.nn.initializers.lecun_normal(), jax.nn.initializers.orthogonal()
        keys, F = jax.random.split(key, (2, self.gates)), self.features
        W_input = jnp.concatenate([into(k, (x.shape[-1], F), x.dtype) for k in keys[0]], axis=1)
        # a QR decomposition has no half precision
        W_hidden = jnp.concatenate([again(k, (F, F), wide(x.dtype)) for k in keys[1]], axis=1).astype(x.dtype)
        return W_input, W_hidden

    def _start(self, x: Array, params: Any, env: Env | None) -> tuple[State, tuple[Array, Array | None]]:
        """s_0, and what each step takes: z and the mask, time first."""
        self._check_inputs(x)
        self._check_params(x, params)
        mask = check_mask(None if env is None else env.mask, x, f"{self._name}: mask")
        z = jnp.swapaxes(x, 0, 1) @ params.W_input  # b is added step by step: here it would make a second array
        zero = jnp.zeros_like(z[0, :, : self.features])
        return (zero,) * self.states, (z, None if mask is None else jnp.swapaxes(mask, 0, 1)[..., None])

    def _shapes(self, I: int) -> dict[str, tuple[int, ...]]:
        F, GF = self.features, self.gates * self.features
        return {"W_input": (I, GF), "W_hidden": (F, GF), "b": (GF,)}

    def _check_params(self, x: Spec, params: Any) -> None:
        for name, expected in self._shapes(x.shape[-1]).items():
            found = getattr(getattr(params, name, None), "shape", None)
            if found != expected:
                raise ShapeError(
                    f"{self!r}: inputs {tuple(x.shape)} need {name} of shape {expected}, found {found}; "
                    "make params with init(key, x)"
                )

    def _check_inputs(self, x: Spec) -> None:
        hint = "one example is x[None], ids go through an Embedding first"
        check_floating(x, self, "[N, T, I] with T and I ≥ 1", hint)
        if 0 in x.shape[1:]:
            raise ShapeError(f"{self!r}: found {x.dtype}{list(x.shape)}, expected [N, T, I] with T and I ≥ 1")


def _where(real: Array | None, one: Any, other: Any) -> Any:
    """One where a position is real, the other where it is masked."""
    return one if real is None else jax.tree.map(lambda a, b: jnp.where(real, a, b), one, other)
