"""`collect` itself: what it returns, what it costs, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.network.freeze import freeze_statistics
from jaxprop.uses import is_use
from tests.drawing import draw

NET = jp.Chain(jp.Linear(5), jp.Tanh(), jp.Linear(3))
COST = jp.SoftmaxCrossEntropy()
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6)), "float32")
LABELS = jnp.asarray([0, 2, 1, 2])


class Uses(jp.stats.Quantity):
    """The uses' own squared norms, and how many times a use was visited."""

    def close(self, use, path, weights):
        return use.squared_norms()

    def finish(self, kept, notes, context):
        return kept


class Again(Uses):
    """A second visit that weighs every example by the norm of the first: one array for all uses."""

    twice = True

    def between(self, kept, context):
        return sum(jax.tree.leaves(jax.tree.map(lambda n: jnp.sum(n.reshape(-1, n.shape[-1]), axis=0), kept)))

    def again(self, use, path, part):
        return use.gradient(part)

    def finish(self, kept, notes, context):
        return context.again


class AgainByPart(Again):
    """The same with the norms of each parameter, and of each block of a Repeat, for itself."""

    parts = True

    def between(self, kept, context):
        return kept


def params_of(net, x=X):
    return jax.tree.map(lambda p: p.astype(x.dtype) if p.dtype.kind == "f" else p, draw(net, x))


@pytest.mark.parametrize("weights", [None, jnp.asarray([0.5, 0.1, 0.2, 0.2], "float32")])
def test_asking_for_nothing_is_the_gradient_s_program(weights):
    arguments = X, params_of(NET), LABELS
    ours, plain = (
        jax.jit(lambda *a, run=run: tuple(run(*a, weights=weights))[:2]).lower(*arguments).as_text()
        for run in (jp.stats.collect(NET, COST, []), jp.manual.value_and_grad(NET, COST))
    )
    assert ours == plain


REPEATED = jp.Chain(jp.Linear(4), jp.Repeat(jp.Chain(jp.Repeat(jp.Linear(4), 2), jp.Tanh()), 3), jp.Linear(3))
TIED = jp.Shared(jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(6)), ties=(("0.W", "2.W", True),))


@pytest.mark.parametrize("net", [NET, REPEATED, TIED], ids=["chain", "repeat in repeat", "tied"])
def test_a_second_visit_has_what_the_first_one_found(net):
    params = params_of(net)
    labels = LABELS if net is not TIED else jnp.asarray([0, 5, 1, 2])

    @jax.jit
    def run(x, params, labels):
        _, uses = jp.manual.uses(net, COST)(x, params, labels)
        each = jax.tree.map(lambda use: use.per_example(), uses, is_leaf=is_use)
        found = jp.stats.collect(net, COST, [Uses(), Again(), AgainByPart()])(x, params, labels)
        return tuple(found), each, jp.norms(uses) ** 2, jp.manual.value_and_grad(net, COST)(x, params, labels)[1]

    (_, grads, (norms, again, by_part)), each, total, gradient = jax.device_get(run(X, params, labels))
    assert relative(again, jax.tree.map(lambda g: np.tensordot(total, g, 1), each)) <= 1e-5

    def weighed(norms, g):  # g [N, (L, L,) ...], norms [(L, L,) N]
        g = np.moveaxis(g, 0, norms.ndim - 1)
        return np.sum(g * norms.reshape(*norms.shape, *(1,) * (g.ndim - norms.ndim)), axis=norms.ndim - 1)

    assert relative(by_part, jax.tree.map(weighed, norms, each)) <= 1e-5
    assert relative(grads, gradient) <= 1e-6


def test_a_second_visit_of_one_array_keeps_no_uses_out_of_a_scan():
    deep = jp.Chain(jp.Linear(64), jp.Repeat(jp.Chain(jp.Linear(64), jp.Tanh()), 24), jp.Linear(3))
    x, params = jnp.ones((256, 6), "float32"), params_of(deep)
    labels = jnp.zeros(256, int)

    def bytes_of(quantity):
        run = jax.jit(jp.stats.collect(deep, COST, [quantity]))
        return run.lower(x, params, labels).compile().memory_analysis().temp_size_in_bytes

    stacked = 24 * 256 * 64 * 4  # the errors of all blocks
    assert bytes_of(Again()) + stacked / 2 < bytes_of(AgainByPart())


def test_notes_are_of_every_layer_and_cost_no_second_pass():
    class Sizes(jp.stats.Quantity):
        notes, mixes = True, True

        def note(self, layer, record):
            return jnp.sum(record.dy**2)

        def finish(self, kept, notes, context):
            return notes

    @jax.jit
    def run(*arguments):
        tape = jp.manual.trace(NET, COST)(*arguments)
        sizes, _ = jp.stats.collect(NET, COST, [Sizes(), Uses()])(*arguments).found
        assert list(sizes) == ["0", "1", "2"]
        return list(sizes.values()), [jnp.sum(record.dy**2) for record in tape.values()]

    sizes, expected = run(X, params_of(NET), LABELS)
    assert relative(sizes, expected) == 0
    with_statistics = jp.Chain(jp.Linear(5), jp.BatchNorm(), jp.Linear(3))
    params = params_of(with_statistics)
    found = jax.eval_shape(jp.stats.collect(with_statistics, COST, [Sizes()]), X, params, LABELS).found
    assert len(found[0]) == 3


def test_what_mixes_examples_is_refused_with_what_to_use_instead():
    net = jp.Chain(jp.Linear(5), jp.BatchNorm(), jp.Linear(3))
    with pytest.raises(jp.JaxpropError, match=r"Uses\(\): found BatchNorm\(\) at 1.*freeze_statistics.*LayerNorm"):
        jp.stats.collect(net, COST, [Uses()])
    frozen, params = freeze_statistics(net, X, params_of(net))
    assert jax.eval_shape(jp.stats.collect(frozen, COST, [Uses()]), X, params, LABELS).found[0][0].W.shape == (4,)

    @jax.jit
    def run(*arguments):
        return jp.stats.collect(net, COST, [])(*arguments)[:2], jp.manual.value_and_grad(net, COST)(*arguments)

    found, plain = run(X, params_of(net), LABELS)
    assert relative(found, plain) == 0


class Drawn(Uses):
    errors = "sampled"


class Guessed(Uses):
    errors = "guessed"


class DrawnAgain(Again):
    errors = "exact"


@pytest.mark.parametrize(
    "quantities, said",
    [
        (Uses(), r"must be a list, found Uses\(\); write \[Uses\(\)\]"),
        (7, "must be a list, found 7"),
        ([Uses], "found the class Uses|found .*Uses.* among the quantities"),
        ([jp.Tanh()], r"found Tanh\(\) among the quantities, expected such as"),
        ([Guessed()], "reads 'guessed', expected one of"),
        ([DrawnAgain()], "visits twice"),
    ],
)
def test_what_is_no_quantity_is_refused(quantities, said):
    with pytest.raises(jp.JaxpropError, match=said):
        jp.stats.collect(NET, COST, quantities)


@pytest.mark.parametrize("quantity", [Uses(), jp.stats.ExampleNorms(), jp.stats.SecondMoment()], ids=str)
def test_weights_that_are_not_one_an_example_are_named(quantity):
    with pytest.raises(jp.ShapeError, match=r"weights: found shape \(1,\), expected \(\d+,\), one weight per example"):
        jp.stats.collect(NET, COST, [quantity])(X, params_of(NET), LABELS, weights=jnp.ones(1))


@pytest.mark.parametrize("memory", [0, -5, "1 MB", 1e6])
def test_a_bound_that_is_no_number_of_bytes_is_named(memory):
    with pytest.raises(jp.JaxpropError, match="memory, in bytes, must be a whole number ≥ 1, found"):
        jp.stats.collect(NET, COST, [Uses()], memory=memory)


def test_sampling_needs_a_key_and_a_cost_that_can():
    with pytest.raises(jp.JaxpropError, match=r"give rng=jax.random.key\(0\)"):
        jp.stats.collect(NET, COST, [Drawn()])(X, params_of(NET), LABELS)
    with pytest.raises(jp.JaxpropError, match="needs a jaxprop Layer"):
        jp.stats.collect(lambda x, p: x, COST, [])


def test_a_second_call_compiles_nothing(compilations):
    run, params = jax.jit(jp.stats.collect(NET, COST, [Uses(), Again()])), params_of(NET)
    run(X, params, LABELS)
    other = jnp.asarray(np.ones_like(X))
    with compilations() as count:
        run(other, params, LABELS)
    assert count[0] == 0


class TrueUses(Uses):
    """What the uses leave by plain backpropagation, whatever the rule."""

    errors = "true"


class Columns(Uses):
    errors = "exact"

    def close(self, use, path, weights):
        return use.second_moment(weights)


def test_by_a_rule_the_gradient_is_the_rule_s_and_the_true_error_is_still_there():
    params, rule = params_of(NET), jp.rules.FeedbackAlignment()
    feedback = rule.init(jax.random.key(7), NET, params)

    @jax.jit
    def run(*arguments):
        found = jp.stats.collect(NET, COST, [Uses(), TrueUses(), Columns()], rule=rule)(*arguments, feedback=feedback)
        by_rule = jp.manual.value_and_grad(NET, COST, rule=rule)(*arguments, feedback=feedback)
        return tuple(found), by_rule[1], jp.stats.collect(NET, COST, [Uses(), Columns()])(*arguments).found

    (_, grads, (norms, true, curvature)), by_rule, (plain, plain_curvature) = run(X, params, LABELS)
    assert relative(grads, by_rule) <= 1e-6
    assert relative(true, plain) <= 1e-6 and relative(curvature, plain_curvature) <= 1e-6
    assert relative(norms[0], plain[0]) > 0.1, "the first layer's error came through B"
    with pytest.raises(jp.ShapeError, match=r"needs feedback for 0\.W"):
        jp.stats.collect(NET, COST, [], rule=rule)(X, params, LABELS)


def test_true_errors_without_a_rule_take_no_walk_of_their_own():
    arguments = X, params_of(NET), LABELS

    def program(*quantities):
        return jax.jit(jp.stats.collect(NET, COST, quantities)).lower(*arguments).as_text().count("dot_general")

    assert program(Uses(), TrueUses()) == program(Uses(), Uses())
