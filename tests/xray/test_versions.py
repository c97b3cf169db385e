"""What differs between JAX versions in JAX's programs: tested on each version that runs the tests."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxprop.xray import versions
from tests.xray.programs import PROGRAMS, X

ENTERED = {*versions.CALLS, *versions.REMATS, "scan", "cond", "while", "shard_map"}
# They hold programs too, and are evaluated as they stand: with a rule of their own, or without a place for an error
WHOLE = {*versions.CUSTOM, "custom_linear_solve", "linear_solve", "reduce_window", "scatter", "scatter-add", "argmax"}


def equations(jaxpr):
    """List all equations of a program, wherever it holds one, without `versions`."""
    for equation in jaxpr.eqns:
        yield equation
        for program in held(equation):
            yield from equations(program)


def held(equation):
    """Find the programs among the parameters of an equation, by what they have."""
    leaves = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda node: hasattr(node, "jaxpr"))
    opened = [getattr(leaf, "jaxpr", leaf) for leaf in leaves]
    return [program for program in opened if hasattr(program, "eqns")]


def program_of(f, *args):
    return versions.opened(jax.make_jaxpr(f)(*args))


def test_every_program_within_a_program_is_known():
    """An equation that holds a program, under a name that is not known, would be evaluated unseen."""
    unknown, met = set(), set()
    for f, args in PROGRAMS.values():
        numbers = tuple(arg if isinstance(arg, int) else None for arg in args)
        arrays = [arg for arg, number in zip(args, numbers, strict=True) if number is None]

        def of_arrays(*arrays, f=f, numbers=numbers):
            rest = iter(arrays)
            return f(*(next(rest) if number is None else number for number in numbers))

        for equation in equations(program_of(of_arrays, *arrays).jaxpr):
            name = equation.primitive.name
            if held(equation):
                (met if name in ENTERED | WHOLE else unknown).add(name)
    assert not unknown
    assert {"jit", "scan", "cond", "while", "custom_jvp_call", "custom_vjp_call"} <= {
        "jit" if name == "pjit" else name for name in met
    }
    assert met & versions.REMATS


def test_a_program_is_opened_with_its_constants():
    held_fast = np.arange(600.0).reshape(4, 150)

    @jax.jit
    def product(x):
        return jnp.sum(x @ jnp.asarray(held_fast))

    jaxpr, consts = program_of(product, X)
    (call,) = jaxpr.eqns
    inside, constants = versions.inner(call)
    assert inside.eqns[-1].primitive.name == "reduce_sum"
    assert len(inside.constvars) == len(constants)
    whole = [np.asarray(c) for c in (*consts, *constants) if np.shape(c) == held_fast.shape]
    literals = [v.val for e in inside.eqns for v in e.invars if versions.is_literal(v) and np.ndim(v.val) == 2]
    (constant,) = whole + literals
    np.testing.assert_array_equal(constant, held_fast)


@pytest.mark.parametrize("consts", [0, 2])
@pytest.mark.parametrize("carried", [0, 3])
@pytest.mark.parametrize("rows", [0, 1])
def test_the_inputs_of_a_scan_are_told_apart(consts, carried, rows):
    def f(closed, state, xs):
        def step(state, row):
            added = sum(closed[:], start=jnp.zeros(()))
            return tuple(s + added for s in state), (row, added)

        return lax.scan(step, state, xs, length=2)

    args = (jnp.ones(()),) * consts, (jnp.ones(()),) * carried, (jnp.ones(2),) * rows
    (scan,) = [e for e in program_of(f, *args).jaxpr.eqns if e.primitive.name == "scan"]
    split = versions.scan_split(scan)
    assert split.carried == carried and len(scan.invars) == sum(split) + rows
    assert split.consts >= consts


def test_an_equation_is_evaluated_as_it_stands():
    """Written once more by `evaluate`, a program is the same to the letter: precision, rules of its own, context."""

    @jax.custom_vjp
    def rule(x):
        return jnp.sin(x)

    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dy: (3 * dy * x,))

    def f(x, key):
        y = lax.dot(x, x, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float64)
        with jax.default_matmul_precision("bfloat16"):
            y = y + x @ x
        low, high = lax.top_k(x, 2)
        found = lax.custom_linear_solve(lambda v: v * x, x, lambda mv, b: b / x, symmetric=True)
        random = jax.random.bits(key, (4,), jnp.uint32).astype(x.dtype)
        return y + jnp.sum(low) + jnp.sum(rule(x) + jax.nn.relu(x) + found + random) + high[0].astype(x.dtype)

    def flat(x, key):  # what is called is written out on both sides
        return _written_out(program_of(f, x, key), [x, key])

    def again(x, key):
        return _written_out(program_of(flat, x, key), [x, key])

    args = jnp.asarray(X), jax.random.key(0)
    first, second = (jax.make_jaxpr(g)(*args) for g in (flat, again))
    assert str(first) == str(second)
    each = [jax.jit(jax.value_and_grad(g))(*args) for g in (f, lambda *args: again(*args)[0])]
    for mine, other in zip(*each, strict=True):
        np.testing.assert_array_equal(mine, other)


def _written_out(program, inputs):
    values = dict(zip((*program.jaxpr.constvars, *program.jaxpr.invars), (*program.consts, *inputs), strict=True))

    def read(variable):
        return variable.val if versions.is_literal(variable) else values[variable]

    for equation in program.jaxpr.eqns:
        given = [read(variable) for variable in equation.invars]
        if equation.primitive.name in versions.CALLS:
            outputs = _written_out(versions.inner(equation), given)
        else:
            outputs = versions.evaluate(equation, given)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in program.jaxpr.outvars]


def test_what_no_output_needs_is_left_out_and_nothing_else():
    constant = np.arange(300.0)

    def f(x, unused):
        y, _rows = lax.scan(lambda c, row: (c * row, jnp.cos(row)), x[0], x)
        jnp.sum(jnp.exp(unused) * jnp.asarray(constant))
        return y * jnp.sum(jnp.asarray(constant))

    jaxpr, consts = program_of(f, X, np.ones(300))
    less = versions.needed(jaxpr)
    names = {equation.primitive.name for equation in equations(less)}
    assert {"scan", "mul"} <= names and not names & {"cos", "exp"}
    assert len(less.invars) == 2 and len(less.constvars) == len(consts)
    value = jax.core.eval_jaxpr(less, consts, X, np.ones(300))[0]
    np.testing.assert_allclose(value, X[0] * np.prod(X) * constant.sum())
