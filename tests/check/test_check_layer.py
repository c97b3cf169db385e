"""`jp.check_layer`: a right layer passes; of a wrong one the report names the check and the factor."""

import functools
import pathlib
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.check.quantities import QUANTITIES
from jaxprop.errors import JaxpropError, ShapeError

X = np.asarray(jax.random.normal(jax.random.key(0), (4, 2, 3)), np.float32)


class Params(NamedTuple):
    W: Any
    b: Any


@dataclass(frozen=True)
class Dense2(jp.Layer):
    """z = x W + b, as a user may write it; below are the ways to get it wrong."""

    features: int = 2

    def init(self, key, x):
        return Params(jax.random.normal(key, (x.shape[-1], self.features), x.dtype), jnp.zeros(self.features, x.dtype))

    def forward(self, x, params, env=None):
        return x @ params.W + params.b, x

    def backward(self, dy, cache, params):
        W, b = params
        return dy @ W.T, Params(jp.Outer(cache, dy, W.shape, W.dtype), jp.Shift(dy, b.shape, b.dtype))


class WrongInput(Dense2):
    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return -dx, uses


class DividesByN(Dense2):
    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy / len(dy), cache, params)
        return dx * len(dy), uses


class MissingSum(Dense2):
    """Only the last position's share of the gradient of W."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx, uses._replace(W=jp.Outer(cache[:, -1:], dy[:, -1:], params.W.shape, params.W.dtype))


class WrongParts(Dense2):
    """The batch's gradient shared out evenly: every sum is right, no example is."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        each = uses.b.per_example()
        return dx, uses._replace(b=jp.Dense(jnp.broadcast_to(jnp.mean(each, axis=0), each.shape), (2,), each.dtype))


class RawGradient(Dense2):
    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx, uses._replace(b=jnp.sum(dy, axis=(0, 1)))


class WrongShape(Dense2):
    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx[:, 0], uses


class WrongDtype(Dense2):
    def forward(self, x, params, env=None):
        return x @ params.W + params.b + jnp.zeros((), jnp.float32 if x.dtype != jnp.float64 else x.dtype), x


class NotLinear(Dense2):
    """Clips what comes back."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return jnp.clip(dx, -3, 3), uses


class NotTheCall(Dense2):
    def __call__(self, x, params, env=None):
        return 1.01 * (x @ params.W + params.b)


class SeesOthers(jp.Layer):
    """x less the mean over the batch, and says nothing of it."""

    def forward(self, x, params, env=None):
        return x - jnp.mean(x, axis=0), ()

    def backward(self, dy, cache, params):
        return dy - jnp.mean(dy, axis=0), ()


class Mixes(SeesOthers):
    @property
    def mixes_examples(self):
        return True


class Products(jp.Layer):
    """y = a b where the mask is True, of a pair x = (a, b)."""

    def forward(self, x, params, env=None):
        a, b = x
        real = jnp.ones((), a.dtype) if env is None else env.mask[..., None].astype(a.dtype)
        return a * b * real, (a * real, b * real)

    def backward(self, dy, cache, params):
        a, b = cache
        return (dy * b, dy * a), ()


class Raises(Dense2):
    def backward(self, dy, cache, params):
        raise RuntimeError("not written yet")


class NotJittable(Dense2):
    def forward(self, x, params, env=None):
        return x * float(jnp.sum(x)), x


@dataclass(frozen=True)
class Twice(jp.Layer):
    def forward(self, x, params, env=None):
        return 2 * x, ()

    def backward(self, dy, cache, params):
        return 2 * dy, ()


@dataclass(frozen=True)
class Unhashable(Twice):
    sizes: list = field(default_factory=lambda: [1])


@dataclass(frozen=True)
class HoldsAnArray(Twice):
    scale: Any = field(default_factory=lambda: np.ones(2))


class EqualToNothing(Twice):
    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


class PrintsAddress(Twice):
    __repr__ = object.__repr__


class LosesASetting(Twice):
    """Keeps something that is no field."""

    def __init__(self):
        object.__setattr__(self, "k", 3)


class KeepsANumber(Twice):
    """Which a scan makes a tracer of."""

    def forward(self, x, params, env=None):
        return 2 * x, (x.shape[0],)

    def backward(self, dy, cache, params):
        return 2 * dy.reshape(cache[0], *dy.shape[1:]), ()


def wrong(layer, x=X, **more):
    """{check: what was said} of those that failed; the rest passed."""
    report = jp.check_layer(layer, x, **more)
    found = {}
    for row in report.wrong:
        found[row.name] = found.get(row.name, "") + str(row)
    assert report.ok == (not found) and report.as_dict()["ok"] == report.ok
    return found


def test_a_right_layer_passes_every_check_without_64_bits():
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        report = jp.check_layer(Dense2(), X)
        assert report.ok and not report.wrong, str(report)
        assert not jax.config.jax_enable_x64
    names = {row.name for row in report.rows if row.ok}
    assert names >= {
        "a frozen dataclass", "hashable, equal to its copy", "prints as what makes it", "settings are plain JSON",
        "dx is like x", "a use for every array of θ", "forward is the call", "jax.vjp", "central differences",
        "⟨Jv, dy⟩ = ⟨v, dx⟩", "linear in dy", "no example sees another", "per-example gradients", "squared norms",
        "weighted gradient", "jit is eager", "vmap over x and θ", "float32 in, float32 out",
        "bfloat16 in, bfloat16 out",
        "float32 against jax.vjp", "bfloat16 against float64", "an equal layer compiles nothing",
        "saved and loaded back",
    }  # fmt: skip
    text = str(report)
    assert text.splitlines()[0].split() == ["check", "of", "found", "allowed", "verdict"]
    assert text.splitlines()[-1] == f"Dense2(): all {sum(row.ok is True for row in report.rows)} checks pass"


WRONG = [
    (WrongInput(), "jax.vjp", "the way to the input ∂z/∂x: found 2 (it is -1 × the right one)"),
    (WrongInput(), "central differences", "the way to the input"),
    (WrongInput(), "⟨Jv, dy⟩ = ⟨v, dx⟩", "allowed 1e-12"),
    (DividesByN(), "jax.vjp", "the way to the parameter ∂z/∂W: found 0.75 (it is 0.25 × the right one = 1/N: dy is"),
    (DividesByN(), "squared norms", "∂z/∂b"),
    (MissingSum(), "jax.vjp", "the way to the parameter ∂z/∂W"),
    (WrongParts(), "per-example gradients", "the way to the parameter ∂z/∂b"),
    (RawGradient(), "a use for every array of θ", "allowed Outer, Shift, ..., or Dense(per example)"),
    (WrongShape(), "dx is like x", "found float64[4, 3], allowed float64[4, 2, 3]"),
    (WrongDtype(), "bfloat16 in, bfloat16 out", "found y float32"),
    (NotLinear(), "linear in dy", "the way to the input"),
    (NotTheCall(), "forward is the call", "the value (forward and the call differ): found 0.0099"),
    (SeesOthers(), "no example sees another", "of y"),
    (Raises(), "dx is like x", "raised RuntimeError: not written yet"),
    (NotJittable(), "y is [N, ...]", "raised ConcretizationTypeError"),
    (Unhashable(), "hashable, equal to its copy", "raised TypeError: unhashable type: 'list'"),
    (HoldsAnArray(), "settings are plain JSON", "raised TypeError: Object of type ndarray is not JSON serializable"),
    (EqualToNothing(), "hashable, equal to its copy", "found no: its copy is another value"),
    (PrintsAddress(), "prints as what makes it", "object at 0x"),
    (LosesASetting(), "settings are plain JSON", "holds 'k', which is no field of the dataclass"),
    (KeepsANumber(), "twice, in a Repeat", "raised TypeError: Shapes must be 1D sequences of concrete values"),
    (EqualToNothing(), "an equal layer compiles nothing", "found 1 more, allowed 0 more"),
]


@functools.cache
def found_of(kind):
    """What is wrong with a layer, once; dtypes are promoted as in a user's process."""
    with jax.numpy_dtype_promotion("standard"):
        return wrong(kind())


# the numbers, a use, and what is no value: the others are said in the same ways
DEFAULT = {WrongInput, DividesByN, WrongParts, Raises, Unhashable, LosesASetting}
ROWS = [pytest.param(*row, marks=[pytest.mark.slow] * (type(row[0]) not in DEFAULT)) for row in WRONG]


@pytest.mark.parametrize("layer, check, words", ROWS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_wrong_layer_is_named_by_check_and_factor(layer, check, words):
    found = found_of(type(layer))
    assert words in found.get(check, ""), found


def test_a_wrong_way_to_the_input_spoils_nothing_else():
    assert set(found_of(WrongInput)) == {
        "jax.vjp", "central differences", "⟨Jv, dy⟩ = ⟨v, dx⟩", "float32 against jax.vjp", "bfloat16 against float64",
    }  # fmt: skip
    assert all("∂z/∂W" not in said and "∂z/∂b" not in said for said in found_of(WrongInput).values())


def test_wrong_parts_pass_every_sum():
    wrong = set(found_of(WrongParts))
    assert {"per-example gradients", "squared norms", "weighted gradient"} <= wrong
    assert wrong <= set(QUANTITIES) - {"mean gradient"}


@pytest.mark.parametrize(
    "layer, x, env, skipped",
    [
        (Mixes(), X, None, {"no example sees another", "per-example gradients", "squared norms", "weighted gradient"}),
        pytest.param(
            *(jp.Standardize(8.0, 4.0), np.arange(12).reshape(4, 3), None, {"jax.vjp", "central differences"}),
            marks=pytest.mark.slow,
        ),
        (jp.Flatten(), np.arange(12).reshape(4, 3), None, {"backward"}),
        (Products(), (X, X[::-1]), jp.Env(mask=jnp.array([[True, False]] * 4)), {"per-example gradients"}),
        pytest.param(
            *(jp.MultiHeadAttention(2), X[..., :2], jp.Env(mask=jnp.array([[True, False]] * 4)), set()),
            marks=pytest.mark.slow,
        ),
        pytest.param(jp.ReLU(), X, None, {"per-example gradients"}, marks=pytest.mark.slow),
    ],
    ids=["mixes", "integers", "integers out", "a pair and a mask", "attention", "activation"],
)
def test_our_own_layers_pass_and_what_does_not_apply_is_said(layer, x, env, skipped):
    report = jp.check_layer(layer, x, env=env)
    assert report.ok, str(report)
    assert skipped <= {row.name for row in report.rows if row.ok is None}, str(report)


def test_an_activation_is_judged_by_its_derivative():
    @dataclass(frozen=True)
    class Cube(jp.Activation):
        def value(self, z):
            return z**3

        def derivative(self, kept):
            return 2 * kept**2

    assert "the derivative of the activation ∂a/∂z: found 0.33" in wrong(Cube())["jax.vjp"]


@pytest.mark.slow
def test_a_layer_whose_init_fails_or_whose_params_are_given():
    params = Dense2().init(jax.random.key(1), X)
    assert "init(key, x)" in wrong(jp.Linear(2), X.astype(int))
    assert wrong(Dense2(), params=params) == {}
    assert "raised" in wrong(Dense2(), params=params._replace(W=params.W[:2]))["y is [N, ...]"]


def test_what_check_layer_refuses():
    with pytest.raises(JaxpropError, match="found function, expected a Layer"):
        jp.check_layer(lambda x, params: x, X)
    with pytest.raises(ShapeError, match="with one example a wrong division by N does not show"):
        jp.check_layer(Dense2(), X[:1])


@pytest.mark.slow
def test_the_page_on_writing_a_layer_runs(tmp_path, monkeypatch, capsys):
    """jaxprop/layers/README.md, in a user's default float32."""
    page = pathlib.Path(jp.__file__).parent / "layers" / "README.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    found = {}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        exec(compile(code, str(page), "exec"), found)
    assert "Gain(s=2.0): all" in capsys.readouterr().out and isinstance(found["net"].layers[0], found["Gain"])
