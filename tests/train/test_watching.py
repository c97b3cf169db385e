"""`fit(..., explore=)`: whoever watches sees every moment of a run, and changes nothing of its numbers."""

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError, TrainingError
from jaxprop.train import watching
from tests.train.test_fit import NET, SQUARES, X, equal, fit


class Watcher:
    """Keeps all that it is told; `wait` is called at every report."""

    def __init__(self, about, looking=True, wait=lambda moment: None):
        self.about, self.looking, self.wait = about, looking, wait
        self.moments, self.rows, self.ended = [], [], None

    def report(self, moment):
        self.moments.append(moment)
        self.wait(moment)

    def epoch(self, row):
        self.rows.append(dict(row))

    def close(self, moment, stopped):
        self.ended = moment, stopped


def watched(looking=True, wait=lambda moment: None, **options):
    """A run of `fit`, and who watched it."""
    found = []

    def start(about):
        found.append(Watcher(about, looking, wait))
        return found[0]

    return fit(explore=start, **options), found[0]


@pytest.mark.parametrize("looking", [True, False])
def test_the_numbers_are_the_same_bit_for_bit(monkeypatch, looking):
    monkeypatch.setattr("jaxprop.train.run.SECONDS_WATCHED", 0.0)  # one step a chunk
    given = {"validation": (X, SQUARES), "batch_size": 2}  # so many steps that the order of their sum shows
    plain = fit(**given)
    result, seen = watched(looking, **given)
    assert equal(result.params, plain.params) and equal(result.state.optimizer, plain.state.optimizer)
    without_seconds = [[{k: v for k, v in row.items() if k != "seconds"} for row in r.history] for r in (result, plain)]
    assert without_seconds[0] == without_seconds[1]
    assert len(seen.moments) == 1 + 3 * 25 or not looking  # the start, then before every chunk


def test_it_sees_where_the_run_is(monkeypatch):
    monkeypatch.setattr("jaxprop.train.run.SECONDS_WATCHED", 0.0)
    params = fit(epochs=1).params
    result, seen = watched(epochs=2, params=params)
    assert equal(seen.moments[0].params, params) and seen.moments[0].steps == 0 and seen.moments[0].cost is None
    assert [moment.steps for moment in seen.moments] == [0, *range(8)]
    assert [moment.epochs for moment in seen.moments] == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    moment, stopped = seen.ended
    assert stopped == "finished" and moment.steps == 8 and equal(moment.params, result.params)
    assert seen.rows == list(result.history)
    costs = [moment.cost for moment in seen.moments[2:]] + [moment.cost]
    full = np.mean([c * rows for c, rows in zip(costs[:4], (16, 16, 16, 2), strict=True)]) * 4 / 50
    assert full == pytest.approx(result.history[0]["cost"], rel=1e-12)
    assert (seen.about.epochs, seen.about.steps_an_epoch, seen.about.batch_size) == (2, 4, 16)
    assert seen.about.recipe.net is NET and len(seen.about.data.x) == 50 and seen.about.validation is None


def test_it_is_told_how_a_run_ended():
    assert watched(on_epoch=lambda row, state: True)[1].ended[1] == "callback"
    assert watched(rate=0.0, patience=1)[1].ended[1] == "early"

    def interrupt(moment):
        if moment.steps:
            raise KeyboardInterrupt

    found = []
    with pytest.raises(jp.TrainingInterrupted):
        fit(explore=lambda about: found.append(Watcher(about, True, interrupt)) or found[0])
    assert found[0].ended[1] == "interrupted" and found[0].ended[0].steps == found[0].moments[-1].steps
    with pytest.raises(TrainingError):
        fit(explore=lambda about: found.append(Watcher(about)) or found[1], rate=1e300)
    moment, stopped = found[1].ended
    assert stopped == "failed" and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(moment.params))


def test_what_is_kept_of_a_moment_is_not_taken_away():
    _, seen = watched()
    assert not any(leaf.is_deleted() for moment in seen.moments for leaf in jax.tree.leaves(moment.params))


def test_a_wrong_explore_and_a_missing_explorer_are_told(monkeypatch):
    with pytest.raises(JaxpropError, match="explore must be True, False or a function that starts a watcher, found 8"):
        fit(explore=8765)
    monkeypatch.setattr(watching, "offered", lambda group: {})
    with pytest.raises(JaxpropError, match=r"explore=True needs the explorer, which is not installed: pip install"):
        fit(explore=True)
