"""Explanations: gradients are jax.grad's, attributions add up, layers are the tape's; and what cannot be explained."""

import asyncio
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from tests.drawing import draw
from tests.serve.explaining import explain, explain_binary, serving

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
NET = jp.Chain(
    jp.Linear(6), jp.Tanh(), jp.Residual(jp.Chain(jp.Linear(6), jp.Sigmoid())),
    jp.Repeat(jp.Chain(jp.Linear(6), jp.Parallel(jp.Tanh(), jp.Sigmoid())), 3), *[jp.Softplus()] * 6, jp.Linear(3),
)  # fmt: skip
SMALL = jp.Chain(jp.Linear(6), jp.Tanh(), jp.Linear(3))
CLASSES = ["cat", "dog", "eel"]


def publish(folder, net=NET, x=X, seed=0, **info):
    """Save `net`, in x's own precision; (f, params)."""
    with jax.enable_x64(x.dtype.itemsize == 8), jax.numpy_dtype_promotion("standard"):
        params = draw(net, x, seed)
        jp.save(folder, net, params, inputs=x, info=info)
    return params


@functools.cache
def gradients(net):
    one = jax.grad(lambda row, k, params: net(row[None], params).reshape(-1)[k])
    return jax.jit(jax.vmap(one, (0, 0, None)))


def expected(net, params, x, k):
    """∂y_nk/∂x_n by jax.grad, row by row."""
    with jax.enable_x64(x.dtype.itemsize == 8), jax.numpy_dtype_promotion("standard"):
        return np.asarray(gradients(net)(jnp.asarray(x), jnp.asarray(k), params))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_is_that_of_jax_grad(tmp_path, dtype):
    x, atol = X.astype(dtype), 1e-6 if dtype == np.float32 else 1e-14
    params = publish(tmp_path / "m", x=x, classes=CLASSES)
    with jax.enable_x64(dtype == np.float64), jax.numpy_dtype_promotion("standard"):
        y = np.asarray(jax.jit(NET)(x, params))

    async def test(app):
        for given, k in (({}, y.argmax(1)), ({"output": 2}, [2] * 5), ({"output": "dog"}, [1] * 5)):
            found = await explain(app, "m", x, **given)
            assert list(found) == ["output", "value", "gradient"]
            np.testing.assert_array_equal(found["output"], k)
            np.testing.assert_allclose(found["value"], y[range(5), k], rtol=0, atol=atol, strict=True)
            np.testing.assert_allclose(found["gradient"], expected(NET, params, x, k), rtol=0, atol=atol, strict=True)
            for tensor in (None, "y"):
                binary = await explain_binary(app, "m", x, tensor, **given)
                assert {name: array.tobytes() for name, array in binary.items()} == {
                    name: array.tobytes() for name, array in found.items()
                }

    serving(test, tmp_path)


@pytest.mark.parametrize("baseline", [0.0, -1.5])
def test_attributions_add_up_to_what_the_output_rose_by(tmp_path, baseline):
    x = X.astype(np.float64)
    params = publish(tmp_path / "m", SMALL, x)
    answer = jax.jit(SMALL)
    rise = np.asarray(answer(x, params) - answer(np.full_like(x, baseline), params))[:, 1]
    assert abs(rise).min() > 1e-3

    async def test(app):
        errors = []
        for steps in (100, 1000):
            asked = {"method": "integrated", "output": 1, "steps": steps, "baseline": baseline}
            found = await explain(app, "m", x, **asked)
            error = found["attribution"].sum(1) - rise
            np.testing.assert_allclose(found["convergence_delta"], error, rtol=0, atol=1e-14)
            errors.append(abs(error).max())
        assert errors[1] < 1e-6 and errors[1] < errors[0] / 90  # midpoints: the error falls with steps²
        found = await explain(app, "m", x, **asked | {"steps": 1})
        slope = expected(SMALL, params, (x + baseline) / 2, [1] * 5)
        np.testing.assert_allclose(found["attribution"], (x - baseline) * slope, rtol=0, atol=1e-14)

    serving(test, tmp_path)


def test_the_attributed_output_is_the_largest_at_x_not_along_the_path(tmp_path):
    net = jp.Linear(2)
    with jax.enable_x64(False):
        params = draw(net, X[:1, :1])._replace(W=jnp.array([[1.0, -1.0]]), b=jnp.array([-5.0, 0.0]))
        jp.save(tmp_path / "m", net, params, inputs=X[:1, :1])

    async def test(app):
        found = await explain(app, "m", np.array([[9.0]], np.float32), method="integrated", steps=7)
        np.testing.assert_allclose(found["attribution"], [[9.0]], rtol=1e-6)  # 1 · 9, though −x − 0 is larger at first
        assert found["output"] == [0]

    serving(test, tmp_path)


def test_layers_are_those_of_the_tape(tmp_path):
    params = publish(tmp_path / "m")
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        y, k = jax.jit(NET)(X, params), np.array([2] * 5)
        tape = jp.manual.trace(NET, jp.HalfSquaredError())(X, params, y - jax.nn.one_hot(k, 3))  # so dy is 1 at k

    async def test(app):
        found = await explain(app, "m", X, output=2, layers=True)
        names = [name for path in tape for name in (f"{path}.y", f"{path}.dy")]
        assert list(found) == ["output", "value", "gradient", *names] and "3.inner.1.0.dy" in names
        for path, record in tape.items():
            for name, array in ((f"{path}.y", record.y), (f"{path}.dy", record.dy)):
                array = np.moveaxis(array, 1, 0) if path.startswith("3.inner") else np.asarray(array)
                np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-6, strict=True)
        np.testing.assert_allclose(found["gradient"], tape["0"].dx, rtol=0, atol=1e-6)

    serving(test, tmp_path)


RELU = jp.Chain(jp.Linear(6), jp.ReLU(), jp.Linear(6), jp.Step(), jp.Linear(6), jp.ReLU(), jp.Linear(3))
BY_RULE = {
    "guided": jp.rules.GuidedBackprop(),
    "deconvnet": jp.rules.Deconvnet(),
    "straight_through": jp.rules.StraightThrough(),
}


def test_maps_by_another_rule_than_the_chain_rule(tmp_path):
    """RELU has a Step, through which only one of the three brings anything back: the others get ReLUs alone."""
    nets = {"guided": jp.Chain(*RELU.layers[:3], jp.ReLU(), jp.Linear(3)), "straight_through": RELU}
    nets["deconvnet"] = nets["guided"]
    saved = {rule: publish(tmp_path / rule, net) for rule, net in nets.items()}
    expected = {}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        for name, net in nets.items():
            run = jp.saliency.input_gradient(net, BY_RULE[name])
            tape = jp.manual.trace(net, jp.HalfSquaredError(), rule=BY_RULE[name])
            y = net(X, saved[name])
            tape = tape(X, saved[name], y - jax.nn.one_hot(np.array([2] * 5), 3))  # so dy is 1 at k
            expected[name] = run(X, saved[name]), run(X, saved[name], 2).map, tape

    async def test(app):
        for name, (largest, of_two, tape) in expected.items():
            found = await explain(app, name, X, rule=name)
            assert list(found) == ["output", "value", "map"]
            np.testing.assert_array_equal(found["output"], largest.output)
            np.testing.assert_allclose(found["value"], largest.value, rtol=0, atol=1e-6)
            np.testing.assert_allclose(found["map"], largest.map, rtol=0, atol=1e-6, strict=True)
            binary = await explain_binary(app, name, X, rule=name)
            assert binary["map"].tobytes() == found["map"].tobytes()
            found = await explain(app, name, X, rule=name, output=2, layers=True)
            np.testing.assert_allclose(found["map"], of_two, rtol=0, atol=1e-6)
            np.testing.assert_allclose(found["0.dy"], tape["0"].dy, rtol=0, atol=1e-6)
            plain = await explain(app, name, X, output=2)
            assert abs(plain["gradient"] - of_two).max() > 0.05
        status, text = await explain(app, "guided", X, rule="straight_through")
        assert status == 400 and "parameter 'rule': StraightThrough(): is for Step or Quantize" in text
        for asked, wanted in (
            ({"rule": "guided", "method": "integrated"}, 'parameter \'rule\' goes with "method": "plain"'),
            ({"rule": "guide"}, "Invalid enum value 'guide' - at `$.parameters.rule`; there are"),
            ({"rule": "guide"}, "rule guided, deconvnet or straight_through"),
        ):
            status, text = await explain(app, "guided", X, **asked)
            assert status == 400 and wanted in text, text

    serving(test, tmp_path)


def test_outputs_with_positions_are_counted_in_row_major_order(tmp_path):
    net, x = jp.Linear(3), X.reshape(5, 2, 2)
    params = publish(tmp_path / "m", net, x, classes=CLASSES)

    async def test(app):
        found = await explain(app, "m", x, output=4, layers=True)
        gradient = np.zeros((5, 2, 2), np.float32)
        gradient[:, 1] = np.asarray(params.W)[:, 1]
        np.testing.assert_array_equal(found["gradient"], gradient)
        assert list(found)[3:] == ["y", "dy"] and found["dy"].shape == (5, 2, 3)
        assert (await explain(app, "m", x, output=6))[0] == 400
        assert "has no names of classes" in (await explain(app, "m", x, output="cat"))[1]

    serving(test, tmp_path)


def test_an_export_with_several_inputs_and_outputs(tmp_path):
    def f(x, params):
        y = jnp.tanh(x["a"] @ params["W"]) * x["b"][:, None] * x["n"][:, None]
        return {"y": y, "square": y**2, "n": x["n"]}

    params = {"W": np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)}
    x = {"a": X, "b": X[:, 0] + 2, "n": np.arange(1, 6, dtype=np.int32)}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        jp.export(tmp_path / "m", f, params, inputs=x)
        square = jax.grad(lambda ab: f(ab | {"n": x["n"]}, params)["square"][:, 2].sum())
        wanted = jax.jit(square)({"a": X, "b": x["b"]})

    async def test(app):
        found = await explain(app, "m", x, ["square"], output=2)
        assert list(found) == ["output", "value", "gradient.a", "gradient.b"]
        for name, gradient in wanted.items():
            np.testing.assert_allclose(found[f"gradient.{name}"], gradient, rtol=1e-5, atol=1e-6)
        found = await explain(app, "m", x, ["square"], output=2, method="integrated", steps=200)
        total = found["attribution.a"].sum(1) + found["attribution.b"]
        np.testing.assert_allclose(total, found["value"], rtol=1e-3, atol=1e-4)  # the square of 0 is 0
        assert "output 'n' is INT32" in (await explain(app, "m", x, ["n"]))[1]
        assert "no layers are known" in (await explain(app, "m", x, ["y"], layers=True))[1]
        status, text = await explain(app, "m", x, ["y"], rule="guided")
        assert status == 400 and "no layers are known" in text

    serving(test, tmp_path)


def test_whole_numbers_have_no_gradient_but_the_layers_behind_them_do(tmp_path):
    net, x = jp.Chain(jp.Embedding(5, 2), jp.Flatten(), jp.Linear(2)), np.array([[0, 4], [1, 1]], np.int32)
    params = publish(tmp_path / "m", net, x)

    async def test(app):
        for asked in ({}, {"method": "integrated", "layers": True}):
            status, text = await explain(app, "m", x, **asked)
            assert status == 400 and "input 'x' is INT32: whole numbers have no gradient" in text
        found = await explain(app, "m", x, output=1, layers=True)
        assert "gradient" not in found
        assert (await explain(app, "m", x, rule="guided"))[0] == 400
        W = np.asarray(params[2].W)[:, 1]
        np.testing.assert_array_equal(found["1.dy"], np.stack([W, W]))

    serving(test, tmp_path)


WRONG = [
    ({"output": "mouse"}, "unknown class 'mouse', the classes are cat, dog, eel"),
    ({"output": 3}, "parameter 'output' is 3, a row of 'y' has 0 to 2"),
    ({"output": -1}, "a row of 'y' has 0 to 2"),
    ({"output": True}, "`$.parameters.output`"),
    ({"method": "smooth"}, "Invalid enum value 'smooth' - at `$.parameters.method`; there are"),
    ({"steps": 5}, 'parameter \'steps\' goes with "method": "integrated"'),
    ({"method": "integrated", "steps": 0}, "at `$.parameters.steps`"),
    ({"method": "integrated", "steps": 1001}, "Expected `int` <= 1000 - at `$.parameters.steps`"),
    ({"method": "integrated", "baseline": 1e300}, "parameter 'baseline' is 1e+300, which does not fit into float32"),
    ({"step": 5}, "unknown field `step`"),
    ({"step": 5}, "there are output, method, steps, baseline, rule, layers, and method is plain or integrated"),
    ({"explainer": "magic"}, "model 'm': unknown explainer 'magic', this server has gradient"),
    ({"explainer": 1}, "unknown explainer '1'"),
]


def test_what_is_wrong_with_a_request(tmp_path):
    publish(tmp_path / "m", SMALL, classes=CLASSES)
    publish(tmp_path / "plain", SMALL)

    async def test(app):
        for asked, text in WRONG:
            status, found = await explain(app, "m", X, **asked)
            assert status == 400 and text in found and "model 'm'" in found, found
        for model, x, wanted in (
            ("plain", X, (400, "model 'plain', explainer 'gradient': parameter 'output': 'y' has no names")),
            ("m", X[:, :3], (400, "unexpected shape for input 'x' for model 'm'. Expected [-1,4], got [5,3]")),
            ("m", np.tile(X, (2, 1)), (400, "input 'x' for model 'm' has 10 rows, at most 8 are taken at once")),
            ("nobody", X, (404, "unknown model 'nobody'")),
        ):
            status, found = await explain(app, model, x, output="cat")
            assert status == wanted[0] and wanted[1] in found, found

    serving(test, tmp_path, explain_limit=8)


def refused(place, text, **changed):
    async def test(app):
        status, found = await explain(app, "m", X)
        assert status == 501 and text in found, found

    serving(test, place, **changed)


def test_models_and_servers_that_cannot_explain(tmp_path):
    def f(x, params):
        return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * 2.0, c[1] + 1), (x, 0))[0]

    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        jp.export(tmp_path / "m", f, (), inputs=X)
    refused(tmp_path, "model 'm', explainer 'gradient': this model has no gradient")
    refused(tmp_path, "model 'm' cannot be explained: this server's settings allow no explainers", explainers={})


def test_nothing_is_compiled_for_a_request_but_in_the_threads_of_explanations(tmp_path, compilations):
    publish(tmp_path / "m", SMALL)

    async def test(app):
        with app.models.pin("m") as served:
            assert (served.statistics.compile_count, served.statistics.explain_compile_count) == (3, 0)
            with compilations() as count:
                await asyncio.gather(*(explain(app, "m", X[:rows]) for rows in (3, 4)))
                assert served.statistics.explain_compile_count == 1  # both take 4 rows
                await explain(app, "m", X[:1], layers=True)
                await explain(app, "m", X[:4])
                assert served.statistics.explain_compile_count == 3 and count[0] >= 3
                count[0] = 0
                await explain(app, "m", X[1:4])
                await served.infer({"x": X})
                assert count[0] == 0
            assert served.statistics.compile_count == 3 and served.statistics.inference_count == 5
            text = app.metrics.render().decode()
        labels = '{model="m",version="1",worker="0"}'
        assert f"jaxprop_explain_compile_total{labels} 3.0" in text and f"jaxprop_compile_total{labels} 3.0" in text
        labels = '{code="200",model="m",protocol="http",route="/v2/models/{model}/explain",version="1",worker="0"}'
        assert f"jaxprop_requests_total{labels} 5.0" in text

    serving(test, tmp_path, max_batch=4)


def test_a_reloaded_model_is_explained_anew(tmp_path):
    publish(tmp_path / "m", SMALL)

    async def test(app):
        await explain(app, "m", X)
        params = publish(tmp_path / "m", SMALL, seed=1)
        await app.models.load("m")
        found = await explain(app, "m", X, output=0)
        np.testing.assert_allclose(found["gradient"], expected(SMALL, params, X, [0] * 5), rtol=0, atol=1e-6)

    serving(test, tmp_path)
