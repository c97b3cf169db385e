"""An expression in several variables as a circuit: at every node its value, forward, and its derivative, backward."""

from collections import defaultdict
from typing import Any

from jaxprop.derivations import formula as tree
from jaxprop.derivations.calculus import depends, derivative
from jaxprop.derivations.derivation import Derivation, Equation, Prose, Step, to_text, worked
from jaxprop.derivations.formula import Derivative, Formula, Negation, Number, Product, Sum, Symbol, evaluate
from jaxprop.derivations.links import (
    SUBSCRIPTS,
    Link,
    Values,
    added,
    central_difference,
    check_value,
    corners,
    forward_step,
    jax_slopes,
    link_of,
    no_derivative,
    output,
)
from jaxprop.derivations.parse import Parsed

Paths = dict[Symbol, list[tuple[Link, Formula]]]
"""Of each node the gates that it goes into, each with its local derivative there."""


def circuit(parsed: Parsed, values: Values) -> Derivation:
    """Return the derivation of an expression whose variables have the `values`, which are filled in."""
    variables, formula, point = parsed.variables, parsed.formula, dict(values)
    check_value(parsed, values)
    links = gates(formula, variables, parsed.name)
    f, nodes = links[-1].symbol, [*variables, *(link.symbol for link in links)]
    forward = forward_step(links, values)
    paths: Paths = defaultdict(list)
    for link in links:
        for name, partial in zip(link.inputs, link.partials, strict=True):
            paths[name].append((link, partial))
    try:
        local, backward = _local(links, values), _backward(f, variables, nodes, paths, values)
    except tree.UndefinedError as error:
        raise no_derivative(parsed, point, error) from None
    witnesses = dict(zip(nodes, jax_slopes(links, values), strict=True))
    facts = {
        **{"expression": parsed.text, "at": {x.name: values[x] for x in variables}, "value": values[f]},
        "derivatives": {x.name: values[Derivative(f, x)] for x in variables},
        "formulas": {x.name: to_text(derivative(formula, x), None) for x in variables},
        "nodes": [_fact(node, f, links, paths, values, witnesses) for node in nodes],
    }
    place = tuple(part for x in variables for part in (", ", Equation((x, Number(values[x])))))[1:]
    title: Prose = ("Every derivative of ", Equation((f, formula)), " at ", *place)
    notes = "".join(corners(formula, point))
    steps = (forward, local, backward, _table(nodes, f, paths, values), _witnesses(facts["nodes"], f, nodes, notes))
    return Derivation(title, steps, values, facts)


def gates(formula: Formula, variables: tuple[Symbol, ...], name: str = "") -> list[Link]:
    """Return a link for every operation, from the inside out; equal parts are one node, numbers belong to their gate.

    >>> x, y, z = map(Symbol, "xyz")
    >>> [f"{link.symbol.name} = {to_text(link.local)}" for link in gates((x + y) * z, (x, y, z))]
    ['q = x + y', 'f = q·z']
    """
    taken = {x.name[0] for x in variables} | {name}
    f = Symbol(name or next(letter for letter in "fghFGH" if letter not in taken))
    letter = next(letter for letter in "quvhpr" if letter not in taken)
    named: dict[Formula, tuple[Symbol, Formula]] = {}

    def node(part: Formula) -> Formula:
        if isinstance(part, Symbol) or not any(depends(part, x) for x in variables):
            return part
        if part not in named:
            inside = tree.changed(part, term if isinstance(part, Sum) else node)
            named[part] = (Symbol(letter + str(len(named) + 1).translate(SUBSCRIPTS)), inside)
        return named[part][0]

    def term(part: Formula) -> Formula:
        return Negation(node(part.formula)) if isinstance(part, Negation) else node(part)

    node(formula)
    *inner, (symbol, last) = named.values()
    originals = [*named]
    if any(depends(inside, part) for _, inside in inner for part in tree.parts(last) if isinstance(part, Symbol)):
        # what goes into the last gate goes elsewhere too: its derivative there is not the whole ∂f/∂x, so f is a node
        inner, last, originals = [*inner, (symbol, last)], symbol, [*named, formula]
    elif len(inner) == 1:
        last, inner = tree.substitute(last, {inner[0][0]: Symbol(letter)}), [(Symbol(letter), inner[0][1])]
    return [link_of(*pair, original) for pair, original in zip([*inner, (f, last)], originals, strict=True)]


def _local(links: list[Link], values: Values) -> Step:
    """Return the step with the derivative of every gate by each of its inputs."""
    equations = []
    for link in links:
        for name, partial in zip(link.inputs, link.partials, strict=True):
            equations.append(worked(Derivative(link.symbol, name), partial, values=values))
            values[Derivative(link.symbol, name)] = evaluate(partial, values)
    words = "Every gate for itself: how much its output moves with each of its inputs, all others held still."
    return Step("The local derivatives", (words,), tuple(equations))


def _backward(f: Symbol, variables: tuple[Symbol, ...], nodes: list[Symbol], paths: Paths, values: Values) -> Step:
    """Return the step that finds ∂f/∂node from the output back to the variables."""
    values[Derivative(f, f)] = 1.0
    equations = [Equation((Derivative(f, f), Number(1)))]
    inner = [node for node in nodes if node not in variables and node != f]
    for node in (*reversed(inner), *variables):
        slope, products = Derivative(f, node), []
        for link, _ in paths[node]:
            local = Derivative(link.symbol, node)
            products.append(local if link.symbol == f else Product((Derivative(f, link.symbol), local)))
        if len(products) > 1:
            for (link, _), product in zip(paths[node], products, strict=True):
                equations.append(
                    worked(product, product, values=values, label=f"{node.name} through {link.symbol.name}")
                )
        elif products[0] == slope:
            equations.append(Equation((slope, Number(values[slope])), f"{node.name} goes straight into {f.name}"))
            continue
        total = added(products)
        equations.append(worked(slope, total, values=values))
        values[slope] = evaluate(total, values)
    several = " Where a node goes into several gates, what comes back along each path is added."
    words = "From the output back: what comes back to a gate, times its local derivative, goes on to its input."
    return Step("Backward", (words + several * any(len(found) > 1 for found in paths.values()),), tuple(equations))


def _table(nodes: list[Symbol], f: Symbol, paths: Paths, values: Values) -> Step:
    """Return the step with all nodes in one table."""
    rows: list[tuple[Prose, ...]] = [(("node",), ("value",), (Derivative(f, Symbol("node")),), ("local derivatives",))]
    for node in nodes:
        head: tuple[Prose, ...] = ((node,), (Number(values[node]),), (Number(values[Derivative(f, node)]),))
        locals_ = [Derivative(link.symbol, node) for link, _ in paths[node]]
        cells: list[Prose] = [(Equation((local, Number(values[local]))),) for local in locals_] or [("the output",)]
        rows += [(*head, cells[0]), *(((), (), (), cell) for cell in cells[1:])]
    return Step("Every node", ("Forward gives the values, backward the derivatives.",), (), tuple(rows))


def _fact(
    node: Symbol, f: Symbol, links: list[Link], paths: Paths, values: Values, jax_grads: dict[Symbol, float]
) -> dict[str, Any]:
    """Return what is known of a node, as plain data."""
    gate = next((link for link in links if link.symbol == node), None)
    at = values[node]
    known: Values = {x: values[x] for x in values if isinstance(x, Symbol)}
    difference = central_difference(lambda value: output(links, known, node, value), at)
    ways = [(link.symbol.name, values[Derivative(link.symbol, node)], link) for link, _ in paths[node]]
    return {
        **{"name": node.name, "formula": to_text(gate.local, None) if gate else None, "value": at},
        "local": {name: local for name, local, _ in ways},
        "paths": {name: values[Derivative(f, link.symbol)] * local for name, local, link in ways},
        **{"derivative": values[Derivative(f, node)], "jax_grad": jax_grads[node]},
        "finite_difference": difference[0] if difference else None,
    }


def _witnesses(facts: list[dict[str, Any]], f: Symbol, nodes: list[Symbol], notes: str) -> Step:
    """Return the step with every derivative by `jax.grad` and by a nudge of the node."""
    head: tuple[Prose, ...] = (("",), ("chain rule",), ("jax.grad",), ("central difference",))
    rows: list[tuple[Prose, ...]] = [head]
    for node, fact in zip(nodes, facts, strict=True):
        numbers = (fact[name] for name in ("derivative", "jax_grad", "finite_difference"))
        rows.append(((Derivative(f, node),), *((Number(n),) if n is not None else ("none",) for n in numbers)))
    sentence = "The same numbers by other ways, in float64: jax.grad, and a small nudge of the node's value both ways."
    return Step("Witnesses", (sentence + notes,), (), tuple(rows))
