"""Ways to differentiate a network against each other, inside every JAX transformation, and the errors they raise."""

import functools
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.uses import is_use
from tests.drawing import draw


@dataclass(frozen=True)
class Noise(jp.Layer):
    """y = x + noise, where there is a key."""

    def forward(self, x, params, env=None):
        if env is None or env.rng is None:
            return x, ()
        return x + 0.1 * jax.random.normal(env.rng, x.shape, x.dtype), ()

    def backward(self, dy, cache, params):
        return dy, ()


@dataclass(frozen=True)
class Dropout(jp.Layer):
    """y = 2x or 0, each with probability ½."""

    def forward(self, x, params, env=None):
        if env is None or env.rng is None:
            return x, jnp.ones_like(x)
        kept = 2 * jax.random.bernoulli(env.rng, 0.5, x.shape).astype(x.dtype)
        return x * kept, kept

    def backward(self, dy, cache, params):
        return dy * cache, ()


@dataclass(frozen=True)
class Problem:
    """A network, its cost, and rows for it."""

    net: jp.Layer
    cost: jp.Cost
    targets: str

    def rows(self, dtype="float64", N=6):
        rng = np.random.default_rng(0)
        x, weights = rng.normal(2, 3, (N, 3)), rng.uniform(0, 1, N)
        params = draw(self.net, jax.ShapeDtypeStruct(x.shape, dtype))
        if self.targets == "labels":
            targets = jnp.asarray(rng.integers(0, 4, N))
        else:
            targets = jnp.asarray(rng.normal(size=(N, 4)), dtype)
        return jnp.asarray(x, dtype), params, targets, jnp.asarray(weights, dtype)


PROBLEMS = {
    "MLP": Problem(
        jp.Chain(
            jp.Standardize((2.0, 2.0, 1.0), 3.0), jp.Linear(5), jp.Tanh(), jp.Linear(5), jp.Sigmoid(), jp.Linear(4)
        ),
        jp.HalfSquaredError(),
        "numbers",
    ),
    "classification": Problem(
        jp.Chain(jp.Linear(5), jp.GELU(), jp.Linear(4, bias=False)), jp.SoftmaxCrossEntropy(), "labels"
    ),
    "Linear": Problem(jp.Linear(4), jp.MeanSquaredError(), "numbers"),
}
WAYS = {"auto": jp.auto.value_and_grad, "manual": jp.manual.value_and_grad}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]


@functools.partial(jax.jit, static_argnums=0)
def both_ways(problem, x, params, targets, weights):
    def run(way, weights):
        return way(problem.net, problem.cost)(x, params, targets, weights=weights)

    means = [mean_of_single_rows(problem, x, params, targets, w) for w in (jnp.full_like(weights, 1 / len(x)), weights)]
    return {name: [run(way, w) for w in (None, weights)] for name, way in WAYS.items()}, means


def mean_of_single_rows(problem, x, params, targets, weights):
    """Σ_n w_n C_n and its gradient written without the engine: jax.grad of one row at a time."""

    def C(params, x, target):
        return problem.cost(problem.net(x[None], params), target[None])[0]

    costs, grads = jax.vmap(jax.value_and_grad(C), (None, 0, 0))(params, x, targets)
    return costs @ weights, jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), grads)


SINGLE = pytest.param("classification", "float32", id="classification, float32", marks=pytest.mark.slow)


@pytest.mark.parametrize("name, dtype", [*(pytest.param(name, "float64", id=name) for name in PROBLEMS), SINGLE])
def test_manual_is_auto(name, dtype):
    problem = PROBLEMS[name]
    x, params, targets, weights = problem.rows(dtype)
    found, means = both_ways(problem, x, params, targets, weights)
    assert relative(found["manual"], found["auto"]) <= tolerance(dtype)
    for way in found:
        assert relative(found[way], means) <= tolerance(dtype)
        for value, grads in found[way]:
            assert value.shape == () and value.dtype.name == dtype
            assert jax.tree.structure(grads) == jax.tree.structure(params)
            assert [g.dtype for g in jax.tree.leaves(grads)] == [p.dtype for p in jax.tree.leaves(params)]


@pytest.mark.slow
def test_eager_is_jit():
    problem = PROBLEMS["classification"]
    x, params, targets, weights = problem.rows()
    jitted, _ = both_ways(problem, x, params, targets, weights)
    for name, way in WAYS.items():
        eager = way(problem.net, problem.cost)(x, params, targets)
        assert relative(eager, jitted[name][0]) <= 1e-13


def test_a_second_call_compiles_nothing(problem, compilations):
    x, params, targets, weights = problem.rows()
    others = jax.block_until_ready((x + 1, jax.tree.map(lambda p: 2 * p, params), targets, weights / 2))
    again = Problem(jp.Chain(*problem.net.layers) if isinstance(problem.net, jp.Chain) else jp.Linear(4),
                    type(problem.cost)(), problem.targets)  # fmt: skip
    jax.block_until_ready(both_ways(problem, x, params, targets, weights))
    with compilations() as count:
        jax.block_until_ready(both_ways(again, *others))
    assert count[0] == 0


@pytest.mark.parametrize("way", WAYS)
def test_wrong_weights_are_refused(way):
    problem = PROBLEMS["Linear"]
    x, params, targets, _ = problem.rows()
    with pytest.raises(ShapeError, match=r"weights: found shape \(2,\), expected \(6,\)"):
        WAYS[way](problem.net, problem.cost)(x, params, targets, weights=jnp.ones(2))


@pytest.mark.parametrize("name", ["Linear", pytest.param("MLP", marks=pytest.mark.slow)])
def test_compare_agrees(name):
    problem = PROBLEMS[name]
    x, params, targets, weights = problem.rows()
    report = jp.compare(problem.net, problem.cost)(x, params, targets, weights=weights)
    assert report.ok, str(report)
    assert [row.path for row in report.rows] == paths(params)


def paths(tree):
    return [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree_util.tree_leaves_with_path(tree)]


# auto on any callable


def test_auto_takes_a_plain_function_and_a_dict():
    def f(x, params):
        return jnp.tanh(x @ params["W"]) * params["scale"]

    x, targets, weights = jnp.ones((3, 2)), jnp.zeros((3, 4)), jnp.array([0.1, 0.2, 0.3])
    params = {"W": jnp.full((2, 4), 0.3), "scale": jnp.asarray(2.0)}

    @jax.jit
    def run(params):
        found = jp.auto.value_and_grad(f, jp.HalfSquaredError())(x, params, targets, weights=weights)
        return found, jax.value_and_grad(lambda p: 0.5 * jnp.sum(weights[:, None] * f(x, p) ** 2))(params)

    assert relative(*run(params)) <= 1e-14
    with pytest.raises(JaxpropError, match="rng was given to a plain function"):
        jp.auto.value_and_grad(f, jp.HalfSquaredError())(x, params, targets, rng=jax.random.key(0))


@pytest.mark.parametrize(
    "way, name",
    [
        (lambda f: jp.manual.value_and_grad(f, jp.HalfSquaredError()), "manual"),
        (lambda f: jp.manual.uses(f, jp.HalfSquaredError()), "manual"),
        (lambda f: jp.manual.trace(f, jp.HalfSquaredError()), "manual.trace"),
        (lambda f: jp.compare(f, jp.HalfSquaredError()), "compare"),
        (jp.mixed, "mixed"),
    ],
)
def test_a_plain_function_has_no_rules(way, name):
    with pytest.raises(JaxpropError) as caught:
        way(lambda x, params: x)
    assert str(caught.value) == (
        f"{name} needs a jaxprop Layer such as Chain(...), found function: a plain function has no "
        "hand-derived backward pass; use jaxprop.auto"
    )


# rng


@pytest.mark.slow
def test_one_key_gives_both_ways_one_noise():
    net = jp.Chain(jp.Linear(5), Noise(), jp.Tanh(), jp.Chain(Dropout(), jp.Linear(4)))
    problem = Problem(net, jp.HalfSquaredError(), "numbers")
    x, params, targets, _ = problem.rows()

    @jax.jit
    def run(key):
        ways = [way(net, problem.cost)(x, params, targets, rng=key) for way in WAYS.values()]
        noisy = jp.manual.uses(net, problem.cost)(x, params, targets, rng=key)
        f = jp.mixed(net)
        env = jp.Env(rng=key)
        by_rules = jax.grad(lambda p: jnp.mean(problem.cost(f(x, p, env), targets)))(params)
        return *ways, noisy[0], by_rules

    one, two = run(jax.random.key(1)), run(jax.random.key(2))
    for auto, manual, value, by_rules in (one, two):
        assert relative(manual, auto) <= 1e-12
        assert relative(value, auto[0]) <= 1e-15
        assert relative(by_rules, auto[1]) <= 1e-12
    assert relative(one[0][1], two[0][1]) > 1e-3  # another key, another noise
    report = jp.compare(net, problem.cost)(x, params, targets, rng=jax.random.key(1))
    assert report.ok, str(report)


def test_a_chain_gives_every_layer_a_key_of_its_own():
    x = jnp.zeros((2, 3))
    twice = jp.Chain(Noise(), jp.Chain(Noise()))
    tape = jp.manual.trace(twice, jp.HalfSquaredError())(x, ((), ((),)), x, rng=jax.random.key(0))
    first, second = tape["0"].y, tape["1.0"].y - tape["1.0"].x
    assert float(jnp.min(jnp.abs(first))) > 0 and float(jnp.min(jnp.abs(first - second))) > 0
    y = twice(x, ((), ((),)), jp.Env(rng=jax.random.key(0)))
    assert relative(tape["1.0"].y, y) == 0  # the call and forward split alike


@pytest.mark.parametrize("env", [None, jp.Env()], ids=str)
def test_no_rng_is_deterministic(env):
    x = jnp.ones((2, 3))
    assert relative(jp.Chain(Noise(), Dropout())(x, ((), ()), env), x) == 0


# trace


def test_the_tape():
    inner = jp.Chain(jp.Sigmoid(), jp.Linear(4))
    net = jp.Chain(jp.Linear(5), inner, jp.Tanh())
    x, params, targets, _ = Problem(net, jp.HalfSquaredError(), "numbers").rows()
    trace, rows = jp.manual.trace(net, jp.HalfSquaredError()), (x, params, targets)
    tape, uses, y = jax.device_get(
        jax.jit(lambda *rows: (trace(*rows), jp.manual.uses(net, jp.HalfSquaredError())(*rows)[1], net(*rows[:2])))(
            *rows
        )
    )
    in_order = ["0", "1.0", "1.1", "2"]
    assert list(trace(*rows)) == in_order == list(tape)
    steps = list(tape.values())
    for before, after in itertools.pairwise(steps):
        assert relative(before.y, after.x) == 0 and relative(before.dy, after.dx) == 0
    assert relative(steps[0].x, x) == 0 and relative(steps[-1].y, y) <= 1e-15
    assert relative(steps[-1].dy, steps[-1].y - targets) <= 1e-15  # BP1
    assert tape["0"].derivative is None and tape["1.1"].derivative is None
    for path in ("1.0", "2"):
        record = tape[path]
        assert relative(record.dx, record.dy * record.derivative) <= 1e-15  # BP2: δ = ∂C/∂a · ∂a/∂z
    assert relative(uses[0].W.a, x) == 0 and relative(uses[0].W.delta, tape["1.0"].dx) <= 1e-14
    assert relative(uses[1][1].W.a, tape["1.0"].y) <= 1e-14 and relative(uses[1][1].b.delta, tape["2"].dx) <= 1e-14


def test_the_tape_of_one_layer_and_of_integers():
    net, x = jp.Linear(2), jnp.ones((3, 4))
    tape = jp.manual.trace(net, jp.HalfSquaredError())(x, draw(net, x), jnp.zeros((3, 2)))
    assert list(tape) == [""]
    net, pixels = jp.Chain(jp.Standardize(8.0, 4.0), jp.Linear(2)), jnp.full((3, 4), 12)
    tape = jp.manual.trace(net, jp.HalfSquaredError())(pixels, draw(net, pixels), jnp.zeros((3, 2)))
    assert tape["0"].dx is None and tape["0"].x.dtype == pixels.dtype and tape["1"].dx.shape == (3, 4)


# Inside JAX's transformations


def all_ways(problem, x, params, targets):
    """What every way returns, as one pytree."""
    arguments = (x, params, targets)
    f = jp.mixed(problem.net)
    return {
        "auto": jp.auto.value_and_grad(problem.net, problem.cost)(*arguments),
        "manual": jp.manual.value_and_grad(problem.net, problem.cost)(*arguments),
        "uses": jp.manual.uses(problem.net, problem.cost)(*arguments),
        "trace": jp.manual.trace(problem.net, problem.cost)(*arguments),
        "mixed": jax.value_and_grad(lambda p: jnp.mean(problem.cost(f(x, p), targets)))(params),
    }


MLP = PROBLEMS["MLP"]


@pytest.fixture(scope="module")
def plain():
    """Rows, and what every way says about them under jit."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        x, params, targets, _ = MLP.rows()
        return (x, params, targets), jax.jit(functools.partial(all_ways, MLP))(x, params, targets)


def test_mixed_and_uses_give_the_same_gradient(plain):
    _, found = plain
    by_uses = jax.tree.map(lambda use: use.gradient(), found["uses"][1], is_leaf=is_use)
    assert relative(found["mixed"], found["auto"]) <= 1e-12
    assert relative((found["uses"][0], by_uses), found["auto"]) <= 1e-12


def test_eval_shape(plain):
    arguments, found = plain
    shapes = jax.eval_shape(functools.partial(all_ways, MLP), *arguments)
    assert jax.tree.map(lambda s: (s.shape, s.dtype), shapes) == jax.tree.map(lambda a: (a.shape, a.dtype), found)


def test_vmap_over_params(plain):
    (x, params, targets), found = plain
    stacked = jax.tree.map(lambda p: np.stack([p, 2 * np.asarray(p)]), params)
    mapped = jax.jit(jax.vmap(functools.partial(all_ways, MLP), (None, 0, None)))(x, stacked, targets)
    assert relative(jax.tree.map(lambda leaf: np.asarray(leaf)[0], mapped), found) <= 1e-12
    by_jax, by_hand = mapped["auto"], mapped["manual"]
    assert relative(by_hand, by_jax) <= 1e-12
    three_seeds = jax.random.split(jax.random.key(0), 3)
    drawn = jax.eval_shape(jax.vmap(MLP.net.init, (0, None)), three_seeds, x)
    assert drawn[1].W.shape == (3, 3, 5)


def test_scan_over_batches(plain):
    (x, params, targets), found = plain

    def step(carry, batch):
        return carry, all_ways(MLP, batch[0], carry, batch[1])

    batches = np.stack([x, -np.asarray(x)]), np.stack([targets, targets])
    _, scanned = jax.jit(lambda p, b: jax.lax.scan(step, p, b))(params, batches)
    assert relative(jax.tree.map(lambda leaf: np.asarray(leaf)[0], scanned), found) <= 1e-12


def sharded(problem, mesh):
    """Every way inside shard_map: θ replicated, rows sharded, the mean over shards at the end."""
    d, everywhere = PartitionSpec("d"), PartitionSpec()

    def run(x, params, targets):
        found = all_ways(problem, x, params, targets)
        # θ is replicated, so jax.grad has summed the gradient of `mixed` over shards already
        value, summed = found.pop("mixed")
        mixed = jax.lax.pmean(value, "d"), jax.tree.map(lambda g: g / jax.lax.axis_size("d"), summed)
        meaned = {name: jax.lax.pmean(found[name], "d") for name in ("auto", "manual")}
        rows = {"uses": found["uses"][1], "trace": found["trace"]}
        return meaned | {"mixed": mixed}, rows

    return jax.jit(jax.shard_map(run, mesh=mesh, in_specs=(d, everywhere, d), out_specs=(everywhere, d)))


def test_shard_map_on_two_devices(plain):
    """Per-shard gradients, averaged, are those of all rows."""
    arguments, expected = plain
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    means, rows = sharded(MLP, mesh)(*arguments)
    for name in means:
        assert relative(means[name], expected[name]) <= 1e-12, name
    for name, reference in (("uses", expected["uses"][1]), ("trace", expected["trace"])):
        assert relative(rows[name], reference) <= 1e-12, name


# mixed


def test_mixed_inside_a_cost_of_the_users_own():
    x, params, _, _ = MLP.rows()
    f = jp.mixed(MLP.net)

    def outer(f, x, params):
        """Rows weighed, x differentiated too, and θ used twice."""
        y = f(x, params) + f(2 * x, params)
        return jnp.sum(jnp.sin(y) * jnp.arange(1.0, len(x) + 1)[:, None]) + sum(map(jnp.sum, jax.tree.leaves(params)))

    @jax.jit
    def grads(x, params):
        both = [jax.grad(functools.partial(outer, g), (0, 1)) for g in (f, MLP.net)]
        rows = [jax.vmap(jax.grad(lambda p, x, g=g: outer(g, x[None], p)), (None, 0)) for g in (f, MLP.net)]
        return [g(x, params) for g in both], [g(params, x) for g in rows]

    for ours, theirs in grads(x, params):
        assert relative(ours, theirs) <= 1e-12
    assert relative(f(x, params), MLP.net(x, params)) == 0


def gradients_of_squares(net, x, params):
    """By our rules, and by JAX."""
    both = [jax.grad(lambda p, f=f: jnp.sum(f(x, p) ** 2)) for f in (jp.mixed(net), net)]
    return jax.jit(lambda p: [grad(p) for grad in both])(params)


def test_mixed_runs_our_rules():
    """A wrong rule shows: the gradient is not JAX's own."""

    class Doubled(jp.Linear):
        def backward(self, dy, cache, params):
            dx, uses = super().backward(2 * dy, cache, params)
            return dx, uses

    net, x = Doubled(2), jnp.ones((3, 4))
    params = draw(net, x)
    ours, theirs = gradients_of_squares(net, x, params)
    assert relative(ours, jax.tree.map(lambda g: 2 * np.asarray(g), theirs)) <= 1e-14


def test_mixed_with_integers_in():
    net = jp.Chain(jp.Flatten(), jp.Standardize(8.0, 4.0), jp.Linear(2))
    pixels = jnp.asarray(np.random.default_rng(0).integers(0, 17, (3, 2, 2)))
    params = draw(net, pixels)
    ours, theirs = gradients_of_squares(net, pixels, params)
    assert relative(ours, theirs) <= 1e-12
    with pytest.raises(TypeError, match="real- or complex-valued"):
        jax.grad(lambda x: jnp.sum(jp.mixed(net)(x, params)))(pixels)


def test_mixed_has_no_forward_mode():
    net, x = jp.Sigmoid(), jnp.ones((2, 3))
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: jp.mixed(net)(x, ()), (x,), (x,))


# The article's own numbers


@pytest.mark.parametrize("way", WAYS)
def test_the_articles_neuron(way):
    net, x = jp.Chain(jp.Linear(1), jp.Sigmoid()), jnp.array([[1.0, 3.0, 2.0]])
    params = (jp.layers.LinearParams(jnp.array([[0.5], [-0.25], [0.75]]), jnp.array([0.1])), ())
    value, grads = jax.jit(WAYS[way](net, jp.HalfSquaredError()))(x, params, jnp.array([[1.0]]))
    assert np.allclose(grads[0].W.ravel(), [-0.03366, -0.10097, -0.06731], rtol=0, atol=5e-6)
    assert abs(float(grads[0].b[0]) + 0.033657) < 5e-7
    assert abs(float(value) - 0.5 * (1 - 0.79413) ** 2) < 5e-6


def test_the_articles_neuron_on_the_tape():
    net, x = jp.Chain(jp.Linear(1), jp.Sigmoid()), jnp.array([[1.0, 3.0, 2.0]])
    params = (jp.layers.LinearParams(jnp.array([[0.5], [-0.25], [0.75]]), jnp.array([0.1])), ())
    tape = jax.jit(jp.manual.trace(net, jp.HalfSquaredError()))(x, params, jnp.array([[1.0]]))
    z, a, delta = float(tape["1"].x[0, 0]), float(tape["1"].y[0, 0]), float(tape["1"].dx[0, 0])
    assert abs(z - 1.35) < 1e-12 and abs(a - 0.79413) < 5e-6 and abs(delta + 0.033657) < 5e-7
    assert relative(delta * x, np.array([[-0.03366, -0.10097, -0.06731]])) < 1e-4


@pytest.mark.parametrize("way", WAYS)
def test_the_articles_chain_of_two(way):
    net = jp.Chain(jp.Linear(1, bias=False), jp.Linear(1, bias=False))
    params = tuple(jp.layers.LinearParams(jnp.array([[w]]), None) for w in (0.4, 0.3))
    x, targets = jnp.array([[1.0]]), jnp.array([[2.0]])
    assert abs(float(net(x, params)[0, 0]) - 0.12) < 1e-15
    value, grads = jax.jit(WAYS[way](net, jp.HalfSquaredError()))(x, params, targets)
    found = [float(v.ravel()[0]) for v in (value, grads[0].W, grads[1].W)]
    assert np.allclose(found, [1.7672, -0.564, -0.752], rtol=0, atol=1e-14)


# Error texts


def message(act):
    with pytest.raises(JaxpropError) as caught:
        act()
    return str(caught.value)


X = np.ones((5, 3), np.float32)


@pytest.mark.parametrize(
    "act, expected",
    [
        (
            lambda: jp.Chain(jp.Sigmoid(), jp.Tanh())(X, ((),)),
            "Chain: params must be a tuple of 2, one per layer, found 1 items; make them with net.init(key, x)",
        ),
        (
            lambda: jp.Chain(jp.Sigmoid()).forward(X, {"W": X}),
            "Chain: params must be a tuple of 1, one per layer, found a dict; make them with net.init(key, x)",
        ),
        (
            lambda: jp.Chain(jp.Tanh(), jp.Chain(jp.Tanh())).forward(X, ((), ())),
            "Chain at 1: params must be a tuple of 1, one per layer, found 0 items; make them with net.init(key, x)",
        ),
        (
            lambda: jp.Linear(2).init(jax.random.key(0), np.ones((5, 3), np.int32)),
            "Linear(2): inputs must be floating, found int32; put Standardize(mean, std) first, or convert with "
            "x.astype(float)",
        ),
        (
            lambda: jp.Linear(2)(X, jp.layers.LinearParams(np.ones((4, 2), np.float32), None)),
            "Linear(2): inputs (5, 3) need W of shape (3, 2), found (4, 2); were these params made for other inputs?",
        ),
        (
            lambda: jp.Linear(2).init(jax.random.key(0), np.ones(3, np.float32)),
            "Linear(2): inputs must be [N, ..., I], found shape (3,); one example is x[None]",
        ),
        (
            lambda: jp.Chain(jp.Linear(2), "relu"),
            "Chain: layers, item 1, must be a Layer, found 'relu'; write ReLU()",
        ),
        (
            lambda: jp.Chain(jp.Linear(2), lambda x, params: x),
            "Chain: layers, item 1, must be a Layer, found the function <lambda>; a plain function f(x, params) goes "
            "to jaxprop.auto and jaxprop.fit as it is",
        ),
        (lambda: jp.Chain(), "Chain: found no layers, expected at least one"),
        (lambda: jp.Linear(2, init="he_normall"), "unknown init 'he_normall' (did you mean 'he_normal'?); known: "),
        (lambda: jp.Linear(2, bias_init="nul"), "unknown bias_init 'nul'"),
        (lambda: jp.Linear(0), "Linear: features must be a whole number ≥ 1, found 0"),
        (lambda: jp.Linear(2.0), "Linear: features must be a whole number, found 2.0; write int(2.0)"),
        (lambda: jp.Linear(True), "Linear: features must be a whole number, found True"),
        (
            lambda: jp.Linear(2).init(None, X),
            "Linear.init needs a key to draw W from: pass jax.random.key(0)",
        ),
        (lambda: jp.ELU(0.0), "ELU: alpha must be positive, found 0.0"),
        (
            lambda: jp.Standardize(0.0, 0.0),
            "Standardize: std must be positive, found 0.0; use 1 for a feature that never varies",
        ),
        (lambda: jp.Unstandardize(float("nan"), 1.0), "Unstandardize: mean must be finite, found nan"),
        (
            lambda: jp.Standardize((0.0, 0.0), 1.0)(X, ()),
            "Standardize: mean has 2 features, inputs (5, 3) have 3; its last axis must match",
        ),
    ],
)
def test_error_texts_say_found_expected_and_what_to_do(act, expected):
    assert message(act).startswith(expected)


def test_an_abstract_layer_says_what_to_define():
    for act in (lambda: jp.Layer()(X, ()), lambda: jp.Layer().backward(X, (), ()), lambda: jp.Activation().value(X)):
        with pytest.raises(TypeError, match="must define"):
            act()


@pytest.mark.parametrize(
    "layer, b, words",
    [
        (jp.Linear(3), jnp.zeros((3, 1)), r"found b of shape \(3, 1\), expected shape \(3,\)"),
        (jp.Linear(3), jnp.zeros(1), r"found b of shape \(1,\), expected shape \(3,\)"),
        (jp.Linear(3), None, r"found b of None, expected shape \(3,\)"),
        (jp.Linear(3, bias=False), jnp.zeros(3), r"found b of shape \(3,\), expected None"),
    ],
)
def test_a_bias_of_another_shape_is_named(layer, b, words):
    with pytest.raises(ShapeError, match=words):
        layer(jnp.ones((2, 4)), jp.LinearParams(jnp.ones((4, 3)), b))


@pytest.mark.parametrize("way", [jp.auto, jp.manual], ids=["auto", "manual"])
def test_no_examples_are_refused(way):
    net = jp.Linear(1)
    params = draw(net, jnp.ones((1, 2)))
    with pytest.raises(ShapeError, match="no examples"):
        way.value_and_grad(net, jp.HalfSquaredError())(jnp.ones((0, 2)), params, jnp.ones((0, 1)))


def test_mixed_gives_every_cotangent_in_the_dtype_of_what_it_is_of():
    net, x = jp.Linear(3), jnp.ones((2, 4), "bfloat16")
    params = draw(net, jnp.ones((2, 4), "float32"))
    with jax.numpy_dtype_promotion("standard"):
        for f in (net, jp.mixed(net)):
            dx, grads = jax.eval_shape(jax.grad(lambda x, p, f=f: jnp.sum(f(x, p)), (0, 1)), x, params)
            assert dx.dtype == jnp.bfloat16 and grads.W.dtype == jnp.float32
