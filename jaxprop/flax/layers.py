"""Our layers and Flax's, side by side: which linen module is the same function, and which array is which.

An entry of `COUNTERPARTS` says for one kind of layer: the module, its params made of ours, and ours made of its. Arrays
may be stacked (a `Repeat`'s), so only axes counted from the end are touched. A layer without parameters needs no entry:
it is a function, and linen takes functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen

from jaxprop import layers
from jaxprop.layers.layer import Layer
from jaxprop.network import join


class Counterpart(NamedTuple):
    """A layer's linen module, and its params in both directions."""

    module: Callable[[Any, Any], linen.Module]  # of a layer and its parameters' dtype
    to_flax: Callable[[Any, Any], dict[str, Any]]
    to_ours: Callable[[Any, dict[str, Any]], Any]
    within: tuple[str, ...] = ()  # the modules around those params, in what `module` makes

    def tree(self, layer: Any, params: Any) -> dict[str, Any]:
        """The params of `module`, made of ours."""
        tree = self.to_flax(layer, params)
        for name in reversed(self.within):
            tree = {name: tree}
        return tree

    def opened(self, tree: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The params inside the modules of `within`, and their path; a checkpoint need not have these modules."""
        path = ""
        for name in self.within:
            if name in tree:
                path, tree = join(path, name), tree[name]
        return path, tree


def renamed(module: Callable[[Any, Any], linen.Module], kind: type, **names: str) -> Counterpart:
    """For arrays that only have other names: ours=theirs."""

    def to_flax(layer: Any, params: Any) -> dict[str, Any]:
        found = {theirs: getattr(params, ours) for ours, theirs in names.items()}
        return {name: array for name, array in found.items() if array is not None}

    def to_ours(layer: Any, params: dict[str, Any]) -> Any:
        return kind(**{ours: params.get(theirs) for ours, theirs in names.items()})

    return Counterpart(module, to_flax, to_ours)


class LearnedPositions(linen.Module):
    """x + P[:T], which linen has no module for."""

    length: int

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """x `[N, T, D]`."""
        P = self.param("embedding", linen.initializers.normal(0.02), (self.length, x.shape[-1]))
        return x + P[: x.shape[-2]]


class ScaleAndShift(linen.Module):
    """x · scale + bias, which linen has only inside its norms."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """x `[N, ..., C]`."""
        scale = self.param("scale", linen.initializers.ones, x.shape[-1:])
        return x * scale + self.param("bias", linen.initializers.zeros, x.shape[-1:])


class BatchStatistics(linen.Module):
    """Normalised by the batch that it is given, always: linen's `BatchNorm` would keep a running average beside."""

    epsilon: float
    use_scale: bool
    use_bias: bool
    param_dtype: Any

    @linen.compact
    def __call__(self, x: Any) -> Any:
        """x `[N, ..., C]`."""
        options = {"epsilon": self.epsilon, "use_scale": self.use_scale, "use_bias": self.use_bias}
        over = tuple(range(x.ndim - 1))
        norm = linen.LayerNorm(
            **options, reduction_axes=over, param_dtype=self.param_dtype, use_fast_variance=False, name="norm"
        )
        return norm(x)


def _batch_norm(layer: Any, dtype: Any) -> linen.Module:
    return BatchStatistics(layer.epsilon, layer.scale, layer.bias, dtype)


def _batch_norm_to_flax(layer: Any, p: Any) -> dict[str, Any]:
    return {name: array for name, array in p._asdict().items() if array is not None}


def _batch_norm_to_ours(layer: Any, params: dict[str, Any]) -> Any:
    return layers.NormParams(params.get("scale"), params.get("bias"))


class Attention(linen.Module):
    """`MultiHeadDotProductAttention` with our causal mask, and our pair (queries, memory)."""

    attention: linen.MultiHeadDotProductAttention
    causal: bool
    cross: bool

    def __call__(self, x: Any) -> Any:
        """x `[N, T, I]`, or the pair."""
        queries, memory = x if self.cross else (x, x)
        mask = linen.make_causal_mask(jnp.ones(queries.shape[:2])) if self.causal else None
        return self.attention(queries, memory, mask=mask)


def _attention(layer: Any, dtype: Any) -> linen.Module:
    options = {"qkv_features": layer.features, "out_features": layer.outputs, "use_bias": layer.bias}
    inner = linen.MultiHeadDotProductAttention(layer.heads, param_dtype=dtype, **options)
    return Attention(inner, layer.causal, layer.cross)


def _attention_to_flax(layer: Any, p: Any) -> dict[str, Any]:
    def heads(array: Any) -> Any:  # [..., F] as [..., H, D]
        return array.reshape(*array.shape[:-1], layer.heads, -1)

    W_output = p.W_output.reshape(*p.W_output.shape[:-2], layer.heads, -1, p.W_output.shape[-1])
    found = {"query": {"kernel": heads(p.W_query)}, "key": {"kernel": heads(p.W_key)}}
    found |= {"value": {"kernel": heads(p.W_value)}, "out": {"kernel": W_output}}
    if layer.bias:
        found["query"]["bias"], found["value"]["bias"] = heads(p.b_query), heads(p.b_value)
        found["key"]["bias"] = jnp.zeros_like(found["query"]["bias"])  # changes no y: the softmax does not see it
        found["out"]["bias"] = p.b_output
    return found


def _attention_to_ours(layer: Any, p: dict[str, Any]) -> Any:
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

    def __call__(self, x: Any) -> Any:
        """x `[N, T, I]`."""
        h: Any = self.rnn(x)
        return h if self.sequence else h[:, -1]


def _recurrent(cell: Any) -> Callable[[Any, Any], linen.Module]:
    return lambda layer, dtype: OverTime(linen.RNN(cell(layer.features, param_dtype=dtype)), layer.sequence)


def _gates(array: Any, names: str) -> dict[str, Any]:
    return dict(zip(names, jnp.split(array, len(names), axis=-1), strict=True))


def _joined(cell: dict[str, Any], side: str, names: str, what: str) -> Any:
    return jnp.concatenate([cell[side + gate][what] for gate in names], axis=-1)


def _rnn_to_flax(layer: Any, p: Any) -> dict[str, Any]:
    return {"i": {"kernel": p.W_input, "bias": p.b}, "h": {"kernel": p.W_hidden}}


def _rnn_to_ours(layer: Any, cell: dict[str, Any]) -> Any:
    return layers.RNNParams(cell["i"]["kernel"], cell["h"]["kernel"], cell["i"]["bias"])


def _lstm_to_flax(layer: Any, p: Any) -> dict[str, Any]:
    inputs, hidden, b = (_gates(array, "ifgo") for array in (p.W_input, p.W_hidden, p.b))
    cell = {f"i{gate}": {"kernel": W} for gate, W in inputs.items()}
    return cell | {f"h{gate}": {"kernel": W, "bias": b[gate]} for gate, W in hidden.items()}


def _lstm_to_ours(layer: Any, cell: dict[str, Any]) -> Any:
    parts = (("i", "kernel"), ("h", "kernel"), ("h", "bias"))
    return layers.LSTMParams(*(_joined(cell, side, "ifgo", what) for side, what in parts))


def _gru_to_flax(layer: Any, p: Any) -> dict[str, Any]:
    inputs, hidden, b = (_gates(array, "rzn") for array in (p.W_input, p.W_hidden, p.b))
    cell: dict[str, Any] = {f"i{gate}": {"kernel": W, "bias": b[gate]} for gate, W in inputs.items()}
    cell |= {f"h{gate}": {"kernel": W} for gate, W in hidden.items()}
    cell["hn"]["bias"] = p.b_hidden
    return cell


def _gru_to_ours(layer: Any, cell: dict[str, Any]) -> Any:
    W_input, W_hidden = (_joined(cell, side, "rzn", "kernel") for side in "ih")
    return layers.GRUParams(W_input, W_hidden, _joined(cell, "i", "rzn", "bias"), cell["hn"]["bias"])


def _conv(module: Any) -> Callable[[Any, Any], linen.Module]:
    def make(layer: Any, dtype: Any) -> linen.Module:
        options = {"strides": layer.strides, "padding": layer.padding, "kernel_dilation": layer.dilation}
        if module is linen.Conv:
            options |= {"feature_group_count": layer.groups}
        return module(layer.features, layer.kernel, use_bias=layer.bias, param_dtype=dtype, **options)

    return make


COUNTERPARTS: dict[type[Layer], Counterpart] = {
    layers.Linear: renamed(
        lambda l, dtype: linen.Dense(l.features, l.bias, param_dtype=dtype), layers.LinearParams, W="kernel", b="bias"
    ),
    layers.Conv: renamed(_conv(linen.Conv), layers.ConvParams, W="kernel", b="bias"),
    layers.ConvTranspose: renamed(_conv(linen.ConvTranspose), layers.ConvTransposeParams, W="kernel", b="bias"),
    layers.LayerNorm: renamed(
        lambda l, dtype: linen.LayerNorm(
            param_dtype=dtype, epsilon=l.epsilon, use_scale=l.scale, use_bias=l.bias, use_fast_variance=False
        ),
        layers.NormParams,
        scale="scale",
        bias="bias",
    ),
    layers.RMSNorm: renamed(
        lambda l, dtype: linen.RMSNorm(param_dtype=dtype, epsilon=l.epsilon, use_scale=l.scale),
        layers.NormParams,
        scale="scale",
        bias="bias",
    ),
    layers.GroupNorm: renamed(
        lambda l, dtype: linen.GroupNorm(
            l.groups, param_dtype=dtype, epsilon=l.epsilon, use_scale=l.scale, use_bias=l.bias, use_fast_variance=False
        ),
        layers.NormParams,
        scale="scale",
        bias="bias",
    ),
    layers.BatchNorm: Counterpart(_batch_norm, _batch_norm_to_flax, _batch_norm_to_ours, ("norm",)),
    layers.Affine: renamed(lambda l, dtype: ScaleAndShift(), layers.AffineParams, scale="scale", shift="bias"),
    layers.Embedding: renamed(
        lambda l, dtype: linen.Embed(l.vocabulary, l.features, param_dtype=dtype), layers.EmbeddingParams, W="embedding"
    ),
    layers.PositionalEmbedding: renamed(
        lambda l, dtype: LearnedPositions(l.length), layers.PositionalEmbeddingParams, W="embedding"
    ),
    layers.MultiHeadAttention: Counterpart(_attention, _attention_to_flax, _attention_to_ours, ("attention",)),
    layers.RNN: Counterpart(_recurrent(linen.SimpleCell), _rnn_to_flax, _rnn_to_ours, ("rnn", "cell")),
    layers.GRU: Counterpart(_recurrent(linen.GRUCell), _gru_to_flax, _gru_to_ours, ("rnn", "cell")),
    layers.LSTM: Counterpart(_recurrent(linen.OptimizedLSTMCell), _lstm_to_flax, _lstm_to_ours, ("rnn", "cell")),
}
