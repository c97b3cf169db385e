"""φ and φ' of the activation behind a weight, as curves with a dot where the unit is now."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprop.derivations import Derivation
from jaxprop.derivations.formula import Derivative, Symbol
from jaxprop.layers import Activation, Layer
from jaxprop.network import leaves
from jaxprop_explorer.shown.written import Printer

POINTS = 97
REACH = 4.0  # of z on both sides of 0, more where the unit is farther out


def slope_json(net: Layer, path: str, found: Derivation, printer: Printer) -> dict[str, Any] | None:
    """Return the curves of the activation after the layer that has `path`; None where there is none of one number."""
    layer = _after(net, path.rpartition(".")[0])
    factor = next((f for f in found.values if isinstance(f, Derivative) and _is_slope(f, found)), None)
    if layer is None or factor is None:
        return None
    z = found.values[factor.by]
    reach = REACH
    while reach < 1.1 * abs(z):
        reach *= 2  # by doubling, so that the picture does not jump as z moves
    zs, values, slopes = curve(layer, reach, float(z))
    value, slope = values.pop(), slopes.pop()
    zs.pop()
    equations = [e for step in found.steps for e in step.equations if e.sides[0] in (factor, factor.of)]
    return {
        "activation": type(layer).__name__, "z": zs, "values": values, "slopes": slopes,
        "at": {"z": float(z), "value": float(value), "slope": float(slope)},
        "text": {"z": printer.number(z), "value": printer.number(value), "slope": printer.number(slope)},
        "symbols": {"z": printer.math(factor.by), "value": printer.math(factor.of), "slope": printer.math(factor)},
        "equations": [printer.equation(e) for e in equations],
    }  # fmt: skip


def curve(layer: Activation, reach: float, at: float) -> tuple[list[float], list[float], list[float]]:
    """Return z from −reach to reach and then `at`, φ(z) and φ'(z), in float64.

    >>> from jaxprop.layers import Sigmoid
    >>> z, values, slopes = curve(Sigmoid(), 4.0, 0.0)
    >>> z[-1], values[-1], slopes[-1]
    (0.0, 0.5, 0.25)
    """
    z = np.append(np.linspace(-reach, reach, POINTS), at)
    with jax.enable_x64(True):
        values, slopes = (np.asarray(each) for each in _values(layer, z[:, None]))
    return z.tolist(), values[:, 0].tolist(), slopes[:, 0].tolist()


@partial(jax.jit, static_argnums=0)
def _values(layer: Activation, z: Array) -> tuple[Array, Array]:
    value, kept = layer.forward(z)
    return value, jnp.broadcast_to(layer.derivative(kept), z.shape)


def _after(net: Layer, path: str) -> Activation | None:
    """The activation that follows a layer, None where something else does."""
    everything = list(leaves(net))
    place = next((i for i, leaf in enumerate(everything) if leaf.path == path), len(everything))
    after = everything[place + 1].layer if place + 1 < len(everything) else None
    return after if isinstance(after, Activation) else None


def _is_slope(factor: Derivative, found: Derivation) -> bool:
    """Whether it is ∂(something)/∂z of the unit asked about, and z has a number."""
    first = found.steps[0].equations[0] if found.steps[0].equations else None
    of_unit = first is not None and factor in getattr(first.sides[-1], "factors", ())
    z = factor.by
    return of_unit and isinstance(z, Symbol) and z in found.values and factor.of in found.values and z.name == "z"
