"""THE table: every exported layer and cost, with shapes, options and its forward value in plain float64 numpy.

A new layer or cost gets a line in the file of its family, and with it the whole battery (`test_layers.py`,
`test_costs.py`); a test fails if an exported name is missing.
"""

from jaxprop import names
from jaxprop.saved.kinds import BASES
from tests.cases import attention, basic, combinators, conv, costs, embedding, norms, recurrent
from tests.cases.case import EXHAUSTIVE, CostCase as CostCase, LayerCase as LayerCase, one_of_each as one_of_each

LAYERS = [
    *basic.LAYERS,
    *combinators.LAYERS,
    *attention.LAYERS,
    *recurrent.LAYERS,
    *conv.LAYERS,
    *norms.LAYERS,
    *embedding.LAYERS,
]
COSTS = [*costs.COSTS]
assert {case.name for case in [*LAYERS, *COSTS]} >= EXHAUSTIVE, "a row was renamed"


def exported(base: type) -> dict[str, type]:
    """Names that jaxprop exports of one base class, the abstract ones left out."""
    found = {name: value for name, value in vars(names).items() if isinstance(value, type) and issubclass(value, base)}
    return {name: value for name, value in found.items() if value not in BASES}
