"""Saved models: what was saved comes back bit for bit, and anything else is refused, whole and in clear words."""

import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import jaxprop as jp
from jaxprop.errors import ModelError
from jaxprop.saved import model
from tests.cases import COSTS, LAYERS, one_of_each
from tests.drawing import draw

KEY = jax.random.key(0)
X = np.ones((2, 3))
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2, bias=False))
OTHER = jp.Chain(jp.Linear(5), jp.Linear(2))
with jax.enable_x64(True):
    PARAMS, OTHER_PARAMS = draw(NET, X), draw(OTHER, X)


@dataclass(frozen=True)
class Scale(jp.Layer):
    """A layer of a user's own."""

    factor: float

    def forward(self, x, params, env=None):
        return x * self.factor, ()


@dataclass(frozen=True)
class Around(jp.Layer):
    """A layer of a user's own that holds another and is no Combinator; its θ has a name of its own."""

    inner: jp.Layer
    more: tuple[jp.Layer, ...] = ()
    note: str | None = None

    def init(self, key, x):
        return {"inner": self.inner.init(key, x), "shift": jnp.zeros((), x.dtype)}

    def forward(self, x, params, env=None):
        return self.inner(x, params["inner"]) + params["shift"], ()


@dataclass(frozen=True)
class Weighted(jp.HalfSquaredError):
    """A cost of a user's own."""

    weight: float = 1.0


def bits(params):
    return [(np.asarray(leaf).dtype.name, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(params)]


def saved(folder, net=NET, params=PARAMS, x=X, **more):
    return jp.save(folder, net, params, inputs=x, **more)


def back(folder, net, params, x=X, kinds=(), **more):
    """Save, load, and assert that all came back."""
    saved(folder, net, params, x, **more)
    found, loaded = jp.load(folder, kinds)
    assert found == net and repr(found) == repr(net)
    assert jax.tree.structure(loaded) == jax.tree.structure(params) and bits(loaded) == bits(params)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".safetensors"]
    return found, loaded


def refused(folder, *words, kinds=()):
    """Assert that loading says all of these words in one line of a ModelError."""
    with pytest.raises(ModelError) as caught:
        jp.load(folder, kinds)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


def weights_of(folder):
    (file,) = folder.glob("params-*.safetensors")
    return file


def change(folder, edit):
    """Change model.json by a function of what it holds."""
    file = folder / "model.json"
    plain = json.loads(file.read_text("utf-8"))
    edit(plain)
    file.write_text(json.dumps(plain), "utf-8")


# What comes back


@pytest.mark.parametrize("case", [*one_of_each(LAYERS)])
def test_every_layer_comes_back(case, tmp_path):
    x = case.x(jnp.float64)
    net, params = back(tmp_path, case.layer, draw(case.layer, x), x)
    program, y = jax.make_jaxpr(net, return_shape=True)(x, params)
    assert str(program) == str(jax.make_jaxpr(case.layer)(x, params))  # the same program on the same bits
    about = jp.describe(tmp_path)
    for spec, array in zip(jax.tree.leaves(about.inputs), jax.tree.leaves(x), strict=True):
        assert spec.shape == (-1, *array.shape[1:]) and spec.dtype == array.dtype.name
    assert about.outputs.shape == (-1, *y.shape[1:])
    if isinstance(x, tuple):
        with pytest.raises(ModelError, match=f"this network takes {len(x)} arrays as x, expected one here"):
            about.one_input  # noqa: B018
    else:
        assert about.one_input == about.inputs


@pytest.mark.parametrize("cost", [*dict.fromkeys(case.cost for case in COSTS), None], ids=repr)
def test_every_cost_comes_back(cost, tmp_path):
    back(tmp_path, NET, PARAMS, cost=cost)
    assert jp.describe(tmp_path).cost == cost


def test_a_cost_saved_before_it_had_settings_is_the_plain_one(tmp_path):
    saved(tmp_path, cost=jp.SoftmaxCrossEntropy(ignore=-1))
    change(tmp_path, lambda plain: plain.update(cost={"kind": "SoftmaxCrossEntropy"}))
    assert jp.describe(tmp_path).cost == jp.SoftmaxCrossEntropy()
    change(tmp_path, lambda plain: plain.update(cost={"kind": "SoftmaxCrossEntropy", "ignored": 1}))
    with pytest.raises(ModelError, match=r"cost\.SoftmaxCrossEntropy\.ignored: Extra inputs"):
        jp.describe(tmp_path)


OPTIONS = [
    jp.Linear(3, bias=False, init="he_normal"),
    jp.Linear(3, init="standard_normal", bias_init="normal"),
    jp.LeakyReLU(0.3),
    jp.ELU(0.1 + 0.2),
    jp.GELU(approximate=False),
    jp.Standardize((1.0, 2.0, 1e-300), (1 / 3, 2.0, 3.0)),
]


@pytest.mark.parametrize("layer", OPTIONS, ids=repr)
def test_options_come_back(layer, tmp_path):
    back(tmp_path, layer, draw(layer, X))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_bits_come_back_in_any_precision(dtype, tmp_path):
    """Not a number, the infinities, −0 and the smallest number among them."""
    values = [np.nan, np.inf, -np.inf, -0.0, float(jnp.finfo(dtype).smallest_subnormal), 1 / 3]
    params = jp.LinearParams(W=np.array(values).reshape(3, 2).astype(jnp.dtype(dtype)), b=np.ones(2, jnp.dtype(dtype)))
    with jax.numpy_dtype_promotion("standard"):
        back(tmp_path, jp.Linear(2), params)
    assert {spec.dtype for spec in jp.describe(tmp_path).params.values()} == {dtype}


def test_numpy_arrays_in_any_order_are_written_by_value(tmp_path):
    W = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    for stored in (W, np.arange(12.0).reshape(3, 4)[:, ::2], W.astype(">f8")):
        saved(tmp_path, jp.Linear(2, bias=False), jp.LinearParams(stored, None))
        assert np.array_equal(jp.load(tmp_path)[1].W, stored)


def test_float64_numpy_arrays_are_written_as_they_are_also_without_x64(tmp_path):
    params = jp.LinearParams(W=np.full((3, 2), 1 / 3), b=np.zeros(2))
    with jax.enable_x64(False):
        saved(tmp_path, jp.Linear(2), params, X.astype(np.float32))
    assert float(jp.load(tmp_path)[1].W[0, 0]) == 1 / 3


def test_half_precision_params_are_as_good_as_the_nets_own(tmp_path):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    x = jnp.asarray(X, jnp.bfloat16)
    back(tmp_path, NET, half, x)
    assert jp.describe(tmp_path).outputs.dtype == "bfloat16"


def test_what_training_knew_comes_back(tmp_path):
    info = {
        "classes": ["no", "yes"],
        "columns": ("a", "b", "ü"),
        "target": "price",
        "data": {"name": "my.csv", "options": {"validation": 0.25, "features": ["a"]}},
        "training": {"history": [{"epoch": 1, "cost": 0.1 + 0.2}], "stopped": None},
    }
    about = jp.describe(saved(tmp_path, info=info))
    assert about.info.classes == ("no", "yes") and about.info.columns == ("a", "b", "ü")
    assert about.info.target == "price" and about.info.data == info["data"]
    assert about.info.training == info["training"]
    assert set(about.versions) == {"jaxprop-nn", "jax", "numpy"} and about.versions["jax"] == jax.__version__


def test_describe_reads_model_json_alone(tmp_path):
    weights_of(saved(tmp_path, cost=jp.MeanSquaredError())).unlink()
    about = jp.describe(tmp_path)
    assert about.net == NET and about.cost == jp.MeanSquaredError()
    assert {path: str(spec) for path, spec in about.params.items()} == {
        "0.W": "float64[3, 4]", "0.b": "float64[4]", "2.W": "float64[4, 2]",
    }  # fmt: skip
    assert str(about.inputs) == "float64[N, 3]" and str(about.outputs) == "float64[N, 2]"


def test_the_files_are_json_and_safetensors_and_no_pickle(tmp_path):
    """Both formats are read by their own rules here, as any other program might."""
    saved(tmp_path)
    plain = json.loads((tmp_path / "model.json").read_text("utf-8"))
    data = weights_of(tmp_path).read_bytes()
    assert plain["format"] == 1 and plain["weights"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert plain["weights"]["file"] == f"params-{plain['weights']['sha256'][:12]}.safetensors"
    length = int.from_bytes(data[:8], "little")
    start, stop = (header := json.loads(data[8 : 8 + length]))["2.W"]["data_offsets"]
    assert header["2.W"]["dtype"] == "F64" and header["2.W"]["shape"] == [4, 2]
    values = np.frombuffer(data[8 + length :][start:stop], "<f8").reshape(4, 2)
    assert np.array_equal(values, PARAMS[2].W)


ACTIVATIONS = st.sampled_from([jp.ReLU(), jp.Tanh(), jp.Identity(), jp.Softmax(), jp.GELU()]) | st.builds(
    jp.LeakyReLU, st.floats(0, 1)
)
LINEARS = st.builds(
    jp.Linear, st.integers(1, 5), bias=st.booleans(), init=st.sampled_from(["glorot_uniform", "ones", "normal"])
)
NETS = st.recursive(
    ACTIVATIONS | LINEARS,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda layers: jp.Chain(*layers)),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(net=NETS, cost=st.sampled_from([None, jp.HalfSquaredError(), jp.SigmoidCrossEntropy()]), words=st.text())
def test_any_net_comes_back(net, cost, words, tmp_path):
    back(tmp_path, net, draw(net, X), cost=cost, info={"target": words, "training": {words: [1, None, words]}})
    about = jp.describe(tmp_path)
    assert about.cost == cost and about.info.target == words and about.info.training == {words: [1, None, words]}


# Layers and costs of a user's own


def test_own_kinds_come_back_when_they_are_named(tmp_path):
    net = jp.Chain(Around(jp.Chain(jp.Linear(2), Scale(0.1)), (jp.Tanh(), Scale(3.0)), "hm"), Scale(2.0))
    kinds = (Scale, Around, Weighted)
    back(tmp_path, net, draw(net, X), cost=Weighted(0.5), kinds=kinds)
    assert jp.describe(tmp_path, kinds).cost == Weighted(0.5)
    assert "0.inner.0.W" in jp.describe(tmp_path, iter(kinds)).params
    refused(tmp_path, "net.Chain.layers.0", "kind 'Around' is not known", "kinds=", "entry points jaxprop.layers")
    refused(tmp_path, "kind 'Scale' is not known", kinds=(Around, Weighted))


def test_weights_of_a_model_with_own_kinds_are_removed_when_it_is_replaced(tmp_path):
    net = jp.Chain(Scale(2.0), jp.Linear(2))
    saved(tmp_path, net, draw(net, X))
    saved(tmp_path)
    assert len(list(tmp_path.glob("params-*"))) == 1


def test_a_name_that_is_taken_is_refused(tmp_path):
    @dataclass(frozen=True)
    class Tanh(jp.Layer):
        def forward(self, x, params, env=None):
            return x, ()

    with pytest.raises(ModelError, match=r"the name 'Tanh' is taken, by jaxprop\.layers\.activations; rename"):
        saved(tmp_path, Tanh(), ())
    saved(tmp_path)
    refused(tmp_path, "'Tanh' is taken", kinds=[Tanh])
    refused(tmp_path, "kinds: found", "expected dataclasses", kinds=[Scale(1.0)])
    refused(tmp_path, "kinds: found", "expected dataclasses", kinds=[int])


@dataclass(frozen=True)
class Calls(jp.Layer):
    f: Callable

    def forward(self, x, params, env=None):
        return self.f(x), ()


@dataclass(frozen=True)
class Lists(jp.Layer):
    sizes: list[int]

    def forward(self, x, params, env=None):
        return x, ()


class Hidden(jp.Layer):
    def __init__(self, k):
        object.__setattr__(self, "k", k)

    def forward(self, x, params, env=None):
        return x * self.k, ()


@dataclass(frozen=True)
class Mistyped(jp.Layer):
    k: int

    def __post_init__(self):
        object.__setattr__(self, "k", "a")

    def forward(self, x, params, env=None):
        return x, ()


UNFAITHFUL = [
    (Calls(jnp.tanh), "found the function 'tanh', which no file can hold"),
    (Hidden(3), "Hidden holds 'k', which is no field of the dataclass"),
    (Mistyped(1), "k: Input should be a valid integer, found 'a'"),
    (Lists([1]), "does not come back from its description as it was"),
    (Scale(float("inf")), "must be plain JSON"),
]


@pytest.mark.parametrize("layer, words", UNFAITHFUL, ids=lambda v: type(v).__name__)
def test_a_layer_that_would_not_come_back_is_not_written(layer, words, tmp_path):
    with pytest.raises(ModelError, match=re.escape(words)):
        saved(tmp_path / "model", jp.Chain(layer), ((),))
    assert not (tmp_path / "model").exists()


# What is refused when it is saved


SAVES = [
    ({"net": lambda x, params: x}, "found function, expected a Layer: descriptions are saved, never code"),
    ({"net": NET, "params": OTHER_PARAMS}, r"params: 0\.W: found float64\[3, 5\], expected float64\[3, 4\]"),
    ({"params": PARAMS[:2]}, r"params: 2\.W: found nothing, expected float64\[4, 2\]"),
    ({"params": (*PARAMS, PARAMS[0])}, r"params: 3\.W: found float64\[3, 4\], expected nothing"),
    ({"params": (PARAMS[0]._replace(b=None), *PARAMS[1:])}, r"params: 0\.b: found nothing, expected float64\[4\]"),
    ({"params": (PARAMS[0]._replace(W="W"), *PARAMS[1:])}, r"params: 0\.W: found str, expected an array of one of"),
    ({"params": (PARAMS[0]._replace(W=KEY), *PARAMS[1:])}, r"params: 0\.W: found key<fry>, expected an array"),
    ({"x": np.ones((2, 5))}, r"params: 0\.W: found float64\[3, 4\], expected float64\[5, 4\]"),
    ({"x": np.ones(3)}, r"for inputs float64\[N\]: Linear\(4\): inputs must be"),
    ({"x": np.ones((2, 3), int)}, r"inputs must be floating, found int64"),
    ({"x": "rows"}, "inputs: found str, expected an example input"),
    ({"cost": "mse"}, "cost: Input should be an object, found 'mse'"),
    ({"info": {"training": {"cost": [object()]}}}, r"info: training\.cost\.list\.0"),
    ({"info": {"author": "me"}}, "info: author: Extra inputs are not permitted, found 'me'"),
    ({"info": "notes"}, "info: the top: .*found 'notes'"),
    ({"info": {"classes": [[1], 2]}}, r"info: classes\.0: Input should be a valid string"),
]


@pytest.mark.parametrize("what, words", SAVES, ids=lambda v: v if isinstance(v, str) else "")
def test_what_cannot_be_saved_leaves_the_old_model_whole(what, words, tmp_path):
    saved(tmp_path, OTHER, OTHER_PARAMS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match=words) as caught:
        saved(tmp_path, **what)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_is_saved_from_inside_jit(tmp_path):
    with pytest.raises(ModelError, match=r"0\.W: found float64, expected an array"):
        jax.jit(lambda params: saved(tmp_path, params=params) and 0)(PARAMS)


# What is refused when it is loaded


def cut(folder):
    file = weights_of(folder)
    file.write_bytes(file.read_bytes()[:-1])


def flip(folder):
    file = weights_of(folder)
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def not_safetensors(folder):
    data = b"\x00" * 200
    digest = hashlib.sha256(data).hexdigest()
    weights_of(folder).unlink()
    (folder / f"params-{digest[:12]}.safetensors").write_bytes(data)
    change(folder, lambda m: m.update(weights={"file": f"params-{digest[:12]}.safetensors", "sha256": digest}))


def other_weights(folder):
    """Whole weights, of another net."""
    saved(other := folder / "other", OTHER, OTHER_PARAMS)
    weights_of(folder).unlink()
    file = weights_of(other).rename(folder / weights_of(other).name)
    change(
        folder, lambda m: m.update(weights={"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    )
    shutil.rmtree(other)


def layer(**settings):
    return lambda folder: change(folder, lambda m: m["net"]["layers"][0].update(settings))


def top(**fields):
    return lambda folder: change(folder, lambda m: m.update(fields))


def text(words):
    return lambda folder: (folder / "model.json").write_bytes(words)


def without(key):
    return lambda folder: change(folder, lambda m: m.pop(key))


ALTERED = [
    ("unknown field", layer(colour="red"), ["net.Chain.layers.0.Linear.colour", "Extra inputs", "'red'"]),
    ("unknown kind", layer(kind="Unheard"), ["net.Chain.layers.0", "kind 'Unheard' is not known", "kinds="]),
    ("an abstract kind", top(net={"kind": "Layer"}), ["net", "kind 'Layer' is not known"]),
    ("an abstract cost", top(cost={"kind": "Cost"}), ["cost", "kind 'Cost' is not known"]),
    ("a cost for a layer", top(net={"kind": "MeanSquaredError"}), ["kind 'MeanSquaredError' is not known"]),
    ("wrong type", layer(features="4"), ["Linear.features", "valid integer", "'4'"]),
    ("out of range", layer(features=0), ["features must be a whole number ≥ 1, found 0"]),
    ("unknown name", layer(weight_init="normall"), ["unknown init 'normall'"]),
    ("no layers", top(net={"kind": "Chain", "layers": []}), ["found no layers"]),
    ("another width", layer(features=5), ["params: 0.W", "found float64[3, 4]", "expected float64[3, 5]"]),
    ("other inputs", top(inputs={"x": {"shape": [-1, 7], "dtype": "float64"}}), ["0.W", "expected float64[7, 4]"]),
    ("no inputs", top(inputs={}), ["inputs.x", "Field required"]),
    ("odd inputs", top(inputs={"x": {"shape": [], "dtype": "float64"}}), ["for inputs", "inputs must be"]),
    ("integer inputs", top(inputs={"x": {"shape": [-1, 3], "dtype": "int32"}}), ["inputs must be floating"]),
    ("unknown dtype", top(inputs={"x": {"shape": [-1, 3], "dtype": "object"}}), ["inputs.x.dtype", "'object'"]),
    ("other params", top(params={}), ["0.W", "found nothing", "expected float64[3, 4]"]),
    ("missing field", without("params"), ["params", "Field required"]),
    ("a field too many", top(code="import os"), ["code", "Extra inputs", "'import os'"]),
    ("a path as weights", top(weights={"file": "../x.safetensors", "sha256": "0" * 64}), ["weights.file", "pattern"]),
    ("newer format", top(format=2), ["format 2 is newer", "upgrade jaxprop"]),
    ("older format", top(format=0), ["format", "Input should be 1", "found 0"]),
    ("no format", without("format"), ["format", "Field required"]),
    ("a list", text(b"[]"), ["the top"]),
    ("a number", text(b"1"), ["the top"]),
    ("not JSON", text(b"{'a': 1}"), ["not JSON"]),
    ("half of it", lambda f: text((f / "model.json").read_bytes()[:99])(f), ["not JSON"]),
    ("empty", text(b""), ["not JSON"]),
    ("not text", text(b"\xff\xfe\x00"), ["not JSON"]),
    ("nested deeply", text(b"[" * 200_000), ["not JSON", "recursion"]),
    ("nested objects", text(b'{"net":' * 3000 + b"1" + b"}" * 3000), ["model.json"]),
    ("a long number", text(b'{"format": ' + b"1" * 5000 + b"}"), ["not JSON"]),
    ("truncated weights", cut, ["bytes that do not hash", "truncated or was altered"]),
    ("one bit", flip, ["do not hash to the sha256"]),
    ("empty weights", lambda f: weights_of(f).write_bytes(b""), ["0 bytes that do not hash"]),
    ("no weights", lambda f: weights_of(f).unlink(), ["params-", "which model.json names, is missing"]),
    ("a folder as weights", lambda f: (w := weights_of(f)).unlink() or w.mkdir(), ["cannot be read: Is a directory"]),
    ("other weights", other_weights, ["params-", "0.W", "found float64[3, 5]", "expected float64[3, 4]"]),
    ("not safetensors", not_safetensors, ["not a safetensors file"]),
    ("no model.json", lambda f: (f / "model.json").unlink(), ["has no model.json", "jaxprop train --out"]),
    ("no folder", lambda f: shutil.rmtree(f), ["is not there; expected a folder that jaxprop.save"]),
    ("a file", lambda f: shutil.rmtree(f) or f.write_text("x"), ["cannot be read: Not a directory"]),
]  # fmt: skip


@pytest.mark.parametrize("alter, words", [row[1:] for row in ALTERED], ids=[row[0] for row in ALTERED])
def test_what_was_altered_is_refused(alter, words, tmp_path):
    folder = saved(tmp_path / "model", cost=jp.HalfSquaredError())
    jp.load(folder)
    alter(folder)
    assert str(folder) in refused(folder, *words)


def places(plain, path=()):
    yield path
    for key in plain if isinstance(plain, dict) else range(len(plain)) if isinstance(plain, list) else ():
        yield from places(plain[key], (*path, key))


def test_whatever_stands_in_model_json_only_a_model_error_comes_out(tmp_path):
    """Every place of a model.json, with a value of every kind in it."""
    saved(tmp_path, jp.Chain(jp.Standardize(0.0, (1.0, 2.0, 3.0)), jp.Linear(2)), ((), draw(jp.Linear(2), X)))
    whole, refusals = (tmp_path / "model.json").read_text("utf-8"), 0
    for place in places(json.loads(whole)):
        for value in (None, -1, 1e999, 10**30, "float8", [[]], {}, {"kind": "Chain", "layers": []}):
            plain = {"top": json.loads(whole)}
            inside = plain
            for key in ("top", *place[:-1]) if place else ():
                inside = inside[key]
            inside[place[-1] if place else "top"] = value
            (tmp_path / "model.json").write_text(json.dumps(plain["top"]), "utf-8")
            try:
                jp.load(tmp_path)
            except ModelError:
                refusals += 1
    assert refusals > 300


def test_float64_arrays_need_x64(tmp_path):
    saved(tmp_path)
    with jax.enable_x64(False):
        assert jp.describe(tmp_path).net == NET
        refused(tmp_path, "x is float64[N, 3]", "JAX_ENABLE_X64=1", "jax_enable_x64")
        saved(tmp_path, NET, PARAMS, X.astype(np.float32))
        refused(tmp_path, "0.W is float64[3, 4]", "JAX_ENABLE_X64=1")


# The old model or the new one, whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_model_replaces_the_old_one_and_its_weights(tmp_path):
    saved(tmp_path, OTHER, OTHER_PARAMS)
    old = weights_of(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    saved(tmp_path)
    assert not old.exists() and names(tmp_path) == ["model.json", "notes.txt", weights_of(tmp_path).name]
    assert jp.load(tmp_path)[0] == NET


def test_the_same_weights_stay(tmp_path):
    saved(tmp_path)
    saved(tmp_path, cost=jp.MeanSquaredError())
    assert jp.describe(tmp_path).cost == jp.MeanSquaredError() and bits(jp.load(tmp_path)[1]) == bits(PARAMS)


def test_a_file_of_another_name_is_never_removed(tmp_path):
    """model.json of who knows what names a file outside as its weights."""
    folder, precious = tmp_path / "model", tmp_path / "precious"
    saved(folder)
    precious.write_text("keep")
    change(folder, lambda m: m["weights"].update(file="../precious"))
    saved(folder, OTHER, OTHER_PARAMS)
    assert precious.read_text() == "keep" and jp.load(folder)[0] == OTHER


@pytest.mark.parametrize("stop", ["weights", "model.json"])
@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_a_write_that_fails_leaves_the_old_model_and_nothing_else(stop, error, tmp_path, monkeypatch):
    saved(tmp_path, OTHER, OTHER_PARAMS)
    before = names(tmp_path)
    replace = os.replace

    def failing(source, target):
        if ("model.json" in str(target)) == (stop == "model.json"):
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(ModelError, match=rf"cannot be written: {error.strerror}; choose another folder"):
        saved(tmp_path)
    assert names(tmp_path) == before and jp.load(tmp_path)[0] == OTHER


class PowerCut(BaseException):
    """The end of the process: nothing after it runs."""


def test_a_crash_between_the_two_writes_leaves_the_old_model(tmp_path, monkeypatch):
    """Nothing is cleaned up here: what is on the disk at that moment must be enough."""
    saved(tmp_path, OTHER, OTHER_PARAMS)
    replace, copy = os.replace, tmp_path.parent / "as it was"

    def crash(source, target):
        if str(target).endswith("model.json"):
            shutil.copytree(tmp_path, copy)
            raise PowerCut
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(PowerCut):
        saved(tmp_path)
    assert jp.load(copy)[0] == OTHER and len(list(copy.glob("params-*"))) == 2
    monkeypatch.undo()
    saved(copy)
    assert jp.load(copy)[0] == NET


def test_weights_are_on_the_disk_before_model_json_names_them(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: done.append("fsync") or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append(str(b).rpartition(".")[2]) or replace(a, b))
    saved(tmp_path)
    assert done == ["fsync", "safetensors", "fsync", "fsync", "json", "fsync"]


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_folder_that_cannot_be_made(below, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ModelError, match=r"cannot be written: (a file of that name exists|Not a directory)"):
        saved(file / below)
    assert file.read_text() == "x" and names(tmp_path) == ["file"]


@pytest.mark.slow
def test_a_reader_beside_a_writer_sees_one_of_the_two_models_whole(tmp_path):
    models = {NET: bits(PARAMS), OTHER: bits(OTHER_PARAMS)}
    saved(tmp_path)
    stop, failed, seen = threading.Event(), [], []

    def write():
        try:
            with jax.enable_x64(True):
                while not stop.is_set():
                    saved(tmp_path, OTHER, OTHER_PARAMS)
                    saved(tmp_path)
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(seen) < 100 or len(set(seen)) < 2:
            net, params = jp.load(tmp_path)
            assert models[net] == bits(params)
            seen.append(net)
    finally:
        stop.set()
        writer.join()
    assert not failed and len(list(tmp_path.glob("params-*"))) == 1


def test_weights_that_were_just_replaced_are_looked_for_again(tmp_path, monkeypatch):
    """Between the two reads, the model is replaced: four times, then no more."""
    saved(tmp_path)
    turns, describe = iter([(OTHER, OTHER_PARAMS), (NET, PARAMS)] * 2), model.describe

    def slow(path, kinds):
        about = describe(path, kinds)
        for net, params in [next(turns, (None, None))]:
            if net is not None:
                saved(tmp_path, net, params)
        return about

    monkeypatch.setattr(model, "describe", slow)
    assert jp.load(tmp_path)[0] == NET


@pytest.mark.slow
def test_every_file_is_read_once_by_all_who_load(tmp_path, monkeypatch):
    from jaxprop.cli.runs import open_run
    from jaxprop_serve.models.runtimes import exported, saved as runtime

    saved(tmp_path)
    jp.export(tmp_path, NET, PARAMS, inputs=X)
    opened, read_bytes = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda file: opened.append(file.suffix) or read_bytes(file))
    for load in (jp.load, runtime.load, open_run):
        load(tmp_path)
        assert opened == [".json", ".safetensors"]
        opened.clear()
    for load in (jp.load_exported, exported.load):
        load(tmp_path)
        assert opened == [".json", ".stablehlo", ".safetensors"]
        opened.clear()
