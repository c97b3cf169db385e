"""Where NaN came from: each situation's primitive, line, step and cause; healthy programs are silent."""

import inspect
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.xray.findings import Findings
from tests.xray import situations
from tests.xray.situations import COMMON, HEALTHY, RARE, TWO, Situation


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


@pytest.mark.parametrize("situation", COMMON, ids=str)
def test_the_place_and_the_cause_are_named(situation):
    check(situation, found(situation.f, *situation.args, argnums=situation.argnums))


@pytest.mark.slow
@pytest.mark.parametrize("situation", RARE, ids=str)
def test_so_are_those_of_rarer_situations(situation):
    check(situation, found(situation.f, *situation.args, argnums=situation.argnums))


@pytest.mark.parametrize("f, argnums", HEALTHY[:3], ids=lambda value: getattr(value, "__name__", ""))
def test_healthy_infinities_are_silent(f, argnums):
    assert not found(f, TWO + 0.5, argnums=argnums)


@pytest.mark.slow
@pytest.mark.parametrize("f, argnums", HEALTHY[3:], ids=lambda value: getattr(value, "__name__", ""))
def test_all_healthy_infinities_are_silent(f, argnums):
    assert not found(f, TWO, argnums=argnums)
