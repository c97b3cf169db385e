"""Many devices: the numbers of one, what lies where, what is sent, and what cannot be asked for.

By default on the two CPU devices that tests have; networks on meshes of eight (`-m slow`) in processes of their own,
since a process makes its devices once, and every network on every mesh both ways beside them (`-m exhaustive`).
"""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from jaxprop.train.devices import Devices
from jaxprop.train.devices.layouts import layout
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, begin, taking

ROOT = pathlib.Path(__file__).parents[2]
CLASSES, N, BATCH = 8, 38, 16  # the last batch has 6 rows, which no mesh of eight divides
MESHES = ("data=8", "fsdp=8", "data=4,model=2", "data=2,fsdp=2,model=2")
RNG = np.random.default_rng(0)


def rows(*shape, kind="f4"):
    return RNG.normal(size=(N, *shape)).astype(kind)


def labels(*shape):
    return RNG.integers(0, CLASSES, (N, *shape))


MASKED = jp.Chain(
    jp.Linear(16),
    jp.Residual(jp.Chain(jp.LayerNorm(), jp.MultiHeadAttention(2))),
    jp.Dropout(0.3),
    jp.Linear(CLASSES),
    jp.GlobalAvgPool(),
)
NETWORKS = {
    "mlp": (jp.models.mlp((16, 32, CLASSES)), rows(16), labels()),
    "convnet": (jp.models.convnet(CLASSES, 8), rows(8, 8, 3), labels()),
    "resnet": (jp.models.resnet(CLASSES, 8), rows(8, 8, 3), labels()),
    "gpt": (jp.models.gpt(CLASSES, 16, 2, 2, 8), labels(8), labels(8)),
    "rnn": (jp.models.rnn_classifier("rnn", 16, CLASSES), rows(5, 8), labels()),
    "gru": (jp.models.rnn_classifier("gru", 16, CLASSES), rows(5, 8), labels()),
    "lstm": (jp.models.rnn_classifier("lstm", 16, CLASSES), rows(5, 8), labels()),
    "batch norm, dropout": (
        jp.Chain(
            *(jp.Conv(8, (3, 3), bias=False), jp.BatchNorm(), jp.ReLU()),
            *(jp.Flatten(), jp.Dropout(0.5), jp.Linear(CLASSES)),
        ),
        rows(4, 4, 3),
        labels(),
    ),
    "grouped": (
        jp.Chain(jp.Conv(8, (3, 3)), jp.Tanh(), jp.Conv(8, (3, 3), groups=4), jp.GlobalAvgPool(), jp.Linear(CLASSES)),
        rows(4, 4, 3),
        labels(),
    ),
    "masked": (MASKED, rows(6, 8), labels()),
}


def options(name):
    """Weights and a mask where the network takes them."""
    more = {"weights": np.linspace(0.5, 2, N).astype("f4")} if name in ("mlp", "masked") else {}
    return more | ({"mask": np.arange(6) < np.arange(N)[:, None] % 5 + 2} if name == "masked" else {})


def trained(name, way, mesh, **more):
    net, x, targets = NETWORKS[name]
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.05, momentum=0.9))
    given = {"epochs": 1, "batch_size": BATCH, "progress": False, "grad": way, "mesh": mesh} | options(name) | more
    return jp.fit(net, jp.SoftmaxCrossEntropy(), optimizer, (x, targets), **given)


def apart(found, alone):
    """How far θ, the optimizer's state and the history are from another run's, each array by its own largest entry."""
    parts = [(r.params, r.state.optimizer, [row["cost"] for row in r.history]) for r in (found, alone)]
    return relative(*jax.device_get(parts))


def largest_difference(found, alone):
    """max|Δ| over the entries of θ, which are about 1 and below, and the costs of epochs."""
    parts = [jax.tree.leaves((r.params, [row["cost"] for row in r.history])) for r in (found, alone)]
    return max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in zip(*parts, strict=True))


def check_networks(names, pairs):
    """Networks on eight devices against one, float32: for a process of its own."""
    assert jax.device_count() == 8
    for name in names:
        alone = {way: trained(name, way, None) for way in {way for way, _ in pairs}}
        for way, mesh in pairs:
            if name == "grouped" and "model" in mesh:  # refused, see below
                continue
            difference = largest_difference(trained(name, way, mesh), alone[way])
            assert difference <= 1e-6, f"{name}, {way}, {mesh}: {difference}"


def in_a_process(script):
    """Run a script with eight CPU devices, in float32, warnings as errors; return what it printed."""
    header = "import warnings; warnings.simplefilter('error'); from tests.train import test_devices as here\n"
    more = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}:{ROOT}/services"}
    more |= {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir or ""}
    done = subprocess.run(
        [sys.executable, "-c", header + script], cwd=ROOT, env=os.environ | more, capture_output=True, timeout=900
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    return done.stdout.decode()


ALL = [(way, mesh) for way in ("auto", "manual") for mesh in MESHES]


@pytest.mark.slow
def test_networks_on_eight_devices():
    """With weights, masks and draws, and a last batch that does not divide."""
    in_a_process("""
here.check_networks(["masked", "convnet", "batch norm, dropout", "lstm"], [("manual", "data=2,fsdp=2,model=2")])
here.check_networks(["mlp", "gpt"], [("auto", "data=4,model=2")])
here.check_networks(["mlp", "grouped"], [("manual", "fsdp=8")])
""")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_on_every_mesh_both_ways(name):
    in_a_process(f"here.check_networks([{name!r}], here.ALL)")


# on two devices, in this process


X, LABELS = RNG.normal(size=(22, 6)), RNG.integers(0, 4, 22)
MLP = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(4))
COST, ADAM = jp.SoftmaxCrossEntropy(), optax.adam(0.01, eps=1e-3)
# fsdp divides rows as data does, and θ too
SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive
TWO = ("fsdp=2", pytest.param("model=2", marks=SLOW), pytest.param("data=2", marks=EXHAUSTIVE))


@functools.cache
def alone():
    """What `fit()` gives on one device."""
    return fit()


@functools.cache
def spread():
    """The same on two devices."""
    return fit(mesh="fsdp=2")


def fit(net=MLP, mesh=None, x=X, targets=LABELS, **more):
    given = {"epochs": 1, "batch_size": 8, "progress": False} | more
    return jp.fit(net, COST, ADAM, (x, targets), mesh=mesh, **given)


def drawn(net=MLP, x=X):
    return jax.jit(net.init)(jax.random.key(0), x)


@pytest.mark.parametrize(
    "mesh, said",
    [
        ("data=4", "asks for 4, and there are 2 devices: on a CPU, JAX_NUM_CPU_DEVICES=n"),
        ("data=1", "asks for 1, and there are 2 devices: write -1 for one of the axes"),
        ("data=3,model=-1", "asks for 3 × some"),
        ("rows=2", "unknown axis of fit: mesh 'rows'; known: data, fsdp, model"),
        ("data=-1,model=−1", "found -1 twice"),
        ("data=2,data=1", "found data twice"),
        ("data", 'fit: mesh must be such as "data=8"'),
        ("data=0", 'fit: mesh must be such as "data=8"'),
        (8, "found 8"),
    ],
)
def test_a_mesh_that_cannot_be(mesh, said):
    with pytest.raises(JaxpropError) as error:
        fit(mesh=mesh)
    assert said in str(error.value)


def test_a_batch_that_cannot_be_divided():
    with pytest.raises(JaxpropError, match=r"batch_size=7 cannot be divided among the 2 devices .* a multiple of 2"):
        fit(mesh="data=2", batch_size=7)


def test_what_model_cannot_divide():
    """XLA's weight gradient of a grouped convolution is wrong on such a mesh; of a plain function nothing is seen."""
    net, x, targets = NETWORKS["grouped"]
    with pytest.raises(JaxpropError, match=r"found model and Conv\(.*groups=4.*\) at 2: .* use data and fsdp alone"):
        fit(net, "model=2", x, targets)
    with pytest.raises(JaxpropError, match=r"model divides the layers of a network, and a plain function"):
        fit(lambda x, w: x @ w, "model=2", params=np.ones((6, 4)))


@pytest.mark.slow
def test_a_mesh_of_other_names_is_refused_and_one_of_fewer_devices_is_taken():
    with pytest.raises(JaxpropError, match="unknown axis of fit: mesh 'x'"):
        fit(mesh=Mesh(np.array(jax.devices()), ("x",)))
    one = fit(mesh=Mesh(np.array(jax.devices()[1:]), ("data",)))
    assert one.params[0].W.devices() == {jax.devices()[1]}
    assert apart(one, alone()) <= 1e-12
    assert Devices.of("data=-1,model=1").sizes == {"data": 2, "model": 1}


@pytest.mark.parametrize("which", ["data", "params", "state", "validation"])
def test_what_lies_on_several_devices_is_refused_without_a_mesh(which):
    spread = NamedSharding(Mesh(np.array(jax.devices()), ("anything",)), PartitionSpec("anything"))
    given = {"data": (X, LABELS), "validation": (X, LABELS)}[which] if which in ("data", "validation") else None
    more = {"params": drawn()} if which == "params" else {"state": alone().state} if which == "state" else {}
    more |= {"validation": jax.device_put(given, spread)} if which == "validation" else {}
    more = {name: jax.tree.map(functools.partial(_everywhere, spread), tree) for name, tree in more.items()}
    x, targets = jax.device_put(given, spread) if which == "data" else (X, LABELS)
    with pytest.raises(JaxpropError, match=f'fit: {which} lies on 2 devices, .* say mesh="data=2"'):
        fit(x=x, targets=targets, **more)
    if which == "data":  # with a mesh they are rows as any others
        assert apart(fit(mesh="fsdp=2", x=x, targets=targets), alone()) <= 1e-12


def _everywhere(spread, a):
    if not isinstance(a, jax.Array) or len(a.devices()) > 1:
        return a
    return jax.device_put(a, NamedSharding(spread.mesh, PartitionSpec()))


def test_the_layouts_of_a_transformer():
    net, ids = jp.models.gpt(vocabulary=8, width=4, depth=8, heads=2, context=4), np.zeros((2, 4), int)
    params = jax.eval_shape(net.init, jax.random.key(0), ids)
    found = Devices.of("model=2", net).layout(params)
    block = "inner.2.inner"
    assert {path: axes for path, axes in found.axes.items() if any(axes)} == {
        "inner.0.W": ("model", None),
        f"{block}.0.inner.1.W_query": (None, None, "model"),
        f"{block}.0.inner.1.b_query": (None, "model"),
        f"{block}.0.inner.1.W_key": (None, None, "model"),
        f"{block}.0.inner.1.W_value": (None, None, "model"),
        f"{block}.0.inner.1.b_value": (None, "model"),
        f"{block}.0.inner.1.W_output": (None, "model", None),
        f"{block}.1.inner.1.W": (None, None, "model"),
        f"{block}.1.inner.1.b": (None, "model"),
        f"{block}.1.inner.3.W": (None, "model", None),
    }
    assert not found.whole
    spread = Devices.of("fsdp=2", net).layout(params).axes  # never along the axis that a Repeat goes through, of 8 here
    assert spread[f"{block}.1.inner.1.W"] == (None, None, "fsdp") and spread[f"{block}.1.inner.3.b"] == (None, "fsdp")


@pytest.mark.parametrize(
    "net, shape, rows_of",
    [
        (jp.Chain(jp.Linear(4), jp.Dropout(0.1), jp.ReLU(), jp.Chain(jp.Linear(6))), (2, 3), "3.0"),
        (jp.Chain(jp.Linear(4), jp.LayerNorm(), jp.Linear(6)), (2, 3), None),  # a norm needs every feature
        (
            jp.Chain(jp.Parallel(jp.Linear(4), jp.Chain(jp.Linear(4), jp.SiLU()), join="multiply"), jp.Linear(6)),
            (2, 3),
            "1",
        ),
        (jp.Chain(jp.Parallel(jp.Linear(4), jp.Linear(4), join="concatenate"), jp.Linear(6)), (2, 3), None),
    ],
)
def test_columns_then_rows(net, shape, rows_of):
    params = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, float))
    axes = Devices.of("model=2", net).layout(params).axes
    assert [path for path, found in axes.items() if found == ("model", None)] == ([f"{rows_of}.W"] if rows_of else [])
    assert sum(found == (None, "model") for found in axes.values()) == (
        len([path for path in axes if path.endswith("W")]) - bool(rows_of)
    )


@pytest.mark.slow
def test_what_does_not_divide_is_whole_and_said_once():
    net, x = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(4)), X[:, :5]
    with pytest.warns(UserWarning) as said:
        found = fit(net, "model=2", x, batch_size=22)
    assert [str(w.message) for w in said] == [
        "fit: 0.W [5, 3], 0.b [3] cannot be divided evenly by model=2: every device holds all of it"
    ]
    assert found.params[0].W.sharding.is_fully_replicated and not found.params[2].W.sharding.is_fully_replicated
    assert apart(found, fit(net, x=x, batch_size=22)) <= 1e-12


def test_what_model_cannot_divide_is_said():
    net = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(4))
    params = jax.eval_shape(net.init, jax.random.key(0), X)
    with pytest.warns(UserWarning, match=r"fit: 0\.W \[6, 3\], 0\.b \[3\] cannot be divided evenly by model=2"):
        Devices.of("model=2", net).warn(params, "fit")
    with pytest.warns(UserWarning, match="nothing of this network is divided by model: its 2 devices do the same work"):
        Devices.of("model=2", jp.RNN(3)).warn(
            jax.eval_shape(jp.RNN(3).init, jax.random.key(0), np.zeros((2, 3, 4))), "fit"
        )


@functools.cache
def with_all(mesh):
    net = jp.Chain(jp.Linear(8, bias=False), jp.BatchNorm(), jp.Tanh(), jp.Dropout(0.3), jp.Linear(4))
    more = {"weights": np.linspace(0.5, 2, 22), "validation": (X[:9], LABELS[:9]), "epochs": 2, "batch_size": 12}
    return fit(net, mesh, **more)


@pytest.mark.parametrize("mesh", TWO)
def test_two_devices_give_the_numbers_of_one(mesh):
    """Batch statistics over all rows, dropout's draws, weights, validation, a smaller last batch, Adam."""
    alone, found = with_all(None), with_all(mesh)
    assert apart(found, alone) <= 1e-11
    assert relative(found.history[1]["validation_cost"], alone.history[1]["validation_cost"]) <= 1e-11


@pytest.mark.parametrize("mesh", TWO)
def test_what_lies_where_as_training_goes_on(mesh):
    """θ and the optimizer's arrays stay in the layout, half of them a device."""
    devices = Devices.of(mesh, MLP)
    recipe = Recipe(MLP, COST, optax.adam(0.01), "manual", devices=devices)
    state = devices.place(begin(recipe, drawn()))
    batches = devices.place_batches(Rows(X[None, :20], LABELS[None, :20]))
    shards = [shard.data.shape[:2] for shard in batches.x.addressable_shards]
    assert shards == ([(1, 20)] if mesh == "model=2" else [(1, 10)]) * 2
    layout = jax.tree.map(lambda a: a.sharding, state)
    for _ in range(2):
        state, *_ = taking(recipe)(state, batches, 0, 1, jax.random.key(0), 0)
    same = jax.tree.map(lambda a, placed: a.sharding.is_equivalent_to(placed, a.ndim), state, layout)
    assert all(jax.tree.leaves(same))
    for part in (state.params, state.optimizer[0].mu, state.optimizer[0].nu):
        held = sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(part))
        whole = sum(a.nbytes for a in jax.tree.leaves(part))
        few = 4 * 8 if mesh == "model=2" else 0  # the bias behind the sum
        assert held == (whole if mesh == "data=2" else (whole + few) / 2)


@pytest.mark.parametrize("way", ["manual", pytest.param("auto", marks=pytest.mark.slow)])
def test_gradients_are_summed_once_and_no_rows_are_sent(way):
    from tests.benchmarks.devices import collectives, compiled

    rows = X[:16], LABELS[:16]
    program, state = compiled(MLP, rows, "data=2", way, optax.sgd(0.1))
    size = sum(a.nbytes for a in jax.tree.leaves(state.params))
    assert collectives(program.as_text()) == {"all-reduce": (1, size + 8)}  # and the cost
    program, _ = compiled(MLP, rows, "fsdp=2", way, optax.sgd(0.1))
    found = collectives(program.as_text())
    assert found["all-gather"] == (4, size) and sum(bytes_ for _, bytes_ in found.values()) <= 2 * size + 8


@functools.cache
def watched(mesh):
    quantities = {
        "noise": jp.stats.NoiseScale(),
        "norms": jp.stats.ExampleNorms(),
        "updates": jp.stats.UpdateToWeight(),
        "factors": jp.stats.KroneckerFactors(),
    }
    return fit(MLP, mesh, rule=jp.rules.KolenPollack(), monitor=quantities, every=1)


@pytest.mark.parametrize("mesh", [pytest.param("fsdp=2", marks=SLOW), *TWO[1:]])
def test_a_rule_with_feedback_and_a_monitor(mesh):
    alone, found = watched(None), watched(mesh)
    assert apart(found, alone) <= 1e-12
    assert relative(jax.device_get(found.feedback), alone.feedback) <= 1e-12
    assert relative(found.monitor.gradient_norms, alone.monitor.gradient_norms) <= 1e-12
    found, alone = (r.monitor.found | {"updates": r.monitor["updates"][0].W} for r in (found, alone))  # b starts at 0
    assert relative(found, alone) <= 1e-10


@pytest.mark.parametrize("mesh", TWO)
def test_a_loop_of_ones_own(mesh):
    alone, spread = (jp.train.step(MLP, COST, optax.adam(0.01), mesh=on) for on in (None, mesh))
    params = drawn()
    states = [alone.start(params), spread.start(params)]
    loops, before = [jax.jit(run, donate_argnums=1) for run in (alone, spread)], states[1]
    for _ in range(2):
        states = [run(X, state, LABELS)[0] for run, state in zip(loops, states, strict=True)]
    assert all(a.is_deleted() for a in jax.tree.leaves(before))  # given away, all of it
    assert relative(*jax.device_get([state.params for state in states])) <= 1e-12
    assert states[1].params[0].W.sharding == spread.recipe.devices.place(params)[0].W.sharding


@pytest.mark.slow
def test_what_is_made_of_a_result_on_two_devices(tmp_path):
    """Predictions, figures, comparisons and files."""
    params = spread().params
    assert relative(jp.predict(MLP, X[:21], params), jp.predict(MLP, X[:21], alone().params)) <= 1e-12
    at_home = jp.evaluate(MLP, COST)(X, alone().params, LABELS)
    assert relative(list(jp.evaluate(MLP, COST)(X, params, LABELS).values()), list(at_home.values())) <= 1e-12
    assert jp.compare(MLP, COST)(X, params, LABELS).ok
    jp.save(tmp_path / "net", MLP, params, inputs=X)
    assert relative(jp.load(tmp_path / "net")[1], jax.device_get(params)) == 0


@pytest.mark.slow
def test_going_on_with_a_state_on_other_devices():
    on, found = fit(state=alone().state), spread()
    for mesh, state in (("model=2", found.state), ("fsdp=2", alone().state)):
        assert apart(fit(mesh=mesh, state=state), on) <= 1e-11
    assert apart(fit(state=jax.device_get(found.state)), on) <= 1e-11


@pytest.mark.parametrize("way", ["manual", pytest.param("auto", marks=pytest.mark.slow)])
def test_repeated_blocks_are_gathered_one_at_a_time(way):
    """θ of a block is gathered forward and once more on the way back, and never kept whole for all blocks."""
    from tests.benchmarks.devices import collectives, compiled

    net = jp.Repeat(jp.Linear(64, bias=False), 16)
    rows = np.ones((2, 64), "f4"), np.zeros(2, int)
    program, _ = compiled(net, rows, "fsdp=2", way, optax.sgd(0.1))
    size = 16 * 64 * 64 * 4
    assert collectives(program.as_text())["all-gather"] == (32, 2 * size)
    assert program.memory_analysis().temp_size_in_bytes < 1.5 * size  # 3 where all of θ is gathered


def test_an_array_may_lie_on_two_axes_and_odd_ones_on_none():
    """Features that fsdp divides only behind model; a transposed convolution, which has no groups to ask for."""
    net = jp.Chain(jp.ConvTranspose(3, (3, 3)), jp.Flatten(), jp.Linear(4, bias=False))
    params = jax.eval_shape(net.init, jax.random.key(0), np.zeros((2, 1, 1, 3)))
    axes = layout(net, params, {"fsdp": 2, "model": 2}).axes
    assert (axes["0.b"], axes["2.W"]) == ((None,), (None, ("model", "fsdp")))
    assert layout(net, params, {"fsdp": 2, "model": 2}).divided("fsdp")
    assert Devices.of("model=2", net).sizes == {"model": 2}


def test_arrays_of_an_optimizer_lie_as_theirs_of_theta():
    """By path and shape: L-BFGS has an axis of history in front, Adafactor's rows and columns belong to no axis."""
    params = drawn()
    devices = Devices.of("fsdp=2", MLP)
    found = devices.layout(params).specs(jax.eval_shape(optax.lbfgs(memory_size=3).init, params))
    assert found[0].diff_params_memory[0].W == PartitionSpec(None, None, "fsdp")
    assert found[0].weights_memory == PartitionSpec()
    found = devices.layout(params).specs(jax.eval_shape(optax.adafactor(min_dim_size_to_factor=4).init, params))
    assert all(isinstance(spec, PartitionSpec) for spec in jax.tree.leaves(found))
    function = Devices.of("fsdp=2").layout({"w": np.zeros((2, 6))})  # of a plain function: the longest axis
    assert function.axes == {"w": (None, "fsdp")}
