r"""What an elementwise layer does to one number, as a formula: its value and its slope, ∂(out)/∂(in).

Each entry of `RULES` is the formula of the class of that name in `jaxprop.layers`, for the branch that `at` is on: a
leaky ReLU at z = -2 is 0.01·z and has the slope 0.01. The numbers of the tape stand beside these formulas in every
equation, so a rule that is wrong here shows as an error there (`Derivation.error`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxprop import layers
from jaxprop.derivations.derivation import Prose
from jaxprop.derivations.formula import Call, Constant, Formula, Number, Symbol
from jaxprop.derivations.glyphs import SUBSCRIPTS
from jaxprop.derivations.question import is_ours
from jaxprop.layers import activations
from jaxprop.layers.layer import Layer

ONE = Number(1)
FAR, NEAR = -3.0, -1e-3  # below and above these, 1 + t and exp(z) - 1 lose more than four of sixteen digits
PLAIN = str.maketrans(SUBSCRIPTS, "0123456789")


@dataclass(frozen=True)
class ActivationFormula:
    """The formulas of one elementwise layer at one number, None where they are not known.

    `helpers` are names used in both formulas, `given` those of them that have a number and no formula here. `exact` and
    `exact_slope` are False where two nearly equal numbers are subtracted, so that float64 has few digits left for it.
    """

    value: Formula | None
    slope: Formula | None
    words: Prose = ()
    helpers: tuple[tuple[Symbol, Formula], ...] = ()
    given: Mapping[Formula, float] = field(default_factory=dict)
    exact: bool = True
    exact_slope: bool = True


Rule = Callable[[Any, Symbol, Symbol, float], ActivationFormula]
"""(layer, the symbol that goes in, the symbol that comes out, the number that goes in) -> ActivationFormula"""


def activation_formula(layer: Layer, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    """Return the formulas of `layer`, which makes `a` of `z`, where z is the number `at`.

    >>> from jaxprop.derivations import to_text
    >>> found = activation_formula(layers.Sigmoid(), Symbol("z"), Symbol("a"), 1.35)
    >>> to_text(found.value), to_text(found.slope)
    ('σ(z)', 'a·(1 - a)')
    """
    rule = RULES.get(type(layer))
    if rule is not None:
        return rule(layer, z, a, at)
    name = type(layer).__name__
    unknown = f"{name} is a layer of your own: its formula is not known here, only the slope that it gives."
    ours = f"{name}: no formula is written for it yet, so this is the slope that it gives."
    return ActivationFormula(None, None, (ours if is_ours(layer) else unknown,))


def _helper(name: str, z: Symbol) -> Symbol:
    """A name beside `z`: Φ⁽¹⁾[3] for z⁽¹⁾[3], and another for each later stage, Φ⁽¹⁾[u,3] for u⁽¹⁾[3]."""
    return Symbol(name, z.index if z.name == "z" else (z.name.translate(PLAIN), *z.index), z.layer)


def _tanh(layer: layers.Tanh, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    words = ("The slope of tanh is ", 1 - a**2, ", written in its value ", a, ", here as a product.")
    return ActivationFormula(Call("tanh", z), (1 - a) * (1 + a), words)


def _relu(layer: layers.ReLU, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    corner = " At 0 it has a corner; by convention the slope there is 0." if at == 0 else ""
    words = f"The slope of relu is a step: 1 where its input is above 0, else 0.{corner}"
    return ActivationFormula(Call("relu", z), Call("step", z), (words,))


def _leaky_relu(layer: layers.LeakyReLU, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    slope = ONE if at >= 0 else Number(layer.negative_slope)
    words = f"The input is {'not ' * (at >= 0)}below 0, and there the leaky ReLU is a straight line."
    return ActivationFormula(z if at >= 0 else slope * z, slope, (words,))


def _elu(layer: layers.ELU, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    if at > 0:
        return ActivationFormula(z, ONE, ("The input is above 0, and there ELU is a straight line.",))
    words = ("The input is not above 0, and there the slope of ELU can be written in its value ", a, ".")
    return ActivationFormula(layer.alpha * (Call("exp", z) - 1), a + layer.alpha, words, exact=at < NEAR)


def _selu(layer: layers.SELU, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    alpha, scale = Number(activations.SELU_ALPHA), Number(activations.SELU_SCALE)
    if at > 0:
        return ActivationFormula(scale * z, scale, ("The input is above 0, and there SELU is a straight line.",))
    words = ("The input is not above 0, and there SELU is a power of e, moved and scaled; so is its slope.",)
    power = Call("exp", z)
    return ActivationFormula(scale * (alpha * (power - 1)), scale * (alpha * power), words, exact=at < NEAR)


def _gelu(layer: layers.GELU, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    π, product_rule = Constant("π"), "The slope of GELU follows by the product rule; "
    if layer.approximate:
        t, r, root = _helper("t", z), _helper("r", z), Call("sqrt", 2 / π)
        helpers = ((t, Call("tanh", root * (z + 0.044715 * z**3))), (r, root * (1 + 3 * Number(0.044715) * z**2)))
        words: Prose = (product_rule, r, " is the slope of what is inside the tanh.")
        value, slope = z / 2 * (1 + t), (1 + t) / 2 + z / 2 * (1 - t**2) * r
        # the layer too adds 1 and t, which is -1 but for a few digits
        return ActivationFormula(value, slope, words, helpers, exact=at > FAR, exact_slope=at > FAR)
    Φ = _helper("Φ", z)
    bell = z * Call("exp", -(z**2 / 2)) / Call("sqrt", 2 * π)
    words = (product_rule, Φ, " is the share of a normal distribution below the input.")
    return ActivationFormula(z * Φ, Φ + bell, words, given={Φ: math.erfc(-at / math.sqrt(2)) / 2})


def _silu(layer: layers.SiLU, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    s, words = _helper("s", z), ("The slope of SiLU follows by the product rule.",)
    return ActivationFormula(z * s, s * (1 + z * (1 - s)), words, ((s, Call("sigmoid", z)),))


def _softplus(layer: layers.Softplus, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    value = Call("log", 1 + Call("exp", z)) if at < 30 else z + Call("log", 1 + Call("exp", -z))
    # far below 0 a float64 has no digits left for exp(z) beside the 1
    return ActivationFormula(value, Call("sigmoid", z), ("The slope of softplus is the sigmoid.",), exact=at > FAR)


def _softsign(layer: layers.Softsign, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    below = 1 + z if at >= 0 else 1 - z
    words = ("The slope of softsign follows by the quotient rule; ", below, " is 1 plus the size of ", z, ".")
    return ActivationFormula(z / below, 1 / below**2, words)


def _hard_tanh(layer: layers.HardTanh, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    if abs(at) <= 1:
        return ActivationFormula(z, ONE, ("The input is within -1 and 1, and there hard tanh changes nothing.",))
    words = ("The input is outside -1 and 1, where hard tanh is flat.",)
    return ActivationFormula(Number(math.copysign(1, at)), Number(0), words)


def _step(layer: layers.Step, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    words = "The step is flat on both sides of its jump, so its slope is 0: no error goes back through it."
    return ActivationFormula(Call("step", z), Number(0), (words,))


def _quantize(layer: layers.Quantize, z: Symbol, a: Symbol, at: float) -> ActivationFormula:
    spacing = (layer.high - layer.low) / (2**layer.bits - 1)
    level = layer.low + spacing * round((min(max(at, layer.low), layer.high) - layer.low) / spacing)
    words = (z, f" goes to the nearest of {2**layer.bits} levels, which is flat: no error goes back through it.")
    return ActivationFormula(Number(level), Number(0), words)


def _standardized(
    layer: layers.Standardize | layers.Unstandardize, z: Symbol, a: Symbol, at: float
) -> ActivationFormula:
    # one number per feature, the last axis: a unit that counts positions too comes back to its feature
    mean, std = (Number(v[int(z.index[-1]) % len(v)] if isinstance(v, tuple) else v) for v in (layer.mean, layer.std))
    if isinstance(layer, layers.Standardize):
        does = "subtracts the mean and divides by the standard deviation; the mean does"
        value, slope = (z - mean) / std, 1 / std
    else:
        does = "multiplies by the standard deviation and adds the mean, which does"
        value, slope = z * std + mean, std
    return ActivationFormula(value, slope, (f"{type(layer).__name__} {does} not matter to a slope.",))


RULES: dict[type, Rule] = {
    layers.Identity: lambda layer, z, a, at: ActivationFormula(
        z, ONE, ("The activation changes nothing, so the slope is 1.",)
    ),
    layers.Sigmoid: lambda layer, z, a, at: ActivationFormula(
        Call("sigmoid", z), a * (1 - a), ("The slope of the sigmoid can be written in its value ", a, ".")
    ),
    layers.Tanh: _tanh,
    layers.ReLU: _relu,
    layers.LeakyReLU: _leaky_relu,
    layers.ELU: _elu,
    layers.SELU: _selu,
    layers.GELU: _gelu,
    layers.SiLU: _silu,
    layers.Softplus: _softplus,
    layers.Softsign: _softsign,
    layers.HardTanh: _hard_tanh,
    layers.Step: _step,
    layers.Quantize: _quantize,
    **dict.fromkeys((layers.Standardize, layers.Unstandardize), _standardized),
}
