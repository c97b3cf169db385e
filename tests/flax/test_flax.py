"""Flax beside us: its modules as functions, our networks as its modules, its checkpoints in our networks."""

import dataclasses

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import linen, nnx

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError, ModelError
from tests.cases import LAYERS
from tests.drawing import draw

HALF = jp.HalfSquaredError()
RNG = np.random.default_rng(0)
IMAGES, SEQUENCES = (RNG.normal(size=shape) for shape in ((2, 6, 6, 4), (2, 5, 4)))
IDS = RNG.integers(0, 7, (2, 5))


@pytest.fixture(autouse=True)
def as_flax_is_used(strict_float64):
    """Flax mixes dtypes itself."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        yield


NETWORKS = {
    "dense": (jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(2, bias=False)), SEQUENCES[:, 0]),
    "convolutions": (
        jp.Chain(
            *(jp.Conv(4, (3, 3), strides=2), jp.GroupNorm(2), jp.ReLU(), jp.MaxPool((2, 2), strides=1)),
            *(jp.ConvTranspose(3, (2, 2), 2), jp.Conv(6, (3, 3), groups=3, padding="VALID"), jp.GlobalAvgPool()),
        ),
        IMAGES,
    ),
    "batch statistics": (
        jp.Chain(jp.Linear(3, False), jp.BatchNorm(), jp.Tanh(), jp.Affine()),
        SEQUENCES,
    ),
    "attention": (
        jp.Chain(jp.Residual(jp.Chain(jp.LayerNorm(), jp.MultiHeadAttention(2, causal=True))), jp.RMSNorm()),
        SEQUENCES,
    ),
    "rnn": (jp.models.rnn_classifier("rnn", 3, 2), SEQUENCES),
    "gru": (jp.models.rnn_classifier("gru", 3, 2), SEQUENCES),
    "lstm": (jp.Chain(jp.LSTM(3), jp.Linear(2)), SEQUENCES),
    "joined": (
        jp.Chain(
            jp.Parallel(jp.Linear(3), jp.Chain(jp.Linear(3), jp.Sigmoid()), join="multiply"),
            jp.Parallel(jp.Identity(), jp.Linear(2), join="concatenate"),
            jp.Remat(jp.Linear(4)),
            jp.Dropout(0.5),
        ),
        SEQUENCES,
    ),
    "gpt": (jp.models.gpt(vocabulary=7, width=8, depth=2, heads=2, context=6), IDS),
}


DEFAULT = {"dense", "convolutions", "joined"}  # quick to compile


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in DEFAULT)) for n in NETWORKS])
def test_our_network_as_a_linen_module(name):
    net, x = NETWORKS[name][0], jnp.asarray(NETWORKS[name][1])
    params = draw(net, x)
    module, variables = jp.to_flax(net, params)
    assert isinstance(module, linen.Module)
    fresh = jax.eval_shape(module.init, jax.random.key(0), x)  # linen makes the same tree itself
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    tied = name == "gpt"  # its tie is untied there: each place has a gradient of its own

    @jax.jit
    def both(variables, params):
        theirs, back = jax.vjp(lambda v: module.apply(v, x), variables)
        again, back_of_ours = jax.vjp(lambda p: jp.mixed(net)(x, p), params)
        dy = jnp.asarray(np.random.default_rng(1).normal(size=again.shape))
        return theirs, net(x, params), () if tied else (*back(dy), *back_of_ours(dy))

    y, ours, grads = both(variables, params)
    assert relative(y, ours) <= 1e-10
    if not tied:
        again = jp.import_flax(variables, net, inputs=x)
        assert relative(again, params) == 0
        assert relative(jp.import_flax(grads[0], net, inputs=x), grads[1]) <= 1e-10


@pytest.mark.slow
def test_every_layer_of_the_table_has_a_counterpart_or_is_refused_by_name():
    first = {case.kind: case for case in reversed(LAYERS)}
    for case in first.values():
        x = case.x(jnp.float64)
        params = draw(case.layer, x)
        try:
            module, variables = jp.to_flax(case.layer, params)
        except JaxpropError as error:
            assert f"no counterpart of {case.layer!r} at the top" in str(error)
            continue
        found, expected = jax.eval_shape(module.apply, variables, x), jax.eval_shape(case.layer, x, params)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), case


class Theirs(linen.Module):
    """A network as a Flax user writes it."""

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3), param_dtype=x.dtype)(x))
        x = x.reshape(x.shape[0], -1)
        x = linen.Dense(5, param_dtype=x.dtype)(x)
        return linen.Dense(5, param_dtype=x.dtype)(jnp.tanh(x))


OURS = jp.Chain(jp.Conv(4, (3, 3)), jp.ReLU(), jp.Flatten(), jp.Linear(5), jp.Tanh(), jp.Linear(5))


def test_a_flax_checkpoint_becomes_our_parameters(tmp_path):
    images = jnp.asarray(IMAGES)
    variables = draw(Theirs(), images)
    file = tmp_path / "checkpoint.msgpack"
    file.write_bytes(flax.serialization.to_bytes(variables))
    folder = tmp_path / "orbax"
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, variables)
    params = jp.import_flax(variables, OURS, inputs=IMAGES)
    ours, theirs = jax.jit(lambda p, v: (OURS(images, p), Theirs().apply(v, images)))(params, variables)
    assert relative(ours, theirs) <= 1e-10
    for source in (file, file.read_bytes(), folder, str(folder)):
        assert relative(jp.import_flax(source, OURS, inputs=IMAGES), params) == 0


def test_parameters_of_nnx_become_ours(tmp_path):
    """As a dict and as Orbax keeps them; a BatchNorm's running averages are no parameters, and stay behind."""

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(4, 3, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(3, rngs=rngs)

    theirs, ours = Net(nnx.Rngs(0)), jp.Chain(jp.Conv(3, (3, 3)), jp.BatchNorm())
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "nnx", nnx.state(theirs, nnx.Param))
    for source in (jp.from_flax(theirs)[1], tmp_path / "nnx"):
        params = jp.import_flax(source, ours, inputs=IMAGES)
        expected = (
            jp.ConvParams(theirs.conv.kernel[...], theirs.conv.bias[...]),
            jp.NormParams(theirs.norm.scale[...], theirs.norm.bias[...]),
        )
        assert relative(params, expected) == 0


def test_a_folder_that_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"not an Orbax checkpoint .*give the folder of one step's item"):
        jp.import_flax(tmp_path, jp.Linear(2), inputs=jnp.ones((1, 3)))


class UpAndDown(linen.Module):
    """Two modules of the same shapes, whose names sort against the order of their calls."""

    def setup(self):
        self.up, self.down = linen.Dense(4, param_dtype=jnp.float64), linen.Dense(4, param_dtype=jnp.float64)

    def __call__(self, x):
        return self.down(jnp.tanh(self.up(x)))


def test_names_say_what_shapes_cannot():
    x, net = jnp.asarray(SEQUENCES[:, 0]), jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(4))
    variables = draw(UpAndDown(), x)
    with pytest.raises(ModelError, match=r"'down' and 'up' .*layers 0 and 2.*names=\{'0': 'down', '2': 'up'\}"):
        jp.import_flax(variables, net, inputs=x)
    for names in ({"0": "up", "2": "down"}, {"0": "up"}, {"2": "down"}):
        params = jp.import_flax(variables, net, inputs=x, names=names)
        assert relative(net(x, params), UpAndDown().apply(variables, x)) <= 1e-12


@pytest.mark.parametrize(
    "first, second, told_apart",
    [
        ("Dense_2", "Dense_10", True),
        ("2", "10", True),
        ("blocks_0.up", "blocks_1.down", True),
        ("blocks_0.down", "blocks_0.up", False),
        ("Block_0.Dense_0", "Dense_0", False),
        ("LayerNorm_0", "RMSNorm_0", False),
    ],
)
def test_only_numbers_tell_modules_of_the_same_shapes_apart(first, second, told_apart):
    tree = {}
    for value, path in enumerate((first, second)):
        *outer, name = path.split(".")
        inside = tree
        for module in outer:
            inside = inside.setdefault(module, {})
        inside[name] = {"scale": jnp.full(3, float(value))}
    net = jp.Chain(jp.RMSNorm(), jp.LayerNorm(bias=False))
    if told_apart:
        params = jp.import_flax(tree, net, inputs=jnp.ones((1, 3)))
        assert [float(p.scale[0]) for p in params] == [0, 1]
    else:
        with pytest.raises(ModelError, match="tell which is called first"):
            jp.import_flax(tree, net, inputs=jnp.ones((1, 3)))


EXTRA = [
    (jp.Linear(4, bias=False), {"kernel": (3, 4), "bias": (4,)}, r"exactly W \[3, 4\].*bias \[4\].*settings"),
    (jp.LayerNorm(bias=False), {"scale": (3,), "bias": (3,)}, r"exactly scale \[3\].*bias \[3\]"),
    (jp.RMSNorm(), {"scale": (3,), "bias": (3,)}, r"exactly scale \[3\].*bias \[3\]"),
    (jp.BatchNorm(bias=False), {"norm": {"scale": (3,), "bias": (3,)}}, r"norm.bias \[3\]"),
]


@pytest.mark.parametrize("net, shapes, words", EXTRA)
def test_no_array_is_left_out_in_silence(net, shapes, words):
    arrays = jax.tree.map(np.ones, shapes, is_leaf=lambda node: isinstance(node, tuple))
    with pytest.raises(ModelError, match=words):
        jp.import_flax({"params": arrays}, net, inputs=jnp.ones((1, 3)))


def test_of_an_attention_only_the_key_bias_may_be_missing():
    x = jnp.asarray(SEQUENCES)
    theirs = linen.MultiHeadDotProductAttention(2, param_dtype=x.dtype, bias_init=linen.initializers.normal())
    variables, ours = draw(theirs, x), jp.MultiHeadAttention(2)
    params = jp.import_flax(variables, ours, inputs=x)
    y, expected = jax.jit(lambda p, v: (ours(x, p), theirs.apply(v, x)))(params, variables)
    assert relative(y, expected) <= 1e-12
    with pytest.raises(ModelError, match=r"query.bias"):
        jp.import_flax(variables, jp.MultiHeadAttention(2, bias=False), inputs=x)


def test_the_copy_of_a_tied_array_must_be_its_owners():
    net, x = jp.Shared(jp.Chain(jp.Linear(3), jp.Linear(4)), (("0.W", "1.W", True),)), jnp.asarray(SEQUENCES[:, 0])
    params = draw(net, x)
    _, variables = jp.to_flax(net, params)
    assert relative(jp.import_flax(variables, net, inputs=x), params) == 0
    variables["params"]["layers_1"]["kernel"] += 1
    with pytest.raises(ModelError, match=r"inner.1.W is tied to inner.0.W.*differ"):
        jp.import_flax(variables, net, inputs=x)


@pytest.mark.parametrize(
    "net", [jp.Repeat(jp.Tanh(), 3), jp.Remat(jp.Tanh()), jp.Repeat(jp.Remat(jp.Tanh()), 2)], ids=repr
)
def test_a_layer_without_parameters_is_repeated_too(net):
    x = jnp.asarray(SEQUENCES)
    params = net.init(jax.random.key(0), x)
    module, variables = jp.to_flax(net, params)
    assert relative(module.apply(variables, x), net(x, params)) <= 1e-12


@pytest.mark.parametrize(
    "source, net, words",
    [
        ({"params": {"Dense_0": {"kernel": np.ones((3, 2))}}}, jp.Linear(4, bias=False), r"Dense_0.kernel \[3, 2\]"),
        ({"params": {name: {"kernel": np.ones((3, 2))} for name in "ab"}}, jp.Linear(2, False), "no place for b"),
        (b"\x00nonsense", jp.Linear(2), "not a msgpack checkpoint"),
        ("no/such/file", jp.Linear(2), "cannot be read"),
        (3, jp.Linear(2), "expected a dict of variables"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(source, net, words):
    with pytest.raises(ModelError, match=words):
        jp.import_flax(source, net, inputs=jnp.ones((1, 3)))


class WithState(linen.Module):
    """A network with collections of its own, and an option of its call."""

    @linen.compact
    def __call__(self, x, train):
        options = {"param_dtype": x.dtype, "kernel_init": linen.initializers.constant(0.3)}
        x = linen.Dense(4, **options)(x[:, 0, 0])
        x = linen.BatchNorm(use_running_average=not train, param_dtype=x.dtype)(x)
        return linen.Dense(5, **options)(linen.Dropout(0.5, deterministic=not train)(x))


class OfNnx(nnx.Module):
    """The same in nnx, which keeps batch statistics and a key in its modules."""

    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(4, 5, rngs=rngs, param_dtype=jnp.float64) for _ in range(1)])
        self.norm = nnx.BatchNorm(5, rngs=rngs, use_running_average=True, param_dtype=jnp.float64)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.layers[0](x[:, 0, 0])))


PLAIN = linen.Sequential([lambda x: jnp.tanh(x[:, 0, 0]), linen.Dense(5, param_dtype=jnp.float64)])
FUNCTIONS = {
    "linen": lambda: jp.from_flax(PLAIN, draw(PLAIN, jnp.asarray(IMAGES))),
    "linen, with state": lambda: jp.from_flax(
        WithState(), inputs=jnp.asarray(IMAGES), key=jax.random.key(0), train=False
    ),
    "nnx": lambda: jp.from_flax(OfNnx(nnx.Rngs(0))),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "linen")) for n in FUNCTIONS])
def test_a_module_is_a_function_for_every_part(name, tmp_path):
    """auto, fit, evaluate, predict, export, and the row-sharded gradient; what needs rules by hand says so."""
    f, params = FUNCTIONS[name]()
    x, targets = jnp.asarray(IMAGES), jnp.ones((2, 5))
    value, grads = jax.jit(jp.auto.value_and_grad(f, HALF))(x, params, targets)
    expected = jax.jit(jax.grad(lambda p: jnp.mean(HALF(f(x, p), targets))))(params)
    assert relative(grads, expected) <= 1e-12
    result = jp.fit(f, HALF, optax.sgd(0.01), (IMAGES, targets), params=params, epochs=3, batch_size=2, progress=False)
    assert result.history[-1]["cost"] < float(value)
    assert jp.evaluate(f, HALF)(IMAGES, result.params, np.asarray(targets))["cost"] < float(value)
    y = jp.predict(f, IMAGES, result.params)
    exported = jp.load_exported(jp.export(tmp_path, f, result.params, inputs=IMAGES))
    assert relative(exported(IMAGES), y) <= 1e-12
    for way in (jp.manual.value_and_grad, jp.manual.uses, jp.manual.trace, jp.compare):
        with pytest.raises(JaxpropError, match=r"needs a jaxprop Layer.*use jaxprop.auto"):
            way(f, HALF)
    with pytest.raises(ModelError, match="expected a Layer: descriptions are saved, never code"):
        jp.save(tmp_path / "saved", f, params, inputs=IMAGES)


@pytest.mark.slow
def test_an_nnx_module_with_statistics_is_a_function_too():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(4, 3, rngs=rngs, param_dtype=jnp.float64)
            self.norm = nnx.BatchNorm(3, rngs=rngs, use_running_average=True, param_dtype=jnp.float64)

        def __call__(self, x):
            return self.norm(self.dense(x))

    net, x = Net(nnx.Rngs(0)), jnp.asarray(SEQUENCES[:, 0])
    f, params = jp.from_flax(net)
    assert relative(jax.jit(f)(x, params), net(x)) <= 1e-12
    _, grads = jax.jit(jp.auto.value_and_grad(f, HALF))(x, params, jnp.zeros((2, 3)))
    assert grads["dense"]["kernel"].shape == (4, 3) and set(grads) == {"dense", "norm"}


def test_one_layer_of_a_flax_network_takes_our_gradient():
    """`mixed` inside a linen module: the gradient runs our rule, and is the same."""
    layer = jp.Linear(3)
    ran = []

    class Watched(jp.Linear):
        def backward(self, dy, cache, params):
            ran.append(True)
            return super().backward(dy, cache, params)

    class Net(linen.Module):
        f: object

        @linen.compact
        def __call__(self, x):
            W = self.param("W", linen.initializers.lecun_normal(), (4, 3), x.dtype)
            return linen.Dense(2, param_dtype=x.dtype)(self.f(x, jp.LinearParams(W, jnp.zeros(3))))

    x = jnp.asarray(SEQUENCES[:, 0])
    variables = draw(Net(layer), x)
    gradients = [jax.grad(lambda v, f=f: jnp.sum(Net(f).apply(v, x) ** 2)) for f in (layer, jp.mixed(Watched(3)))]
    plain, ours = jax.jit(lambda v: [gradient(v) for gradient in gradients])(variables)
    assert ran and relative(ours, plain) <= 1e-12


def test_mistakes_are_named():
    with pytest.raises(JaxpropError, match="needs its variables, or inputs and a key"):
        jp.from_flax(Theirs())
    with pytest.raises(JaxpropError, match="expected a flax"):
        jp.from_flax(lambda x: x)

    @dataclasses.dataclass(frozen=True)
    class Own(jp.Layer):
        pass

    with pytest.raises(JaxpropError, match=r"no counterpart of .*Own\(\) at 0"):
        jp.to_flax(jp.Chain(Own()), (jnp.ones(3),))


class Stateful(nnx.Module):
    """All that an nnx module writes into while it is called: statistics, and the counts of its keys."""

    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.SimpleCell(4, 3, rngs=rngs))
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.rnn(x)[:, -1]))


@pytest.mark.slow
def test_a_function_of_an_nnx_module_is_pure():
    module, x = Stateful(nnx.Rngs(0)), jnp.asarray(SEQUENCES, jnp.float32)
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngKey))))
    f, params = jp.from_flax(module)
    y = jax.jit(f)(x, params)
    assert relative(f(x, params), y) <= 1e-5 and np.all(np.asarray(y) != 0)  # nothing is dropped
    assert np.abs(np.mean(y, axis=0)).max() <= 1e-5  # the batch's own statistics
    assert jax.vmap(f, (0, None))(jnp.stack([x, x]), params).shape == (2, 2, 3)
    grads = jax.jit(jax.grad(lambda p: jnp.sum(f(x, p) ** 3)))(params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    after = nnx.to_pure_dict(nnx.state(module, nnx.Not(nnx.RngKey)))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after)) and module.dropout.deterministic is False
    module.norm.mean[...] = jnp.full(3, 0.25, jnp.float32)
    running, _ = jp.from_flax(module, use_running_average=True)
    module.eval()
    evaluated, _ = jp.from_flax(module)
    expected = (module.rnn(x)[:, -1] - 0.25) / np.sqrt(1 + module.norm.epsilon)
    for function in (running, evaluated):
        assert relative(function(x, params), expected) <= 1e-5
    for option in ("train", "training"):
        with pytest.raises(JaxpropError, match=f"found options {option}, expected attributes"):
            jp.from_flax(module, **{option: False})


def test_a_function_of_a_linen_module_leaves_its_statistics_alone():
    class Norm(linen.Module):
        @linen.compact
        def __call__(self, x, train, drop=False):
            x = linen.BatchNorm(use_running_average=not train, param_dtype=x.dtype)(x)
            return linen.Dropout(0.5, deterministic=not drop)(x)

    x = jnp.asarray(SEQUENCES[:, 0])
    f, params = jp.from_flax(Norm(), inputs=x, key=jax.random.key(0), train=True)
    assert np.abs(np.mean(f(x, params), axis=0)).max() <= 1e-6
    assert relative(f(x, params), f(x, params)) == 0
    held, _ = jp.from_flax(Norm(), {"params": params, **f.others}, train=False)
    assert relative(held(x, params), x / np.sqrt(1 + 1e-5)) <= 1e-6
    dropping, _ = jp.from_flax(Norm(), {"params": params, **f.others}, train=False, drop=True)
    with pytest.raises(JaxpropError, match="draws random numbers, and f"):
        dropping(x, params)


@pytest.mark.parametrize(
    "cell, ours",
    [
        pytest.param(nnx.LSTMCell, jp.LSTM(3), marks=pytest.mark.slow),
        pytest.param(nnx.OptimizedLSTMCell, jp.LSTM(3), marks=pytest.mark.slow),
        pytest.param(nnx.GRUCell, jp.GRU(3), marks=pytest.mark.slow),
        (nnx.SimpleCell, jp.RNN(3)),
    ],
)
def test_recurrent_cells_of_nnx_become_ours_out_of_whatever_holds_them(cell, ours):
    normal = nnx.initializers.normal()
    x = jnp.asarray(SEQUENCES, jnp.float32)
    module = nnx.RNN(cell(4, 3, rngs=nnx.Rngs(0), bias_init=normal))
    params = jp.import_flax(module, ours, inputs=x)
    assert relative(jax.jit(ours)(x, params), module(x)) <= 1e-5
    state = nnx.state(module)
    variables = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    for source in (state, nnx.state(module, nnx.Param), variables, flax.core.freeze({"params": variables})):
        assert relative(jp.import_flax(source, ours, inputs=x), params) == 0


def test_a_linen_module_holds_variables_only_where_it_is_bound():
    x = jnp.asarray(SEQUENCES[:, 0])
    module = linen.Dense(2, param_dtype=x.dtype)
    variables = module.init(jax.random.key(0), x)
    assert (
        relative(jp.import_flax(module.bind(variables), jp.Linear(2), inputs=x).W, variables["params"]["kernel"]) == 0
    )
    with pytest.raises(ModelError, match="Dense, a linen module, which holds no arrays"):
        jp.import_flax(module, jp.Linear(2), inputs=x)


@pytest.mark.slow
def test_our_network_as_an_nnx_module():
    net, x = NETWORKS["joined"][0], jnp.asarray(SEQUENCES)
    params = draw(net, x)
    module = jp.to_nnx(net, params)
    assert relative(nnx.jit(lambda module, x: module(x))(module, x), net(x, params)) <= 1e-10
    assert relative(module(x, rngs=nnx.Rngs(0)), module(x)) > 0.1  # with a key Dropout drops
    assert relative(jp.import_flax(module, net, inputs=x), params) == 0
    grads = nnx.jit(nnx.grad(lambda module: jnp.sum(module(x) ** 2)))(module)
    expected = jax.jit(jax.grad(lambda p: jnp.sum(net(x, p) ** 2)))(params)
    assert relative(jp.import_flax(grads, net, inputs=x), expected) <= 1e-10
    f, theta = jp.from_flax(module)
    assert relative(f(x, theta), net(x, params)) <= 1e-10


@pytest.mark.slow
def test_a_list_of_equal_blocks_is_stacked_for_a_repeat():
    class Blocks(nnx.Module):
        def __init__(self, rngs):
            self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs, param_dtype=jnp.float64) for _ in range(11)])
            self.head = nnx.Linear(4, 2, rngs=rngs, param_dtype=jnp.float64)

        def __call__(self, x):
            for block in self.blocks:
                x = x + jnp.tanh(block(x))
            return self.head(x)

    module, x = Blocks(nnx.Rngs(0)), jnp.asarray(SEQUENCES[:, 0])
    block = jp.Residual(jp.Chain(jp.Linear(4), jp.Tanh()))
    net = jp.Chain(jp.Repeat(block, 11), jp.Linear(2))
    params = jp.import_flax(module, net, inputs=x)
    assert params[0].inner.inner[0].W.shape == (11, 4, 4)
    assert relative(net(x, params), module(x)) <= 1e-12
    named = jp.import_flax(module, net, inputs=x, names={"0.3.inner.0": "blocks.4", "0.4.inner.0": "blocks.3"})
    swap = np.array([0, 1, 2, 4, 3, *range(5, 11)])
    assert relative(named[0], jax.tree.map(lambda array: array[swap], params[0])) == 0
    with pytest.raises(ModelError, match=r"needs exactly .*no module of the checkpoint"):
        jp.import_flax(module, jp.Chain(jp.Repeat(block, 12), jp.Linear(2)), inputs=x)


@pytest.mark.parametrize("of", [lambda module: module, nnx.state], ids=["module", "state"])
def test_statistics_are_not_dropped_where_a_frozen_norm_needs_them(of):
    norm, x = nnx.BatchNorm(3, rngs=nnx.Rngs(0), param_dtype=jnp.float64), jnp.asarray(SEQUENCES[:, 0, :3])
    assert jp.import_flax(of(norm), jp.BatchNorm(), inputs=x).scale.shape == (3,)
    with pytest.raises(ModelError, match=r"Affine\(\)\) is a BatchNorm's scale .* statistics of its own"):
        jp.import_flax(of(norm), jp.Affine(), inputs=x)
    with pytest.raises(ModelError, match="import_flax"):
        jp.import_flax(of(norm), jp.Repeat(jp.Affine(), 1), inputs=x)
    variables = {"params": {"n": {"scale": jnp.ones(3), "bias": jnp.zeros(3)}}}
    assert jp.import_flax(variables, jp.Affine(), inputs=x).shift.shape == (3,)
    statistics = {"batch_stats": {"n": {"mean": jnp.ones(3), "var": jnp.ones(3)}}}
    with pytest.raises(ModelError, match="statistics of its own"):
        jp.import_flax(variables | statistics, jp.Affine(), inputs=x)
