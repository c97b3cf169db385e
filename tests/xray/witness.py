"""A witness of what lies inside a program: every value, and every cotangent by a zero added at that place.

    y = f(x) + ε        the cotangent of this y is ∂ cost / ∂ε at ε = 0

It shares no code with `jaxprop.xray`: programs are unrolled. A scan is so many steps one after the other, of a cond all
branches are computed and one is chosen, and a remat is what it computes.

    values, taken, add = ...      by path; a scan's steps, and a while's turns, are first axes
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

TURNS = 4  # of a while, at most

Path = tuple[int, ...]


@dataclass
class Seen:
    """What one evaluation shows.

    values: {path: the outputs of the equation there}.
    taken: {path: whether it ran}: a branch may not, nor the turn of a while.
    """

    values: dict[Path, list[Any]] = field(default_factory=dict)
    taken: dict[Path, Any] = field(default_factory=dict)

    @staticmethod
    def stacked(steps: Sequence["Seen"]) -> "Seen":
        return Seen(*(jax.tree.map(lambda *each: jnp.stack(each), *of) for of in _columns(steps)))

    def update(self, other: "Seen") -> None:
        self.values |= other.values
        self.taken |= other.taken


def _columns(steps: Sequence[Seen]) -> tuple[list[Any], list[Any]]:
    return [step.values for step in steps], [step.taken for step in steps]


def evaluate(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], added: dict[Path, list[Any]], path: Path = (),
    taken: Any = True,
) -> tuple[list[Any], Seen]:  # fmt: skip
    """Evaluate a program, with `added` to what its equations compute; `{}` adds nothing."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    seen = Seen()

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for number, equation in enumerate(jaxpr.eqns):
        here = (*path, number)
        given = [read(variable) for variable in equation.invars]
        outputs, inside = _equation(equation, given, added, here, taken)
        seen.update(inside)
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars], seen


def _equation(equation: Any, given: list[Any], added: Any, path: Path, taken: Any) -> tuple[list[Any], Seen]:
    name, params = equation.primitive.name, equation.params
    if name in ("jit", "pjit", "closed_call", "checkpoint", "remat2", "core_call"):
        return evaluate(*_opened(params.get("jaxpr", params.get("call_jaxpr"))), given, added, path, taken)
    if name == "scan":
        return _scan(params, given, added, path, taken)
    if name == "cond":
        return _cond(params, given, added, path, taken)
    if name == "while":
        return _while(params, given, added, path, taken)
    outputs = _alone(equation, given)
    if path in added:
        outputs = [y if e is None else y + e for y, e in zip(outputs, added[path], strict=True)]
    kept = [y if jnp.issubdtype(y.dtype, jnp.inexact) else None for y in outputs]
    return outputs, Seen({path: kept}, {path: jnp.asarray(taken)})


def _opened(program: Any) -> tuple[Any, list[Any]]:
    return getattr(program, "jaxpr", program), list(getattr(program, "consts", ()))


def _alone(equation: Any, given: list[Any]) -> list[Any]:
    """Evaluate one equation by JAX's own evaluator, as a program of it alone."""
    alone = jax.make_jaxpr(lambda: ())().jaxpr.replace(
        invars=[v for v in equation.invars if not isinstance(v, core.Literal)], outvars=equation.outvars,
        eqns=[equation], effects=equation.effects,
    )  # fmt: skip
    inputs = [x for x, v in zip(given, equation.invars, strict=True) if not isinstance(v, core.Literal)]
    return jax.core.eval_jaxpr(alone, (), *inputs)


def _scan(params: Any, given: list[Any], added: Any, path: Path, taken: Any) -> tuple[list[Any], Seen]:
    jaxpr, consts = _opened(params["jaxpr"])
    fixed, carried = _split(params)
    state, rows = given[fixed : fixed + carried], given[fixed + carried :]
    steps: dict[int, tuple[list[Any], Seen]] = {}
    order = range(params["length"])
    for step in reversed(order) if params["reverse"] else order:
        mine = {p: jax.tree.map(lambda e, step=step: e[step], es) for p, es in added.items() if p[: len(path)] == path}
        inputs = [*given[:fixed], *state, *(row[step] for row in rows)]
        outputs, seen = evaluate(jaxpr, consts, inputs, mine, path, taken)
        state = outputs[:carried]
        steps[step] = outputs[carried:], seen
    stacked = [jnp.stack([steps[step][0][i] for step in order]) for i in range(len(steps[0][0]))]
    return [*state, *stacked], Seen.stacked([steps[step][1] for step in order])


def _split(params: Any) -> tuple[int, int]:
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carried, _ = params["ft_in"].unpack()
    return len(consts), len(carried)


def _cond(params: Any, given: list[Any], added: Any, path: Path, taken: Any) -> tuple[list[Any], Seen]:
    index, *given = given
    index = jnp.clip(jnp.asarray(index, jnp.int32), 0, len(params["branches"]) - 1)
    seen, results = Seen(), []
    for number, branch in enumerate(params["branches"]):
        chosen = jnp.logical_and(taken, index == number)
        outputs, inside = evaluate(*_opened(branch), given, added, (*path, number), chosen)
        seen.update(inside)
        results.append(outputs)
    return [_chosen(index, of_branches) for of_branches in zip(*results, strict=True)], seen


def _chosen(index: Any, of_branches: tuple[Any, ...]) -> Any:
    chosen = of_branches[0]
    for number, value in enumerate(of_branches[1:], 1):
        chosen = jnp.where(index == number, value, chosen)
    return chosen


def _while(params: Any, given: list[Any], added: Any, path: Path, taken: Any) -> tuple[list[Any], Seen]:
    asking, doing = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    question, body = _opened(params["cond_jaxpr"]), _opened(params["body_jaxpr"])
    state, turns = given[doing:], []
    for _ in range(TURNS):
        go = evaluate(*question, [*given[:asking], *state], {})[0][0]
        after, seen = evaluate(*body, [*given[asking:doing], *state], {}, path, jnp.logical_and(taken, go))
        state = [jnp.where(go, a, b) for a, b in zip(after, state, strict=True)]
        turns.append(seen)
    return state, Seen.stacked(turns)
