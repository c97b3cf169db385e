"""The module of every equation of Flax: linen names its modules, nnx's are objects or their state."""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxprop.xray.program import trace
from jaxprop.xray.sites import sites
from tests.xray.listed import X, cost, ones, scopes_of, scopes_of_arguments

pytestmark = pytest.mark.usefixtures("as_users_run_them")


# ---- linen


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sin(nn.Dense(3)(x)), None


class Tail(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Block()(nn.Dense(3)(x))[0]


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


def test_linen_models_whose_parameters_are_in_one_dict():
    """Each under a name of the user's, without the collection around them, as they are trained together."""
    (body, _), (head, _) = applied(Block(), X), applied(Tail(), X)
    params = {"body": body["params"], "head": head["params"]}

    def both(params, x):
        y, _ = Block().apply({"params": params["body"]}, x)
        return jnp.mean(Tail().apply({"params": params["head"]}, y))

    found = scopes_of(both, params, X)
    assert found["dot_general"] == ["body/Dense_0", "head/Dense_0", "head/Block_0/Dense_0"]
    assert found["sin"] == ["body", "head/Block_0"] and found["reduce_sum"] == [""]


def test_linen_inside_a_scope_of_the_users():
    variables, f = applied(Net(), X)
    found = scopes_of(jax.named_scope("teacher")(f), variables, X)
    assert found["sin"] == ["teacher/Block_0", "teacher/Block_1"]
    assert found["cos"] == ["teacher"]


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


# ---- nnx


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


def test_nnx_models_that_are_not_differentiated():
    for argnums in (0, None):
        found = scopes_of(lambda x, *, model: cost(model, x), X, model=made(Piece), argnums=argnums)
        assert found["dot_general"] == ["lin"]


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
