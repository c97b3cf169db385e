"""Settings: what numpy has for a number is taken, and everything of a wrong kind is refused in words."""

import dataclasses
import inspect
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.saved.kinds import describe_settings, known_kinds
from tests.cases import COSTS, LAYERS

ODD = [2.5, "odd", None, np.ones((2, 2)), print, jp.ReLU, {"a": 1}, [[]], float("nan"), object(), 1j, b"b", np.bool_(1)]
UNSPEAKABLE = re.compile(r"Trac(er|ed)|<function|<class|object at 0x")


def one_of_each():
    """One layer or cost of every kind in the table."""
    found = [case.layer for case in LAYERS] + [case.cost for case in COSTS]
    return {type(thing).__name__: thing for thing in found}


@pytest.mark.parametrize(
    "make",
    [
        lambda: (jp.Linear(np.array([0, 2]).max() + 1), jp.Linear(3)),
        lambda: (jp.Linear(jnp.asarray(3), bias=np.bool_(False)), jp.Linear(3, bias=False)),
        lambda: (jp.Embedding(np.int64(5), np.uint8(4)), jp.Embedding(5, 4)),
        lambda: (jp.Conv(np.int64(4), np.array([3, 3]), [1, np.int32(2)]), jp.Conv(4, (3, 3), (1, 2))),
        lambda: (jp.MaxPool([np.int64(2)]), jp.MaxPool((2,))),
        lambda: (jp.LeakyReLU(np.float32(0.5)), jp.LeakyReLU(0.5)),
        lambda: (jp.BatchNorm(epsilon=np.float64(1e-3)), jp.BatchNorm(epsilon=1e-3)),
        lambda: (jp.SoftmaxCrossEntropy(ignore=np.int64(-1)), jp.SoftmaxCrossEntropy(ignore=-1)),
        lambda: (jp.SoftmaxCrossEntropy(class_weights={1: 5, 0: 1}), jp.SoftmaxCrossEntropy(class_weights=(1.0, 5.0))),
        lambda: (jp.Standardize([1, np.float32(2)], jnp.ones(2)), jp.Standardize((1.0, 2.0), (1.0, 1.0))),
        lambda: (jp.Reshape(np.array([2, -1])), jp.Reshape((2, -1))),
        lambda: (jp.Chain([jp.Linear(np.int64(2)), jp.Tanh()]), jp.Chain(jp.Linear(2), jp.Tanh())),
        lambda: (jp.Parallel((jp.Tanh(), jp.ReLU())), jp.Parallel(jp.Tanh(), jp.ReLU())),
    ],
)  # fmt: skip
def test_numbers_of_numpy_and_jax_are_kept_as_pythons_own(make):
    made, plain = make()
    assert made == plain and hash(made) == hash(plain) and repr(made) == repr(plain)
    assert json.dumps(describe_settings(made)) == json.dumps(describe_settings(plain))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: jp.Linear(64, 32), "bias must be True or False, found 32; the inputs are read off x"),
        (lambda: jp.LSTM(10, 20), "sequence must be True or False, found 20; the inputs are read off x"),
        (lambda: jp.LayerNorm(64), "epsilon must be a small number > 0, found 64.0; the channels are read off x"),
        (lambda: jp.Conv(3, 64, 5), "kernel must be a tuple of whole numbers, found 64; (3,) slides"),
        (lambda: jp.Linear(64 / 2), "features must be a whole number, found 32.0; write int(32.0)"),
        (lambda: jp.Linear(2, init=jax.nn.initializers.zeros), "init must be a name, found the function zeros; write"),
        (lambda: jp.Linear(2, init=jax.nn.initializers.he_normal()), "write 'he_normal'"),
        (lambda: jp.Linear(2, init=jax.nn.initializers.normal(0.02)), "settings are names"),
        (lambda: jp.Chain(jp.Linear, jp.ReLU()), "item 0, must be a Layer, found the class Linear; write Linear(...)"),
        (lambda: jp.Chain(jp.Linear(2), jax.nn.relu), "item 1, must be a Layer, found the function relu; write ReLU()"),
        (lambda: jp.Residual("tanh"), "inner must be a Layer, found 'tanh'; write Tanh()"),
        (lambda: jp.SoftmaxCrossEntropy(class_weights={0: 1.0, 2: 5.0}), "names every one from 0 (1 is missing)"),
        (lambda: jp.SoftmaxCrossEntropy(class_weights="15"), "class_weights must be a tuple of numbers or None"),
        (lambda: jax.jit(lambda r: jp.Dropout(r))(0.5), "rate must be a number, found a value that JAX traces"),
    ],
)  # fmt: skip
def test_what_to_write_is_said(make, says):
    with pytest.raises(jp.JaxpropError, match=re.escape(says)):
        make()


def test_every_setting_of_every_layer_and_cost_refuses_other_kinds():
    assert {kind for kind in known_kinds() if dataclasses.fields(known_kinds()[kind])} <= set(one_of_each())
    for thing in one_of_each().values():
        names = [p.name for p in inspect.signature(type(thing)).parameters.values() if p.kind is not p.VAR_POSITIONAL]
        kept = {name: getattr(thing, {"init": "weight_init"}.get(name, name)) for name in names}
        items = getattr(thing, "layers", getattr(thing, "branches", ()))
        for name in names:
            for odd in ODD:
                try:
                    made = type(thing)(*items, **{name: odd}) if items else type(thing)(**kept | {name: odd})
                except jp.JaxpropError as error:
                    assert not UNSPEAKABLE.search(str(error)), error
                else:  # None, say, or the number 2.5: whatever was taken is plain
                    hash(made), json.dumps(describe_settings(made)), repr(made)
        for odd in ODD if items else ():
            with pytest.raises(jp.JaxpropError) as refused:
                type(thing)(*items, odd)
            assert not UNSPEAKABLE.search(str(refused.value))
