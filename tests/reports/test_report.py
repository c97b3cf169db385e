"""A report holds what it says, is whole in one file, and is written for every kind of network and rows."""

import html.parser
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop.reports import pictures
from jaxprop.reports.answers import answers
from jaxprop.reports.health import health
from jaxprop.train.rows import Rows

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int32) + (X[:, 1] > 1)
SGD = optax.sgd(0.1)
NET, COST = jp.Chain(jp.Linear(6), jp.ReLU(), jp.Linear(3)), jp.SoftmaxCrossEntropy()


class Elements(html.parser.HTMLParser):
    """Which elements a page has, which are open at its end, and every address in it."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.open, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def trained(net=NET, cost=COST, x=X, targets=LABELS, **options):
    return jp.fit(net, cost, SGD, (x, targets), epochs=2, progress=False, **options)


def text_of(path):
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", path.read_text(), flags=re.DOTALL))


def test_what_a_report_of_classes_holds(tmp_path):
    result = trained(validation=(X, LABELS), monitor={"flow": jp.stats.Flow()}, every=1)
    path = jp.report(
        NET, COST, result, (X, LABELS), tmp_path / "report.html", title="A <b> & c", classes=["low", "mid", "high"],
        settings={"optimizer": "sgd, 0.1"}, columns=["one", "two", "three"],
    )  # fmt: skip
    page, text = Elements(path.read_text()), text_of(path)
    assert not page.open and "script" not in page.seen
    assert all(address.startswith("data:") for address in page.addresses) and len(page.addresses) == 2
    for said in ("A &lt;b&gt; &amp; c", "sgd, 0.1", "Settings", "Curves", "Gradient health", "low", repr(NET)):
        assert said in text, said
    y = jp.predict(NET, X, result.params)
    share = np.mean(np.argmax(y, -1) == LABELS)
    assert f"{100 * share:.2f} % " in text
    costs = np.asarray(COST(jnp.asarray(y), jnp.asarray(LABELS)))
    worst = np.argsort(-costs)[:12]
    assert [int(row) for row in re.findall(r"row (\d+) · ", text)] == worst.tolist()
    assert f"one {X[worst[0], 0]:.4g}"[:8] in text


def test_the_numbers_of_health_are_those_of_the_gradient():
    params = NET.init(jax.random.key(0), X)
    found = health(NET, COST, Rows(X, LABELS), params)
    _, grads = jax.jit(jp.auto.value_and_grad(NET, COST))(X, params, LABELS)
    assert found.norm == pytest.approx(float(optax.tree.norm(grads)), rel=1e-5)
    z = X @ params[0].W + params[0].b
    assert found.units.rows[1] == ("1", "6", *[str(int(np.sum(np.all(np.asarray(z) <= 0, axis=0))))] * 2)


def test_the_matrix_counts_rows_and_the_worst_come_first():
    x = np.arange(4, dtype=np.float32)[:, None]
    net = lambda x, params: jnp.concatenate([2 - x, x], axis=1)  # noqa: E731
    found = answers(net, COST, Rows(x, np.array([0, 1, 1, 0])), ())
    assert found.counts.tolist() == [[1, 1], [1, 1]] and found.worst.tolist() == [3, 1, 0, 2]


def recurrent():
    x = RNG.normal(size=(12, 5, 2)).astype(np.float32)
    return jp.models.rnn_classifier("lstm", 4, 2), COST, x, np.arange(12) % 2


def images():
    return jp.models.convnet(3, 4), COST, RNG.normal(size=(9, 8, 8, 1)).astype(np.float32), np.arange(9) % 3


def numbers():
    return jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(1)), jp.HalfSquaredError(), X, X[:, :1] + 1


def with_statistics():
    return jp.Chain(jp.Linear(4), jp.BatchNorm(), jp.Linear(3)), COST, X, LABELS


def yes_or_no():
    return jp.Chain(jp.Linear(1)), jp.SigmoidCrossEntropy(), X, (LABELS[:, None] > 0).astype(np.float32)


def tokens():
    ids = RNG.integers(0, 7, (6, 5))
    return jp.models.gpt(7, 8, 1, 2, 5), COST, ids, ids


def pairs():
    net = lambda x, w: x[0] * w + x[1]  # noqa: E731
    return net, jp.HalfSquaredError(), (X, X + 1), X


@pytest.mark.slow
@pytest.mark.parametrize("make", [images, numbers, with_statistics, pairs, recurrent, tokens, yes_or_no])
def test_every_kind_of_network_and_rows_has_a_report(tmp_path, make):
    net, cost, x, targets = make()
    result = trained(net, cost, x, targets, params=jnp.float32(0.5) if make is pairs else None)
    path = jp.report(net, cost, result, (x, targets), tmp_path / "report.html")
    assert not Elements(path.read_text()).open and "Worst examples" in text_of(path)
    drawings = path.read_text().count("data:image/svg+xml")
    assert drawings == (2 if make in (numbers, pairs) else 1)
    assert path.read_text().count("data:image/png") == (9 if make is images else 0)


@pytest.mark.slow
def test_rows_in_files_have_the_report_of_those_in_memory(tmp_path):
    np.savez(tmp_path / "rows.npz", x=X, targets=LABELS)
    result = trained()
    rows = jp.data.stored(tmp_path / "rows.npz")
    here = text_of(jp.report(NET, COST, result, (X, LABELS), tmp_path / "a.html"))
    assert text_of(jp.report(NET, COST, result, rows, tmp_path / "a.html")) == here
    with pytest.raises(JaxpropError, match="report: rows is a stream"):
        jp.report(NET, COST, result, jp.train.Stream([(X, LABELS)]), tmp_path / "a.html")


def test_an_interrupted_run_without_an_epoch_has_a_report_too(tmp_path):
    result = jp.FitResult(NET.init(jax.random.key(0), X), (), jp.train.Best((), 0, float("inf")), 0, 0.0, "interrupted")
    path = jp.report(NET, COST, result, (X, LABELS), tmp_path / "report.html")
    assert "Training ended before its first epoch" in text_of(path)


def test_rows_that_do_not_count_are_not_among_the_worst():
    cost, params = jp.SoftmaxCrossEntropy(ignore=-100), NET.init(jax.random.key(0), X)
    found = answers(NET, cost, Rows(X[:5], np.where([0, 1, 0, 0, 1], -100, LABELS[:5])), params)
    assert sorted(found.worst) == [0, 2, 3] and found.counts.sum() == 3


def test_mistakes_are_told_and_the_file_that_was_there_stays(tmp_path, monkeypatch):
    result = trained()
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(JaxpropError, match=r"result must be what jp\.fit gave, found a tuple"):
        jp.report(NET, COST, result.params, (X, LABELS), path)
    with pytest.raises(JaxpropError, match=r"there is no folder .*nowhere; make it first"):
        jp.report(NET, COST, result, (X, LABELS), tmp_path / "nowhere" / "a.html")
    for names, words in (
        ({"classes": "ab"}, "2 names of classes, expected 3"),
        ({"columns": "ab"}, "2 .* columns, .* 3"),
    ):
        with pytest.raises(JaxpropError, match=f"report: found {words}"):
            jp.report(NET, COST, result, (X, LABELS), path, **names)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(JaxpropError, match="cannot be written: No space left on device"):
        jp.report(NET, COST, result, (X, LABELS), path)
    assert path.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_rows_with_named_columns_are_no_image():
    assert pictures.as_image(np.zeros(64), ["age"] * 64) is None
    assert pictures.as_image(np.zeros(64), [f"pixel {i}" for i in range(64)]).shape == (8, 8)
    assert pictures.as_image(np.zeros((8, 8, 3))).shape == (8, 8, 3) and pictures.as_image(np.zeros((4, 4))) is None
