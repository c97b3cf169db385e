"""The X-ray of what JAX's programs are made of: every value and every error, against a witness that unrolls them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

import jaxprop as jp
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.xray.sites import sites
from tests.xray.keeping import agree, both, close
from tests.xray.measuring import check_felt, check_measures, measured
from tests.xray.programs import PROGRAMS, X
from tests.xray.test_versions import equations

TELLING = {
    "scan_fed_late", "switch", "remat_with_policy", "custom_rules_in_scan", "while_in_scan", "returns_a_constant",
    "returns_what_a_jit_returns", "duplicates", "complex_numbers", "whole_numbers", "unused_and_repeated",
}  # fmt: skip


def _programs() -> list[object]:
    return [pytest.param(name, marks=() if name in TELLING else pytest.mark.slow) for name in PROGRAMS]


@functools.cache
def looked_into(name):
    """Both accounts of a program, for every test that asks for them."""
    f, args = PROGRAMS[name]
    return both(f, *args)


@pytest.mark.parametrize("name", _programs())
def test_every_value_and_error_is_the_witness(name):
    f, args = PROGRAMS[name]
    _, found = looked_into(name)
    agree(found)
    value, gradient = jax.jit(jax.value_and_grad(f))(*args)
    close(np.asarray(value), found.ours[0])
    for mine, other in zip(found.ours[1], jax.tree.leaves(gradient), strict=True):
        close(mine, np.asarray(other), overall=1.0)


@pytest.mark.parametrize("name", ["cond_of_jit_and_scan", pytest.param("nest", marks=pytest.mark.slow)])
def test_measures_are_those_of_every_step_and_branch(name):
    f, args = PROGRAMS[name]
    _, found = looked_into(name)
    reading = jax.jit(jp.xray.program(f))(*args)
    assert all(any(measure is not None for measure in measures) for measures in reading.errors.values())
    check_measures(reading, found)


@pytest.mark.parametrize("name", ["custom_rules_in_scan", "scan_fed_late"])
def test_every_error_that_the_input_reaches_is_read(name):
    """An error is missing only where what is felt was computed from nothing."""
    traced, found = looked_into(name)
    (_, _, _, landed), (_, _, _, errors) = found.ours, found.theirs
    felt = {path for path, outputs in errors.items() if any(e is not None and np.any(e) for e in outputs)}
    given = {site.path: site.inputs for site in sites(traced.jaxpr)}
    assert not any(number is not None for path in felt - set(landed) for number in given[path])


def test_a_comparison_has_no_error():
    reading = jax.eval_shape(jp.xray.program(PROGRAMS["cond"][0]), X)
    assert set(reading.errors) == set(reading.values)


def test_an_error_is_what_a_finite_difference_says():
    """sin(x) in the third step of a scan is moved by hand."""

    def f(x, moved):
        def step(c, row):
            t, move = row
            return (jnp.sin(c) + move) * t, c

        return jnp.sum(lax.scan(step, x, (jnp.asarray(X), moved))[1] ** 2)

    reading = jax.jit(jp.xray.program(f))(X, np.zeros((4, 4)))
    (site,) = [site for site in reading.sites if site.primitive == "sin"]
    h, run = 1e-6, jax.jit(f)
    felt = np.zeros(4)
    for i in range(4):
        move = np.zeros((4, 4))
        move[2, i] = h
        felt[i] = (run(X, move) - run(X, -move)) / (2 * h)
    check_felt(reading.errors[site.path][0][2], felt, 1e-7)


def test_it_can_be_mapped_asked_for_now_and_then_and_differentiated():
    f, _ = PROGRAMS["scan"]
    xs = np.stack([X, X + 1])
    run = jp.xray.program(f)

    def every_second(x, step):
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(lambda x: run(x).errors, x))
        errors = lax.cond(step % 2 == 0, lambda x: run(x).errors, lambda x: nothing, x)
        return x - 0.1 * jax.grad(f)(x), errors

    @jax.jit
    def all_at_once(xs):
        mapped = jax.vmap(run)(xs)
        trained = lax.scan(every_second, xs[0], jnp.arange(3))
        second = jax.grad(lambda x: jnp.sum(run(x).grads ** 2))(xs[0])
        return mapped, [run(x) for x in xs], trained, second, jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))(xs[0])

    mapped, alone, (_, errors), second, expected = all_at_once(xs)
    for i, each in enumerate(alone):
        for mine, other in zip(jax.tree.leaves(mapped), jax.tree.leaves(each), strict=True):
            np.testing.assert_allclose(mine[i], other, rtol=1e-12, atol=1e-15)
    for path, (measure,) in errors.items():
        np.testing.assert_allclose(measure[0], alone[0].errors[path][0], rtol=1e-12, atol=1e-15)
        assert not np.any(measure[1]) and np.any(measure[2])
    np.testing.assert_allclose(second, expected, rtol=1e-12)


def test_a_shard_map_has_a_reading_of_each_device():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = np.arange(6.0).reshape(2, 3) + 1

    def on_one(w, row):
        return lax.psum(jnp.sum(jnp.sin(row * w)), "d")

    def f(w, rows):
        spread = jax.shard_map(
            on_one, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("d")), out_specs=PartitionSpec()
        )
        return spread(w, rows) ** 2

    w = np.asarray([0.5, 1.5, 2.5])
    both_of = jax.jit(lambda *args: (jp.xray.program(f)(*args), jax.value_and_grad(f)(*args)))
    reading, (value, gradient) = both_of(w, rows)
    np.testing.assert_allclose(reading.value, value)
    np.testing.assert_allclose(reading.grads, gradient)
    (sine,) = [site for site in reading.sites if site.primitive == "sin"]
    assert any(site.primitive == "integer_pow" and site.path in reading.errors for site in reading.sites)
    y = np.sin(rows * w)
    for device in range(2):
        np.testing.assert_allclose(reading.values[sine.path][0][device][:8], measured(y[device]))
        np.testing.assert_allclose(reading.errors[sine.path][0][device][:8], measured(np.full(3, 2 * y.sum())))


def test_values_on_explicit_axes_are_measured_as_on_one_device():
    """The types of such values say where they lie, so what is put beside them must lie there too."""
    mesh, over = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,)), PartitionSpec("d")

    def f(w, rows, spread=lambda g: g):
        return jnp.sum(spread(lambda h: jnp.sin(h) ** 2)(jnp.tanh(rows * w)))

    w, rows = np.asarray([0.5, 1.5, 2.5]), np.arange(12.0).reshape(4, 3) - 5
    alone = jp.xray.report(f)(w, rows)
    with jax.set_mesh(mesh):
        placed = jax.device_put(rows, jax.sharding.NamedSharding(mesh, over))
        on_two = jp.xray.report(f)(w, placed)
        by_hand = jp.xray.report(lambda w, rows: f(w, rows, jax.shard_map(in_specs=over, out_specs=over)))(w, placed)
    for found in (on_two, by_hand):
        np.testing.assert_allclose(found.grads, alone.grads, rtol=1e-12)
    np.testing.assert_allclose(
        [row.value.numbers for row in on_two.rows], [row.value.numbers for row in alone.rows], rtol=1e-12, atol=1e-15
    )
    assert jp.xray.diff(alone, on_two).first is None and len(jp.xray.diff(alone, on_two).places) == len(alone.rows)
    assert [row.error.steps.shape for row in by_hand.rows if row.name == "sin"] == [(2,)]


def test_a_remat_stays_one_with_its_policy():
    """What is kept for the way back is what the user said, or the X-ray would need another model's memory."""
    policy = jax.checkpoint_policies.dots_saveable

    def f(x):
        return jnp.sum(jax.checkpoint(lambda x: jnp.sin(jnp.exp(x)), policy=policy, prevent_cse=False)(x))

    remats = [
        equation for equation in equations(jax.make_jaxpr(jp.xray.program(f))(X).jaxpr) if "policy" in equation.params
    ]
    assert remats and all(each.params["policy"] is policy and not each.params["prevent_cse"] for each in remats)
    assert any(inside.primitive.name == "exp" for each in remats for inside in equations(each.params["jaxpr"]))


def test_several_arguments_names_and_something_beside_the_value():
    def f(a, b, *, scale, kind):
        assert kind == "square"
        return jnp.sum(a["w"] * b) * scale, {"b": b}

    args = {"w": X, "name": "w"}, X * X
    reading = jp.xray.program(f, argnums=(1, -2), has_aux=True)(*args, scale=2.0, kind="square")
    np.testing.assert_allclose(reading.grads[0], 2 * X)
    np.testing.assert_allclose(reading.grads[1]["w"], 2 * X * X)
    assert reading.grads[1]["name"] is None
    np.testing.assert_array_equal(reading.aux["b"], X * X)
    forward = jp.xray.program(f, argnums=None)(*args, scale=2.0, kind="square")
    assert forward.grads is None and not forward.errors and forward.values
    np.testing.assert_allclose(forward.value[0], reading.value)


def test_floats_of_python_are_differentiated_as_by_grad_and_are_options_in_a_module():
    assert jp.xray.program(lambda p: p["a"] * jnp.sum(p["x"]))({"a": 2.0, "x": X}).grads["a"] == pytest.approx(X.sum())

    def f(module):
        assert module["rate"] == 0.0  # a tracer says neither yes nor no
        return jnp.sum(module["w"])

    assert jp.xray.program(f)({"w": X, "rate": 0.0, "train": True}).grads["rate"] is None


def test_what_cannot_be_differentiated_is_said():
    def through_a_while(x):
        return jnp.sum(lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1])

    with pytest.raises(JaxpropError, match=r"while.*argnums=None"):
        jp.xray.program(through_a_while)(X)
    assert jp.xray.program(through_a_while, argnums=None)(X).values
    for f, args, error in (
        (lambda x: x, (X,), ShapeError),
        (lambda x: jnp.sum(x), (np.arange(3),), JaxpropError),
        (lambda x: jnp.sum(x).astype(int), (X,), ShapeError),
    ):
        with pytest.raises(error):
            jp.xray.program(f)(*args)
    with pytest.raises(JaxpropError, match=r"returns 'relu' at \[1\]\['name'\], expected arrays and numbers"):
        jp.xray.program(lambda x: (jnp.sum(x), {"name": "relu"}), has_aux=True)(X)
    with pytest.raises(JaxpropError, match="argnums: found 1"):
        jp.xray.program(lambda x: jnp.sum(x), argnums=1)(X)


def _loss(w, x):
    return jnp.sum(w * x)


@pytest.mark.parametrize("call", [
    lambda: jp.xray.report(_loss(X, X)),
    lambda: jp.xray.program(None),
    lambda: jp.example_norms(_loss(X, X)),
    lambda: jp.xray.leaves(_loss(X, X)),
])  # fmt: skip
def test_a_value_in_place_of_the_function_is_refused_before_it_is_called(call):
    with pytest.raises(JaxpropError, match=r"expected a function, found .*: give the function itself"):
        call()


@pytest.mark.parametrize("argnums", ["w", {"w": X}, X, (0, "w")])
def test_arguments_in_the_place_of_argnums_are_refused_before_it_is_called(argnums):
    for look in (jp.xray.report, jp.example_norms):
        with pytest.raises(JaxpropError, match=r"argnums: found .*, expected the number of an argument"):
            look(_loss, argnums)


@pytest.mark.parametrize("f", [_loss, lambda w, x: (_loss(w, x), x, x), lambda w, x: [_loss(w, x), x]])
def test_has_aux_without_a_pair_is_refused(f):
    with pytest.raises(ShapeError, match=r"has_aux: .* returns no pair \(C, aux\), found float"):
        jp.xray.program(f, has_aux=True)(X, X)


def test_what_is_no_report_or_reading_or_name_is_refused():
    with pytest.raises(JaxpropError, match=r"nonfinite: expected what .* returns, found function"):
        jp.xray.nonfinite(_loss)
    with pytest.raises(JaxpropError, match=r"Report: expected what .* returns, found tuple"):
        jp.xray.Report((1.0, X))
    with pytest.raises(JaxpropError, match="at: found 12, expected a name"):
        jp.xray.report(_loss)(X, X).at(12)


@pytest.mark.parametrize("names", [np.array(["a", "b"]), np.array(["a", None], object), np.array(["2026-01-01"], "M8")])
def test_a_batch_may_hold_an_array_of_no_numbers(names):
    """As it may for jax.grad."""
    traces = []

    def loss(w, batch):
        traces.append(batch["names"])
        return jnp.sum(w * batch["x"])

    run = jp.xray.report(loss)
    for copy in (names, names.copy()):
        np.testing.assert_array_equal(run(X, {"x": X, "names": copy}).grads, X)
    assert len(traces) == 1, "the same names are another program"
    assert traces[0] is names
    norms = jp.example_norms(loss, in_axes=(None, {"x": 0, "names": None}))(X[0], {"x": X, "names": names})
    np.testing.assert_allclose(norms, np.sqrt(np.sum(np.square(X), axis=tuple(range(1, X.ndim)))))
