"""Everything that a layer must be and do, tried on one layer in one call: for layers written outside the library."""

from jaxprop.check.battery import check_layer as check_layer
from jaxprop.check.report import Check as Check, LayerReport as LayerReport
