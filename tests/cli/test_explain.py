"""`jaxprop explain`: a saved run or an expression, as text, LaTeX and JSON."""

import json

import jax
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import jaxprop as jp
from jaxprop import data
from jaxprop.cli import choices, explain as module
from jaxprop.cli.commands import explain as options
from jaxprop.errors import JaxpropError
from tests.drawing import draw

app = typer.Typer()
app.command("explain", cls=options.Command, epilog=options.EXAMPLE)(options.command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved network for the digits, not trained."""
    with jax.enable_x64(False):
        found = data.load("digits")
        net = jp.Chain(jp.Standardize(5.0, 6.0), jp.Linear(8), jp.Tanh(), jp.Linear(10))
        params = draw(net, found.x[:1])
        path = tmp_path_factory.mktemp("runs") / "digits"
        info = {"data": {"name": "digits", "options": {}, "source": "digits"}}
        return jp.save(path, net, params, inputs=found.x[:1], cost=jp.SoftmaxCrossEntropy(), info=info)


def ask(*arguments):
    """What the command prints, in float32 as users run it."""
    with jax.enable_x64(False):
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refuse(*arguments):
    """What the command refuses with."""
    with pytest.raises(JaxpropError) as error:
        ask(*arguments)
    return str(error.value)


def test_a_weight_of_a_run(folder):
    text = ask(folder, "--param", "1.W", "--index", "12,3", "--row", "4", "--learning-rate", "0.5")
    first, second = text.splitlines()[:2]
    assert first.startswith(f"{folder} on digits") and first.endswith("held-out rows")
    assert second.startswith("∂C/∂W⁽¹⁾[12,3] ") and "for row 4" in second
    assert "δ⁽²⁾[k] = ∂C/∂z⁽²⁾[k]" in text and "η = 0.5" in text and "jax.grad: ∂C/∂W⁽¹⁾[12,3]" in text


def test_json_is_the_gradient_of_that_row(folder):
    plain = json.loads(
        ask(folder, "--param", "3.b", "--index", "7", "--row", "2", "--json"), parse_constant=pytest.fail
    )
    with jax.enable_x64(False):
        net, params = jp.load(folder)
        held_out = data.load("digits").validation
        assert held_out is not None
        x, targets = held_out[0][2:3].astype("float32"), held_out[1][2:3]
        _, grads = jax.jit(jp.auto.value_and_grad(net, jp.SoftmaxCrossEntropy()))(x, params, targets)
    assert plain["value"] == pytest.approx(float(grads[3].b[7]), rel=1e-5)
    assert plain["value"] == pytest.approx(plain["jax_grad"], rel=1e-12)
    assert {"model", "data", "value", "jax_grad", "factors", "paths", "steps"} <= set(plain)


def test_latex_is_latex_alone(folder):
    text = ask(folder, "--param", "1.b", "--index", "3", "--latex")
    assert text.startswith(r"$\frac{\partial C}{\partial b^{(1)}_{3}}") and "∂" not in text


def test_a_quantity_of_all_rows(folder):
    plain = json.loads(ask(folder, "1.W[12,3]", "--quantity", "noise-scale", "--json"))
    text = ask(folder, "1.W[12,3]", "--quantity", "noise-scale")
    assert plain["quantity"]["rows"] > 100 and len(plain["quantity"]["largest"]) == 5
    assert (
        f"NoiseScale over {plain['quantity']['rows']} rows" in text and "the noise scale of this weight alone" in text
    )
    assert tuple(module.QUANTITIES) == choices.QUANTITIES
    assert "is no folder" in refuse("x**2", "--at", "2", "--quantity", "variance")


def test_an_expression():
    assert "df/dx = 3·2x = 6x = 6·2 = 12" in ask("3*(x**2+1)", "--at", "2")
    assert json.loads(ask("3*(x**2+1)", "--at", "2", "--json"))["derivative_value"] == 12
    assert r"\frac{\mathrm{d}f}{\mathrm{d}x}" in ask("x/2", "--at", "2", "--latex")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--index", "1,1"), "of which parameter? Say so with --param, one of 1.W [64, 8], 1.b [8], 3.W [8, 10]"),
        (("1.W[1,1]", "--param", "1.W"), "choose one of them"),
        (
            ("1.V",),
            "unknown path '1.V' (did you mean '1.W'?); known: 1.W [64, 8], 1.b [8], 3.W [8, 10], 3.b [10], x [64]",
        ),
        (("x[64]",), "index [64]: x has shape [64], so its index runs over 0 to 63"),
        (("--names", "w5"), "--names: found 'w5', expected something like w5=2.W[0,0]"),
        (("--names", "w5=5.W[0,0]"), "names: 'w5' is given to '5.W[0,0]', which is no entry; expected a number of"),
        (("--param", "4.W", "--index", "12,3"), "known: 1.W [64, 8]"),
        (("--param", "1.W", "--index", "12;3"), "--index: found '12;3', expected whole numbers such as 12,3 or 7"),
        (("--param", "1.W", "--index", "12"), "so its index is 2 numbers"),
        (("--param", "1.W", "--index", "1,1", "--row", "9999"), "row 9999: there are "),
        (("--param", "1.W", "--index", "1,1", "--learning-rate", "0"), "learning_rate must be a positive number"),
        (("--param", "1.W", "--index", "1,1", "--json", "--latex"), "--latex and --json: choose one"),
        (("--document", "--mathml"), "--document and --mathml: choose one"),
        (("--html", "a.html", "--json"), "--html and --json: choose one"),
        (("--html", "a.pdf"), "ending of --html"),
        (("--at", "2"), "--at is for an expression"),
        (("--param", "1.b", "--index", "1", "--quantity", "varance"), "'varance' (did you mean 'variance'?)"),
    ],
)
def test_what_a_run_needs(folder, options, message):
    assert message in refuse(folder, *options)


def test_what_is_neither_a_folder_nor_an_expression():
    assert refuse("runs/nope", "--param", "1.W", "--index", "1,2").startswith("runs/nope: no such folder; expected one")
    assert refuse("runs/nope").startswith("runs/nope: no such folder, and as an expression: two variables")
    assert "say where with --at" in refuse("x**2")
    assert "expected a number" in refuse("x +", "--at", "2")


def test_an_expression_may_begin_with_a_minus_sign():
    assert json.loads(ask("-x^2", "--at", "-2", "--json"))["derivative_value"] == 4
    assert json.loads(ask("--at", "-2", "-2x^2", "--json"))["derivative_value"] == 8
    assert json.loads(ask("--at", "-2", "--json", "--", "-2x^2"))["derivative_value"] == 8
    result = CliRunner().invoke(app, ["x^2", "--ta", "2"])
    assert result.exit_code == 2 and "No such option: --ta" in result.output


def test_several_variables_and_digits():
    plain = json.loads(ask("(x+y)*z", "--at", "x=-2,y=5,z=-4", "--json"))
    assert plain["derivatives"] == {"x": -4, "y": -4, "z": 3} and plain["value"] == -12
    assert "     q     3      -4        ∂f/∂q = -4" in ask("(x+y)*z", "--at", "x=-2, y=5 z=-4")
    assert "f = x/3 = 2/3 ≈ 0.67" in ask("x/3", "--at", "2", "--digits", "2")
    assert json.loads(ask("sin(x)", "--at", "pi/2", "--json"))["at"] == pytest.approx(1.5707963267948966)
    assert "--at: found '0,5', expected a number" in refuse("x^2", "--at", "0,5")
    assert "--at: found 'x=', expected a number" not in refuse("x^2", "--at", "x=1,x=2")


def test_long_formulas_break_at_operators(monkeypatch):
    monkeypatch.setattr(module, "columns", lambda: 50)
    text = ask("(sin(x)+cos(x)+exp(x)+tan(x)+x^2+x^3+log(x))*x*sin(2x)*cos(3x)*exp(x)*tanh(x)", "--at", "0.7")
    assert max(map(len, text.splitlines())) <= 50


def test_without_a_parameter_the_most_telling_one_is_taken(folder):
    plain = json.loads(ask(folder, "--json"))
    assert plain["path"] == "1.W" and "this number has the largest derivative in size for this row" in plain["picked"]
    bias = json.loads(ask(folder, "--param", "3.b", "--json"))
    assert bias["picked"].startswith("Of 3.b, this number has") and abs(bias["value"]) > 0.1
    assert json.loads(ask(folder, "x", "--json"))["path"] == "x"


def test_an_input_and_names_of_ones_own(folder):
    plain = json.loads(ask(folder, "x[20]", "--names", "w=1.W[20,3],E=C", "--json"))
    assert plain["value"] == pytest.approx(plain["jax_grad"], rel=1e-10) and plain["updated"] is None
    text = ask(folder, "w", "--names", "w=1.W[20,3], E=C")
    assert text.splitlines()[1].startswith("∂E/∂w ") and "actual change of E" in text and "W⁽¹⁾[20,3]" not in text


def test_columns_name_the_inputs(tmp_path):
    with jax.enable_x64(False):
        net, x = (
            jp.Chain(jp.Standardize((1.0, 0.5, 1.0), 2.0), jp.Linear(2), jp.Tanh(), jp.Linear(1)),
            np.ones((1, 3), np.float32),
        )
        (tmp_path / "t.csv").write_text("size,age (years),rooms,price\n1,2,3,4\n2,1,0,1\n")
        info = {"columns": ("size", "age (years)", "rooms"), "target": "price"}
        path = jp.save(tmp_path / "run", net, draw(net, x), inputs=x, cost=jp.HalfSquaredError(), info=info)
    text = ask(path, "age (years)", "--data", str(tmp_path / "t.csv"))
    assert text.splitlines()[1].startswith("∂C/∂x[age (years)] ")
    assert "a⁽⁰⁾[age (years)] = (x[age (years)] - 0.5)/2 = (2 - 0.5)/2 = 0.75" in text
    assert r"x_{\mathrm{age\ (years)}}" in ask(path, "age (years)", "--data", str(tmp_path / "t.csv"), "--latex")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layers", "param", "index", "says"),
    [
        (
            (jp.Conv(2, (3, 3), 2), jp.ReLU(), jp.Flatten()),
            "1.W", "0,1,0,1", "The kernel slides, and this number of it multiplies",
        ),
        ((jp.Flatten(), jp.Linear(4), jp.BatchNorm()), "3.scale", "2", "C is the mean over all"),
    ],
)  # fmt: skip
def test_a_weight_of_any_layer(tmp_path, layers, param, index, says):
    with jax.enable_x64(False):
        found = data.load("digits")
        net = jp.Chain(jp.Reshape((8, 8, 1)), *layers, jp.Linear(10))
        info = {"data": {"name": "digits", "options": {}, "source": "digits"}}
        params = draw(net, found.x[:2])
        jp.save(tmp_path / "run", net, params, inputs=found.x[:1], cost=jp.SoftmaxCrossEntropy(), info=info)
    text = " ".join(ask(tmp_path / "run", "--param", param, "--index", index).split())
    assert says in text and "How the cost changes with the answer" in text
    plain = json.loads(ask(tmp_path / "run", "--param", param, "--index", index, "--json"), parse_constant=pytest.fail)
    assert plain["value"] == pytest.approx(plain["jax_grad"], rel=1e-9)
    assert sum(term["product"] for term in plain["terms"]) + plain["rest"]["sum"] == pytest.approx(plain["value"])


def test_a_file_of_html_and_mathml_of_the_same_numbers(folder, tmp_path):
    """The file is written whole, over one that is there, and says whose numbers it has."""
    file = tmp_path / "made" / "w.html"
    weight = ("1.W[12,3]", "--row", "4")
    assert ask(folder, *weight, "--html", file).strip() == str(file)
    assert ask(folder, *weight, "--html", file).strip() == str(file)
    page, mathml = file.read_text("utf-8"), ask(folder, *weight, "--mathml")
    assert f'<p class="source">{folder} on digits' in page
    assert mathml.strip().replace("h3>", "h2>").partition("</h2>")[2] == page[page.index("<article") :].partition(
        "</h1>"
    )[2].removesuffix("\n</body>\n</html>\n")
    assert [each.name for each in file.parent.iterdir()] == ["w.html"]
    (tmp_path / "a_folder.html").mkdir()
    assert "a_folder.html: cannot be written: " in refuse("x^2", "--at", "2", "--html", tmp_path / "a_folder.html")
