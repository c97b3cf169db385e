"""Quantities of one backward pass, from its uses: `collect` gathers them, `quantity.py` says how to write one."""

from jaxprop.stats.collect import Collected as Collected, collect as collect
from jaxprop.stats.quantity import Context as Context, Quantity as Quantity
