"""Everything lowers for CUDA and TPU, here and without either: no call that only a CPU has slips in."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

import jaxprop as jp
from jaxprop.train.precision import kept
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, begin, take
from tests.cases import COSTS, LAYERS
from tests.test_models import NETWORKS

PLATFORMS = ("cuda", "tpu")
SOFTMAX = jp.SoftmaxCrossEntropy()
# what a change would break first: products, convolutions, gathers, keys and masks
DEFAULT = {
    "MultiHeadAttention, causal, padded", "Conv, 2-D, VALID, stride", "Dropout", "Embedding, T < D",
    "SoftmaxCrossEntropy, all settings, T",
}  # fmt: skip


def custom_calls(function, *args, platforms=PLATFORMS):
    """The names of calls into a library that the lowered function makes, on any of some platforms."""
    module = export.export(jax.jit(function), platforms=platforms)(*args).mlir_module()
    assert "func.func public @main" in module, "the text of a module is no longer what is searched here"
    return set(re.findall(r"custom_call @([\w.$-]+)", module)) | set(re.findall(r'call_target_name = "(.*?)"', module))


def some(cases, slow=lambda name: True):
    """Some by default; of the others the slow run has one of each kind, the exhaustive one all."""
    names = [str(case) for case in cases]
    marks = [[] if name in DEFAULT else pytest.mark.slow if slow(name) else pytest.mark.exhaustive for name in names]
    return [pytest.param(case, id=name, marks=mark) for case, name, mark in zip(cases, names, marks, strict=True)]


FIRST = {case.name for case in {case.kind: case for case in reversed(LAYERS)}.values()}
FIRST |= {"Standardize, integers", "LSTM, padded", "MaxPool, overlapping", "Repeat of a Remat", "Linear, T"}


def both_ways(net, cost):
    """Value and gradient by hand and by JAX, and the norms of examples where there are any."""

    def run(x, params, targets, rng, mask):
        given = {"rng": rng, "mask": mask}
        found = [way.value_and_grad(net, cost)(x, params, targets, **given) for way in (jp.manual, jp.auto)]
        if not net.mixes_examples and jax.tree.leaves(params):
            found.append(jp.norms(jp.manual.uses(net, cost)(x, params, targets, **given)[1]))
        return found

    return run


def test_the_check_sees_a_call_that_only_a_cpu_has():
    square = jnp.eye(3, dtype=jnp.float32)
    assert custom_calls(jnp.linalg.eigh, square, platforms=("cpu",)) == {"lapack_ssyevd_ffi"}
    assert custom_calls(jnp.linalg.eigh, square) == {"cusolver_syevd_ffi", "Eigh"}
    with pytest.raises(NotImplementedError, match="schur"):
        custom_calls(lambda a: jax.scipy.linalg.schur(a)[0], square)


@pytest.mark.parametrize("case", some([c for c in LAYERS if c.name != "Flatten, integers"], FIRST.__contains__))
def test_every_layer(case):
    with jax.enable_x64(False):  # else whole numbers would become float64
        x, params, env = case.x("float32"), case.params("float32"), case.env() or jp.Env()
        y = jax.eval_shape(case.layer, x, params, env)
        assert not custom_calls(both_ways(case.layer, jp.HalfSquaredError()), x, params, y, *env)


@pytest.mark.parametrize("case", some(COSTS))
def test_every_cost(case):
    def both(y, targets):
        found = case.cost(y, targets), case.cost.delta(y, targets)
        return found, jax.grad(lambda y: jnp.sum(case.cost(y, targets)))(y)

    assert not custom_calls(both, case.y("float32"), case.targets("float32"))


@pytest.mark.parametrize("name", some(NETWORKS))
def test_every_network(name):
    net, x, shape = NETWORKS[name]
    x = jnp.asarray(x, jnp.int32 if name == "gpt" else jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), x)
    assert not custom_calls(both_ways(net, SOFTMAX), x, params, jnp.zeros(shape[:-1], jnp.int32), None, None)


OPTIMIZERS = {
    "sgd": optax.sgd(0.1),
    "adam": optax.adam(0.01),
    "clipped adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01)),
}
STEPS = [
    f"{name}, {precision}" for name in OPTIMIZERS for precision in ("float32", "bfloat16", "float16", "float64", "None")
]
SLOW = {"sgd, None", "clipped adamw, bfloat16", "adam, float16"}


@pytest.mark.parametrize("case", some(STEPS, SLOW.__contains__))
def test_steps_of_training(case):
    name, precision = case.split(", ")
    precision = None if precision == "None" else precision
    net = jp.Chain(jp.Conv(4, (3, 3)), jp.ReLU(), jp.Flatten(), jp.Dropout(0.5), jp.Linear(3))
    x = np.zeros((2, 8, 6, 6, 3), np.float32)  # two steps of eight rows
    recipe = Recipe(net, SOFTMAX, OPTIMIZERS[name], "manual", None, precision)
    batches = kept(Rows(x, np.zeros((2, 8), np.int32), np.ones((2, 8), np.float32)), precision)
    params = kept(net.init(jax.random.key(0), batches.x[0]), precision)
    args = begin(recipe, params), batches, np.int32(0), np.int32(2), jax.random.key(1), np.int32(0)
    assert not custom_calls(functools.partial(take, recipe), *args)
