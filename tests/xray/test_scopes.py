"""The module of every equation of plain JAX: by the keys of its parameters, and by names that users set."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxprop.xray.evidence import names_in
from tests.xray.listed import W, X, dense, scopes_of, scopes_of_arguments, sites_of

pytestmark = pytest.mark.usefixtures("as_users_run_them")


def loops(params, x):
    for name in params:
        x = dense(params[name], x)
    return jnp.mean(jnp.sin(x))


def loops_in_one_function(params, x):
    """The cost is no part of the last turn, though the function and the module are the same."""
    for name in params:
        x = jnp.tanh(x @ params[name]["w"] + params[name]["b"])
    return jnp.mean(jnp.sin(x))


def calls_jitted(params, x):
    layer = jax.jit(dense)
    return jnp.mean(jnp.sin(layer(params["one"], layer(params["two"], x))))


def rematerialises(params, x):
    for name in params:
        x = jax.checkpoint(dense)(params[name], x)
    return jnp.mean(jnp.sin(x))


def cost_around(f):
    """Another function around: it sees the same parameters."""
    return lambda *args: f(*args)


@pytest.mark.parametrize("f", [loops, rematerialises, calls_jitted, cost_around(loops_in_one_function)])
def test_layers_of_a_dict(f):
    found = scopes_of(f, {"two": W, "one": W}, X)
    order = ["two", "one"] if f is calls_jitted else ["one", "two"]
    assert found["dot_general"] == found["add"] == found["tanh"] == order
    assert found["sin"] == found["reduce_sum"] == [""]


def test_arguments_stand_with_their_module():
    found = scopes_of_arguments(loops, {"one": W, "two": W}, X)
    assert found == {f"params['{m}']['{k}']": m for m in ("one", "two") for k in "bw"} | {"x": ""}


def test_stacked_layers_that_a_scan_slices():
    def f(params, x):
        return jnp.mean(jnp.sin(jax.lax.scan(lambda h, layer: (dense(layer, h), None), x, params["layers"])[0]))

    found = scopes_of(f, {"layers": jax.tree.map(lambda w: jnp.stack([w, w]), W)}, X)
    assert found["dot_general"] == found["tanh"] == ["layers"]
    assert found["sin"] == [""]


def test_the_first_state_of_a_scan_is_a_parameter_outside_only():
    def f(params, x):
        return jnp.sum(jax.lax.scan(lambda h, x: (jnp.sin(h) * x, None), params["start"]["h"], x)[0])

    assert scopes_of(f, {"start": {"h": X[0]}, "other": {"w": X}}, X)["sin"] == [""]


def test_branches_loops_and_devices():
    def f(params, x):
        x = jax.lax.cond(x[0, 0] > 0, lambda x: dense(params["one"], x), lambda x: dense(params["two"], x), x)
        x = jax.lax.fori_loop(0, jnp.int32(x[0, 0]), lambda i, x: dense(params["three"], x), x)
        mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
        over = jax.shard_map(dense, mesh=mesh, in_specs=(None, jax.P("data")), out_specs=jax.P("data"))
        return jnp.mean(jnp.sin(over(params["four"], x)))

    found = scopes_of(f, {name: W for name in ("one", "two", "three", "four")}, X)
    assert sorted(found["tanh"]) == ["four", "one", "three", "two"]
    assert found["sin"] == [""]


def test_a_jitted_function_with_the_name_of_a_loop_is_none():
    @jax.jit
    def cond(x):
        return jax.lax.scan(lambda total, x: (total + jnp.sin(x), None), 0.0, x)[0]

    (sine,) = (site for site in sites_of(cond, X[0]) if site.primitive == "sin")
    assert sine.loops == (("scan", 3, (0, sine.path[1])),) and "cond" not in sine.around


def test_parameters_are_followed_through_layout():
    """In half precision, transposed, cut out of one array, and joined."""

    def f(params, x):
        half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
        x = jnp.dot(x.astype(jnp.bfloat16), half["one"]["w"].T)
        x = jnp.exp(x) @ half["two"]["w"][:, :2].reshape(3, 2)
        return jnp.sum(jnp.sin(x) @ jnp.concatenate([half["three"]["q"]["w"], half["three"]["k"]["w"]], 1)[:2])

    found = scopes_of(f, {"one": W, "two": W, "three": {"q": W, "k": W}}, X)
    assert found["dot_general"] == ["one", "two", "three"]
    assert found["exp"] == found["sin"] == [""]


def test_blocks_of_layers_called_from_one_line():
    def block(p, x):
        x = jnp.exp(x + dense(p["up"], x))
        return jnp.sin(dense(p["down"], x))

    def f(params, x):
        for p in params["blocks"]:
            x = block(p, x)
        return jnp.mean(x)

    found = scopes_of(lambda p, x: f(p, x), {"blocks": [{"up": W, "down": W}] * 2, "last": W}, X)
    assert found["tanh"] == ["blocks/0/up", "blocks/0/down", "blocks/1/up", "blocks/1/down"]
    assert found["exp"] == found["sin"] == ["blocks/0", "blocks/1"]


def test_names_of_users_are_kept_around_and_inside():
    def f(params, x):
        with jax.named_scope("encoder"):
            x = dense(params["one"], x)
            with jax.named_scope("mix/in"):
                x = jnp.exp(x)
        return jnp.sum(jax.vmap(jax.named_scope("two")(lambda x: jnp.sin(x @ params["two"]["w"])))(x))

    found = scopes_of(f, {"one": W, "two": W}, X)
    assert (found["tanh"], found["exp"]) == (["encoder/one"], ["encoder/mix/in"])
    assert found["sin"] == ["two"]  # said once, though the name and the parameter both say it
    assert found["dot_general"] == ["encoder/one", "two"]
    assert set(scopes_of_arguments(f, {"one": W, "two": W}, X).values()) == {"encoder/one", "two", ""}


def test_two_networks():
    def distance(params, target_params, x):
        return loops(params, x) - loops(target_params, x)

    params = {"one": W, "two": W}
    beside = ["target_params/one", "target_params/two"]
    assert scopes_of(distance, params, params, X)["tanh"] == ["one", "two", *beside]
    both = scopes_of(distance, params, params, X, argnums=(0, 1))
    assert both["tanh"] == ["params/one", "params/two", *beside]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Batch:
    inputs: dict
    y: jax.Array

    def __getitem__(self, name):
        return getattr(self, name)


def test_data_are_no_modules():
    def f(params, batch):
        return jnp.sum(jnp.sin(batch["inputs"]["x"]) @ params["one"]["w"]) + jnp.sum(batch["y"])

    for batch in ({"inputs": {"x": X}, "y": X[0]}, Batch({"x": X}, X[0])):
        found = scopes_of(f, {"one": W}, batch)
        assert (found["sin"], found["dot_general"]) == ([""], ["one"])
    found = scopes_of(lambda params, batch: jnp.sum(batch["x"] @ params["one"]["w"]), {"one": W}, {"x": X})
    assert found["dot_general"] == ["one"]
    assert scopes_of(lambda batch: jnp.sin(batch["x"]) @ W["w"], {"x": X}, argnums=None)["dot_general"] == [""]


def test_keys_with_slashes_are_paths():
    """As Haiku writes them."""

    def mlp(params, x):
        return jnp.sin(dense(params["mlp/b"], dense(params["mlp/a"], x)))

    found = scopes_of(lambda params, x: jnp.exp(mlp(params, x)).sum(), {"mlp/a": W, "mlp/b": W, "last": W}, X)
    assert (found["tanh"], found["sin"], found["exp"]) == (["mlp/a", "mlp/b"], ["mlp"], [""])


def test_names_without_what_transformations_wrote():
    assert names_in("transpose(jvp(Net))/vmap(Block_1)/vmap()/Dense_0") == ("Net", "Block_1", "Dense_0")
    assert names_in("vmap(eqx.nn.MLP)/mine/eqx.nn.Linear") == ("mine",)
    assert names_in("Net/bij,bjk->bik/ij,jk/rows, columns/a.b") == ("Net", "rows, columns", "a.b")  # einsum's


def test_gradients_inside_a_function():
    """As of a network that solves a differential equation: equations of the way back are of the module too."""

    def f(params, x):
        return jnp.sum(jax.vmap(jax.grad(lambda x: jnp.sum(dense(params["two"], dense(params["one"], x)))))(x))

    assert scopes_of(f, {"one": W, "two": W}, X)["dot_general"] == ["one", "two", "one"]


def test_a_stacked_parameter_that_a_loop_indexes():
    def f(params, x):
        x = jax.lax.fori_loop(0, 2, lambda i, h: jnp.tanh(h @ params["layers"]["w"][i]), x)
        return jnp.mean(jnp.sin(x) @ params["last"]["w"])

    found = scopes_of(f, {"layers": {"w": jnp.stack([W["w"]] * 2)}, "last": W}, X)
    assert (found["dot_general"], found["tanh"], found["sin"]) == (["layers", "last"], ["layers"], [""])


def test_gradients_of_the_data_alone():
    for argnums in (0, None):
        found = scopes_of(lambda x, params: loops(params, x), X, {"one": W, "two": W}, argnums=argnums)
        assert found["tanh"] == ["one", "two"]
