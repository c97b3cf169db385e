"""Our layers and Flax's, side by side: which linen module is the same function, and which array is which.

An entry of `COUNTERPARTS` says for one kind of layer: the module, its params made of ours, and ours made of its. Arrays
may be stacked (a `Repeat`'s), so only axes counted from the end are touched. A layer without parameters needs no entry:
it is a function, and linen takes functions. A layer with parameters and without an entry is refused by name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import PyTree

from jaxprop import layers
from jaxprop.layers.layer import Layer

Tree = dict[str, Any]  # params of linen: arrays, or trees, by name
Make = Callable[[Any, DTypeLike], linen.Module]  # of a layer and its parameters' dtype


class Counterpart(NamedTuple):
    """A layer's linen module, and its params in both directions."""

    module: Make
    to_flax: Callable[[Any, Any], Tree]
    to_ours: Callable[[Any, Tree], Any]
    within: tuple[str, ...] = ()  # the modules around those params, in what `module` makes
    read: Callable[[Tree], Tree] = dict  # params as nnx keeps them, as linen does

    def tree(self, layer: Layer, params: Any) -> Tree:
        """Return the params of `module`, made of ours."""
        tree = self.to_flax(layer, params)
        for name in reversed(self.within):
            tree = {name: tree}
        return tree

    def opened(self, tree: Tree) -> Tree:
        """Return the params inside the modules of `within`; a checkpoint need not have these modules."""
        for name in self.within:
            tree = tree.get(name, tree)
        return tree


def renamed(module: Make, params: Callable[..., Any], *names: str, within: tuple[str, ...] = ()) -> Counterpart:
    """Return the counterpart of a layer whose arrays only have other names, in the order of the fields of `params`."""

    def to_flax(layer: Layer, ours: tuple[Array | None, ...]) -> Tree:
        return {name: array for name, array in zip(names, ours, strict=True) if array is not None}

    def to_ours(layer: Layer, tree: Tree) -> Any:
        return params(*map(tree.get, names))

    return Counterpart(module, to_flax, to_ours, within)


class LearnedPositions(linen.Module):
    """x + P[:T], which linen has no module for."""

    length: int

    @linen.compact
    def __call__(self, x: Array) -> Array:
        """x `[N, T, D]`."""
        P = self.param("embedding", linen.initializers.normal(0.02), (self.length, x.shape[-1]))
        return x + P[: x.shape[-2]]


class ScaleAndShift(linen.Module):
    """x · scale + bias, which linen has only inside its norms."""

    @linen.compact
    def __call__(self, x: Array) -> Array:
        """x `[N, ..., C]`."""
        scale = self.param("scale", linen.initializers.ones, x.shape[-1:])
        return x * scale + self.param("bias", linen.initializers.zeros, x.shape[-1:])


class BatchStatistics(linen.Module):
    """Normalised by the batch that it is given, always: linen's `BatchNorm` would keep a running average beside."""

    epsilon: float
    use_scale: bool
    use_bias: bool
    param_dtype: DTypeLike

    @linen.compact
    def __call__(self, x: Array) -> Array:
        """x `[N, ..., C]`."""
        options = {"epsilon": self.epsilon, "use_scale": self.use_scale, "use_bias": self.use_bias}
        over = tuple(range(x.ndim - 1))
        norm = linen.LayerNorm(
            **options, reduction_axes=over, param_dtype=self.param_dtype, use_fast_variance=False, name="norm"
        )
        return norm(x)


def _batch_norm(layer: layers.BatchNorm, dtype: DTypeLike) -> linen.Module:
    return BatchStatistics(layer.epsilon, layer.scale, layer.bias, dtype)


class Attention(linen.Module):
    """`MultiHeadDotProductAttention` with our causal mask, and our pair (queries, memory)."""

    attention: linen.MultiHeadDotProductAttention
    causal: bool
    cross: bool

    def __call__(self, x: PyTree[Array]) -> Array:
        """x `[N, T, I]`, or the pair."""
        queries, memory = x if self.cross else (x, x)
        mask = linen.make_causal_mask(jnp.ones(queries.shape[:2])) if self.causal else None
        return self.attention(queries, memory, mask=mask)


def _attention(layer: layers.MultiHeadAttention, dtype: DTypeLike) -> linen.Module:
    options = {"qkv_features": layer.features, "out_features": layer.outputs, "use_bias": layer.bias}
    inner = linen.MultiHeadDotProductAttention(layer.heads, param_dtype=dtype, **options)
    return Attention(inner, layer.causal, layer.cross)


def _attention_to_flax(layer: layers.MultiHeadAttention, p: layers.AttentionParams) -> Tree:
    def heads(array: Any) -> Array:  # [..., F] as [..., H, D]
        return array.reshape(*array.shape[:-1], layer.heads, -1)

    W_output = p.W_output.reshape(*p.W_output.shape[:-2], layer.heads, -1, p.W_output.shape[-1])
    found = {"query": {"kernel": heads(p.W_query)}, "key": {"kernel": heads(p.W_key)}}
    found |= {"value": {"kernel": heads(p.W_value)}, "out": {"kernel": W_output}}
    if layer.bias:
        found["query"]["bias"], found["value"]["bias"] = heads(p.b_query), heads(p.b_value)
        found["key"]["bias"] = jnp.zeros_like(found["query"]["bias"])  # changes no y: the softmax does not see it
        found["out"]["bias"] = p.b_output
    return found


def _attention_to_ours(layer: layers.MultiHeadAttention, p: Tree) -> layers.AttentionParams:
    def flat(name: str, what: str) -> Any:
        array = p[name].get(what)
        return None if array is None else array.reshape(*array.shape[:-2], -1)

    out = p["out"]["kernel"]
    W_output = out.reshape(*out.shape[:-3], -1, out.shape[-1])
    query, value = (flat("query", "kernel"), flat("query", "bias")), (flat("value", "kernel"), flat("value", "bias"))
    return layers.AttentionParams(*query, flat("key", "kernel"), *value, W_output, p["out"].get("bias"))


class OverTime(linen.Module):
    """linen's `RNN` over a cell: every h, or the last."""

    rnn: linen.RNN
    sequence: bool

    def __call__(self, x: Array) -> Array:
        """x `[N, T, I]`."""
        h: Any = self.rnn(x)
        return h if self.sequence else h[:, -1]


def _recurrent(cell: Any) -> Make:
    return lambda layer, dtype: OverTime(linen.RNN(cell(layer.features, param_dtype=dtype)), layer.sequence)


def of_linen(cell: Tree) -> Tree:
    """Params of a recurrent cell of nnx under the names of linen's: there gates are joined, or called `if_`.

    nnx's GRU has no bias inside its reset gate, which is ours at 0.
    """
    if set(cell) != {"dense_i", "dense_h"}:
        return {name.rstrip("_"): tree for name, tree in cell.items()}
    features, width = cell["dense_h"]["kernel"].shape[-2:]
    names = {features: "", 3 * features: "rzn", 4 * features: "ifgo"}[width]
    if not names:
        return {"i": cell["dense_i"], "h": cell["dense_h"]}
    found: Tree = {}
    for side in "ih":
        for what, array in cell["dense_" + side].items():
            for gate, part in _gates(array, names).items():
                found.setdefault(side + gate, {})[what] = part
    if names == "rzn":
        found["hn"]["bias"] = jnp.zeros_like(found["in"]["bias"])
    return found


def _gates(array: Array, names: str) -> dict[str, Array]:
    return dict(zip(names, jnp.split(array, len(names), axis=-1), strict=True))


def _joined(cell: Tree, side: str, names: str, what: str) -> Array:
    return jnp.concatenate([cell[side + gate][what] for gate in names], axis=-1)


def _rnn_to_flax(layer: layers.RNN, p: layers.RNNParams) -> Tree:
    return {"i": {"kernel": p.W_input, "bias": p.b}, "h": {"kernel": p.W_hidden}}


def _rnn_to_ours(layer: layers.RNN, cell: Tree) -> layers.RNNParams:
    return layers.RNNParams(cell["i"]["kernel"], cell["h"]["kernel"], cell["i"]["bias"])


def _lstm_to_flax(layer: layers.LSTM, p: layers.LSTMParams) -> Tree:
    inputs, hidden, b = (_gates(array, "ifgo") for array in (p.W_input, p.W_hidden, p.b))
    cell = {f"i{gate}": {"kernel": W} for gate, W in inputs.items()}
    return cell | {f"h{gate}": {"kernel": W, "bias": b[gate]} for gate, W in hidden.items()}


def _lstm_to_ours(layer: layers.LSTM, cell: Tree) -> layers.LSTMParams:
    parts = (("i", "kernel"), ("h", "kernel"), ("h", "bias"))
    return layers.LSTMParams(*(_joined(cell, side, "ifgo", what) for side, what in parts))


def _gru_to_flax(layer: layers.GRU, p: layers.GRUParams) -> Tree:
    inputs, hidden, b = (_gates(array, "rzn") for array in (p.W_input, p.W_hidden, p.b))
    cell: Tree = {f"i{gate}": {"kernel": W, "bias": b[gate]} for gate, W in inputs.items()}
    cell |= {f"h{gate}": {"kernel": W} for gate, W in hidden.items()}
    cell["hn"]["bias"] = p.b_hidden
    return cell


def _gru_to_ours(layer: layers.GRU, cell: Tree) -> layers.GRUParams:
    W_input, W_hidden = (_joined(cell, side, "rzn", "kernel") for side in "ih")
    return layers.GRUParams(W_input, W_hidden, _joined(cell, "i", "rzn", "bias"), cell["hn"]["bias"])


def _conv(module: Any) -> Make:
    def make(layer: Any, dtype: DTypeLike) -> linen.Module:
        options = {"strides": layer.strides, "padding": layer.padding, "kernel_dilation": layer.dilation}
        if module is linen.Conv:
            options |= {"feature_group_count": layer.groups}
        return module(layer.features, layer.kernel, use_bias=layer.bias, param_dtype=dtype, **options)

    return make


def _layer_norm(l: layers.LayerNorm, dtype: DTypeLike) -> linen.Module:
    options = {"epsilon": l.epsilon, "use_scale": l.scale, "use_bias": l.bias}
    return linen.LayerNorm(**options, param_dtype=dtype, use_fast_variance=False)


def _group_norm(l: layers.GroupNorm, dtype: DTypeLike) -> linen.Module:
    options = {"epsilon": l.epsilon, "use_scale": l.scale, "use_bias": l.bias}
    return linen.GroupNorm(l.groups, **options, param_dtype=dtype, use_fast_variance=False)


COUNTERPARTS: dict[type[Layer], Counterpart] = {
    layers.Linear: renamed(
        lambda l, dtype: linen.Dense(l.features, l.bias, param_dtype=dtype), layers.LinearParams, "kernel", "bias"
    ),
    layers.Conv: renamed(_conv(linen.Conv), layers.ConvParams, "kernel", "bias"),
    layers.ConvTranspose: renamed(_conv(linen.ConvTranspose), layers.ConvTransposeParams, "kernel", "bias"),
    layers.LayerNorm: renamed(_layer_norm, layers.NormParams, "scale", "bias"),
    layers.GroupNorm: renamed(_group_norm, layers.NormParams, "scale", "bias"),
    layers.RMSNorm: renamed(
        lambda l, dtype: linen.RMSNorm(param_dtype=dtype, epsilon=l.epsilon, use_scale=l.scale),
        *(layers.NormParams, "scale", "bias"),
    ),
    layers.BatchNorm: renamed(_batch_norm, layers.NormParams, "scale", "bias", within=("norm",)),
    layers.Affine: renamed(lambda l, dtype: ScaleAndShift(), layers.AffineParams, "scale", "bias"),
    layers.Embedding: renamed(
        lambda l, dtype: linen.Embed(l.vocabulary, l.features, param_dtype=dtype), layers.EmbeddingParams, "embedding"
    ),
    layers.PositionalEmbedding: renamed(
        lambda l, dtype: LearnedPositions(l.length), layers.PositionalEmbeddingParams, "embedding"
    ),
    layers.MultiHeadAttention: Counterpart(_attention, _attention_to_flax, _attention_to_ours, ("attention",)),
    layers.RNN: Counterpart(_recurrent(linen.SimpleCell), _rnn_to_flax, _rnn_to_ours, ("rnn", "cell"), of_linen),
    layers.GRU: Counterpart(_recurrent(linen.GRUCell), _gru_to_flax, _gru_to_ours, ("rnn", "cell"), of_linen),
    layers.LSTM: Counterpart(
        _recurrent(linen.OptimizedLSTMCell), _lstm_to_flax, _lstm_to_ours, ("rnn", "cell"), of_linen
    ),
}
