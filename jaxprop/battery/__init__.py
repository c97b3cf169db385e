"""Everything that a layer must be and do, tried on one layer in one call: for layers written outside the library."""

from jaxprop.battery.check import check_layer as check_layer
from jaxprop.battery.report import Check as Check, LayerReport as LayerReport
