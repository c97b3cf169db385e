"""The module that computed each equation, as its user writes it: "Block_1/Dense_0", "layers/1".

Three kinds of evidence tell (`evidence.py`):

    names    Flax linen names its modules while they run, and users name what they like (`jax.named_scope`)
    uses     which module's parameters enter an equation
    calls    the stack of calls that made it, those around its program included

Names tell all of linen (`linen_names.py`), parameters and calls all the rest (`calls.py`). So

    an activation between two layers        is of the module whose method, or whose function, calls them
    a module that is called twice           is one scope
    weights that another module uses too    are of the module that has them, and so is what uses them
    layers stacked for a scan or a vmap     are one scope without a number: an equation is of all of them
    layers without parameters (dropout)     are of the module around, where no name tells; linen's have names
    parameters that f closes over           tell nothing; of linen the names are left, "Net/Block_1/Dense_0"
    `jax.named_scope("encoder")`            stands before the modules that were called in it: "encoder/layers/0"
"""

from collections.abc import Sequence

from jaxprop.xray.calls import Calls
from jaxprop.xray.evidence import Evidence
from jaxprop.xray.linen_names import Linen, linen_scopes
from jaxprop.xray.modules import Module, Modules


def scopes(evidence: Sequence[Evidence], modules: Modules) -> list[Module]:
    """Give each equation the path of the module that computed it, names that users set included."""
    found: list[Module] = [()] * len(evidence)
    modules_of_linen = Linen()
    linen = [i for i, each in enumerate(evidence) if each.names and modules_of_linen.is_in(each.stack)]
    for i, scope in zip(linen, linen_scopes([evidence[i] for i in linen], modules), strict=True):
        found[i] = scope
    rest = set(range(len(evidence))).difference(linen)
    Calls(evidence, modules, found).settle(sorted(rest))
    return found
