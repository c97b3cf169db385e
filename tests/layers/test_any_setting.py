"""The settings, shapes, masks and dtypes that the table of cases leaves out, drawn by hypothesis from small fixed sets.

Every new shape is a compilation of a second: a few draws a family behind the marker `slow`, more behind `exhaustive`.
"""

import math

import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from jaxprop.check.quantities import QUANTITIES
from jaxprop.check.witnesses import compute
from tests.cases import LayerCase
from tests.layers.test_layers import flat, inputs, those

of, flag = st.sampled_from, st.booleans()


def case(layer, shape, mask=None):
    return LayerCase(repr(layer), layer, shape, None, mask=mask)


def convolution(kind, rank, size, kernel, stride, dilation, padding, groups, bias):
    padding = padding if isinstance(padding, str) else (padding,) * rank
    more = {"groups": groups} if kind is jp.Conv else {}
    layer = kind(4, (kernel,) * rank, stride, padding, dilation, bias=bias, **more)
    return case(layer, (2, *(size, 5)[:rank], 4))


def pool(kind, rank, size, window, stride, padding):
    return case(kind((window,) * rank, stride, padding if isinstance(padding, str) else (padding,) * rank),
                (2, *(size, 5)[:rank], 2))  # fmt: skip


def norm(kind, positions, groups, epsilon, scale, bias):
    if kind is jp.GroupNorm and math.prod(positions) * 4 == 2 * groups:
        epsilon = 0.1  # two values become -1 and 1, whatever they are: with a small ε, dx is what rounding leaves
    settings = {"epsilon": epsilon, "scale": scale} | ({} if kind is jp.RMSNorm else {"bias": bias})
    layer = kind(groups, **settings) if kind is jp.GroupNorm else kind(**settings)
    return case(layer, (3, *positions, 4))


def attention(heads, T, S, causal, masked, bias):
    """S = 0 is self-attention; a mask may leave nothing to see."""
    layer = jp.MultiHeadAttention(heads, causal=causal and not S, cross=bool(S), bias=bias)

    def mask(rng):
        real = rng.random((2, S or T)) < 0.5
        return (None, real) if S else real

    return case(layer, ((2, T, 4), (2, S, 3)) if S else (2, T, 4), mask if masked else None)


def recurrent(kind, features, T, sequence, masked):
    return case(
        kind(features, sequence=sequence), (2, T, 2), (lambda rng: rng.random((2, T)) < 0.5) if masked else None
    )


PADDING = of(["SAME", "VALID", (2, 0), (1, 3)])
FAMILIES = {
    "convolution": st.builds(
        convolution, of([jp.Conv, jp.ConvTranspose]), of([1, 2]), of([5, 6]), of([1, 2, 3]), of([1, 2, 3]), of([1, 2]),
        PADDING, of([1, 2, 4]), flag,
    ),
    "pool": st.builds(
        pool, of([jp.MaxPool, jp.AvgPool]), of([1, 2]), of([5, 6]), of([2, 3]), of([1, 2, 3]),
        of(["SAME", "VALID", (0, 1), (1, 0)]),
    ),
    "norm": st.builds(
        norm, of([jp.LayerNorm, jp.RMSNorm, jp.GroupNorm, jp.BatchNorm]), of([(), (2,), (2, 3)]), of([1, 2, 4]),
        of([1e-6, 0.1]), flag, flag,
    ),
    "attention": st.builds(attention, of([1, 2, 4]), of([1, 3]), of([0, 1, 4]), flag, flag, flag),
    "recurrent": st.builds(recurrent, of([jp.RNN, jp.GRU, jp.LSTM]), of([1, 3]), of([1, 2, 5]), flag, flag),
}  # fmt: skip


def check(family, examples):
    """Our rule against `jax.vjp`, and its uses against one example at a time."""

    @settings(max_examples=examples, deadline=None)
    @given(FAMILIES[family], of(["float64", "float32"]), st.integers(0, 100))
    def run(case, dtype, seed):
        asked = inputs(case, dtype, seed)
        at = asked.at._replace(dy=asked.at.dy.astype(dtype), env=None if asked.at.env is None else case.env(seed))
        found = compute(case.layer, asked._replace(at=at), those(["forward is the call", "jax.vjp", *QUANTITIES]))
        for name, both in found.items():
            if not isinstance(both, str):  # why it has no answer
                # where a softmax cancels, an array of float32 may hold little but round-off: there all are one vector
                ours, jaxs = both if dtype == "float64" else map(flat, both)
                assert relative(ours, jaxs) <= tolerance(dtype), (name, case, case.shape, dtype, seed, at.env)

    run()


FEW = {"convolution": 8, "pool": 6, "norm": 6, "attention": 4, "recurrent": 3}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_any_setting(family):
    check(family, FEW[family])


@pytest.mark.exhaustive
@pytest.mark.parametrize("family", FAMILIES)
def test_many_settings(family):
    check(family, examples=20)
