"""The hinge cost as formulas: of labels among classes, where the best rival meets the right one, and of signs."""

import numpy as np

from jaxprop.costs import Cost
from jaxprop.derivations.derivation import Equation
from jaxprop.derivations.first_factor import CostFormula, Example, should
from jaxprop.derivations.formula import Call, Formula, Number, Symbol

ZERO, ONE = Number(0), Number(1)


def hinge(cost: Cost, example: Example) -> CostFormula:
    """Return the formulas of `Hinge`; the shape of the targets says which, as in the cost itself."""
    y, targets = example.y, example.targets
    labels = np.issubdtype(targets.dtype, np.integer) and targets.shape == y.shape[:-1]
    return _of_labels(example) if labels else _of_signs(example)


def _of_signs(example: Example) -> CostFormula:
    def inside(index: tuple[int, ...]) -> Formula:
        return 1 - example.target(index) * example.answer(index)

    return CostFormula(
        shape=example.y.shape,
        terms=tuple(Call("max", ZERO, (inside(index),)) for index in example.outputs()),
        slope=lambda index: -(example.target(index) * Call("step", inside(index))),
        target=(*should(Symbol("target")), ", 1 or -1"),
        words=("What is right by 1 or more costs nothing and is left alone: step is 1 above 0, and 0 elsewhere.",),
    )


def _of_labels(example: Example) -> CostFormula:
    """C[t] = max(0, y[t,rival] - y[t,label] + 1), the mean over positions."""
    places = list(np.ndindex(example.targets.shape))
    T = len(places)

    def margin(place: tuple[int, ...]) -> tuple[int, list[int], Formula]:
        """The label, the rivals that are best, and how much the first of them is above it, with its head start."""
        scores, label = example.y[place], int(example.targets[place])
        above = np.where(np.arange(len(scores)) == label, -np.inf, scores - scores[label] + 1)
        rivals = [int(k) for k in np.flatnonzero(above == np.max(above))] if len(scores) > 1 else []
        first = example.answer((*place, rivals[0])) - example.answer((*place, label)) + 1 if rivals else ZERO
        return label, rivals, first

    def slope(index: tuple[int, ...]) -> Formula:
        *place, k = index
        label, rivals, above = margin(tuple(place))
        if not rivals or k not in (label, *rivals):
            return ZERO
        if len(rivals) > 1:  # all that are largest have an equal part of the slope
            size = float(example.y[index[:-1]][rivals[0]] - example.y[index[:-1]][label] + 1)
            largest = len(rivals) + (size == 0)
            part = Number(1) / Number(largest) if size >= 0 else ZERO
            of = part if k != label else ZERO if size < 0 else -ONE if size else -(Number(len(rivals)) / largest)
        else:
            of = Call("above", above, (ZERO,)) if k != label else -Call("above", above, (ZERO,))
        return of / T if T > 1 and of != ZERO else of

    where = " at every position" if T > 1 else ""
    mean = f" C is the mean over {T} positions." if T > 1 else ""
    label = Symbol("label")
    if T == 1:
        example.values[label] = float(example.targets[places[0]])
    known = Equation((label, Number(example.values[label]))) if T == 1 else label
    return CostFormula(
        shape=example.y.shape,
        terms=tuple(Call("max", ZERO, (margin(place)[2],)) for place in places),
        whole=lambda total: total / T if T > 1 else total,
        slope=slope,
        target=(known, f" is the number of what it should have answered{where}"),
        words=(
            f"The best of the other answers{where}, with a head start of 1, meets the right one. Where it is above, ",
            f"its slope is 1 and that of the right one -1, which the sign > tells; all others have 0.{mean}",
        ),
    )
