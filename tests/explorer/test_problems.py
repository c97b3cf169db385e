"""What is learned: the article's functions, points, digits, and a table that somebody dropped on the page."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxprop.cli.build import cost_kinds
from jaxprop.errors import DataError, JaxpropError
from jaxprop_explorer.experiments import problems
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.problems import NAMES, OWN, Table, Tables, source
from jaxprop_explorer.experiments.settings import Settings, fitting_costs, made_cost, read

PETALS = "petal,colour,kind\n1.5,red,iris\n4.0,red,rose\n2.0,blue,iris\n4.5,blue,rose\n1.0,red,iris\n3.5,red,rose\n"


@pytest.mark.parametrize(
    "name, function",
    [("line", "x"), ("double", "2 * x"), ("shifted", "x + 1"), ("square", "x ** 2"), ("nested", "3 * (x ** 2 + 1)")],
)
def test_the_articles_functions_are_what_they_say(name, function):
    found = source(name)
    expected = eval(function, {"x": found.data.x.astype(float)})
    np.testing.assert_allclose(found.data.targets, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.function(found.data.x), found.data.targets, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name != OWN])
def test_rows_fit_the_usual_cost_and_every_cost_that_is_offered(name):
    found = source(name)
    for cost in [Settings(data=name).complete(found).cost, *fitting_costs(found)]:
        rows = found.problem(cost_kinds()[cost]())
        assert len(rows.x) == len(rows.targets) and len(rows.answers) == found.outputs(cost_kinds()[cost]())
        low, high = np.array(rows.bounds).T
        assert (low < rows.x.reshape(len(rows.x), -1).min(axis=0)).all()
        assert (high > rows.x.reshape(len(rows.x), -1).max(axis=0)).all()


def test_two_classes_are_one_output_unless_the_cost_compares_classes():
    found, kinds = source("moons"), cost_kinds()
    targets = {name: found.problem(kinds[name]()).targets for name in fitting_costs(found)}
    assert set(np.unique(targets["hinge"])) == {-1, 1}
    assert set(np.unique(targets["half_squared_error"])) == {0, 1} and targets["half_squared_error"].shape[1:] == (1,)
    assert targets["kl_divergence"].shape[1:] == (2,)
    assert "poisson_negative_log_likelihood" not in targets and "hinge" not in fitting_costs(source("square"))


def test_noise_moves_points_and_validation_holds_rows_out():
    still = source("circles", noise=0.0).data
    radius = np.linalg.norm(still.x, axis=1)
    assert (radius[still.targets == 0] <= 0.5).all() and (radius[still.targets == 1] >= 0.7 - 1e-6).all()
    assert len(source("circles", validation=0.5).data.validation[0]) == 100
    assert not np.allclose(source("circles", noise=0.3).data.x, still.x)


def test_the_articles_networks_begin_with_its_weights():
    chain, neuron = Experiment.of(Settings(data="chain")), Experiment.of(Settings(data="neuron"))
    assert jax.tree.map(lambda w: round(float(w[0, 0]), 6), (chain.params[0].W, chain.params[2].W)) == (0.4, 0.3)
    assert round(float(chain.passed().cost), 4) == 1.7672
    y = neuron.passed().tape["1"]
    assert abs(float(y.x[0, 0]) - 1.35) < 1e-6 and abs(float(y.y[0, 0]) - 0.79413) < 1e-5


def test_a_table_is_read_as_train_reads_it():
    found = Table(PETALS, "C:\\my\\petals.csv").source(validation=0)
    assert found.classes == ("iris", "rose") and found.columns == ("petal", "colour=blue", "colour=red")
    assert found.standardize is not None and found.scale is None
    numbers = Table(PETALS, target="petal").source(validation=0)
    assert numbers.classes is None and abs(numbers.problem(cost_kinds()["huber"]()).targets.mean()) < 1e-6
    assert Table(PETALS).columns() == ["petal", "colour", "kind"]
    assert Table("a,b\n1,0\n2,1\n3,1\n4,0\n").source(validation=0).classes == ("0", "1")
    assert Table("a,b\n1,0\n2,1\n3,1\n4,0\n", labels=False).source(validation=0).classes is None


@pytest.mark.parametrize(
    "text, said",
    [
        ("a,b\n1,2\n3\n", "petals.csv, line 3: a short row"),
        ("", "petals.csv: found an empty file"),
        ("a,b\n1,2\n3,zz\n4,5\n", "petals.csv, line 3, column 'b': found 'zz', expected a number"),
        ("a,b\n" + "1,2\n" * 2_000_000, "the page takes up to 4 MiB"),
        ("a,b\n" + "1,2\n" * 20_001, "the page takes up to 20,000 rows"),
    ],
    ids=["short row", "empty", "text among numbers", "large", "many rows"],
)
def test_what_is_wrong_with_a_table_is_said_in_a_sentence(text, said):
    with pytest.raises(DataError) as found:
        Table(text, "petals.csv").source()
    assert said in str(found.value) and "/tmp" not in str(found.value)


def test_a_table_is_found_again_by_its_name_until_others_come():
    kept = Tables(most=2)
    names = [kept.keep(Table(f"a\n{i}\n")) for i in range(3)]
    assert kept.find(names[2]).text == "a\n2\n"
    with pytest.raises(DataError, match="drop the file again"):
        kept.find(names[0])


def test_a_table_of_ones_own_is_learned():
    name = problems.TABLES.keep(Table(PETALS, "petals.csv"))
    experiment = Experiment.of(Settings(data="own", table=name, layers=(), validation=0))
    before = experiment.measured()[0].cost
    experiment.advance(200)
    assert experiment.measured()[0].cost < before / 4 and experiment.measured()[0].accuracy == 1
    with pytest.raises(DataError, match="drop a CSV file"):
        Experiment.of(Settings(data="own"))


def test_rows_given_to_the_command_are_offered_to_pages(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.eye(6, 3, dtype=np.float32), y=np.arange(6) % 2)
    (tmp_path / "petals.csv").write_text(PETALS)
    assert problems.offer(Path("moons")) == {"data": "moons"}
    table = read(problems.offer(tmp_path / "petals.csv"))
    assert table.data == OWN and table.source().classes == ("iris", "rose")
    assert problems.offered() == {}
    with pytest.raises(DataError, match="unknown data"):
        problems.offer(tmp_path / "none")
    try:
        found = read(problems.offer(tmp_path / "rows.npz")).source()
        assert problems.offered() == {"given": "rows.npz"} and found.inputs == 3 and len(found.classes) == 2
    finally:
        problems.FILES.clear()
    with pytest.raises(JaxpropError, match="unknown data 'given'"):
        read({"data": "given"}).source()


@pytest.mark.parametrize(
    "given, said",
    [
        ({"layers": [0]}, r"layers: found \[0\], expected up to 6 hidden layers of 1 to 512 units"),
        ({"layers": [4] * 7}, "expected up to 6 hidden layers"),
        ({"activation": "rellu"}, "unknown activation 'rellu' .did you mean 'relu'"),
        ({"learning_rate": -1}, "learning_rate: found '-1', expected: input should be greater than 0"),
        ({"learning_rate": float("nan")}, "learning_rate: found 'nan', expected"),
        ({"batch_size": "many"}, "batch_size: found 'many', expected"),
        ({"colour": 1}, "there is no setting 'colour'; known: data"),
        ({"data": "mnists"}, "unknown data 'mnists'"),
        ([1], "settings: found"),
    ],
    ids=str,
)
def test_settings_say_what_was_found_and_expected(given, said):
    with pytest.raises(JaxpropError, match=said):
        read(given)


def test_a_cost_that_does_not_fit_says_which_do():
    found = source("square")
    with pytest.raises(JaxpropError, match=r"softmax_cross_entropy does not fit f\(x\) = x².*choose.*half_squared"):
        made_cost(Settings(data="square", cost="softmax_cross_entropy").complete(found), found)
    moons = source("moons")
    wrong = Settings(data="moons", cost="sigmoid_cross_entropy", output_activation="sigmoid").complete(moons)
    with pytest.raises(JaxpropError, match="applies the sigmoid itself"):
        made_cost(wrong, moons)


NAMED = {
    "null": "a\0b", "long": "💥" * 200, "half a character": "\ud800", "none": "", "up": "..", "root": "/",
    "up again": "a/..", "long with an ending": "x" * 200 + ".tsv",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED.values(), ids=NAMED)
def test_a_table_is_read_under_whatever_name_it_came(name):
    table = Table("a,b\n1,2\n2,4\n3,6\n4,8\n", name)
    assert table.source(validation=0).outputs(cost_kinds()["half_squared_error"]()) == 1
    assert Tables().keep(Table("a,b\n1,\ud800\n", name))
