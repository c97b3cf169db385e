"""A report has the numbers of the values and errors inside a function, each at its place, and is data that stays."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprop import JaxpropError, ShapeError
from jaxprop.xray import Report, program, report, written
from tests.xray.measuring import rms

RNG = np.random.default_rng(0)
W = [RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))]
X = RNG.normal(size=(5, 3))


def network(params, x, nudges=(0.0, 0.0, 0.0)):
    """A nudge is added to each place that the test looks at: its gradient is the error there."""
    z = x @ params[0] + nudges[0]
    a = jnp.where(z > 0, jnp.exp(z), 0.0) + nudges[1]
    y = a @ params[1] + nudges[2]
    return jnp.sum(y**2) / 3


def rows(found, name):
    return [row for row in found.rows if row.name == name]


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        return report(network)(W, X)


def test_values_and_errors_are_those_of_numpy_and_of_a_nudge(found):
    z = X @ W[0]
    a = np.where(z > 0, np.exp(z), 0)
    values = [z, a, a @ W[1]]
    nudges = tuple(jnp.zeros(value.shape) for value in values)
    errors = jax.grad(network, argnums=2)(W, X, nudges)
    first, last = rows(found, "dot_general")
    (gate,) = rows(found, "select_n")
    assert 0.2 < np.mean(a == 0) < 0.8  # or it tests nothing
    for row, value, error in zip((first, gate, last), values, errors, strict=True):
        for measure, array in ((row.value, value), (row.error, np.asarray(error))):
            assert measure.count == array.size and not measure.trouble
            np.testing.assert_allclose(measure.rms, rms(array), rtol=1e-12)
            np.testing.assert_allclose(measure.largest, np.max(np.abs(array)), rtol=1e-12)
            np.testing.assert_allclose([measure.least, measure.most], [array.min(), array.max()], rtol=1e-12)
            np.testing.assert_allclose([measure.zero, measure.nan, measure.inf], [np.mean(array == 0), 0, 0])


def test_arguments_have_their_gradients_and_the_report_their_norm(found):
    value, grads = jax.value_and_grad(network)(W, X)
    np.testing.assert_allclose(found.value, value)
    assert all(map(np.allclose, found.grads, grads))
    arguments = [row for row in found.rows if row.is_argument]
    assert [row.name for row in arguments] == ["params[0]", "params[1]", "x"]
    np.testing.assert_allclose([row.error.rms for row in arguments[:2]], [rms(grad) for grad in grads])
    assert arguments[2].error is None  # not differentiated
    norm = np.sqrt(sum(np.sum(np.square(grad)) for grad in grads))
    np.testing.assert_allclose(found.gradient_norm, norm)
    assert f"norm of the gradient {norm:.4f}"[:25] in str(found)


def recurrent(w, xs, nudges):
    def step(h, turn):
        x, nudge = turn
        h = jnp.tanh(w * h + x) + nudge
        return h, h

    return jnp.sum(jax.lax.scan(step, jnp.zeros(2), (xs, nudges))[0] ** 2)


def test_a_scan_has_its_steps_and_what_they_come_to_together():
    xs = RNG.normal(size=(6, 2))
    found = report(recurrent)(0.5, xs, np.zeros((6, 2)))
    errors = np.asarray(jax.grad(recurrent, argnums=2)(0.5, xs, np.zeros((6, 2))))
    h, values = np.zeros(2), []
    for x in xs:
        h = np.tanh(0.5 * h + x)
        values.append(h)
    row = rows(found, "tanh")[0]
    assert row.site.axes == (("scan", 6),)
    np.testing.assert_allclose(row.value.steps, [rms(value) for value in values])
    np.testing.assert_allclose(row.error.steps, [rms(error) for error in errors])
    np.testing.assert_allclose(row.value.rms, rms(values))
    np.testing.assert_allclose(row.error.rms, rms(errors))
    assert errors[0].max() < errors[-1].max() / 10  # they fall, and the steps show it
    assert "of the 6 steps of the scan around test_report.py:" in str(found)
    assert "equations lie in 6 steps" in str(found.table())


def test_what_is_not_finite_is_told_apart_and_left_out_of_the_rest():
    def f(x):
        return jnp.sum(jnp.sqrt(x) * jnp.log(x + 1))

    x = np.array([4.0, 0.0, -0.5, -1.0, 9.0])
    found = report(f)(x)
    (log,), (root,) = rows(found, "log"), rows(found, "sqrt")
    assert (log.value.inf, log.value.nan, log.value.trouble) == (0.2, 0, "inf")
    assert (root.value.inf, root.value.nan, root.value.trouble) == (0, 0.4, "NaN")
    np.testing.assert_allclose(root.value.rms, rms([2.0, 0.0, 3.0]))
    assert np.isnan(rows(found, "reduce_sum")[0].value.rms)
    said = str(found)
    assert "First NaN: sqrt at test_report.py:" in said and said.index("First NaN") < said.index("First inf: log at")
    assert str(found.table("equation")).count("value NaN 40%") == 2  # the product too


def test_going_back_the_first_that_is_not_finite_is_the_last_of_the_program():
    found = report(lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0)))(np.array([1.0, 0.0]))
    said = str(found)
    assert "First NaN: in the gradient of x; no value holds NaN." in said, said
    found = report(lambda x: jnp.sum(jnp.where(x > 0, jnp.sqrt(x * 1.5), 0.0)))(np.array([1.0, 0.0]))
    assert "First NaN: in the error of mul at test_report.py:" in str(found)
    masked = report(lambda x: jnp.sum(jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf)) * x))(np.array([1.0, -1.0]))
    assert "First inf" in str(masked) and "The value and the gradient are finite all the same" in str(masked)
    forward = report(lambda x: jax.nn.softmax(jnp.where(x > 0, x, -jnp.inf)), None)(np.array([1.0, -1.0]))
    assert "What comes out is finite all the same" in str(forward)
    holding = report(lambda x: (jnp.sum(x), jnp.log(-x)), has_aux=True)(np.array([1.0, 2.0]))
    assert "all the same" not in str(holding)


def test_a_branch_that_was_not_taken_and_a_value_that_nobody_uses():
    def f(x, up):
        unused = jnp.cosh(x)
        y = jax.lax.cond(up, jnp.sin, jnp.cos, x)
        return jnp.sum(y), unused

    found = report(f, has_aux=True)(np.ones(3), np.bool_(True))
    assert not rows(found, "cos") and rows(found, "sin")[0].value.count == 3
    assert rows(found, "cosh")[0].error is None  # no error comes back to it
    np.testing.assert_allclose(found.aux, np.cosh(np.ones(3)))


def test_a_report_is_json_and_comes_back():
    xs = np.array([[0.5, 1.0], [np.inf, 0.0], [0.1, 0.2]])
    found = report(recurrent)(0.5, xs, np.zeros((3, 2)))
    text = json.dumps(found.json(), allow_nan=False)
    again = Report.from_json(json.loads(text))
    assert str(again) == str(found) and repr(again) == repr(found)
    assert str(again.table("equation", limit=None)) == str(found.table("equation", limit=None))
    assert again.sites == found.sites and again.made_with == found.made_with
    assert again.made_with["jax"] == jax.__version__ and again.made_with["platform"] == "cpu"
    assert json.dumps(again.json(), allow_nan=False) == text
    part = found.at("test_report.py:" + str(rows(found, "tanh")[0].line.number))
    assert str(Report.from_json(json.loads(json.dumps(part.json())))) == str(part)


@pytest.mark.parametrize(
    "data, expected",
    [
        ({"rows": []}, r"expected what report.json\(\) returns, read by json.load; found a dict with \['rows'\]"),
        ([1], "found list"),
        (
            {
                "format": written.FORMAT,
                "version": 2,
                "light": True,
                "measures": [],
                "made_with": {"jaxprop": "9"},
            },
            "expected version 1 .* it was written by jaxprop 9",
        ),
    ],
)
def test_what_is_no_report_is_refused(data, expected):
    with pytest.raises(JaxpropError, match=expected):
        Report.from_json(data)


def test_a_light_report_shows_what_there_is():
    full, light = report(network)(W, X), report(network, light=True)(W, X)
    at = {(row.site.path, row.output): row for row in full.rows}
    both = [(row, at[row.site.path, row.output]) for row in light.rows]  # of what passes from line to line
    assert 6 < len(both) < len(at)
    np.testing.assert_allclose([row.value.rms for row, _ in both], [row.value.rms for _, row in both])
    assert light.gradient_norm == pytest.approx(full.gradient_norm, rel=1e-12)
    row = light.rows[-1]
    assert row.value.zero is None and row.value.nan is None and row.value.least is None
    head = str(light.table()).splitlines()[0].split()
    assert "zero" not in head and "largest" in head
    again = Report.from_json(json.loads(json.dumps(light.json(), allow_nan=False)))
    assert str(again.table("argument")) == str(light.table("argument"))
    broken = report(lambda x: jnp.sum(jnp.log(x)), light=True)(np.array([0.0, -1.0]))
    assert Report.from_json(json.loads(json.dumps(broken.json(), allow_nan=False))).rows[-1].value.trouble == "NaN"
    assert broken.rows[-1].value.trouble == "NaN" and "value NaN" in str(broken.table("equation"))


def test_what_becomes_of_errors_through_depth_is_said():
    def f(x, slope):
        for _ in range(12):
            x = slope * jnp.sin(x)
        return jnp.sum(x)

    run = report(f)
    for slope, verb in ((0.1, "vanish"), (1.0, "neither vanish nor explode"), (9.0, "explode")):
        said = str(run(np.full(3, 1e-3), np.asarray(slope)))
        assert f"The errors {verb}: their RMS is" in said
        assert "in the last quarter of the" in said and "arrays inside" in said


def test_it_is_compiled_once_for_each_shape_and_for_what_is_no_array(compilations):
    def f(w, x, power, scale=1.0):
        return jnp.sum(w * x**power) * scale

    asked = report(f)
    asked(2.0, np.ones(3), 2)
    with compilations() as count:
        assert float(asked(3.0, np.full(3, 2.0), 2).value) == 36.0
        assert count[0] == 0
        assert float(asked(3.0, np.ones(3), 3, scale=2.0).value) == 18.0
        assert float(asked(3.0, np.ones(3), True).value) == 9.0
        assert float(asked(3.0, np.ones(3), 1).value) == 9.0  # 1 == True, and is another program
        assert count[0] == 3


def test_what_cannot_be_reported_is_refused(found):
    with pytest.raises(JaxpropError, match=r"call jp.xray.program\(f\) there"):
        jax.jit(lambda w: report(network)([w, W[1]], X).gradient_norm)(W[0])
    with pytest.raises(JaxpropError, match="argument 0 holds no real numbers"):
        report(lambda n: n)(3)
    with pytest.raises(ShapeError, match="expected one real number"):
        report(lambda x: x)(np.ones(2))
    with pytest.raises(JaxpropError, match=r"unknown kind of table, by= 'lines' .did you mean 'line'"):
        found.table("lines")
    with pytest.raises(JaxpropError, match=r"nothing is at 'test_reports.py:1'; near it: 'test_report.py:"):
        found.at("test_reports.py:1")
    with pytest.raises(JaxpropError, match=r"no module has a name in this program; the lines are 'test_report.py:"):
        found.at("Dense_0")


def test_argnums_none_shows_values_alone():
    found = report(lambda x: {"y": jnp.tanh(x)}, argnums=None)(np.ones(2))
    assert all(row.error is None for row in found.rows) and found.gradient_norm is None
    assert "error" not in str(found.table()) and str(found).startswith("X-ray: 1 equation (1 measured)\n")


def test_what_is_not_looked_into_is_said():
    def f(x):
        y = jax.lax.while_loop(lambda c: jnp.sum(c) < 10, lambda c: c * 2, jax.lax.stop_gradient(x))
        return jnp.sum(jax.nn.relu(x) * y)

    found = report(f)(np.ones(2))
    text = str(found.table())
    assert "1 equation lies in a while loop" in text and "no error comes back through it" in text
    assert "relu has a derivative of its own: seen from outside" in text
    doubled = next(row for row in found.rows if "while" in row.site.around)
    assert doubled.error is None and doubled.value.most == 8.0


def test_a_report_of_what_a_program_left(found):
    """Under vmap too: the readings then have an axis more, whose entries are taken together."""
    xs = RNG.normal(size=(3, 4))
    left = Report(jax.jit(jax.vmap(program(lambda x: jnp.sum(jnp.tanh(x)))))(xs))
    np.testing.assert_allclose(rows(left, "tanh")[0].value.rms, rms(np.tanh(xs)))
    np.testing.assert_allclose(rows(left, "tanh")[0].value.steps, np.sqrt(np.mean(np.tanh(xs) ** 2, axis=1)))
    assert str(left).startswith("X-ray: norm of the gradient") and left.call is None
    assert found.call.f is network and found.call.args == (W, X)


@pytest.mark.slow
def test_devices_are_taken_together():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over = jax.sharding.PartitionSpec("data")

    @jax.shard_map(mesh=mesh, in_specs=(jax.sharding.PartitionSpec(), over), out_specs=jax.sharding.PartitionSpec())
    def f(w, x):
        return jax.lax.psum(jnp.sum(jnp.tanh(x * w)), "data")

    x = RNG.normal(size=(4, 3))
    found = report(f)(0.5, x)
    row = rows(found, "tanh")[0]
    np.testing.assert_allclose(row.value.rms, rms(np.tanh(x * 0.5)))
    np.testing.assert_allclose(row.value.steps, np.sqrt(np.mean(np.tanh(x * 0.5).reshape(2, -1) ** 2, axis=1)))
    assert row.error.count == 12 and "in 2 devices" in str(found.table())
