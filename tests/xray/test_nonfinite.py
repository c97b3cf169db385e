"""Where NaN came from: each situation's primitive, line, step and cause; healthy programs are silent."""

import inspect
import json
import sys

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn, nnx

import jaxprop as jp
from jaxprop.xray import looking, measures
from jaxprop.xray.findings import Findings
from jaxprop.xray.marks import INF, NAN, marks_of
from tests.xray import situations
from tests.xray.situations import ALIKE, COMMON, HEALTHY, RARE, SWITCHED, TWO, Situation


def found(f, *args, argnums=0, **kwargs) -> Findings:
    return jp.xray.nonfinite(jp.xray.report(f, argnums, **kwargs)(*args))


def line_of(f) -> int | None:
    """The number of the line that ends with `# here`."""
    lines, start = inspect.getsourcelines(f)
    return next((start + i for i, line in enumerate(lines) if line.endswith("# here\n")), None)


def check(situation: Situation, findings: Findings) -> None:
    assert findings, "nothing was found"
    first = findings[0]
    seen = (first.primitive, first.cause, first.direction, first.steps)
    way = "backward" if situation.backward else "forward"
    assert seen == (situation.primitive, situation.cause, way, situation.steps), str(findings)
    assert (line := line_of(situation.f)) is None or (first.line is not None and first.line.number == line)
    assert line is None or first.source.endswith("# here")


def marked(values, *marks):
    return [pytest.param(value, marks=marks, id=getattr(value, "__name__", str(value))) for value in values]


SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive


@pytest.mark.parametrize("situation", [*marked(COMMON), *marked(RARE, SLOW), *marked(ALIKE, SLOW, EXHAUSTIVE)])
def test_the_place_and_the_cause_are_named(situation):
    check(situation, found(situation.f, *situation.args, argnums=situation.argnums))


@pytest.mark.parametrize("situation", SWITCHED, ids=str)
def test_switches_of_jax_that_stop_at_nan_do_not_stop_the_search(situation):
    with jax.debug_nans(True), jax.debug_infs(True), jax.disable_jit(True):
        check(situation, found(situation.f, *situation.args, argnums=situation.argnums))


@pytest.mark.parametrize("f", [*marked(HEALTHY[:3]), *marked(HEALTHY[3:], SLOW)])
def test_healthy_infinities_are_silent(f):
    assert not found(f, TWO, argnums=None if f is situations.force_5698 else 0)


class Normalise(nn.Module):
    """A layer that divides by a norm, which is 0 for an input of zeros."""

    @nn.compact
    def __call__(self, x):
        return x / jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 0.0)


class Net(nn.Module):
    """Two modules, the second of which is at fault."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(Normalise(name="scale")(nn.relu(nn.Dense(3)(x))))


def test_the_module_of_flax_is_named():
    net, x = Net(), jnp.zeros((2, 4), jnp.float32)
    params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(net.init, jax.random.key(0), x))
    first = found(lambda params: jnp.sum(net.apply(params, x)), params)[0]
    assert (first.primitive, first.cause) == ("div", "0/0")
    assert "scale" in first.scope and first.source.startswith("return x / jnp.sqrt")


@pytest.mark.slow
def test_the_line_in_a_module_of_nnx_and_equinox_is_named():
    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(2, 3, rngs=rngs)

        def __call__(self, x):
            return jnp.sqrt(self.dense(x) * 0)

    class Eqx(equinox.Module):
        dense: equinox.nn.Linear

        def __call__(self, x):
            return jnp.sqrt(self.dense(x) * 0)

    x = jnp.ones(2, jnp.float32)
    for model in (Nnx(nnx.Rngs(0)), Eqx(equinox.nn.Linear(2, 3, dtype=jnp.float32, key=jax.random.key(0)))):
        first = found(lambda model: jnp.sum(model(x)), model)[0]
        assert (first.primitive, first.cause) == ("sqrt", "√′(0)")
        assert first.source == "return jnp.sqrt(self.dense(x) * 0)"


def test_a_finding_tells_the_place_the_numbers_and_the_remedy():
    findings = found(situations.log_under_where, TWO)
    number = line_of(situations.log_under_where)
    assert str(findings) == (
        "The value 0.6931 is finite, but the gradient of x is NaN (1 of 2 not finite).\n\n"
        f"the way back through log at situations.py:{number} (log_under_where)\n"
        "    return jnp.sum(jnp.where(x > 0, jnp.log(x), 0.0))  # here\n"
        f"  why:    0 · ∞ under a where: the where at situations.py:{number} (log_under_where) drops this element, but "
        "the derivative of log at 0 is 1/0 = ∞ at [1]; the error that comes back there is 0, and 0 · ∞ is NaN\n"
        "  write:  jnp.where(mask, f(jnp.where(mask, x, 1.0)), 0.0): the inner where keeps f away from the bad x\n"
        "  then:   the gradient of x is NaN (1 of 2 not finite)"
    )
    assert "log" in str(findings.table()) and "0 · ∞" in findings.table()._repr_html_()
    assert "jnp.where(mask, f(" in findings._repr_html_() and "x &gt; 0" in findings._repr_html_()
    with pytest.raises(AttributeError):
        findings[0].cause = "none"


@pytest.mark.slow
def test_where_a_nan_was_made_that_a_where_drops_is_told_too():
    labels = found(situations.missing_labels, np.ones(2), np.array([0.5, np.nan]))
    assert labels[0].why.endswith("; that NaN was given, in y") and "inner where" in labels[0].instead
    rows = found(situations.rows_without_any, np.ones(2), light=True)[0]
    assert "; that NaN was made by sub at situations.py" in rows.why and rows.why.endswith("−∞ − −∞ is NaN at [1, 0]")
    assert "keep one entry of each row unmasked" in rows.instead


def test_a_report_from_json_knows_the_place_and_says_what_it_lacks():
    report = jp.xray.report(situations.scanned)(3.0)
    again = jp.xray.Report.from_json(json.loads(json.dumps(report.json())))
    findings = again.nonfinite()
    assert (findings[0].primitive, findings[0].steps, len(findings)) == ("sqrt", (("scan", 2, 6),), 1)
    assert "jp.xray.report(f)" in findings.note
    assert not jp.xray.Report.from_json(jp.xray.report(situations.root_at_zero)(1.0).json()).nonfinite()


def test_a_light_report_finds_as_much_and_infinities_beside_the_value_are_nobodys_business():
    def with_scores(x):
        scores = jnp.where(x > 1, x, -jnp.inf)
        return jax.nn.logsumexp(scores), scores

    assert not found(with_scores, TWO, has_aux=True)
    assert found(situations.log_under_where, TWO, light=True)[0].cause == "0 · ∞ under a where"


def test_who_looks_a_second_time_and_sees_nothing_says_so(monkeypatch):
    """XLA may compile a program in two ways, of which one has a 0 · ∞ that the other leaves out."""
    report = jp.xray.report(situations.root_of_negative, None)(TWO)
    module = sys.modules["jaxprop.xray.nonfinite"]
    monkeypatch.setattr(module, "look", lambda traced, wanted: looking.look(traced._replace(inputs=[TWO + 9]), wanted))
    first = report.nonfinite()[0]
    assert (first.primitive, first.cause) == ("sqrt", "not known")
    assert first.why.startswith("it gave NaN in the first run, and did not in the second")


@pytest.mark.slow
def test_nan_beside_the_value_is_found_and_what_follows_is_told():
    def with_nan(x):
        return jnp.sum(x), jnp.log(x - 5)

    beside = found(with_nan, TWO, has_aux=True)
    assert beside[0].cause == "log of a negative number"
    assert beside.outcome == "What f returns beside its value holds NaN."
    findings = found(situations.entropy, TWO)
    assert findings.outcome == "The value is NaN; so the gradient of x is NaN (1 of 2 not finite)."
    assert (
        findings[0].chain[0].startswith("NaN in mul at situations.py") and findings[0].chain[-1] == "the value is NaN"
    )
    assert len(found(situations.two_nans, TWO)) == 2


def test_what_is_finite_needs_no_second_look(monkeypatch):
    monkeypatch.setattr(sys.modules["jaxprop.xray.nonfinite"], "look", None)
    findings = found(situations.log_under_where, TWO + 1)
    assert (len(findings), bool(findings)) == (0, False)
    assert str(findings) == str(findings.table()) == "The value and the gradients are finite."


def test_light_measures_tell_nan_from_infinity_wherever_they_stand():
    """XLA's maximum on CPUs loses NaN in an array of this size; it does so where turns of a `while` are joined too."""
    measure = jax.jit(measures.light)
    array = np.arange(4096.0)
    measured = [measure(np.where(array == place, np.nan, array)) for place in (0, 1000, 4095)]
    measured += [measure(np.where(array == 7, -np.inf, array)), measure(array)]
    assert [int(marks_of(np.asarray(m))) for m in measured] == [NAN] * 3 + [INF, 0]
    joined = jax.jit(lambda *m: measures.joined(jnp.stack(m), jnp))
    pairs = (measured[0], measured[4]), (measured[3], measured[4]), (measured[4], measured[4])
    assert [int(marks_of(np.asarray(joined(*pair)))) for pair in pairs] == [NAN, INF, 0]


def test_who_called_the_line_is_told_where_several_did():
    @jax.jit
    def entropy(p):
        return -jnp.sum(p * jnp.log(p))

    def cost(p):
        good = entropy(p + 1)
        return good + entropy(p)  # this one

    finding = jp.xray.report(cost)(jnp.array([0.5, 0.0])).nonfinite()[0]
    assert (finding.line.function, [line.text for line in finding.via]) == (
        "entropy",
        ["return good + entropy(p)  # this one"],
    )
    assert f"  from:   {finding.via[0]}" in str(finding).splitlines()
    alone = jp.xray.report(lambda p: entropy(p))(jnp.array([0.5, 0.0])).nonfinite()[0]
    assert alone.via == () and "from:" not in str(alone)


def test_what_a_second_run_does_not_show_is_named_by_its_place():
    """Rounding may leave 0 in the program that measures, and not in the one that keeps the numbers."""
    left = [0.0, 1.0]

    def cost(x):
        return jnp.sum(jnp.sqrt(left.pop(0) * x))

    (finding,) = found(cost, TWO)
    assert (finding.primitive, finding.cause) == ("sqrt", "not known")
    assert "in a second run, which keeps the numbers, it was finite" in finding.why and not left
