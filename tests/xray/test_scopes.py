"""The module of every equation: plain dicts, Flax linen, Flax nnx and Equinox, and what makes modules hard to tell."""

import dataclasses
import time

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxprop.xray.evidence import names_in
from jaxprop.xray.program import trace
from jaxprop.xray.sites import sites
from tests.xray.listed import ones, scopes_of, scopes_of_arguments

X = jnp.ones((2, 3), jnp.float32)
KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)
W = {"w": X[:1].T @ X[:1], "b": X[0]}


@pytest.fixture(autouse=True)
def as_users_run_them():
    """Models of these libraries mix precisions, and are float32."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def dense(layer, x):
    return jnp.tanh(x @ layer["w"] + layer["b"])


# ---- plain JAX: the leaves of a dict


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
    assert scopes_of(lambda batch: jnp.sin(batch["x"]) @ W["w"], {"x": X}, argnums=None)["dot_general"] == [""]


@pytest.mark.parametrize("path", ["mlp/~/linear", "mlp/linear"])
def test_keys_with_slashes_are_paths(path):
    assert scopes_of(lambda p, x: jnp.sum(dense(p[path], x)), {path: W, "z": W}, X)["dot_general"] == [path]


def test_names_without_what_transformations_wrote():
    assert names_in("transpose(jvp(Net))/vmap(Block_1)/vmap()/Dense_0") == ("Net", "Block_1", "Dense_0")
    assert names_in("vmap(eqx.nn.MLP)/mine/eqx.nn.Linear") == ("mine",)
    assert names_in("Net/bij,bjk->bik/ij,jk/rows, columns/a.b") == ("Net", "rows, columns", "a.b")  # einsum's


def test_gradients_inside_a_function():
    """As of a network that solves a differential equation: equations of the way back are of the module too."""

    def f(params, x):
        return jnp.sum(jax.vmap(jax.grad(lambda x: jnp.sum(dense(params["two"], dense(params["one"], x)))))(x))

    assert scopes_of(f, {"one": W, "two": W}, X)["dot_general"] == ["one", "two", "one"]


# ---- Flax linen: names


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sin(nn.Dense(3)(x)), None


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x, _ = Block()(x)
        with jax.named_scope("mix"):
            x = nn.Dense(3, name="last")(jnp.exp(x))
        x = nn.BatchNorm(use_running_average=True)(x)
        return jnp.cos(nn.Dropout(0.5, deterministic=False)(x))


def applied(module, *args, **kwargs):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = ones(jax.eval_shape(lambda: module.init(keys, *args, **kwargs)))
    return variables, lambda variables, *args: jnp.mean(module.apply(variables, *args, rngs=keys, **kwargs))


def test_linen():
    variables, f = applied(Net(), X)
    found = scopes_of(f, variables, X)
    assert found["dot_general"] == ["Block_0/Dense_0", "Block_1/Dense_0", "mix/last"]
    assert found["sin"] == ["Block_0", "Block_1"]
    assert (found["exp"], found["rsqrt"], found["random_bits"]) == (["mix"], ["BatchNorm_0"], ["Dropout_0"])
    assert found["cos"] == found["reduce_sum"] == [""]
    arguments = scopes_of_arguments(f, variables, X)
    assert arguments["variables['params']['Block_1']['Dense_0']['kernel']"] == "Block_1/Dense_0"
    assert arguments["variables['batch_stats']['BatchNorm_0']['mean']"] == "BatchNorm_0"
    assert arguments["variables['params']['last']['bias']"] == "mix/last"


def test_linen_with_its_statistics_apart():
    variables, f = applied(Net(), X)

    def apart(params, stats, x):
        return f({"params": params, "batch_stats": stats}, x)

    found = scopes_of_arguments(apart, variables["params"], variables["batch_stats"], X)
    assert found["stats['BatchNorm_0']['mean']"] == found["params['BatchNorm_0']['scale']"] == "BatchNorm_0"


def test_linen_whose_parameters_are_no_arguments():
    variables, f = applied(Net(), X)
    assert scopes_of(lambda x: f(variables, x), X)["sin"] == ["Net/Block_0", "Net/Block_1"]


def test_linen_scanned_rematerialised_and_vmapped():
    class Lifted(nn.Module):
        @nn.compact
        def __call__(self, x):
            own = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            x, _ = nn.scan(Block, length=2, **own)(name="blocks")(x)
            x = nn.remat(nn.Dense)(3)(x)
            return nn.vmap(nn.Dense, in_axes=None, axis_size=2, **own)(3)(x)

    variables, f = applied(Lifted(), X)
    found = scopes_of(f, variables, X)
    assert found["dot_general"] == ["blocks/Dense_0", "CheckpointDense_0", "VmapDense_0"]
    assert found["sin"] == ["blocks"]


def test_linen_names_that_a_lifted_scan_says_twice():
    variables, f = applied(nn.RNN(nn.LSTMCell(3)), X[None])
    found = scopes_of(f, variables, X[None])
    assert set(found["dot_general"]) == {f"cell/{kind}{gate}" for kind in "ih" for gate in "ifgo"}
    assert set(found["tanh"]) == set(found["logistic"]) == {"cell"}


class Tied(nn.Module):
    def setup(self):
        self.ids, self.up = nn.Embed(4, 3), nn.Dense(3)

    def encode(self, ids):
        return jnp.sin(self.up(self.up(self.ids(ids))))

    def __call__(self, ids):
        return self.ids.attend(self.encode(ids))


class Derived(Tied):
    """Its methods stand in another class."""


@pytest.mark.parametrize("kind", [Tied, Derived])
def test_linen_methods_tied_weights_and_shared_modules(kind):
    variables, f = applied(kind(), jnp.ones((2,), jnp.int32))
    found = scopes_of(f, variables, jnp.ones((2,), jnp.int32))
    assert (found["gather"], found["dot_general"], found["sin"]) == (["ids"], ["up", "ids"], [""])

    def siamese(params, ids):
        with jax.named_scope("teacher"):
            first = f(params["a"], ids)
        return first * f(params["b"], ids)

    found = scopes_of(siamese, {"a": variables, "b": variables}, jnp.ones((2,), jnp.int32))
    assert found["dot_general"] == ["teacher/a/up", "teacher/a/ids", "b/up", "b/ids"]
    assert found["lt"] == ["teacher/a/ids", "b/ids"]  # before any parameter of b is used
    assert found["sin"] == ["teacher/a", "b"]


# ---- Flax nnx: objects


class Piece(nnx.Module):
    def __init__(self, rngs):
        self.lin = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return jnp.sin(self.lin(x))


class Whole(nnx.Module):
    def __init__(self, rngs):
        self.pieces = nnx.List([Piece(rngs), Piece(rngs)])
        self.norms = nnx.List([nnx.LayerNorm(3, rngs=rngs) for _ in range(2)])
        self.gain = nnx.Param(jnp.ones(3))

    def __call__(self, x):
        for piece in self.pieces:
            x = jnp.exp(piece(x))
        for norm in self.norms:
            x = norm(x)
        return jnp.cos(x) * self.gain[...]


def made(kind, *args):
    return ones(nnx.eval_shape(lambda: kind(*args, rngs=nnx.Rngs(0))))


def cost(model, x):
    return jnp.mean(model(x))


def by_state(model):
    graph, state = nnx.split(model)
    return (lambda state, x: cost(nnx.merge(graph, state), x)), state


@pytest.mark.parametrize("way", [lambda model: (cost, model), by_state], ids=["objects", "state"])
def test_nnx(way):
    f, model = way(made(Whole))
    found = scopes_of(f, model, X)
    assert found["dot_general"] == ["pieces/0/lin", "pieces/1/lin"]
    assert found["sin"] == ["pieces/0", "pieces/1"]
    assert found["rsqrt"] == found["max"] == ["norms/0", "norms/1"]  # of the variance, before a parameter is used
    assert found["exp"] == found["cos"] == [""]
    assert set(scopes_of_arguments(f, model, X).values()) == {"pieces/0/lin", "pieces/1/lin", "norms/0", "norms/1", ""}


def test_gradients_of_the_data_alone():
    for given in ({"argnums": 0}, {"argnums": None}):
        assert scopes_of(lambda x, *, model: cost(model, x), X, model=made(Piece), **given)["dot_general"] == ["lin"]
        assert scopes_of(lambda x, params: loops(params, x), X, {"one": W, "two": W}, **given)["tanh"] == ["one", "two"]


def test_modules_of_one_class_in_each_other():
    class Tree(eqx.Module):
        w: jax.Array
        children: list

        def __call__(self, x):
            for child in self.children:
                x = child(x)
            return jnp.sin(x * self.w)

    tree = Tree(X[0], [Tree(X[0], [Tree(X[0], []), Tree(X[0], [])]), Tree(X[0], [])])
    found = scopes_of(cost, tree, X)
    inner = ["children/0/children/0", "children/0/children/1", "children/0", "children/1"]
    assert found["sin"] == found["mul"] == [*inner, ""]


def test_a_stacked_parameter_that_a_loop_indexes():
    def f(params, x):
        x = jax.lax.fori_loop(0, 2, lambda i, h: jnp.tanh(h @ params["layers"]["w"][i]), x)
        return jnp.mean(jnp.sin(x) @ params["last"]["w"])

    found = scopes_of(f, {"layers": {"w": jnp.stack([W["w"]] * 2)}, "last": W}, X)
    assert (found["dot_general"], found["tanh"], found["sin"]) == (["layers", "last"], ["layers"], [""])


def test_a_second_nnx_network():
    def distance(model, target, x):
        return jnp.mean(model(x) - target(x))

    found = scopes_of(distance, made(Piece), made(Piece), X)
    assert (found["dot_general"], found["sin"]) == (["lin", "target/lin"], ["", "target"])
    assert scopes_of(distance, made(Piece), made(Whole), X)["sin"] == ["", "target/pieces/0", "target/pieces/1"]


def test_nnx_modules_of_one_class_inside_each_other():
    def nested(rngs):
        return nnx.Sequential(*(nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), jnp.sin) for _ in range(2)), jnp.exp)

    found = scopes_of(cost, made(nested), X)
    assert found["dot_general"] == ["layers/0/layers/0", "layers/1/layers/0"]
    assert (found["sin"], found["exp"]) == (["layers/0", "layers/1"], [""])


def test_nnx_stacked_jitted_and_rematerialised():
    class Stacked(nnx.Module):
        def __init__(self, rngs):
            self.pieces = nnx.split_rngs(splits=3)(nnx.vmap(lambda rngs: Piece(rngs)))(rngs)
            self.last = Piece(rngs)

        def __call__(self, x):
            x = nnx.scan(lambda h, piece: piece(h), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.pieces)
            return nnx.remat(lambda piece, x: piece(x))(self.last, nnx.jit(lambda piece, x: piece(x))(self.last, x))

    found = scopes_of(cost, made(Stacked), X)
    assert found["dot_general"] == ["pieces/lin", "last/lin"]
    assert found["sin"] == ["pieces", "last"]


def test_nnx_tied_weights_belong_to_the_module_that_has_them():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.ids, self.piece = nnx.Embed(4, 3, rngs=rngs), Piece(rngs)

        def __call__(self, ids):
            x = self.piece(self.piece(self.ids(ids)))
            return jnp.exp(self.ids.attend(x) + jnp.cos(x) @ self.ids.embedding[...].T)

    found = scopes_of(cost, made(Tied), jnp.ones((2,), jnp.int32))
    assert found["dot_general"] == ["piece/lin", "ids"]
    assert (found["gather"], found["sin"], found["cos"], found["exp"]) == (["ids"], ["piece"], [""], [""])


# ---- Equinox: objects, and names of classes that say nothing


class Cell(eqx.Module):
    lin: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __init__(self, key):
        self.lin, self.norm = eqx.nn.Linear(3, 3, key=key), eqx.nn.LayerNorm(3)

    def __call__(self, x):
        return jnp.sin(self.lin(self.norm(x)))


class Cells(eqx.Module):
    cells: list[Cell]

    def __init__(self, key):
        self.cells = [Cell(key), Cell(key)]

    def __call__(self, x):
        for cell in self.cells:
            x = cell(x)
        return jnp.exp(x)


def built(kind):
    return ones(eqx.filter_eval_shape(kind, KEY))


def over_batch(model, x):
    return jnp.mean(jax.vmap(model)(x))


def in_parts(model):
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    return (lambda params, x: over_batch(eqx.combine(params, rest), x)), params


@pytest.mark.parametrize("way", [lambda model: (over_batch, model), in_parts], ids=["objects", "parts"])
def test_equinox(way):
    f, model = way(built(Cells))
    found = scopes_of(f, model, X)
    assert found["dot_general"] == ["cells/0/lin", "cells/1/lin"]
    assert found["rsqrt"] == found["max"] == ["cells/0/norm", "cells/1/norm"]
    assert (found["sin"], found["exp"]) == (["cells/0", "cells/1"], [""])


def test_equinox_stacked_modules():
    cells = jax.tree.map(lambda a: jnp.stack([a, a]), built(Cell))
    params, rest = eqx.partition(cells, eqx.is_array)

    def scanned(params, x):
        step = lambda h, cell: (eqx.combine(cell, rest)(h), None)  # noqa: E731
        return jnp.mean(jax.lax.scan(step, x[0], params["cells"])[0])

    def ensemble(params, x):
        run = eqx.filter_vmap(lambda cell, x: cell(x), in_axes=(eqx.if_array(0), None))
        return jnp.mean(run(params["cells"], x[0]))

    def jitted(params, x):
        return jnp.mean(eqx.filter_jit(lambda cell, x: cell(x))(params["cells"], x[0]))

    for f, given in ((scanned, params), (ensemble, cells), (jitted, built(Cell))):
        found = scopes_of(f, {"cells": given}, X)
        assert (found["sin"], found["dot_general"]) == (["cells"], ["cells/lin"]), f


def test_methods_of_a_class_that_another_derives_from():
    class Base(eqx.Module):
        lin: eqx.nn.Linear

        def __call__(self, x):
            return jnp.sin(self.inside(x))

    class Other(Base):
        def inside(self, x):
            return self.lin(jnp.exp(x))

    others = [Other(built(Cell).lin) for _ in range(2)]
    found = scopes_of(lambda others, x: jnp.mean(others[1](others[0](x[0]))), others, X)
    assert found["sin"] == found["exp"] == ["0", "1"]
    assert found["dot_general"] == ["0/lin", "1/lin"]


# ---- how long it takes


@pytest.mark.slow
def test_scopes_of_24_layers_under_deep_stacks():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.LayerNorm(8, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 8, rngs=rngs, decode=False)
            self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.norm(x))
            return x + self.down(nnx.gelu(self.up(x)))

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.List([Block(rngs) for _ in range(24)])

        def __call__(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    def deep(calls, f, *args):
        return f(*args) if calls == 0 else deep(calls - 1, f, *args)

    network, x = made(Network), jnp.ones((2, 5, 8), jnp.float32)
    traced = trace(lambda network, x: deep(60, cost, network, x), 0, (network, x), {})
    times = []
    for _ in range(3):
        start = time.process_time()
        found = sites(traced.jaxpr, traced.names, traced.modules)
        times.append(time.process_time() - start)
    assert len(found) > 1_500
    assert {f"blocks/{n}/attention/out" for n in range(24)} < {site.scope for site in found}
    assert min(times) < 1, times  # 0.2 s on a machine that does nothing else
