"""`foreign`: the uses of all parameters of a function that jaxprop did not write, examples apart.

    1  trace     one example of f becomes a program (`examples.py`)
    2  forward   that program is run for every example by vmap, with probes where parameters are used
    3  pull      for an error dy: one way back, which leaves the uses, or what `close` keeps of them

The way forward is gone once, however many errors are pulled back: what it leaves is kept as jaxprop's layers keep their
caches, one array for all examples where it does not depend on the example.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.uses import Dense, Stacked, Use
from jaxprop.xray.following.examples import InAxes, OneExample, one_example
from jaxprop.xray.program import ArgNums, is_inexact
from jaxprop.xray.rewriting import run
from jaxprop.xray.versions import Equation, evaluate, is_literal, opened

Close = Callable[[Use, str], PyTree]


def foreign(
    f: Callable[..., PyTree], argnums: ArgNums = 0, in_axes: InAxes = (None, 0, 0)
) -> Callable[..., "ForeignPass"]:
    """Return the function that runs f(params, x, y) of ONE example for all of them: a `ForeignPass`.

    It is called as `jax.vmap(jax.grad(f, argnums), in_axes)(*args)` is. f may return any tree of real arrays.
    """
    if argnums is None:
        raise JaxpropError("argnums: found None, expected the arguments to differentiate, as for jax.grad")

    def forward(*args: Any, **kwargs: Any) -> ForeignPass:
        return ForeignPass(one_example(f, argnums, in_axes, args, kwargs))

    return forward


class ForeignPass:
    """The way forward through a function, and the ways back.

    y: what f returns, of every example, `[N, ...]`.    params: θ, as `jax.grad` would return gradients.
    examples: N.
    """

    def __init__(self, traced: OneExample) -> None:
        self.traced, self.examples = traced, traced.examples
        self._forward = _Forward.of(traced)
        self.y = self._forward.y
        self.params = self._tree({i: traced.inputs[i] for i in traced.asked})

    def uses(self, dy: PyTree) -> PyTree:
        """Go back with the error dy, of the tree and shapes of y: the tree of θ, a `Use` at each leaf."""
        gradients = self._forward.pull(self._errors(dy))
        traced = self.traced
        return self._tree({
            i: Dense(gradient, traced.one(i).shape, traced.one(i).dtype)
            for i, gradient in zip(traced.asked, gradients, strict=True)
        })  # fmt: skip

    def close(self, dy: PyTree, close: Close) -> PyTree:
        """Go back with the error dy; the tree of θ with what `close(use, path)` keeps of each use.

        A leaf that a scan goes over is closed a step at a time; what is kept of it has these steps as its first axis.
        """
        uses = self.uses(dy)
        asked = self.traced.asked
        flat = jax.tree.leaves(uses, is_leaf=lambda node: isinstance(node, Use))
        return self._tree({i: _closed(use, self.traced.paths[i], close) for i, use in zip(asked, flat, strict=True)})

    def _tree(self, found: dict[int, Any]) -> PyTree:
        return self.traced.as_gradient([found.get(i) for i in range(len(self.traced.inputs))])

    def _errors(self, dy: PyTree) -> list[Any]:
        expected = jax.tree.map(lambda y: jax.ShapeDtypeStruct(y.shape, y.dtype), self.y)
        if jax.tree.structure(dy) != jax.tree.structure(expected) or not all(
            jnp.shape(d) == y.shape for d, y in zip(jax.tree.leaves(dy), jax.tree.leaves(expected), strict=True)
        ):
            raise ShapeError(f"dy: found {jax.tree.map(jnp.shape, dy)}, expected the shapes of y: {expected}")
        return [jnp.asarray(d, y.dtype) for d, y in zip(jax.tree.leaves(dy), jax.tree.leaves(self.y), strict=True)]


def _closed(use: Use, path: str, close: Close) -> PyTree:
    """Close a use, or the blocks of a stacked one, one after the other."""
    if not isinstance(use, Stacked):
        return close(use, path)
    return jax.lax.map(lambda block: _closed(block, path, close), use.use)


class _Forward(NamedTuple):
    """What the way forward leaves: y, and what the way back needs, with the axis of examples where there is one."""

    y: PyTree
    residuals: list[Any]
    axes: list[int | None]
    back: Any  # the tree that the residuals make the way back with

    @classmethod
    def of(cls, traced: OneExample) -> "_Forward":
        tree: list[Any] = []
        returned = jax.tree.structure(traced.returned)
        _check_real(traced.returned)

        def forward(*inputs: Any) -> tuple[list[Any], list[Any]]:
            def of(leaves: list[Any]) -> list[Any]:
                whole = list(inputs)
                for i, leaf in zip(traced.asked, leaves, strict=True):
                    whole[i] = leaf
                return run(traced.jaxpr, traced.consts, whole, {}, Plainly())[0]

            y, back = jax.vjp(of, [inputs[i] for i in traced.asked])
            residuals, structure = jax.tree.flatten(back)
            tree.append(structure)
            return y, residuals

        shapes = [traced.one(i) for i in range(len(traced.inputs))]
        program, consts = opened(jax.make_jaxpr(forward)(*shapes))
        mapped = depends(program, [axis is not None for axis in traced.axes])
        count = returned.num_leaves
        axes = [0 if is_mapped else None for is_mapped in mapped[count:]]
        every = jax.vmap(
            lambda *inputs: jax.core.eval_jaxpr(program, consts, *inputs),
            in_axes=tuple(traced.axes), out_axes=[0] * count + axes, axis_size=traced.examples,
        )(*traced.inputs)  # fmt: skip
        return cls(returned.unflatten(every[:count]), every[count:], axes, tree[0])

    def pull(self, dy: list[Any]) -> list[Any]:
        """Return the gradients of every example."""

        def back(residuals: list[Any], dy: list[Any]) -> list[Any]:
            return self.back.unflatten(residuals)(dy)[0]

        return jax.vmap(back, in_axes=(self.axes, 0))(self.residuals, dy)


class Plainly:
    """A visitor who looks at nothing."""

    def sinks(self, path: Any, equation: Equation, errors: list[bool]) -> None:
        """Want nothing."""

    def visit(self, path: Any, equation: Equation, inputs: list[Any], sinks: Any) -> tuple[list[Any], None]:
        """Evaluate the equation."""
        return evaluate(equation, inputs), None

    def join(self, before: Any, now: Any) -> Any:
        """See nothing."""


def depends(jaxpr: Any, mapped: Sequence[bool]) -> list[bool]:
    """Say which outputs of a program depend on inputs that are mapped over examples."""
    found = {variable for variable, is_mapped in zip(jaxpr.invars, mapped, strict=True) if is_mapped}

    def is_in(variable: Any) -> bool:
        return not is_literal(variable) and variable in found

    for equation in jaxpr.eqns:
        if any(map(is_in, equation.invars)):
            found.update(equation.outvars)
    return [is_in(variable) for variable in jaxpr.outvars]


def _check_real(returned: PyTree) -> None:
    leaves = jax.tree.leaves(returned)
    if not leaves or not all(is_inexact(leaf) for leaf in leaves):
        found = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves) or "nothing"
        raise ShapeError(f"f returns {found} for one example, expected real numbers")
