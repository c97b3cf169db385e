"""Where a parameter is used, in a sentence for every kind of use."""

import numpy as np

from jaxprop.derivations.derivation import Prose
from jaxprop.derivations.passing import Node
from jaxprop.derivations.places import View
from jaxprop.derivations.uses import Meetings, Spot
from jaxprop.layers.recurrent import Recurrent
from jaxprop.network import Repeat
from jaxprop.uses import Leading, Lookup, Outer, Patch, Shift

ADDED = (Shift, Lookup, Leading)  # the parameter is added, so what it meets is the error alone


def steps_of(node: Node) -> str:
    """Return which step of which `Repeat` a layer is in, nothing where there is none."""
    found, here = [], node
    while here.around is not None:
        if isinstance(here.around.layer, Repeat):
            where = f" at {here.around.path}" if here.around.path else ""
            found.insert(0, f", at step {here.place} of the Repeat{where}, which is its first index")
        here = here.around
    return "".join(found)


def words_of_use(spot: Spot, met: Meetings, view: View) -> Prose:
    """Return where the parameter was used, and why its derivative is a sum over these places."""
    use, times, terms = spot.use, int(np.count_nonzero(met.met)), int(np.count_nonzero(met.terms))
    if not times:
        return (_unused(spot, view),)
    added, nothing = isinstance(use, ADDED), times - terms
    if times == 1:
        what = "the error there" if added else "the error there, times what came in"
        return (f"{_does(spot, met, times, view)}. So the derivative is {what}.",)
    what = "of the errors" if added else "of what came in times the error of what it went into"
    zero = f" {nothing:,} of its terms {'is' if nothing == 1 else 'are'} 0." if 0 < nothing < times else ""
    zero = zero if terms else " All of its terms are 0."
    felt = "A nudge of it is felt at all of them: the derivative is the sum"
    return (f"{_does(spot, met, times, view)}. {felt} {what}.{zero}",)


def _unused(spot: Spot, view: View) -> str:
    """Say why nothing depends on the parameter."""
    row = spot.index[0]
    if isinstance(spot.use, Lookup):
        whose = "this batch" if view.whole else "this row"
        return f"No id of {whose} is {row}: that row of the table was not looked up, so nothing depends on it."
    if isinstance(spot.use, Leading):
        return f"Row {row} of the table is added at position {row}, and x has no such position: nothing depends on it."
    return "Every window has nothing but padding where it stands, so nothing depends on it."


def _does(spot: Spot, met: Meetings, times: int, view: View) -> str:
    """Say what is done with the parameter, and where."""
    use, where = spot.use, met.where.partition(" {")[0] or "place"
    places = f"one {where}" if times == 1 else f"{times:,} {_plural(where)}"
    if isinstance(use, Lookup):
        return f"It is in row {spot.index[0]} of the table, which was looked up at {places}"
    if isinstance(use, Leading):
        return f"It is added to what stands at position {spot.index[0]}, which moves by just as much"
    if isinstance(use, Patch):
        every = met.met.size // (1 if view.whole else len(met.met))
        return _slides(use.window.flipped, places, times < every)
    if isinstance(use, Shift):
        return f"It is added at {places}, and what it is added to moves by just as much"
    again = ""
    if isinstance(use, Outer) and isinstance(spot.node.layer, Recurrent):
        again = ", for every step has the same weights" + (
            "; h is the state before it" if "hidden" in spot.leaf else ""
        )
    return f"It multiplies one number {'at ' if times == 1 else 'at each of '}{places}{again}"


def _slides(is_transposed: bool, places: str, is_short: bool) -> str:
    """Say how a number of a kernel is used, and where it is not."""
    if is_transposed:
        outside = "; in the others what it makes falls outside of the answer" if is_short else ""
        does = "Every number that comes in is multiplied by the whole kernel and added to a window of the answer"
        return f"{does}. This number of the kernel is used in {places}{outside}"
    padding = "; in the others it stands on padding" if is_short else ""
    return f"The kernel slides, and this number of it multiplies one number in each of {places}{padding}"


def _plural(word: str) -> str:
    first, _, more = word.partition(" and ")
    return f"{first}s" if not more else f"pairs of {first} and {more}"
