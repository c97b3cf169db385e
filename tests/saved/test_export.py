"""`jp.export`: the function comes back, whole or not at all, and runs nobody's Python."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import ModelError
from jaxprop.saved import export, folder as folder_module
from jaxprop.saved.export import describe_exported
from tests.drawing import draw


@pytest.fixture(scope="module")
def an_export(tmp_path_factory):
    """A network, its folder, rows, and what the network says of them."""
    net, x = jp.Chain(jp.Linear(3), jp.Tanh()), np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    with jax.enable_x64(False):
        params = draw(net, x)
        y = np.asarray(net(x, params))
    return jp.export(tmp_path_factory.mktemp("export"), net, params, inputs=x[:1]), x, y


def copied(folder, place, file=None, change=lambda data: data):
    """The folder again, one file of it changed."""
    for one in folder.iterdir():
        data = one.read_bytes()
        (place / one.name).write_bytes(change(data) if file and one.name.startswith(file) else data)
    return place


def test_the_same_numbers_for_any_number_of_examples(an_export):
    folder, x, y = an_export
    exported = jp.load_exported(folder)
    for rows in (1, 5):
        found = exported(x[:rows])
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, y[:rows], rtol=1e-6)
    about = describe_exported(folder)
    assert (str(about.inputs["x"]), str(about.outputs["y"])) == ("float32[N, 2]", "float32[N, 3]")
    assert sorted(about.params) == ["0.W", "0.b"]


def test_named_arrays_and_double_precision(tmp_path):
    def f(x, params):
        return {"sum": x["a"] * params["s"] + x["b"][:, None], "b": x["b"]}

    x = {"a": np.arange(6.0).reshape(3, 2), "b": np.array([1, 2, 3], np.int64)}
    with jax.numpy_dtype_promotion("standard"):
        jp.export(tmp_path, f, {"s": np.array([0.1, 0.2])}, inputs=x)
    with jax.enable_x64(False):  # whatever is set outside
        y = jp.load_exported(tmp_path)(x)
    assert (y["sum"].dtype, y["b"].dtype) == (np.float64, np.int64)
    np.testing.assert_allclose(y["sum"], x["a"] * [0.1, 0.2] + x["b"][:, None], rtol=1e-15)
    np.testing.assert_array_equal(y["b"], x["b"])


@pytest.mark.parametrize("file", ["model-", "params-"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_truncated_and_altered_files(an_export, tmp_path, file, change):
    with pytest.raises(ModelError, match=rf"{file}.*do not hash to the sha256 in export.json.*truncated"):
        jp.load_exported(copied(an_export[0], tmp_path, file, change))


def test_a_description_with_anything_unknown_or_a_path_elsewhere(an_export, tmp_path):
    for change, text in (
        (lambda about: about | {"more": 1}, "more"),
        (lambda about: about | {"format": 2}, "format"),
        (lambda about: about | {"weights": about["weights"] | {"file": "../params-0123456789ab.safetensors"}}, "file"),
    ):
        copied(an_export[0], tmp_path, "export.json", lambda data, c=change: json.dumps(c(json.loads(data))).encode())
        with pytest.raises(ModelError, match=f"export.json: .*{text}"):
            jp.load_exported(tmp_path)


def test_what_would_run_python_is_refused(tmp_path):
    def f(x, params):
        return jax.pure_callback(lambda a: a, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

    with pytest.raises(ModelError):
        jp.export(tmp_path, f, (), inputs=np.ones((1, 2), np.float32))


def test_what_cannot_be_exported(tmp_path):
    x = np.ones((4, 2), np.float32)
    net = jp.Chain(jp.BatchNorm(), jp.Linear(1))
    with pytest.raises(ModelError, match="freeze_statistics"):
        jp.export(tmp_path, net, draw(net, x), inputs=x)
    with pytest.raises(ModelError, match=r"output 'y': found the shape \(2,\), expected \[b"):
        jp.export(tmp_path, lambda x, params: x.sum(0), (), inputs=x)
    assert list(tmp_path.iterdir()) == []


def test_a_second_export_replaces_the_first_and_a_failed_one_does_not(an_export, tmp_path, monkeypatch):
    folder = copied(an_export[0], tmp_path)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    write = folder_module.write_whole
    monkeypatch.setattr(
        folder_module, "write_whole", lambda file, data: write(file, data) if "json" not in file.name else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        jp.export(folder, lambda x, params: 2 * x, (), inputs=np.ones((1, 2), np.float32))
    np.testing.assert_allclose(jp.load_exported(folder)(an_export[1]), an_export[2], rtol=1e-6)
    monkeypatch.undo()
    assert before.items() == {file.name: file.read_bytes() for file in folder.iterdir()}.items()
    jp.export(folder, lambda x, params: 2 * x, (), inputs=np.ones((1, 2), np.float32))
    assert float(jp.load_exported(folder)(an_export[1])[0, 0]) == 2 * an_export[1][0, 0]
    assert len(list(folder.iterdir())) == 3


def test_a_model_and_its_export_share_a_folder_and_their_weights(tmp_path):
    net, x = jp.Linear(2), np.ones((1, 3), np.float32)
    first, second = (draw(net, x, seed) for seed in (0, 1))
    jp.save(tmp_path, net, first, inputs=x)
    jp.export(tmp_path, net, first, inputs=x)
    jp.save(tmp_path, net, second, inputs=x)  # the export still names the first weights
    np.testing.assert_allclose(jp.load_exported(tmp_path)(x), net(x, first), rtol=1e-6)
    np.testing.assert_allclose(net(x, jp.load(tmp_path)[1]), net(x, second), rtol=1e-6)
    jp.export(tmp_path, net, second, inputs=x)
    assert len(list(tmp_path.glob("params-*"))) == 1


@pytest.mark.slow
def test_an_export_that_was_just_replaced_is_looked_for_again(tmp_path, monkeypatch):
    """Between export.json and the files that it names, the model is replaced: three times, then no more."""
    net, x = jp.Linear(2), np.ones((1, 3), np.float32)
    models = [draw(net, x, seed) for seed in range(4)]
    folders = [jp.export(tmp_path / str(seed), net, params, inputs=x) for seed, params in enumerate(models)]
    turns, describe = iter(folders[1:]), export.describe_exported

    def slow(path):
        about = describe(path)
        for folder in [next(turns, None)]:
            if folder is not None:
                files = sorted(folder.iterdir(), key=lambda file: file.name == export.NAME)  # which comes last
                folder_module.commit(path, {file.name: file.read_bytes() for file in files})
        return about

    monkeypatch.setattr(export, "describe_exported", slow)
    np.testing.assert_allclose(jp.load_exported(folders[0])(x), net(x, models[3]), rtol=1e-6)
