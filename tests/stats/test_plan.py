"""The plan says what `collect` does: its ways, its memory, and what a bound on the memory changes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from tests.drawing import draw

HALF = jp.HalfSquaredError()
NORMS, CLIPPED, MOMENT = jp.stats.ExampleNorms(), jp.stats.ClippedGradient(1.0), jp.stats.SecondMoment()


def shapes(net, x):
    """x, θ and targets of single precision, without their numbers."""
    x = jax.ShapeDtypeStruct(x, jnp.float32)
    with jax.enable_x64(False):
        params = jax.eval_shape(net.init, jax.random.key(0), x)
        y = jax.eval_shape(net, x, params)
    return x, params, y


def temporary(net, asked, inputs, memory=None):
    """Bytes that the compiled program of `collect` needs beside its inputs and results."""
    run = jp.stats.collect(net, HALF, asked, memory=memory)
    with jax.enable_x64(False):
        compiled = jax.jit(lambda x, params, targets: run(x, params, targets)).lower(*inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


LONG = jp.Linear(64, bias=False), (64, 48, 64)  # direct: 64 × 64 numbers an example
SHORT = jp.Linear(256, bias=False), (64, 4, 256)  # gram
ROW = jp.Linear(64, bias=False), (64, 64)


@pytest.mark.parametrize("case, way", [(LONG, "direct"), (SHORT, "gram"), (ROW, "product")])
def test_it_names_the_way_that_the_use_goes(case, way):
    net, shape = case
    (row,) = jp.stats.plan(net, HALF, [NORMS])(*shapes(net, shape)).rows
    O = net.features
    use = jp.Outer(jnp.zeros(shape), jnp.zeros((*shape[:-1], O)), (shape[-1], O), jnp.dtype("float32"))
    assert (row.path, row.way) == ("W", way) == ("W", use.norm_way(shared=True).name)
    copied = 0 if row.examples == row.of else 2 * math.prod(shape[1:])  # a group of examples is a copy of its part
    assert row.of == 64 and row.bytes == 4 * row.examples * (use.norm_way(shared=True).numbers + copied)


CONV = jp.Conv(64, (3, 3), bias=False), (8, 16, 16, 32)
OF_A_USE = {NORMS: lambda use: use.total_and_norms(None), MOMENT: lambda use: use.squares(None)}


@functools.cache
def held(case, asked, memory=None):
    """Bytes that the compiled program of the one use of a layer needs beside the use, and what the plan says."""
    net, shape = case
    inputs = shapes(net, shape)
    with jax.enable_x64(False):
        use = jax.eval_shape(jp.manual.uses(net, HALF), *inputs)[1].W
        use = use if memory is None else use.within(memory // 4)
        compiled = jax.jit(OF_A_USE[asked]).lower(use).compile()
    planned = jp.stats.plan(net, HALF, [asked], memory=memory)(*inputs)
    return compiled.memory_analysis().temp_size_in_bytes, planned.bytes


@pytest.mark.parametrize("asked", [NORMS, MOMENT], ids=str)
@pytest.mark.parametrize("case", [LONG, CONV], ids=["Linear", "Conv"])
def test_its_bytes_are_those_of_the_compiled_program(case, asked):
    """Within a factor of 3, for XLA pads, copies, and lets some arrays share their place."""
    found, planned = held(case, asked)
    assert planned / 3 <= found <= 3 * planned


@pytest.mark.parametrize("asked", [NORMS, MOMENT], ids=str)
@pytest.mark.parametrize("case, memory", [(LONG, 1 << 16), (CONV, 1 << 18)], ids=["Linear", "Conv"])
def test_a_bound_on_the_memory_is_kept(case, memory, asked):
    found, planned = held(case, asked, memory)
    unbounded, _ = held(case, asked)
    theta = 4 * case[0].features * case[1][-1] * (9 if case is CONV else 1)
    copied = 4 * 8 * 18 * 18 * 32 if case is CONV else 0  # the padded input, of all examples
    assert planned <= memory and found < unbounded
    assert found <= 1.5 * memory + 2 * theta + copied
    bounded, free = (temporary(case[0], [asked], shapes(*case), m) for m in (memory, None))
    assert bounded <= 1.01 * free


def test_a_bound_changes_no_result():
    net = jp.Chain(jp.Linear(6), jp.Tanh(), jp.Linear(5))
    rng = np.random.default_rng(0)
    x, targets = (jnp.asarray(rng.normal(size=(6, 4, F))) for F in (7, 5))
    params, asked = draw(net, x), [NORMS, CLIPPED, MOMENT]
    runs = [jax.jit(jp.stats.collect(net, HALF, asked, memory=memory)) for memory in (None, 8 * 2 * (42 + 4 * 13))]
    free, bound = (jax.tree.leaves(run(x, params, targets)) for run in runs)
    assert max(relative(b, f) for f, b in zip(free, bound, strict=True) if jnp.size(f)) <= 1e-12


def test_a_use_that_cannot_be_brought_under_the_bound_is_named():
    net = jp.Chain(jp.Linear(64), jp.Tanh(), jp.Linear(64))
    for make in (jp.stats.plan, jp.stats.collect):
        with pytest.raises(JaxpropError, match=r"(0|2)\.W: .* would hold .* of one example .* raise memory="):
            run = make(net, HALF, [NORMS], memory=1000)
            jax.eval_shape(run, *shapes(net, (4, 32, 64)))


def test_it_says_how_uses_are_visited_a_second_time():
    block = jp.Chain(jp.Linear(8), jp.Tanh())
    once, stacked = (jp.stats.plan(net, HALF, [CLIPPED])(*shapes(net, (4, 8))) for net in (block, jp.Repeat(block, 3)))
    # a and δ of W, and δ of b, which is the same: 2 · 4 · 8 numbers
    assert once.visits == ("second visit: of the uses, which are kept: 256 bytes",)
    assert stacked.visits == ("second visit: another pull of δ alone, which keeps no use",)
    assert jp.stats.plan(block, HALF, [NORMS])(*shapes(block, (4, 8))).visits == ()
    assert str(stacked).splitlines()[-1] == stacked.visits[0]
