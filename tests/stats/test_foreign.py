"""Quantities of models that jaxprop did not write: the numbers of the same network in its own layers, and of loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.stats import Factors, KroneckerFactors, collect, plan
from tests.drawing import draw
from tests.stats.cases import ROWS, Problem
from tests.stats.test_every_quantity import apart

SOFTMAX = jp.SoftmaxCrossEntropy()
CURVATURE = [
    KroneckerFactors(kind=kind, errors=errors, samples=samples)
    for kind in ("expand", "reduce")
    for errors, samples in (("exact", 1), ("sampled", 2), ("cost", 1))
]


NETWORKS = {  # each with the shape of x, and whether x are ids
    "mlp": (jp.Chain(jp.Linear(5), jp.Tanh(), jp.LayerNorm(), jp.Linear(3)), (4, 6), False),
    "convolution": (jp.Chain(jp.Conv(3, (3, 3)), jp.ReLU(), jp.Flatten(), jp.Linear(3)), (4, 5, 4, 2), False),
    "language model": (jp.Chain(jp.Embedding(7, 4), jp.Linear(5), jp.GELU(), jp.Linear(7)), (4, 3), True),
}


def problem_of(name):
    """The network, with labels of what it gives, and weights of which one is 0."""
    net, shape, ids = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 7, shape) if ids else rng.normal(size=shape))
    labels = jnp.asarray(rng.integers(0, 3, shape if ids else len(x)))
    return Problem(net, SOFTMAX, x, draw(net, x), labels, jnp.asarray([0.5, 0.1, 0.0, 0.4]), jax.random.key(2))


class AsFlax:
    """A network of jaxprop's as linen has it, and how what is in the tree of θ stands there."""

    def __init__(self, problem):
        self.module, self.params = jp.to_flax(problem.net, problem.params)
        count = len(jax.tree.leaves(problem.params))
        self.tree = jax.tree.structure(problem.params)
        numbers = self.tree.unflatten([jnp.full(p.shape, i) for i, p in enumerate(jax.tree.leaves(problem.params))])
        self.order = [int(jnp.ravel(leaf)[0]) for leaf in jax.tree.leaves(jp.to_flax(problem.net, numbers)[1])]
        assert sorted(self.order) == list(range(count))

    def f(self, params, x):
        """y of one example."""
        with jax.numpy_dtype_promotion("standard"):
            return self.module.apply(params, x[None])[0]

    def of_theirs(self, tree):
        """The leaves of a result, with any part of it that is like θ in linen's order."""

        def is_theta(node):
            return jax.tree.structure(node, is_leaf=is_leaf) == self.tree

        def is_leaf(node):
            return isinstance(node, Factors | jp.stats.Histogram)

        def one(node):
            leaves = jax.tree.leaves(node, is_leaf=is_leaf)
            return [leaves[i] for i in self.order] if is_theta(node) else node

        return jax.tree.leaves(jax.tree.map(one, tree, is_leaf=is_theta))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "mlp")) for name in NETWORKS])
def test_a_flax_model_has_the_numbers_of_loops_and_the_factors_of_our_layers(name):
    """Every row of the table by gradients of single examples, in numpy; K-FAC by the same network in our layers."""
    problem = problem_of(name)
    flax = AsFlax(problem)
    quantities = [row.quantity for row in ROWS]

    @jax.jit
    def run(x, params, theirs, targets, weights, rng):
        asked = {"weights": weights, "rng": rng}
        ours = collect(problem.net, SOFTMAX, CURVATURE)(x, params, targets, **asked).found
        found = collect(flax.f, SOFTMAX, [*quantities, *CURVATURE], in_axes=(None, 0))(theirs, x, targets, **asked)
        return found, ours

    (value, grads, found), ours = jax.device_get(
        run(problem.x, problem.params, flax.params, problem.targets, problem.weights, problem.rng)
    )
    assert relative(value, problem.w @ problem.costs) <= 1e-12
    assert jax.tree.structure(grads) == jax.tree.structure(flax.params)
    assert apart(jax.tree.leaves(grads), flax.of_theirs(problem.gradient)) <= 1e-10
    for row, result in zip(ROWS, found[: len(ROWS)], strict=True):
        assert apart(result, flax.of_theirs(row.expected(problem))) <= 1e-10, row
    for quantity, result, expected in zip(CURVATURE, found[len(ROWS) :], ours, strict=True):
        assert apart(jax.tree.leaves(result), flax.of_theirs(expected)) <= 1e-10, quantity


def cost_of_one(params, x, label):
    """C_n of a two-layer network in plain JAX, the mean of what it gives at two positions."""
    return -jax.nn.log_softmax(output(params, x))[label]


def output(params, x):
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"])
    return (hidden @ params["second"]["kernel"]).mean(0)


def plain():
    """θ, x and labels of it."""
    rng = np.random.default_rng(0)
    shapes = {"first": {"kernel": (6, 5), "bias": (5,)}, "second": {"kernel": (5, 3)}}
    params = jax.tree.map(lambda shape: jnp.asarray(rng.normal(size=shape)), shapes, is_leaf=lambda s: type(s) is tuple)
    return params, jnp.asarray(rng.normal(size=(4, 2, 6))), jnp.asarray(rng.integers(0, 3, 4))


AXES = (None, 0, 0)
ASKED = [jp.stats.ExampleNorms()]
OF_EXAMPLES = [
    jp.stats.ExampleNorms(),
    jp.stats.ExampleNorms(per="layer"),
    jp.stats.Variance(),
    jp.stats.ClippedGradient(0.5),
    jp.stats.GradientTests(),
]


def of_loops(gradients):
    """Norms, variances and Σ_n c_n g_n of gradients `[N, *shape]`, in the order of a tree's leaves."""
    gradients = [np.asarray(g) for g in jax.tree.leaves(gradients)]
    norms = sum(np.sum(np.square(g), axis=tuple(range(1, g.ndim))) for g in gradients)
    factors = np.minimum(1, 0.5 / np.sqrt(norms))
    return norms, [np.var(g, axis=0) for g in gradients], [np.tensordot(factors, g, 1) for g in gradients]


def test_a_cost_of_one_example_and_outputs_with_a_cost_are_two_ways_to_the_same():
    @jax.jit
    def run(params, x, labels):
        alone = collect(cost_of_one, OF_EXAMPLES, in_axes=AXES)(params, x, labels)
        by_cost = collect(output, SOFTMAX, OF_EXAMPLES, in_axes=AXES[:2])(params, x, labels)
        by_axes = collect(lambda x, y, p: cost_of_one(p, x, y), OF_EXAMPLES, argnums=2, in_axes=(1, 0, None))
        bounded = collect(cost_of_one, OF_EXAMPLES, in_axes=AXES, memory=8 * 500)(params, x, labels)
        others = by_cost, by_axes(x.swapaxes(0, 1), labels, params), bounded
        return alone, others, jax.vmap(jax.grad(cost_of_one), AXES)(params, x, labels)

    alone, others, each = jax.device_get(run(*plain()))
    norms, variances, clipped = of_loops(each)
    assert apart([alone.found[0], alone.found[2], alone.found[3].gradient], [norms, variances, clipped]) <= 1e-12
    assert apart(alone.grads, jax.tree.map(lambda g: np.mean(g, axis=0), each)) <= 1e-12
    assert sorted(alone.found[1]) == ["first", "second"]
    for other in others:
        assert apart(other, alone) <= 1e-10


def equinox_model():
    import equinox

    model = equinox.nn.MLP(6, 3, 5, 1, key=jax.random.key(0))  # its activation is a leaf that is no array
    return model, equinox.filter_grad, equinox.filter_jit, ["layers.0", "layers.1"]


def nnx_model():
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = (nnx.Linear(*size, param_dtype="float64", rngs=rngs) for size in ((6, 4), (4, 3)))

        def __call__(self, x):
            return self.b(jnp.tanh(self.a(x)))

    return Model(nnx.Rngs(0)), jax.grad, jax.jit, ["a", "b"]


@pytest.mark.parametrize("make", [equinox_model, pytest.param(nnx_model, marks=pytest.mark.slow)])
def test_a_module_may_be_the_parameters_and_its_gradient_is_a_module(make):
    model, grad, jit, layers = make()
    _, x, labels = plain()

    def cost(model, x, label):
        return -jax.nn.log_softmax(model(x[0]))[label]

    @jit
    def run(model, x, labels):
        asked = [*OF_EXAMPLES, jp.stats.GradientHistogram(), jp.stats.UpdateToWeight(0.1)]
        each = jax.lax.map(lambda row: grad(cost)(model, *row), (x, labels))
        curvature = collect(lambda model, x: model(x[0]), SOFTMAX, [KroneckerFactors()], in_axes=AXES[:2])
        factors = curvature(model, x, labels, rng=jax.random.key(0)).found[0]
        return collect(cost, asked, in_axes=AXES)(model, x, labels), each, factors

    (_, grads, found), each, factors = jax.device_get(run(model, x, labels))
    norms, variances, clipped = of_loops(each)
    assert type(grads) is type(model) and jax.tree.structure(grads) == jax.tree.structure(each)
    assert apart([found[0], found[2], found[3].gradient], [norms, variances, clipped]) <= 1e-12
    assert sorted(found[1]) == layers
    assert [type(found[i]) for i in (2, 5, 6)] == [type(model)] * 3
    kinds = jax.tree.leaves(factors, is_leaf=lambda node: isinstance(node, Factors))
    assert [type(kind) for kind in kinds] == [Factors] * 4


def test_several_arguments_may_be_parameters_and_bare_arrays_too():
    w, b, x = jnp.asarray(2.0), jnp.asarray([1.0, -1.0]), jnp.asarray([[1.0, 2.0], [0.0, 3.0]])
    run = collect(lambda w, x, b: jnp.sum(w * x + b**2), OF_EXAMPLES[:1], argnums=(0, 2), in_axes=(None, 0, None))
    value, (of_w, of_b), (norms,) = run(w, x, b, weights=jnp.asarray([1.0, 0.0]))
    np.testing.assert_allclose([value, of_w, *of_b, *norms], [8.0, 3.0, 2.0, -2.0, 17.0, 17.0])


def test_a_second_call_compiles_nothing(compilations):
    run, (params, x, labels) = jax.jit(collect(cost_of_one, OF_EXAMPLES[:3], in_axes=AXES)), plain()
    run(params, x, labels)
    other = jnp.asarray(np.ones_like(x))
    with compilations() as count:
        run(params, other, labels)
    assert count[0] == 0


def test_the_plan_is_of_a_function_too():
    params, x, labels = plain()
    found = plan(cost_of_one, [jp.stats.ExampleNorms()], in_axes=AXES, memory=10_000)(params, x, labels)
    assert {row.path for row in found.rows} == {"first.kernel", "first.bias", "second.kernel"}
    twice = plan(output, SOFTMAX, [jp.stats.ClippedGradient(1.0)], in_axes=AXES[:2])(params, x, labels)
    assert len(twice.visits) == 1 and "which are kept" in twice.visits[0]
    rows = jnp.broadcast_to(x[:, :1], (4, 8, 6))
    with pytest.raises(jp.JaxpropError, match=r"first\.kernel.*raise memory="):
        plan(output, SOFTMAX, ASKED, in_axes=AXES[:2], memory=8 * 20)(params, rows, labels)


@pytest.mark.parametrize(
    "asked, said",
    [
        (lambda: collect(output, SOFTMAX, ASKED), r"needs a jaxprop Layer such as Chain\(...\), or in_axes= for a"),
        (lambda: collect(output, ASKED), r"Write stats.collect\(f, cost, quantities, argnums=0, in_axes=\(None, 0\)\)"),
        (lambda: collect(linen.Dense(3), SOFTMAX, ASKED, in_axes=(None, 0)), "a module of Flax.*such as model.apply"),
        (lambda: collect(output, None, ASKED, in_axes=(None, 0)), "needs a Cost, found None"),
        (lambda: collect(jp.Linear(3), ASKED), r"needs a cost: write stats.collect\(net, cost, quantities\)"),
        (lambda: collect(jp.Linear(3), SOFTMAX, ASKED, in_axes=(0,)), "in_axes are for functions"),
        (lambda: collect(cost_of_one, ASKED[0], in_axes=AXES), r"must be a list, found ExampleNorms"),
        (lambda: collect(cost_of_one, [jp.stats.Flow()], in_axes=AXES), r"Flow\(\) reads the layers.*jp.xray.report"),
        (lambda: collect(cost_of_one, [jp.stats.DeadUnits()], in_axes=AXES), "DeadUnits.*jp.xray.report"),
        (lambda: collect(output, SOFTMAX, [jp.stats.Alignment()], in_axes=AXES[:2]), "Alignment.*jp.xray.report"),
        (lambda: collect(cost_of_one, [jp.stats.GGNDiagonal()], in_axes=AXES), "exact errors, which are those of a"),
        (lambda: collect(cost_of_one, CURVATURE, in_axes=AXES), r"write stats.collect\(f, cost, quantities, argnums=0"),
        (lambda: collect(cost_of_one, ASKED, in_axes=AXES, rule=jp.rules.FeedbackAlignment()), "rule=.*leave rule out"),
    ],
)  # fmt: skip
def test_what_a_function_cannot_be_asked_is_refused_before_it_is_called(asked, said):
    with pytest.raises(jp.JaxpropError, match=said):
        asked()


@pytest.mark.parametrize(
    "called, said",
    [
        (lambda p, x, t: collect(output, ASKED, in_axes=AXES[:2])(p, x), "f returns an array float64.3. for one"),
        (lambda p, x, t: collect(output, SOFTMAX, ASKED, in_axes=AXES[:2])(p, x), "found 1 arguments of f and then"),
        (lambda p, x, t: collect(output, SOFTMAX, ASKED, in_axes=AXES[:2])(p, x, t[1:]), "targets .3,. do not fit"),
        (lambda p, x, t: collect(cost_of_one, ASKED, in_axes=AXES)(p, x, t[1:]), "different numbers of examples"),
        (lambda p, x, t: collect(cost_of_one, ASKED, in_axes=(0, 0, 0))(p, x, t), "is differentiated and mapped"),
        (lambda p, x, t: collect(cost_of_one, ASKED, in_axes=AXES)(p, x, t, weights=jnp.ones(3)), "one weight per ex"),
        (lambda p, x, t: collect(output, SOFTMAX, CURVATURE, in_axes=AXES[:2])(p, x, t), "give rng=jax.random.key"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_when_it_is_called(called, said):
    with pytest.raises(jp.JaxpropError, match=said):
        jax.eval_shape(called, *plain())


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        return jnp.tanh(linen.Dense(4, param_dtype="float64")(x)), None


class Deep(linen.Module):
    """Blocks that a scan goes over, their parameters in arrays `[3, ...]`."""

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(4, param_dtype="float64")(x)
        blocks = linen.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        return linen.Dense(3, param_dtype="float64")(blocks()(x, None)[0])


@pytest.mark.slow
def test_examples_on_two_devices_of_a_model_that_scans_over_its_blocks():
    """As one array that is sharded, and as each device's own rows inside `shard_map`."""
    _, x, labels = plain()
    model = Deep()
    params = jax.jit(model.init)(jax.random.key(0), x[0])
    asked = [jp.stats.ClippedGradient(0.5), jp.stats.ClippedGradient(0.5, "layer"), jp.stats.Variance()]

    def cost(params, x, label):
        with jax.numpy_dtype_promotion("standard"):
            return -jax.nn.log_softmax(model.apply(params, x).mean(0))[label]

    run = collect(cost, asked, in_axes=AXES)
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    by_rows, whole = jax.NamedSharding(mesh, jax.P("n")), jax.NamedSharding(mesh, jax.P())

    def of_a_shard(params, x, labels):
        return jax.lax.psum([clipped.gradient for clipped in run(params, x, labels).found[:2]], "n")

    specs = {"in_specs": (jax.P(), jax.P("n"), jax.P("n")), "out_specs": jax.P()}
    together = jax.jit(jax.shard_map(of_a_shard, mesh=mesh, **specs))(params, x, labels)
    sharded = jax.jit(run)(jax.device_put(params, whole), *jax.device_put((x, labels), by_rows))
    each = jax.jit(jax.vmap(jax.grad(cost), AXES))(params, x, labels)
    assert len(sharded.found[0].norms.sharding.device_set) == 2
    norms, variances, clipped = of_loops(jax.device_get(each))
    found = jax.device_get(sharded.found)
    assert apart([found[0].norms ** 2, found[2], found[0].gradient], [norms, variances, clipped]) <= 1e-12
    assert apart(jax.device_get(together), [part.gradient for part in found[:2]]) <= 1e-12


@pytest.mark.slow
def test_a_step_of_k_fac_is_that_of_the_same_network_in_our_layers():
    problem = problem_of("mlp")
    flax, (x, targets) = AsFlax(problem), (problem.x, problem.targets)
    asked = [KroneckerFactors(errors="exact")]
    ours = jp.stats.precondition(problem.net, SOFTMAX, (x, targets), 0.1, errors="exact")
    theirs = jp.stats.precondition(flax.f, SOFTMAX, (x, targets), 0.1, errors="exact", in_axes=AXES[:2])

    @jax.jit
    def step(params, of_flax):
        _, grads, (factors,) = collect(problem.net, SOFTMAX, asked)(x, params, targets)
        _, their_grads, (their_factors,) = collect(flax.f, SOFTMAX, asked, in_axes=AXES[:2])(of_flax, x, targets)
        ours_is, _ = ours.update(grads, ours.init(params), params, factors=factors)
        theirs_is, _ = theirs.update(their_grads, theirs.init(of_flax), of_flax, factors=their_factors)
        return ours_is, theirs_is

    with jax.numpy_dtype_promotion("standard"):  # optax needs it
        expected, found = jax.device_get(step(problem.params, flax.params))
    assert apart(jax.tree.leaves(found), flax.of_theirs(expected)) <= 1e-10
    with pytest.raises(jp.JaxpropError, match="found masked parameters of a function"):
        masked = jax.tree.map(lambda _: optax.MaskedNode(), flax.params)
        theirs.init(masked)
