"""`example_norms` stands where people write `vmap(grad(f))`: same call, same numbers, under every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxprop as jp
from jaxprop.xray.following import foreign
from tests.xray.following_cases import bend, blocks, rows


def cost(params, x, y, scale=1.0):
    return scale * 0.5 * jnp.sum((jnp.tanh(x @ params["w"] + params["b"]) - y) ** 2)


PARAMS = {"w": rows(4, 3), "b": rows(3)}
X, Y = rows(5, 4), rows(5, 3)


def by_loop(f, params, *batch):
    """Norms of gradients that are taken one after the other."""
    gradient = jax.jit(jax.grad(f))
    each = [gradient(params, *example) for example in zip(*batch, strict=True)]
    return [np.sqrt(sum(np.sum(np.abs(g) ** 2) for g in jax.tree.leaves(one))) for one in each]


def test_norms_are_those_of_a_loop():
    expected = by_loop(cost, PARAMS, X, Y)
    norms = jp.example_norms(cost)
    np.testing.assert_allclose(jax.jit(norms)(PARAMS, X, Y), expected, rtol=1e-12)
    axes = jp.example_norms(lambda x, p, y: cost(p, x, y["y"]), argnums=1, in_axes=[-1, None, {"y": 0}])
    np.testing.assert_allclose(axes(X.T, PARAMS, {"y": Y}), expected, rtol=1e-12)
    np.testing.assert_allclose(norms(PARAMS, X, Y, scale=2.0), 2 * np.asarray(expected), rtol=1e-12)


def test_norms_under_grad_and_vmap():
    def plain(params, x, y):
        grads = jax.vmap(jax.grad(cost), (None, 0, 0))(params, x, y)
        return jnp.sqrt(sum(jnp.sum(g.reshape(len(x), -1) ** 2, 1) for g in jax.tree.leaves(grads)))

    many = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), PARAMS)

    def both(norms):
        return jax.grad(lambda p: jnp.sum(norms(p, X, Y)))(PARAMS), jax.vmap(norms, (0, None, None))(many, X, Y)

    found, expected = jax.jit(lambda: (both(jp.example_norms(cost)), both(plain)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), found, expected)


def test_several_arguments_are_differentiated():
    def f(w, b, x):
        return bend(x @ w + b)

    values, (of_w, of_b) = jp.xray.uses(f, argnums=(0, 1), in_axes=(None, None, 0))(PARAMS["w"], PARAMS["b"], X)
    expected = jax.grad(lambda w, b: jnp.mean(jax.vmap(f, (None, None, 0))(w, b, X)), (0, 1))(*PARAMS.values())
    np.testing.assert_allclose(of_w.gradient(), expected[0], rtol=1e-12)
    np.testing.assert_allclose(of_b.gradient(), expected[1], rtol=1e-12)
    assert values.shape == (5,)


def test_uses_are_closed_inside_a_scan():
    """What is kept for all steps of a scan is a number an example, and not what entered and what came back."""
    params = {"w": rows(2, 4, 4), "b": rows(2, 4), "g": rows(2, 4)}

    def program(params, x):
        forward = foreign(blocks, in_axes=(None, 0))(params, x)
        return forward.close(jnp.ones_like, lambda use, path: use.squared_norms())

    x = rows(7, 5, 4)
    jaxpr = jax.make_jaxpr(program)(params, x)
    scanned = [e for e in jaxpr.jaxpr.eqns if e.primitive.name == "scan"]
    back = [v.aval.shape for e in scanned if e.params["reverse"] for v in e.outvars]
    assert (2, 7) in back and not any(len(shape) > 3 for shape in back), back


def test_norms_over_two_devices():
    """N is spread over devices under jit: stock gradients of convolutions by examples are wrong there."""

    def f(p, x):
        y = lax.conv_general_dilated(x[None], p["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        z = lax.conv_general_dilated(y, jnp.tanh(p["v"]), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return bend(jnp.mean(z, axis=(1, 2)) @ p["u"])

    params, x = {"w": rows(3, 3, 2, 4), "v": rows(3, 3, 4, 4), "u": rows(4, 2)}, rows(8, 6, 6, 2)
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    laid = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    norms = jax.jit(jp.example_norms(f, in_axes=(None, 0)))
    np.testing.assert_allclose(norms(params, laid), by_loop(f, params, x), rtol=1e-10)


@pytest.mark.parametrize(
    ("in_axes", "args", "message"),
    [
        ((None, 0), (PARAMS, X, Y), "2 positional arguments, but f was called with 3"),
        ((None, None, None), (PARAMS, X, Y), "maps no array"),
        ((None, 0, 0), (PARAMS, X, Y[:2]), "different numbers of examples"),
        ((None, 0, 0), (PARAMS, X[:0], Y[:0]), "N = 0"),
        ((None, 2, 0), (PARAMS, X, Y), "found axis 2"),
        ((None, "x", 0), (PARAMS, X, Y), "found 'x'"),
        ((None, {"a": 0}, 0), (PARAMS, X, Y), "no prefix"),
        ((0, 0, 0), (PARAMS, X, Y), "mapped over examples too"),
        ((None, 0, 0), ({"w": jnp.ones((4, 3), int), "b": jnp.ones(3, int)}, X, Y), "holds no real numbers"),
    ],
)
def test_what_is_wrong_is_named(in_axes, args, message):
    with pytest.raises(jp.JaxpropError, match=message):
        jp.example_norms(cost, in_axes=in_axes)(*args)


def test_leaves_are_named():
    found = jp.xray.leaves(cost)(PARAMS, X, Y)
    assert [str(leaf) for leaf in found] == ["Shift, direct", "Outer, product"]
    with pytest.raises(jp.JaxpropError, match=r"no parameter 'w', expected one of params\['b'\], params\['w'\]"):
        found["w"]


def test_a_cost_is_one_number():
    with pytest.raises(jp.ShapeError, match=r"returns float64\[3\] for one example"):
        jp.example_norms(lambda p, x, y: x @ p["w"])(PARAMS, X, Y)
    with pytest.raises(jp.JaxpropError, match=r"found Dense, a module of Flax, .* calls model.apply"):
        jp.example_norms(linen.Dense(3))(PARAMS, X, Y)
    with pytest.raises(jp.JaxpropError, match="found None"):
        jp.example_norms(cost, argnums=None)
    with pytest.raises(jp.ShapeError, match="expected real numbers"):
        jp.example_norms(lambda p, x, y: jnp.argmax(x @ p["w"]))(PARAMS, X, Y)


def test_norms_of_complex_parameters():
    """‖g‖² is Σ |g|²; for what is made of squares of real numbers there is an error."""

    def f(p, x):
        return jnp.sum(jnp.abs(x.astype(complex) @ p["w"] + p["b"].astype(complex)) ** 2 * jnp.array([1.0, 2.0, 3.0]))

    params = {"w": rows(4, 3) + 1j * rows(4, 3), "b": rows(3)}
    norms = jax.jit(jp.example_norms(f, in_axes=(None, 0)))
    np.testing.assert_allclose(norms(params, X), by_loop(f, params, X), rtol=1e-12)
    with pytest.raises(jp.JaxpropError, match=r"p\['w'\] is an array complex128\[4, 3\], expected real"):
        jp.stats.collect(f, [jp.stats.Variance()], in_axes=(None, 0))(params, X)


def test_norms_of_large_gradients_in_half_precision():
    """300² is no float16."""
    w, x = jnp.ones((2, 1), jnp.float16), jnp.array([[300, 400], [0, 1]], jnp.float16)
    norms = jp.example_norms(lambda w, x: jnp.sum(x @ w), in_axes=(None, 0))
    np.testing.assert_allclose(norms(w, x), [500.0, 1.0], rtol=1e-6)
    _, use = jp.xray.uses(lambda w, x: jnp.sum(x @ w), in_axes=(None, 0))(w, x)
    np.testing.assert_allclose(jp.norms(use), [500.0, 1.0], rtol=1e-6)


def test_what_is_held_fixed_costs_no_memory():
    """A frozen parameter, of which no gradients are built: [N, parameters] would be 2 MiB."""

    def f(p, x):
        return bend(lax.stop_gradient(p["frozen"]) @ (x @ p["w"]))

    params, x = {"frozen": rows(256, 256), "w": rows(4, 256)}, rows(4, 4)
    run = jax.jit(jp.stats.collect(f, [jp.stats.ClippedGradient(1.0)], in_axes=(None, 0)))
    memory = run.lower(params, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * params["frozen"].nbytes / 2
    assert str(jp.xray.leaves(f, in_axes=(None, 0))(params, x)["p['frozen']"]) == "Nothing: no error comes back to it"
