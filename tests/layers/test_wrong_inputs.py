"""What is no input, no θ, no key and no target is refused in words: by every layer and cost, traced or not."""

import re

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.cases import COSTS, LAYERS

UNSPEAKABLE = re.compile(r"Trac(er|ed)|object at 0x|<function")
ARRAYS = [
    np.ones(shape, dtype)
    for shape in ((), (3,), (2, 3), (2, 3, 4), (0, 3), (2, 0), (2,) * 6)
    for dtype in (float, int, bool, complex)
]
TREES = [(np.ones((2, 3)),) * 2, (np.ones((2, 3)),) * 3, {"a": np.ones((2, 3))}, (np.ones((2, 3)), None)]
ODD = [*ARRAYS, *TREES, None, (), "text", 3.0, 3, print, dict, np.array([1, None]), jax.random.key(0), [[1.0], [1, 2]]]
PARAMS = [None, (), {}, "text", 3.0, np.ones((2, 3)), [np.ones(3)], (None, None), ((), (), ()), object()]
PARAMS += [jp.LinearParams("a", 3.0), jp.LinearParams(None, None)]


BY_DEFAULT = {"Linear", "Embedding", "Flatten", "SoftmaxCrossEntropy"}


def first_of_each(cases, of):
    """The first row of each kind; those of a few run by default, and of the activations, one class's, one is slow."""
    for name, case in {type(of(case)).__name__: case for case in reversed(cases)}.items():
        again = isinstance(of(case), jp.Activation) and name != "Tanh"
        marks = [] if name in BY_DEFAULT else [pytest.mark.exhaustive if again else pytest.mark.slow]
        yield pytest.param(case, marks=marks, id=name)


def refused_in_words(run):
    """What it says, if it says anything."""
    try:
        run()
    except jp.JaxpropError as error:
        assert not UNSPEAKABLE.search(str(error)), error


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [*first_of_each(LAYERS, lambda case: case.layer)])
def test_no_layer_dies_of_what_is_no_input(case):
    layer, x, params = case.layer, case.x("float64"), case.params("float64")
    for odd in ODD:
        if not isinstance(odd, np.ndarray) or odd.dtype == object:
            refused_in_words(lambda odd=odd: layer.init(jax.random.key(0), odd))
            refused_in_words(lambda odd=odd: layer(odd, params))
        else:  # arrays are traced: whatever they hold, nothing is compiled
            refused_in_words(lambda odd=odd: jax.eval_shape(layer.init, jax.random.key(0), odd))
            refused_in_words(lambda odd=odd: jax.eval_shape(layer.forward, odd, params))
    for odd in PARAMS:
        refused_in_words(lambda odd=odd: layer.forward(x, odd))
    refused_in_words(lambda: jax.eval_shape(layer, x, np.ones((2, 3))))  # a tracer has no name to be called by
    for odd in (3, "a", None, np.ones(2), print):
        refused_in_words(lambda odd=odd: layer.init(odd, x))
    for odd in ([1], "a", (1, 2, 3), jp.Env(mask=np.ones(3)), jp.Env(mask="a"), jp.Env(rng=3)):
        refused_in_words(lambda odd=odd: jax.eval_shape(lambda x: layer(x, params, odd), x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", [*first_of_each(COSTS, lambda case: case.cost)])
def test_no_cost_dies_of_what_is_no_target(case):
    cost, y, targets = case.cost, case.y("float64"), case.targets("float64")
    for odd in ODD:
        for method in (cost, cost.delta):
            if not isinstance(odd, np.ndarray) or odd.dtype == object:
                for at in ((y, odd), (odd, targets), (odd, odd)):
                    refused_in_words(lambda at=at, method=method: method(*at))
            else:
                for at in ((y, odd), (odd, targets), (odd, odd)):
                    refused_in_words(lambda at=at, method=method: jax.eval_shape(method, *at))
        refused_in_words(lambda odd=odd: (cost.check(y, odd), cost.check_values(y, odd)))
