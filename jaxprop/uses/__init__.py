"""Where an activation meets an error: one small file per kind of `Use`. `use.py` says what a use is."""

from jaxprop.uses.dense import Dense as Dense
from jaxprop.uses.leading import Leading as Leading
from jaxprop.uses.lookup import Lookup as Lookup
from jaxprop.uses.outer import Outer as Outer
from jaxprop.uses.patch import Patch as Patch
from jaxprop.uses.scale import Scale as Scale
from jaxprop.uses.several import Several as Several
from jaxprop.uses.shift import Shift as Shift
from jaxprop.uses.stacked import Stacked as Stacked
from jaxprop.uses.trees import gradients as gradients, norms as norms
from jaxprop.uses.use import (
    Use as Use,
    check_weights as check_weights,
    is_use as is_use,
    rounded as rounded,
    weighted as weighted,
    weighted_sum as weighted_sum,
)
from jaxprop.uses.view import View as View
from jaxprop.uses.viewed import Viewed as Viewed

# `jaxprop` exports the classes above, and not the files that they come from.
__all__ = [name for name, value in vars().items() if isinstance(value, type)]  # pyright: ignore[reportUnsupportedDunderAll]
