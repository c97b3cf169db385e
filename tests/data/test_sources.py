"""The sources by name: the digits, the made-up problems, and `load`."""

import math
import sys

import numpy as np
import pytest

from jaxprop import data
from jaxprop.data.rows import random_numbers
from tests.data.asked import FLOWERS, MADE_UP, refused, same, write_mnist


def test_digits():
    digits, again, other = data.digits(), data.digits(), data.digits(seed=1)
    assert digits.x.shape == (1438, 64) and digits.x.dtype == np.float32 and digits.x.max() == 16
    assert digits.targets.dtype == np.int32 and set(digits.targets) == set(range(10))
    assert digits.classes == tuple("0123456789") and digits.columns is not None and len(digits.columns) == 64
    assert digits.validation is not None and len(digits.validation[0]) == 359
    assert same(digits, again) and not same(digits, other)
    assert data.digits(validation=0).targets[:5].tolist() == [0, 1, 2, 3, 4]  # the file's own order


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with refused("scikit-learn, which is not installed", 'pip install ".[data]"'):
        data.digits()


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_problems(name):
    rows = data.load(name, rows=50, seed=3)
    assert rows.x.dtype == np.float32 and rows.x.shape == (40, len(rows.columns or ()))
    assert rows.validation is not None and len(rows.validation[0]) == 10
    assert rows.targets.dtype == (np.float32 if rows.classes is None else np.int32)
    assert rows.targets.shape == ((40, 1) if rows.classes is None else (40,))
    assert same(rows, data.load(name, rows=50, seed=3)) and not same(rows, data.load(name, rows=50, seed=4))
    assert rows.source.startswith(name) and "50 rows, seed 3" in rows.source


def test_what_the_problems_are():
    line, square, ball = data.line(-3.0), data.square(), data.ball(noise=0)
    np.testing.assert_allclose(line.targets, -3 * line.x, rtol=1e-6)
    np.testing.assert_allclose(square.targets, square.x**2, rtol=1e-6)
    assert line.x.min() < -0.9 and line.x.max() > 0.9 and abs(line.x).max() <= 1
    np.testing.assert_allclose(ball.targets, ball.x[:, :1] / ball.x[:, 1:], rtol=1e-6)
    assert (ball.x.min(0) >= [1, 0.5]).all() and (ball.x.max(0) <= [20, 2]).all() and ball.x[:, 0].max() > 19
    assert (ball.columns, ball.target) == (("Δx", "Δt"), "v̄")


def test_noise_is_relative_for_the_ball_and_absolute_for_points():
    clean, noisy = data.ball(noise=0, rows=2000), data.ball(noise=0.1, rows=2000)
    assert np.std(noisy.targets / clean.targets - 1) == pytest.approx(0.1, rel=0.1)
    assert (noisy.x == clean.x).all()
    for made in (data.xor, data.moons, data.spirals):
        clean, noisy = made(noise=0, rows=2000), made(noise=0.1, rows=2000)
        assert np.std(noisy.x - clean.x) == pytest.approx(0.1, rel=0.1)
    clean, noisy = data.spirals(noise=0, validation=0), data.spirals(noise=0.1, validation=0)
    from_the_bits_that_placed_the_rows = random_numbers(0).normal(0, 0.1, clean.x.shape)
    assert abs(noisy.x - clean.x - from_the_bits_that_placed_the_rows).max() > 0.1


def test_shapes_of_the_point_clouds():
    moons, spirals, xor = data.moons(noise=0), data.spirals(noise=0), data.xor(noise=0)
    lower = moons.x[moons.targets == 1]
    np.testing.assert_allclose(((lower - [1, 0.5]) ** 2).sum(1), 1, rtol=1e-5)
    assert (lower[:, 1] <= 0.5).all() and (moons.x[moons.targets == 0][:, 1] >= 0).all()
    radius = np.hypot(*spirals.x.T)
    expected = 2 * np.pi * 1.5 * radius + np.pi * spirals.targets
    turn = np.arctan2(spirals.x[:, 1], spirals.x[:, 0]) - expected
    np.testing.assert_allclose(np.cos(turn), 1, atol=1e-5)
    assert ((xor.x[:, 0] != xor.x[:, 1]) == xor.targets).all()
    assert {tuple(p) for p in xor.x.tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("line", {"slope": math.inf}, ["slope is inf; expected a finite number"]),
        ("spirals", {"turns": "2"}, ["turns is '2'; expected a finite number"]),
        ("xor", {"noise": -0.1}, ["noise is -0.1; expected a finite number ≥ 0"]),
        ("ball", {"noise": math.nan}, ["noise is nan; expected a finite number ≥ 0"]),
        ("ball", {"noise": 1e38}, ["ball (noise 1e+38, 500 rows, seed 0): targets row", "float32 ends at"]),
        *[(name, {"rows": 1}, ["rows is 1; expected a whole number ≥ 2"]) for name in MADE_UP],
        *[(name, {"seed": -1}, ["seed is -1; expected a whole number ≥ 0"]) for name in MADE_UP],
        ("square", {"rows": True}, ["rows is True; expected a whole number ≥ 2"]),
        ("square", {"rows": 10.0}, ["rows is 10.0; expected a whole number ≥ 2"]),
    ],
)
def test_made_up_problems_refuse(name, options, parts):
    with refused(*parts):
        data.load(name, **options)


X = np.arange(8.0).reshape(4, 2)


def test_load_by_name_and_by_path(write, save, tmp_path):
    assert same(data.load("digits", seed=5), data.digits(seed=5))
    assert len(data.load(write(FLOWERS), target="kind").x) == 4
    assert len(data.load(str(write("a\tb\n1\t2\n3\t4\n", "ROWS.TSV")), target="b").x) == 2
    assert len(data.load("csv", path=write(FLOWERS), target="kind").x) == 4
    assert len(data.load(save(x=X, y=X), validation=0).x) == 4
    write_mnist(tmp_path)
    assert len(data.load("mnist", folder=tmp_path, validation=10).x) == 20


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        (
            "digit",
            {},
            ["unknown data 'digit' (did you mean 'digits'?); known: ball, csv", ".csv, .tsv, .parquet or .npz", "IDX"],
        ),
        ("no/such/folder", {}, ["unknown data 'no/such/folder'", "or a folder of IDX files"]),
        ("digits", {"sed": 1}, ["unknown option of digits: 'sed' (did you mean 'seed'?); known: seed, validation"]),
        ("digits", {"target": "x"}, ["unknown option of digits: 'target'"]),
        ("mnist", {}, ["mnist needs folder=..., as in load('mnist', folder='...')"]),
        ("csv", {}, ["csv needs path=..."]),
        ("rows.csv", {"path": "other.csv"}, ["unknown option of csv: 'path'"]),
    ],
)
def test_load_refuses(name, options, parts):
    with refused(*parts):
        data.load(name, **options)


def test_load_csv_without_target_lists_the_columns(write):
    with refused("which column is the target? pass target=..., one of: petal, sepal, kind"):
        data.load(write(FLOWERS))


def test_data_is_numpy_frozen_and_short_to_print():
    rows = data.line()
    assert type(rows.x) is np.ndarray and len(repr(rows)) < 120
    with pytest.raises(AttributeError):
        rows.x = rows.targets  # type: ignore[misc]
