"""A model with a table is asked by column name at every door; what is x goes its own way as before."""

import asyncio
import shlex
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from tritonclient import grpc as triton, utils

import jaxprop as jp
from jaxprop.columns import Boolean, Category, Date, Number, Table
from jaxprop_serve.assembly import about
from jaxprop_serve.protocol import by_column, requests
from jaxprop_serve.protocol.by_column import encoded, example_row
from jaxprop_serve.settings import Settings
from tests.serve.doors import FakeModel, FakeModels, W, acall, an_app, call
from tests.serve.explaining import serving
from tests.serve.test_grpc import grpc_running

TABLE = Table((Number("age", fill=30.0, indicator=True), Category("sex", ("female", "male"))))
ROWS = [{"age": 22, "sex": "male", "name": "is ignored"}, {"age": None, "sex": "Q"}]
X = np.array([[22, 0, 0, 1], [30, 1, 0, 0]], np.float32)  # age, age missing, sex=female, sex=male
INFER = "/v2/models/digits/infer"


def a_model(table=TABLE, **kinds):
    model = FakeModel(**kinds)
    model.signature = replace(model.signature, table=table)
    return model


@pytest.fixture(scope="module")
def app():
    return an_app(a_model())


def tensor(name, datatype, data, shape=None):
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def columns(age=("FP64", [22.5, 38.0]), sex=("BYTES", ["male", "female"]), **shapes):
    return {"inputs": [tensor("sex", *sex, shapes.get("sex_shape")), tensor("age", *age, shapes.get("age_shape"))]}


def test_people_ask_by_column_name(app):
    for body in ({"rows": ROWS}, ROWS):
        answer = call(app, "POST", "/predict/digits", body)
        np.testing.assert_allclose(answer.json["rows"], X @ W, rtol=1e-6)
        assert answer.json["unknown"] == {"sex": ["Q"]} and len(answer.json["labels"]) == 2
    known = call(app, "POST", "/predict/digits", {"rows": ROWS[:1]})
    assert "unknown" not in known.json
    as_before = call(app, "POST", "/predict/digits", {"rows": X})
    assert as_before.json["rows"] == answer.json["rows"] and "unknown" not in as_before.json


@pytest.mark.parametrize(
    "rows, text",
    [
        ([ROWS[0], {"age": "old", "sex": "male"}], "row 1, column 'age': found 'old', expected a number"),
        ([ROWS[0], {"age": 3}], "row 1 has no column 'sex'; expected age, sex, null where missing"),
        ([{"age": 10**4000, "sex": "male"}], "row 0, column 'age': found 1000"),
        ([{"age": [3], "sex": "male"}], "Expected `bool | int | float | str | null`, got `array` - at `$.rows[0]"),
        ([ROWS[0], [22, 0, 0, 1]], "Expected `object`, got `array` - at `$.rows[1]`"),
        ({"age": 3, "sex": "male"}, 'send {"rows": [{column: cell, ...}, ...]} or the list of rows itself'),
        (ROWS * 33, "expected 1 to 64 rows at once, got 66"),
    ],
)
def test_what_is_wrong_with_rows_is_told_by_row_and_column(app, rows, text):
    body = repr({"rows": rows}).replace("'", '"').replace("None", "null").encode()
    answer = call(app, "POST", "/predict/digits", body)
    assert answer.status == 400 and answer.error.startswith("rows for model 'digits': ") and text in answer.error
    assert len(answer.error) < 600


def test_what_half_precision_cannot_hold_is_refused():
    app = an_app(a_model(datatype="FP16"))
    answer = call(app, "POST", "/predict/digits", [{"age": 1e30, "sex": "male"}])
    assert answer.status == 400 and "row 0: 'age' does not fit into FP16" in answer.error


def test_a_model_without_columns_takes_no_names():
    answer = call(an_app(), "POST", "/predict/digits", {"rows": ROWS})
    assert answer.status == 400


def test_tensors_are_named_by_the_columns(app):
    y = np.array([[22.5, 0, 0, 1], [38, 0, 1, 0]], np.float32) @ W
    for body in (columns(), columns(age_shape=[2, 1], sex_shape=[2, 1])):
        answer = call(app, "POST", INFER, body)
        assert answer.status == 200, answer.error
        np.testing.assert_allclose(np.reshape(answer.json["outputs"][0]["data"], (2, 3)), y, rtol=1e-6)
    whole = call(app, "POST", INFER, columns(age=("INT64", [22, 38])))
    assert whole.status == 200, whole.error


def test_a_missing_cell_is_nan_in_bytes_or_an_empty_string(app):
    age, texts = np.array([22, np.nan]), b"".join(len(t).to_bytes(4, "little") + t for t in (b"male", b"Q"))
    given = [
        {"name": name, "datatype": kind, "shape": [2], "parameters": {"binary_data_size": size}}
        for name, kind, size in (("age", "FP64", age.nbytes), ("sex", "BYTES", len(texts)))
    ]
    text = orjson.dumps({"inputs": given})
    for _ in range(2):  # the second time its head is remembered
        headers = [(b"inference-header-content-length", b"%d" % len(text))]
        answer = call(app, "POST", INFER, text + age.tobytes() + texts, headers)
        assert answer.status == 200, answer.error
        np.testing.assert_allclose(answer.json["outputs"][0]["data"], np.ravel(X @ W), rtol=1e-6)
    assert call(app, "POST", INFER, columns(age=("BYTES", ["22", ""]))).status == 200


@pytest.mark.parametrize(
    "body, text",
    [
        (columns(age=("BYTES", ["22", "old"])), "row 1, column 'age': found 'old', expected a number"),
        (columns(age=("FP16", [1.0, 2.0])), "column 'age' for model 'digits' is FP16, expected BOOL, UINT8"),
        (columns(age=("FP64", [1.0])), "input 'age' for model 'digits' has 1 rows, the others 2"),
        (columns(age_shape=[2, 2]), "unexpected shape for input 'age' for model 'digits'. Expected [-1,1], got [2,2]"),
        (columns(age=("FP64", [1.0] * 65)), "has 65 rows, at most 64 are taken at once"),
        ({"inputs": columns()["inputs"][:1]}, "input 'age' for model 'digits' is missing, expected the columns"),
        ({"inputs": columns()["inputs"] * 2}, "expected 2 inputs but got 4 inputs"),
        (
            {"inputs": [tensor("Age", "FP64", [1.0])]},
            "unexpected inference input 'Age' for model 'digits', expected the columns 'age', 'sex', or 'x'",
        ),
    ],
)
def test_tensors_of_columns_are_checked_like_others(app, body, text):
    answer = call(app, "POST", INFER, body)
    assert answer.status == 400 and text in answer.error


def test_grpc_takes_columns_too(app):
    with grpc_running(app) as running, triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        age, sex = triton.InferInput("age", [2, 1], "FP32"), triton.InferInput("sex", [2], "BYTES")
        age.set_data_from_numpy(np.array([[22], [np.nan]], np.float32))
        sex.set_data_from_numpy(np.array([b"male", b"Q"], object))
        np.testing.assert_allclose(client.infer("digits", [age, sex]).as_numpy("y"), X @ W, rtol=1e-6)
        assert client.get_model_metadata("digits").inputs[0].name == "x"
        sex.set_data_from_numpy(np.array([b"male", b"\xff"], object))
        with pytest.raises(utils.InferenceServerException, match="row 1, column 'sex': found bytes that are not UTF-8"):
            client.infer("digits", [age, sex])


def test_the_metadata_and_the_first_lines_name_the_columns(app):
    found = call(app, "GET", "/v2/models/digits").json
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["columns"] == [
        {"name": "age", "kind": "number", "features": ["age", "age missing"]},
        {"name": "sex", "kind": "category", "values": ["female", "male"], "features": ["sex=female", "sex=male"]},
    ]
    server = SimpleNamespace(settings=Settings(), port=8000, grpc_port=None, models=FakeModels(a_model()))
    lines = about(server)
    assert "  columns: age, sex" in lines
    command = shlex.split(next(line for line in lines if "try: " in line))
    answer = call(app, "POST", "/predict/digits", command[-1].encode())
    assert answer.status == 200 and command[-1] == '{"rows": [{"age": 30.0, "sex": "female"}]}'


def test_a_row_to_try_is_one_that_the_table_reads():
    table = Table((Boolean("smokes"), Date("sold", "%d %b %Y", fill=18262.4), Date("built"), Number("it's")))
    row = example_row(table)
    assert row == {"smokes": True, "sold": "01 Jan 2020", "built": "1970-01-01", "it's": 0.0}
    table.encode([row])


def test_many_cells_become_x_beside_the_event_loop(monkeypatch):
    threads = []
    real = by_column._encoded
    monkeypatch.setattr(by_column, "_encoded", lambda *a: (threads.append(threading.current_thread()), real(*a))[1])
    for rows in (1, 2000):
        found = asyncio.run(encoded([ROWS[0]] * rows, rows, a_model().signature, "digits"))
        assert found.x.shape == (rows, 4)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_x_beside_columns_goes_the_quick_way_and_columns_do_not(monkeypatch):
    slow = []
    real = requests.read_json
    monkeypatch.setattr(requests, "read_json", lambda *a: (slow.append(a), real(*a))[1])
    x = {"inputs": [tensor("x", "FP32", [1.0] * 2, [1, 2])]}
    numbers = {"inputs": [tensor(name, "INT64", [2**60 + 1]) for name in "ab"]}
    signature = replace(a_model(row=(2,)).signature, table=Table((Number("a"), Number("b"))))
    for body in (x, numbers):
        found = requests.decode({}, orjson.dumps(body), signature, "digits")
    assert len(slow) == 1 and found.inputs["a"].tolist() == [2**60 + 1]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Saved models: with a table, with the names of columns alone, and with names that are not x's."""
    place = tmp_path_factory.mktemp("models")
    net, params = jp.Linear(3), {"W": W, "b": np.zeros(3, np.float32)}
    for name, info in (
        ("table", {"table": TABLE}),
        ("names", {"columns": tuple("abcd")}),
        ("others", {"columns": tuple("abc")}),
        ("wrong", {"table": Table(TABLE.columns[:1])}),
    ):
        jp.save(place / name, net, params, inputs=X, info=info)
    return place


def test_saved_models_are_asked_and_explained_by_column_name(folders):
    async def ask(app):
        table = await acall(app, "POST", "/predict/table", ROWS)
        np.testing.assert_allclose(table.json["rows"], X @ W, rtol=1e-5)
        names = await acall(app, "POST", "/predict/names", [dict(zip("abcd", X[0].tolist(), strict=True))])
        np.testing.assert_allclose(names.json["rows"], X[:1] @ W, rtol=1e-5)
        assert "columns" not in (await acall(app, "GET", "/v2/models/others")).json
        why = await acall(app, "POST", "/v2/models/table/explain", columns() | {"parameters": {"output": 1}})
        found = {one["name"]: one for one in why.json["outputs"]}
        np.testing.assert_allclose(np.reshape(found["gradient"]["data"], (2, 4)), [W[:, 1]] * 2, rtol=1e-6)

    serving(ask, *(folders / name for name in ("table", "names", "others")))


def test_a_table_that_does_not_make_x_is_refused_at_the_start(folders):
    with pytest.raises(Exception, match=r"table makes 2 features, but x is FP32 \[-1, 4\]"):
        serving(lambda app: None, folders / "wrong")
