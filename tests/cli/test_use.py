"""`jaxprop predict`, `check` and `summary`: a trained run is used."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from tests.cli.commands import as_a_user, did, loaded, run, strict


def test_predict_digits(runs):
    runs["digits"]
    ran = did("predict", "runs/digits", "--data", "digits", "--rows", "0:5")
    assert ran.out.splitlines()[0] == "runs/digits on digits (scikit-learn, 1797 rows), held-out rows"
    rows = [line.split() for line in ran.out.splitlines()[1:]]
    assert rows[0] == ["row", "prediction", "probability", "digit"] and [row[0] for row in rows[1:]] == list("01234")
    told = strict(did("predict", "runs/digits", "--rows", "0:5", "--json").out)
    assert told["model"] == "runs/digits"
    for row, answer, label in zip(rows[1:], told["predictions"], jp.data.digits().validation[1], strict=False):
        assert row[1] == answer["prediction"] and row[3] == answer["target"] == str(label)
        assert answer["right"] == (answer["prediction"] == answer["target"]) and 0.1 < answer["probability"] <= 1
    training = strict(did("predict", "runs/digits", "--rows", "-1", "--part", "training", "--json").out)
    assert training["predictions"][0]["row"] == 1437 and "training rows" in training["data"]


def test_predict_a_file_by_the_names_of_its_columns(runs):
    """new.csv orders its columns otherwise, has one more, and no prices."""
    runs["my"]
    told = strict(did("predict", "runs/my", "--data", "new.csv", "--json").out)["predictions"]
    net, params = loaded("runs/my")
    x = np.array([[1.0, 25.0], [2.0, 50.0]], np.float32)
    with as_a_user():
        same, expected = jp.predict(net, x, params)[:, 0], np.asarray(net(x, params))[:, 0]
    assert [set(answer) for answer in told] == [{"row", "prediction"}] * 2
    answers = np.array([answer["prediction"] for answer in told], np.float32)
    assert np.array_equal(answers, same), "the digits printed say every bit of what the one compiled program gave"
    assert relative(answers, expected) <= tolerance("float32")
    lines = did("predict", "runs/my", "--data", "new.csv").out.splitlines()
    assert lines[1].split() == ["row", "prediction"] and len(lines) == 4


def test_small_numbers_keep_their_digits(runs):
    from jaxprop.cli.predict import predictions, table

    about = SimpleNamespace(info=SimpleNamespace(classes=None), cost=None)
    saved = SimpleNamespace(net=lambda x, params: x, params=(), about=about)
    x = np.array([[1.2345678e-9, 3.0]], np.float32)
    answers = predictions(saved, SimpleNamespace(x=x, numbers=[7], targets=None))
    assert answers == [{"row": 7, "prediction": [1.2345678e-9, 3.0]}]
    assert table(answers).splitlines()[1] == "7    [1.235e-09, 3]"


def test_check_agrees(runs):
    runs["digits"]
    ran = did("check", "runs/digits")
    assert ran.out.count("agree\n") == 4 and "three witnesses agree on 32 rows (float32" in ran.out


def test_check_as_json(runs):
    runs["line"]
    told = strict(did("check", "runs/line", "--rows", "0:3", "--json").out)
    assert told["ok"] is True and told["model"] == "runs/line" and told["examples"] == 3
    assert [row["path"] for row in told["rows"]] == ["0.W"] and told["rows"][0]["differences"]["relative"] < 1e-7


WRONG_RULES = [
    (jp.Tanh, "derivative", lambda right: lambda self, kept: jnp.ones_like(kept), "layer 1 (Tanh()): ", "∂a/∂z"),
    pytest.param(
        jp.Linear, "backward", lambda right: lambda *args: (2 * right(*args)[0], right(*args)[1]), "layer 2 (", "∂z/∂x",
        marks=pytest.mark.exhaustive,
    ),
]  # fmt: skip


@pytest.mark.parametrize("kind, method, wrong, layer, factor", WRONG_RULES, ids=["Tanh", "Linear"])
def test_check_names_the_layer_and_the_factor_that_are_wrong(kind, method, wrong, layer, factor, runs, monkeypatch):
    runs["square"]
    monkeypatch.setattr(kind, method, wrong(getattr(kind, method)))
    ran = run("check", "runs/square", "--rows", "0:4")
    assert ran.code == 1 and ran.err == ""
    guilty = [line for line in ran.out.splitlines() if line.startswith("layer ")]
    assert any(line.startswith(layer) and factor in line and "is wrong" in line for line in guilty), ran.out
    assert "DISAGREE" in ran.out and "witnesses DISAGREE on 4 rows" in ran.out


def test_summary(runs):
    runs["digits"]
    out = did("summary", "runs/digits").out
    assert out.startswith("runs/digits · x float32[N, 64] → y float32[N, 10] · SoftmaxCrossEntropy()")
    assert "trained: data digits (scikit-learn, 1797 rows) · optimizer adam · learning rate 0.01" in out
    told = strict(did("summary", "runs/digits", "--batch-size", 5, "--json").out)
    assert told["total"]["parameters"] == 64 * 32 + 32 + 32 * 10 + 10 and told["inputs"] == [5, 64]
    assert told["training"]["epochs"] == 67 and "history" not in told["training"]


def test_a_path_to_a_layer_without_parameters_means_the_next_that_has_them(runs):
    """`--param 0.W` of a network that begins with Standardize: the first weights, and it says so."""
    runs["digits"]
    ran = run("explain", "runs/digits", "--param", "0.W", "--index", "12,3", "--json")
    assert ran.code == 0 and "layer 0, Standardize" in ran.err and "1.W is taken" in ran.err
    told = json.loads(ran.out)
    assert told["path"] == "1.W" and {"value", "jax_grad", "factors", "paths"} <= told.keys()
    assert run("explain", "runs/digits", "--param", "9.W", "--index", "12,3").code == 1


def test_a_table_keeps_its_held_out_rows_and_a_rate_in_its_own_unit(runs):
    runs["my"]
    held_out = did("predict", "runs/my", "--rows", ":", "--json")
    assert "held-out" in json.loads(held_out.out)["data"]
    training = did("predict", "runs/my", "--rows", ":", "--part", "training", "--json")
    sizes = [len(json.loads(ran.out)["predictions"]) for ran in (held_out, training)]
    assert sizes[0] < sizes[1]
    told = json.loads(did("explain", "runs/my", "--param", "1.W", "--index", "0,0", "--json").out)
    assert told["actual_change"] <= 0 and told["predicted_change"] <= 0
