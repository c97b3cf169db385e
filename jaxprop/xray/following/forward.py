"""The way forward for all examples at once, and the way back from it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import eval_jaxpr
from jaxtyping import PyTree

from jaxprop.arrays.varying import vary_with
from jaxprop.xray.following.closing import Closing, Opener
from jaxprop.xray.following.examples import OneExample
from jaxprop.xray.following.follow import Followed
from jaxprop.xray.following.probing import Probing, landing
from jaxprop.xray.planning import Path
from jaxprop.xray.rewriting import run
from jaxprop.xray.versions import is_literal, opened


class Forward(NamedTuple):
    """What the way forward leaves: y, and what the way back needs, with the axis of examples where there is one."""

    y: PyTree
    ids: dict[Path, Array]  # whole numbers that were seen, `[N, *scans, ...]`
    residuals: list[Any]
    axes: list[int | None]  # of the examples, in each residual
    back: Any  # the tree that the residuals make the way back with
    lost: list[int]  # the inputs whose gradients come back
    closings: list[Closing]

    @classmethod
    def of(cls, traced: OneExample, followed: Followed, closings: list[Closing]) -> "Forward":
        """Trace one example with its way back, and run the way forward for all."""
        trees: list[Any] = []
        lost = [i for i in traced.asked if i in followed.lost]
        closed = {path for closing in closings for path in closing.raw}
        sinks = {p: landing(place) for p, place in followed.places.items() if p not in closed}
        sinks |= {closing.key: closing.sinks for closing in closings}

        def forward(number: Any, *inputs: Any) -> Any:
            number, nothing = jax.tree.map(
                lambda a: vary_with(a, inputs), (number, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), sinks))
            )

            def of(leaves: list[Any], sinks: Any) -> Any:
                whole = list(inputs)
                for i, leaf in zip(lost, leaves, strict=True):
                    whole[i] = leaf
                visitor = Probing(followed.places, followed.kernels, Opener(closings, number).enter)
                return run(traced.jaxpr, traced.consts, whole, sinks, visitor)

            y, back, ids = jax.vjp(of, [inputs[i] for i in lost], nothing, has_aux=True)
            flat, structure = jax.tree.flatten((y, ids, back))
            trees.append(structure)
            return flat

        shapes = [jax.ShapeDtypeStruct((), jnp.int32), *(traced.one(i) for i in range(len(traced.inputs)))]
        program, consts = opened(jax.make_jaxpr(forward)(*shapes))
        mapped = depends(program, [True, *(axis is not None for axis in traced.axes)])
        (tree,) = trees
        y, ids, back = tree.children()
        seen = y.num_leaves + ids.num_leaves
        axes = [0 if is_mapped else None for is_mapped in mapped[seen:]]
        every = jax.vmap(
            lambda *inputs: eval_jaxpr(program, consts, *inputs),
            in_axes=(0, *traced.axes), out_axes=[0] * seen + axes, axis_size=traced.examples,
        )(jnp.arange(traced.examples, dtype=jnp.int32), *traced.inputs)  # fmt: skip
        returned = jax.tree.structure(traced.returned).unflatten(every[: y.num_leaves])
        return cls(returned, ids.unflatten(every[y.num_leaves : seen]), every[seen:], axes, back, lost, closings)

    def pull(self, dy: list[Any]) -> tuple[dict[int, Array], dict[Path, Any], dict[int, PyTree]]:
        """Go back: gradients of every example for what was lost, what landed, and what was closed in scans."""
        keys = {closing.key for closing in self.closings}

        def back(residuals: list[Any], dy: list[Any]) -> tuple[list[Any], Any, Any]:
            gradients, landed = self.back.unflatten(residuals)(dy)
            return gradients, {p: v for p, v in landed.items() if p not in keys}, [landed[c.key] for c in self.closings]

        every = jax.vmap(back, in_axes=(self.axes, 0), out_axes=(0, 0, None))
        gradients, landed, closed = every(self.residuals, dy)
        kept = {leaf: found for each in closed for leaf, found in each.items()}
        return dict(zip(self.lost, gradients, strict=True)), landed, kept


def depends(jaxpr: Any, mapped: Sequence[bool]) -> list[bool]:
    """Say which outputs of a program depend on inputs that are mapped over examples."""
    found = {variable for variable, is_mapped in zip(jaxpr.invars, mapped, strict=True) if is_mapped}

    def is_in(variable: Any) -> bool:
        return not is_literal(variable) and variable in found

    for equation in jaxpr.eqns:
        if any(map(is_in, equation.invars)):
            found.update(equation.outvars)
    return [is_in(variable) for variable in jaxpr.outvars]
