"""The public names, in the order of the data flow: what `import jaxprop as jp` gives when the first is asked for."""

# Names side by side, so that the map stays on one page. Layers, costs and uses are listed in their rooms' `__init__`.
# fmt: off

from importlib import import_module
from typing import TYPE_CHECKING

from jaxprop.errors import (
    DataError as DataError, JaxpropError as JaxpropError, ModelError as ModelError, ShapeError as ShapeError,
    TrainingError as TrainingError,
)
from jaxprop.uses import *
from jaxprop.layers import *
from jaxprop.costs import *
from jaxprop.network import (
    Chain as Chain, Combinator as Combinator, Inner as Inner, Parallel as Parallel, Remat as Remat, Repeat as Repeat,
    Residual as Residual, Shared as Shared, Walk as Walk,
)
from jaxprop.network.freeze import freeze_statistics as freeze_statistics
from jaxprop import models as models, data as data, derivations as derivations
from jaxprop.backward import auto as auto, manual as manual, rules as rules, saliency as saliency
from jaxprop.backward.mixed import mixed as mixed
from jaxprop.uses.trees import gradients as gradients, norms as norms
from jaxprop import stats as stats, train as train, xray as xray
from jaxprop.xray.example_norms import example_norms as example_norms
from jaxprop.check.compare import compare as compare
from jaxprop.derivations.expression import derive as derive
from jaxprop.derivations.network import explain as explain
from jaxprop.train import (
    FitResult as FitResult, TrainingInterrupted as TrainingInterrupted, evaluate as evaluate, fit as fit,
    predict as predict, sweep as sweep,
)
from jaxprop.saved.model import describe as describe, load as load, save as save
from jaxprop.network.summary import summary as summary
from jaxprop.check import check_layer as check_layer
from jaxprop.reports import report as report
from jaxprop.saved.export import export as export, load_exported as load_exported

if TYPE_CHECKING:
    from jaxprop import plot as plot
    from jaxprop.flax.checkpoint import import_flax as import_flax
    from jaxprop.flax.functions import from_flax as from_flax
    from jaxprop.flax.networks import to_flax as to_flax, to_nnx as to_nnx
else:
    _FLAX = {"import_flax": "checkpoint", "from_flax": "functions", "to_flax": "networks", "to_nnx": "networks"}

    def __getattr__(name: str) -> object:
        """Import what needs Flax when it is first asked for: it takes a quarter of the time of everything here."""
        if name == "plot":  # a room of its own, but people write jp.plot.network
            return import_module("jaxprop.plot")
        if name not in _FLAX:
            raise AttributeError(f"module 'jaxprop' has no attribute {name!r}")
        return getattr(import_module(f"jaxprop.flax.{_FLAX[name]}"), name)

    _INNER = ("TYPE_CHECKING", "import_module")
    __all__ = [name for name in (*globals(), *_FLAX) if not name.startswith("_") and name not in _INNER]

    def __dir__() -> list[str]:
        """List these three too."""
        return sorted({*globals(), *_FLAX})
