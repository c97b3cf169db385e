"""The article, row by row: docs/examples/article/ has one script for each, and here are the numbers it must find.

Expected numbers are those of the project's table of the article, to the digits printed there, or worked out here with
plain arithmetic. The scripts run in float64 with strict promotion like all tests, and once more as a user runs them.
"""

import ast
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest
from typer.testing import CliRunner

import jaxprop as jp
from jaxprop.cli import app

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "article"
SCRIPTS = {int(path.name[4:6]): path for path in sorted(FOLDER.glob("row_*.py"))}


def run(row, folder=None):
    """What the script of a row returns; its picture, if any, is then the current figure of pyplot."""
    spec = importlib.util.spec_from_file_location(SCRIPTS[row].stem, SCRIPTS[row])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(folder if folder is None else str(folder))


def picture(folder):
    """The axes of the one picture that was saved, and everything written in it."""
    (file,) = folder.iterdir()
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000
    axes = plt.gcf().axes
    parts = []
    for ax in axes:
        parts += [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel(), *(text.get_text() for text in ax.texts)]
        parts += [] if ax.get_legend() is None else [text.get_text() for text in ax.get_legend().get_texts()]
    return axes, "\n".join(parts)


def edges(ax):
    (found,) = [collection for collection in ax.collections if collection.get_gid() == "edges"]
    return len(found.get_segments())


def rounded(values, digits):
    return tuple(round(float(value), digits) for value in values)


def command(*arguments):
    """What `jaxprop ...` prints, run as a user does."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def unit(net=None):
    """The article's unit on [1, 3, 2]: net, x, params, targets."""
    theta = jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1]))
    net = net or jp.Chain(jp.Linear(1), jp.Sigmoid())
    return net, jnp.array([[1.0, 3.0, 2.0]]), (theta, ()), jnp.array([[1.0]])


# --- The scripts


def test_rows_1_to_21_have_one_script_each():
    assert sorted(SCRIPTS) == list(range(1, 22))
    assert len(list(FOLDER.glob("*.py"))) == 21


@pytest.mark.parametrize("row", range(1, 22))
def test_a_script_says_what_it_shows_and_does_nothing_at_import(row):
    tree = ast.parse(SCRIPTS[row].read_text("utf-8"))
    said = ast.get_docstring(tree)
    assert said.startswith(f"Row {row}: ") and f"Run: python docs/examples/article/{SCRIPTS[row].name}" in said
    assert "Right" in said or "Not right" in said or "Not in the article" in said
    *body, guard = tree.body[1:]
    assert ast.unparse(guard) == "if __name__ == '__main__':\n    main(*sys.argv[1:2])"
    assert all(isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Assign) for node in body)


@pytest.mark.slow
@pytest.mark.parametrize("row", range(1, 22))
def test_a_script_runs_as_a_user_runs_it(row, capsys):
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        assert run(row)
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_a_script_is_a_program(tmp_path):
    done = subprocess.run([sys.executable, SCRIPTS[12], tmp_path], capture_output=True, text=True, check=True)
    assert "C = 1.7672" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["row_12_two_weights.png"]


# --- What a network is


@pytest.mark.slow
def test_row_1_every_weight_is_one_edge(tmp_path):
    found = run(1, tmp_path)
    assert found["edges"] == found["weights"] == 3 * 4 + 4 * 2 and found["biases"] == 4 + 2
    (ax,), _ = picture(tmp_path)
    assert edges(ax) == 20


@pytest.mark.slow
def test_row_2_the_pruned_network(tmp_path):
    found = run(2, tmp_path)
    assert found["n"] == [1, 3, 2] and found["pruned"] == 6
    assert found["z"] == pytest.approx(1.35, abs=1e-12)
    assert round(found["a"], 5) == 0.79413 and found["a"] == pytest.approx(sigmoid(1.35), abs=1e-12)
    (ax,), said = picture(tmp_path)
    assert edges(ax) == 3 + 3 + 1
    assert all(text in said for text in ("m₁", "out", "b = 0.1\nz = 1.35\na = 0.79413", "the bias b is added once"))


def test_row_3_one_bias_outside_the_sum():
    found = run(3)
    assert found["formula"].startswith("z = w[1]·n[1] + w[2]·n[2] + w[3]·n[3] + b ")
    assert found["formula"].endswith("0.5·1 + (-0.25)·3 + 0.75·2 + 0.1 = 1.35") or "≈ 1.35" in found["formula"]
    assert found["biases"] == 1 and found["z"] == pytest.approx(1.35)
    assert found["b_inside_the_sum"] == pytest.approx(1.55)  # mistake 8
    assert found["without_the_sum"] == pytest.approx([0.6, -0.65, 1.6])


@pytest.mark.slow
def test_row_4_a_step_has_no_slope_to_learn_from(tmp_path):
    found = run(4, tmp_path)
    assert found["perceptron"]["cost"] == 0.5 and found["perceptron"]["gradient"] == [0, 0, 0]
    for name in ("linear unit", "sigmoid unit"):
        assert all(g < 0 for g in found[name]["gradient"])
    axes, said = picture(tmp_path)
    assert len(axes) == 2 and said.count("Not alike") == 2
    assert all(part in said for part in ("dendrites", "axon", "inputs (dendrites)", "output (axon)", "step"))


@pytest.mark.slow
def test_row_5_a_network_learns_x_where_it_was_shown_x(tmp_path):
    found = run(5, tmp_path)
    assert found["mse"] < 1e-3 and abs(found["at_half"] - 0.5) < 0.05
    assert abs(found["at_three"] - 3) > 0.3
    (ax,), said = picture(tmp_path)
    truth = next(line for line in ax.lines if line.get_label() == "the truth")
    assert np.array_equal(truth.get_xdata(), truth.get_ydata())
    assert "41 points" in said


# --- What it can learn


@pytest.mark.slow
def test_row_6_one_weight_learns_the_slope(tmp_path):
    found = run(6)
    assert rounded(found["w"].values(), 3) == (1.000, 2.000)
    eta = found["learning_rate"]
    for x, factor in found["factor"].items():
        assert factor == pytest.approx(1 - eta * x**2, abs=1e-12)
    # mistake 21: another f with f(1) = 1 fits one sample at x = 1 as well, and x = 0 teaches w nothing
    assert found["other_fit"][1.0] == pytest.approx(1) and abs(found["other_fit"][2.0] - 2) > 0.4
    weight = jp.LinearParams(W=jnp.array([[0.5]]), b=None)
    net, zero = jp.Linear(1, bias=False), jnp.zeros((1, 1))
    assert jp.manual.value_and_grad(net, jp.HalfSquaredError())(zero, weight, zero)[1].W == 0

    command("train", "line", "--slope", "2", "--quiet", "--out", tmp_path / "line")
    _, params = jp.load(tmp_path / "line")
    assert [round(float(leaf.item()), 3) for leaf in jax.tree.leaves(params)] == [2.000]


@pytest.mark.slow
def test_row_7_the_floor_of_linear_units(tmp_path):
    found = run(7, tmp_path)
    assert found["linear"] == pytest.approx({"w": 0, "mse": 1 / 5}, abs=1e-6)
    assert found["affine"] == pytest.approx({"w": 0, "b": 1 / 3, "mse": 4 / 45}, abs=2e-5)
    assert found["affine"]["mse"] == pytest.approx(4 / 45, abs=1e-6)
    assert list(found["deep"]) == [2, 3]
    assert list(found["deep"].values()) == pytest.approx([4 / 45, 4 / 45], abs=1e-6)
    assert found["linear_on_x_plus_1"] == pytest.approx({"w": 1, "mse": 1}, abs=1e-5)  # mistake 18
    _, said = picture(tmp_path)
    assert "mean squared error 0.088" in said


@pytest.mark.slow
def test_row_8_linear_layers_collapse_into_one():
    found = run(8)
    assert found["shapes"] == [(3, 5), (5, 4), (4, 2)] and found["collapsed"] == (3, 2)
    assert found["difference"] <= 1e-6 < 0.1 < found["difference_with_sigmoids"]


@pytest.mark.slow
def test_row_9_a_hidden_layer_and_a_bend_leave_the_floor(tmp_path):
    found = run(9, tmp_path)
    assert found["start"] == pytest.approx(4 / 45, abs=1e-12)
    assert found["end"] < 1e-3
    assert found["one_neuron"] > 9 / 160  # mistake 20: no monotone function does better
    (_,), said = picture(tmp_path)
    assert "21 points" in said and "the truth" in said


@pytest.mark.slow
def test_row_9_on_the_command_line(tmp_path):
    quick = ("--epochs", 300, "--quiet", "--json", "--out", tmp_path)
    told = json.loads(command("train", "square", "--layers", "1,16,1", *quick))
    assert 2 * told["final"]["validation_cost"] < 1e-3
    linear = json.loads(command("train", "square", "--layers", "1,16,1", "--activation", "identity", *quick))
    assert 2 * linear["final"]["validation_cost"] > 0.05


# --- What it computes


@pytest.mark.slow
def test_row_10_the_sigmoid(tmp_path):
    found = run(10, tmp_path)
    assert found["at_zero"] == 0.5 and found["slope_at_zero"] == 0.25 == found["largest_slope"]
    low, high = found["range"]
    assert 0 < low < 1e-5 and 1 - 1e-5 < high < 1  # the ends are never reached
    assert 36 < found["rounds_to_one_from"] < 38  # ln 2⁵³, float64's last digit
    assert found["relu_of_1000"] == 1000  # mistake 6: not every activation squashes
    # mistake 22: σ′ in the gradient of the squared error, none in the cross entropy's
    slow, fast = found["when_very_wrong"]["squared_error"], found["when_very_wrong"]["cross_entropy"]
    a = sigmoid(4)
    assert fast == pytest.approx(a) and slow == pytest.approx(a * a * (1 - a)) and fast > 50 * slow
    _, said = picture(tmp_path)
    assert "φ(1.35) = 0.79413" in said and "φ′(1.35) = 0.16349" in said


@pytest.mark.slow
def test_row_11_a_network_is_a_function_of_x_and_theta():
    one, two, deep = run(11).values()
    assert [net["parameters"] for net in (one, two, deep)] == [1, 2, 16 + 16 + 16 + 1]
    assert all(net["pure"] and net["gradient_like_params"] for net in (one, two, deep))
    assert one["y"][1] == pytest.approx(2 * one["y"][0]) and deep["y"][1] != pytest.approx(2 * deep["y"][0])
    assert one["doubled"] == pytest.approx([2 * y for y in one["y"]])
    assert two["doubled"] == pytest.approx([4 * y for y in two["y"]])


def test_row_12_two_weights_in_a_row(tmp_path):
    found = run(12, tmp_path)
    assert found["a"] == pytest.approx(0.12, abs=1e-12) and found["C"] == pytest.approx(1.7672, abs=1e-12)
    assert found["same_product"] == pytest.approx(0.12)
    (ax,), said = picture(tmp_path)
    assert edges(ax) == 2 and "a = z = 0.12" in said


@pytest.mark.slow
def test_row_13_the_output_is_linear_and_has_no_bias(tmp_path):
    found = run(13, tmp_path)
    a = [sigmoid(1.35), sigmoid(-0.5 + 0.75 + 0.2 - 0.2)]
    assert found["a"] == pytest.approx(a)
    assert found["output"] == pytest.approx(sum(found["terms"])) == pytest.approx(0.6 * a[0] - 0.4 * a[1])
    assert found["bias"] is None
    assert found["slope"] == 1  # mistake 9: ∂a/∂z of this output
    assert found["gradient"] == pytest.approx(found["by_hand"])
    assert found["gradient"] == pytest.approx([(found["output"] - 1) * v for v in a])
    assert abs(found["gradient"][0]) > 4 * abs(found["articles"][0])  # the article's σ′ is at most ¼
    (ax,), said = picture(tmp_path)
    assert edges(ax) == 8 and said.count("b = ") == 2


@pytest.mark.slow
def test_row_14_without_the_half_everything_doubles():
    found = run(14)
    assert found["cost_ratio"] == pytest.approx(2) and found["gradient_ratios"] == pytest.approx([2, 2, 2])
    assert found["half"]["C"] == pytest.approx(0.5 * (sigmoid(1.35) - 1) ** 2) == pytest.approx(found["l2_loss"])
    assert round(found["half"]["dC_da"], 5) == -0.20587


@pytest.mark.slow
def test_mistake_7_what_others_call_mean_squared_error():
    sklearn = pytest.importorskip("sklearn.metrics")
    y, targets = jax.random.normal(jax.random.key(0), (2, 7, 3))
    theirs = sklearn.mean_squared_error(targets, y)
    assert float(jnp.mean(jp.MeanSquaredError()(y, targets))) == pytest.approx(theirs)
    one = (y[:, :1], targets[:, :1])
    assert float(jnp.mean(2 * jp.HalfSquaredError()(*one))) == pytest.approx(sklearn.mean_squared_error(*one))
    assert jp.HalfSquaredError()(y, targets) == pytest.approx(np.sum(optax.l2_loss(y, targets), axis=1))
    assert 2 * jp.HalfSquaredError()(*one) == pytest.approx(optax.squared_error(*one)[:, 0])


# --- What a gradient is


@pytest.mark.slow
def test_row_15_the_landscape_of_two_weights(tmp_path):
    found = run(15, tmp_path)
    assert np.array(found["minima"]) == pytest.approx(np.zeros((6, 2)), abs=1e-12)
    assert found["saddle"] == {"gradient": [0, 0], "hessian": [[0, -2], [-2, 0]]}
    assert found["from_saddle"] == [0, 0]
    assert found["into_saddle"] == pytest.approx([0, 0], abs=1e-9)  # mistake 15: not to the nearest low point
    slow, fast, far = (found[rate] for rate in (0.03, 0.24, 0.4))
    assert slow["crossings"] == 0 and math.prod(slow["end"]) == pytest.approx(2, abs=1e-4)
    assert fast["crossings"] > 5 and math.prod(fast["end"]) == pytest.approx(2, abs=1e-2)
    assert far["diverged"] and not slow["diverged"] and not fast["diverged"]
    axes, said = picture(tmp_path)
    assert hasattr(axes[0], "plot_surface")
    for text in ("the curve θ₁θ₂ = 2", "saddle (0, 0): gradient 0", "overshoots", "diverges", "η = 0.03: converged"):
        assert text in said


@pytest.mark.slow
def test_row_16_a_nudge_becomes_the_derivative(tmp_path):
    found = run(16, tmp_path)
    assert round(found["slope"], 5) == -0.03366
    forward, central = found["forward"], found["central"]
    assert forward[1e-2] / forward[1e-3] == pytest.approx(10, rel=0.05)
    assert central[1e-2] / central[1e-3] == pytest.approx(100, rel=0.05)
    assert central[1e-12] > 100 * central[1e-3]  # round-off
    # mistake 17: an average velocity misses the one at an instant by half the acceleration times Δt
    for dt, average in found["average"].items():
        assert average == pytest.approx(found["instantaneous"] - 9.81 / 2 * dt)
    assert found["instantaneous"] == pytest.approx(10 - 9.81 * 0.5)
    assert found["ball_r2"] > 0.97
    (ax,), said = picture(tmp_path)
    assert ax.get_xscale() == ax.get_yscale() == "log" and "round-off" in said


@pytest.mark.slow
def test_row_17_three_factors_multiply():
    found = run(17)
    dC_da, da_dz, dz_dw = found["factors"]
    assert rounded((dC_da, da_dz), 5) == (-0.20587, 0.16349) and dz_dw == [1, 3, 2]
    assert round(found["delta"], 6) == -0.033657 and found["delta"] == pytest.approx(dC_da * da_dz)
    for name in ("product", "manual", "auto"):
        assert rounded(found[name], 5) == (-0.03366, -0.10097, -0.06731)
    assert rounded(found["chain"], 12) == (-0.564, -0.752)
    explained = found["explained"]
    assert [factor["name"] for factor in explained["factors"]] == ["∂C/∂a", "∂a/∂z", "∂z/∂w"]
    assert rounded([factor["value"] for factor in explained["factors"]], 5) == (-0.20587, 0.16349, 3)
    assert round(explained["value"], 5) == -0.10097 and explained["value"] == pytest.approx(explained["jax_grad"])
    assert "(-0.20587)·0.163488·3" in found["text"]
    # mistake 11: w′ is 1, and z′ with respect to x would be another number
    assert found["dw_dw"] == 1 and found["dz_dx"] == [0.5, -0.25, 0.75] != dz_dw


@pytest.mark.slow
def test_rows_16_and_17_on_the_command_line(tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("x1,x2,x3,y\n1,3,2,1\n1,3,2,1\n")
    about = {"columns": ("x1", "x2", "x3"), "target": "y"}
    with jax.enable_x64(False):
        net, x, params, _ = unit()
        jp.save(tmp_path / "unit", net, params, inputs=x, cost=jp.HalfSquaredError(), info=about)
    assert "three witnesses agree on 2 rows" in command("check", tmp_path / "unit", "--data", rows)
    asked = ("explain", tmp_path / "unit", "--param", "0.W", "--data", rows, "--json")
    told = [json.loads(command(*asked, "--index", f"{i},0")) for i in range(3)]
    assert rounded([one["value"] for one in told], 5) == (-0.03366, -0.10097, -0.06731)
    assert all(round(one["delta"], 6) == -0.033657 for one in told)


@pytest.mark.slow
def test_row_18_the_derivative_for_a_bias_is_the_error():
    found = run(18)
    assert round(found["delta"], 6) == -0.033657
    assert found["manual"] == pytest.approx(found["delta"]) == pytest.approx(found["auto"])
    assert found["factors"][2] == 1 and math.prod(found["factors"]) == pytest.approx(found["delta"])
    # mistake 3: the result is no ∂C/∂w; only the weight of an input that is 1 has the same
    assert [w == pytest.approx(found["delta"]) for w in found["weights"]] == [True, False, False]
    assert "∂z⁽¹⁾[0]/∂b⁽¹⁾[0] = 1" in found["text"]


@pytest.mark.slow
def test_row_19_errors_flow_back_through_every_edge(tmp_path):
    found = run(19, tmp_path)
    deltas, rule = found["deltas"], found["rule"]
    assert [len(delta) for delta in deltas] == [3, 3, 2] and len(rule) == 2
    for delta, by_rule in zip(deltas, rule, strict=False):
        assert by_rule == pytest.approx(delta, abs=1e-15)
        assert all(abs(d) > 1e-6 for d in delta)
    assert max(found["grad_error"]) <= 1e-15
    assert len(found["terms"]) == 2  # unit 0 of the last hidden layer has two outgoing edges, and the text lists both
    for k, term in enumerate(found["terms"]):
        assert f"δ⁽³⁾[{k}]·W⁽³⁾[0,{k}]" in found["text"]
        assert f"{term:.6g}" in found["text"]
    (ax,), said = picture(tmp_path)
    assert len(ax.patches) == 6 + 3 + 3 and "on its way back" in said


# --- What descent does with it


@pytest.mark.slow
def test_row_20_the_update_goes_downhill(tmp_path):
    found = run(20, tmp_path)
    assert rounded(found["gradient"], 12) == (-0.564, -0.752) and found["before"] == pytest.approx(1.7672)
    squared = 0.564**2 + 0.752**2
    for name, row in ((name, found[name]) for name in ("small", "step", "flipped", "too large")):
        moved = [0.4 + row["rate"] * 0.564, 0.3 + row["rate"] * 0.752]
        assert row["w"] == pytest.approx(moved), name
        assert row["predicted"] == pytest.approx(-row["rate"] * squared), name
        assert row["actual"] == pytest.approx(0.5 * (math.prod(moved) - 2) ** 2 - 1.7672), name
    assert found["small"]["actual"] < 0 and found["step"]["actual"] < 0
    assert found["small"]["actual"] == pytest.approx(found["small"]["predicted"], rel=0.01)
    assert found["flipped"]["actual"] > 0  # mistake 1: the gradient added
    assert found["too large"]["actual"] > 0  # mistake 2: η matters
    _, said = picture(tmp_path)
    assert "slope ∂C/∂w = −0.564" in said and "w′ = w − η ∂C/∂w = 2.656" in said


@pytest.mark.parametrize("sign", [1, -1])
def test_mistake_1_adding_the_gradient_climbs(sign):
    """Twenty steps of the article's unit: with the minus C falls at every one, with its plus C rises at every one."""
    net, x, params, targets = unit()
    gradient = jax.jit(jp.manual.value_and_grad(net, jp.HalfSquaredError()))
    costs = []
    for _ in range(20):
        value, grads = gradient(x, params, targets)
        params = jax.tree.map(lambda p, g: p - sign * 0.5 * g, params, grads)
        costs.append(float(value))
    assert np.all(sign * np.diff(costs) < 0)


def test_row_21_the_outer_derivative_is_taken_at_the_inside():
    found = run(21)
    plain, cubed = found["3*(x**2+1)"], found["3*(x**2+1)**3"]
    assert plain["derivative"] == "6x" and plain["derivative_value"] == 12
    assert cubed["derivative"] == "18x(x² + 1)²" and cubed["derivative_value"] == cubed["jax_grad"] == 900
    assert found["at_the_inside"] == 18 * 2 * 5**2 == 900
    assert found["not_at_the_inside"] == 9 * 2**2 * 4 != 900  # mistake 23


def test_row_21_on_the_command_line():
    assert json.loads(command("explain", "3*(x**2+1)", "--at", 2, "--json"))["derivative"] == "6x"
    said = command("explain", "3*(x**2+1)**3", "--at", 2)
    assert "18x(x² + 1)²" in said and "[9u² at u=5] = 9·5² = 225" in said
