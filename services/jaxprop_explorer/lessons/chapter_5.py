"""Lessons of chapter 5, the chain rule: rows 16, 17, 18 and 21."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop.derivations import Derivation, derive
from jaxprop.derivations.derivation import Equation, worked
from jaxprop.derivations.formula import Derivative, Symbol
from jaxprop.errors import JaxpropError
from jaxprop_explorer.lessons import nets
from jaxprop_explorer.lessons.chapter_1 import UNIT
from jaxprop_explorer.lessons.drawing import Dot, Line, chart
from jaxprop_explorer.lessons.parts import (
    Anchor,
    Choice,
    Lesson,
    Setup,
    Shown,
    Slider,
    Try,
    Typed,
    Widget,
    bracketed,
    number,
)

PLACES = {"w1": ("0.W", (0, 0)), "w2": ("0.W", (1, 0)), "w3": ("0.W", (2, 0)), "b": ("0.b", (0,))}
NAMES = {"w1": "w₁", "w2": "w₂", "w3": "w₃", "b": "b"}


def unit_cost(w: jax.Array) -> jax.Array:
    """The cost of row 2's unit as a function of its first weight."""
    one = nets.unit()
    (W, b), _ = one.params
    params = (jp.LinearParams(W=W.at[0, 0].set(w), b=b), ())
    return one.cost(one.net(one.x, params), one.targets)[0]


_costs_and_slopes = jax.jit(jax.vmap(jax.value_and_grad(unit_cost)))


def _errors(w: float) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The slope, the nudges h, and how far the one-sided and the two-sided quotient are off."""
    h = 10.0 ** np.arange(-12, 0.01, 0.5)
    found, slopes = _costs_and_slopes(jnp.asarray(np.concatenate([w - h, w + 0 * h, w + h])))
    slope, costs = float(slopes[h.size]), dict(zip((-1, 0, 1), np.split(np.asarray(found), 3), strict=True))
    forward, central = (costs[1] - costs[0]) / h, (costs[1] - costs[-1]) / (2 * h)
    return slope, h, np.abs(forward - slope), np.abs(central - slope)


def _nudge(h: float) -> Shown:
    slope, hs, forward, central = _errors(0.5)
    at = int(np.argmin(np.abs(np.log10(hs) - h)))
    rounds = hs[at] < 1e-7
    words = (
        f"With h = {number(hs[at])} the nudge to one side misses ∂C/∂w = {number(slope)} by "
        f"{number(forward[at], 2)}, to "
        f"both sides by {number(central[at], 2)}. "
        + ("Here rounding is what is left: a smaller h makes it worse." if rounds else "Make h smaller and see.")
    )
    shown = np.maximum(np.stack([forward, central]), 1e-17)
    lines = (Line(hs, shown[0], "to one side"), Line(hs, shown[1], "to both sides", 2, dashed=True))
    dots = (Dot(hs[at], shown[0][at], "", 1), Dot(hs[at], shown[1][at], "", 2))
    drawn = chart(
        lines, dots, x_label="h", y_label="error", said=f"The error of the quotient over h. {words}", log=True
    )
    return Shown(words, {"slope": slope, "forward": float(forward[at]), "central": float(central[at])}, drawn)


def height(t: jax.Array) -> jax.Array:
    """The height of a ball that is thrown up at 10 m/s, after t seconds."""
    return 10 * t - 4.905 * t**2


def _ball(dt: float) -> Shown:
    now, later = (float(height(jnp.array(t, float))) for t in (0.5, 0.5 + dt))
    average = (later - now) / dt
    instant = float(jax.grad(height)(jnp.array(0.5, float)))
    words = (
        f"From 0.5 s on, over Δt = {number(dt)} s, the ball climbs on average at {number(average, 4)} m/s. At that "
        "instant its "
        f"velocity is {number(instant, 4)} m/s, which the average comes near as Δt goes to 0."
    )
    t = np.linspace(0, 2, 81)
    secant = [now + average * (s - 0.5) for s in (0.1, 1.9)]
    lines = (
        Line(t, np.asarray(height(jnp.asarray(t))), "the flight, a parabola"),
        Line((0.1, 1.9), secant, "the average, a straight line", 2, dashed=True),
    )
    dots = (Dot(0.5, now, "", 4), Dot(0.5 + dt, later, "", 4))
    drawn = chart(lines, dots, x_label="t in s", y_label="height in m", y=(0.0, 7.5), said=words)
    return Shown(words, {"average": average, "instantaneous": instant}, drawn)


def unit_derivation(place: str) -> Derivation:
    """The derivation for one number of row 2's unit."""
    path, at = PLACES[place]
    return nets.explained(nets.unit(), path, at, nets.UNIT_NAMES)


def _factors(place: str) -> Shown:
    facts = unit_derivation(place).facts
    factors = facts["factors"]
    by_jax = nets.unit().jax_grads()[0]
    witness = float(by_jax.W[PLACES[place][1]] if place != "b" else by_jax.b[0])
    product = " · ".join(bracketed(f["value"]) for f in factors)
    words = f"∂C/∂{NAMES[place]} = {product} = {number(facts['value'])}; by jax.grad {number(witness)}."
    rows = (
        ("factor", "value"),
        *((f["name"], number(f["value"])) for f in factors),
        ("their product", number(facts["value"])),
        ("δ, the first two", number(facts["delta"])),
    )
    found = {"gradient": facts["value"], "delta": facts["delta"], "by jax.grad": witness}
    return Shown(words, found | {f"factor {i}": f["value"] for i, f in enumerate(factors, 1)}, rows=rows)


def _wiggle(by: float) -> Shown:
    """Nudge w₂ and see what moves: z, then a, then C."""
    one = nets.unit()
    (W, b), _ = one.params
    moved = one.with_((jp.LinearParams(W=W.at[1, 0].add(by), b=b), ()))
    at = [(e.tape["1"].x[0, 0], e.tape["1"].y[0, 0], e.grads()[0]) for e in (one, moved)]
    dz, da, dC = (float(after - before) for before, after in zip(*at, strict=True))
    if by == 0:
        return Shown("Move the slider: w₂ acts on z, z on a, and a on C.", {"Δz": 0.0, "Δa": 0.0, "ΔC": 0.0})
    words = (
        f"w₂ moved by {number(by)}, so z moved by {number(dz)}, {number(dz / by)} times as far; a by {number(da)}, "
        f"{number(da / dz)} times that; C by {number(dC)}, {number(dC / da)} times that. Nothing else moved."
    )
    rows = (
        ("", "moves by", "times as far as the one before"),
        ("w₂", number(by), ""),
        *((n, number(d), number(q)) for n, d, q in (("z", dz, dz / by), ("a", da, da / dz), ("C", dC, dC / da))),
    )
    return Shown(words, {"Δz": dz, "Δa": da, "ΔC": dC, "quotient": dC / by}, rows=rows)


def _stray(factor: str) -> Shown:
    one = nets.unit()
    W = one.params[0].W[1, 0]
    dz_dw, dz_dx = float(one.x[0, 1]), float(W)
    if factor == "w'":
        slope = float(jax.grad(lambda w: w)(W))
        words = f"The article's last factor w′ is the derivative of w by w. It is {number(slope)} and changes nothing."
        return Shown(words, {"dw/dw": slope})
    words = (
        f"z depends on w₂ and on x₂. By w₂ its derivative is {number(dz_dw)} (the input), by x₂ it is "
        f"{number(dz_dx)} (the "
        "weight). A z′ that does not say which one can mean either."
    )
    return Shown(words, {"∂z/∂w₂": dz_dw, "∂z/∂x₂": dz_dx})


def _bias(by: float) -> Shown:
    one = nets.unit()
    (W, b), _ = one.params
    delta, gradient = float(one.tape["1"].dx[0, 0]), float(one.grads()[1][0].b[0])
    moved = one.with_((jp.LinearParams(W=W, b=b + by), ()))
    dz = float(moved.tape["1"].x[0, 0] - one.tape["1"].x[0, 0])
    dC = moved.grads()[0] - one.grads()[0]
    words = (
        f"The bias moved by {number(by)} and z by {number(dz)}: just as far, so ∂z/∂b = 1 and ∂C/∂b = δ = "
        f"{number(delta)}. "
    )
    words += f"C moved by {number(dC)}."
    found = {"Δz": dz, "delta": delta, "∂C/∂b": gradient, "ΔC": dC}
    if by:
        words += f" Divided by the nudge that is {number(dC / by)}."
        found["quotient"] = dC / by
    by_w = [float(g) for g in one.grads()[1][0].W[:, 0]]
    rows = (
        ("", "derivative"),
        ("∂C/∂b", number(gradient)),
        *((f"∂C/∂w{s}", number(g)) for s, g in zip("₁₂₃", by_w, strict=True)),
    )
    return Shown(words, found, rows=rows)


def _point(at: str) -> float | dict[str, float]:
    """Read "2", "2,5" or "x = -2, y = 5"."""
    at = at.replace("−", "-").strip()
    if "=" not in at:
        return float(at.replace(",", "."))
    pairs = (part.split("=", 1) for part in at.replace(";", ",").split(","))
    return {name.strip(): float(value) for name, value in pairs}


def _stepper(expression: str, at: str, steps: float) -> Shown:
    try:
        derivation = derive(expression, at=_point(at))
    except ValueError as error:
        if not isinstance(error, JaxpropError):
            return Shown(
                "The point is read as a number, such as 2, or as one for every variable, such as x = -2, y = 5."
            )
        sentence, _, place = str(error).partition("\n")
        return Shown(f"That cannot be differentiated yet: {sentence}.", code=place)
    shown = min(int(steps), len(derivation.steps))
    part = Derivation(derivation.title, derivation.steps[:shown], derivation.values, derivation.facts)
    facts = derivation.facts
    several = "derivatives" in facts
    results = facts["derivatives"] if several else {facts["variable"]: facts["derivative_value"]}
    formulas = facts["formulas"] if several else {facts["variable"]: facts["derivative"]}
    whole = shown == len(derivation.steps)
    words = f"Step {shown} of {len(derivation.steps)}."
    if whole:
        told = ", ".join(f"by {x}: {formulas[x]} = {number(value)}" for x, value in results.items())
        words = f"All {shown} steps. The derivative {told}."
    found = {f"by {x}": value for x, value in results.items()}
    if not several:
        found["by jax.grad"] = facts["jax_grad"]
    return Shown(words, found | {"steps": len(derivation.steps), "error": derivation.error()}, formulas=(part,))


def _where(place: str) -> Shown:
    """3(x² + 1)³ at x = 2, the outer derivative taken at the inside, or wrongly at x."""
    inner = derive("x**2+1", at=2.0).facts
    at = inner["value"] if place == "inside" else 2.0
    outer = derive("3*u**3", at=at).facts
    found = outer["derivative_value"] * inner["derivative_value"]
    right = derive("3*(x**2+1)**3", at=2.0).facts["derivative_value"]
    words = (
        f"The outer derivative {outer['derivative']}, taken at {number(at)}, is {number(outer['derivative_value'])}; "
        "times the "
        f"inner one, {number(inner['derivative_value'])}, that is {number(found)}. jax.grad says {number(right)}."
    )
    words += " It has to be taken at the inside." if found != right else " So it is taken at the inside, u = x² + 1."
    return Shown(words, {"found": found, "right": right})


def _error_formulas() -> tuple[Equation, ...]:
    one = nets.unit()
    delta, values = Symbol("δ"), {}
    values[delta] = float(one.tape["1"].dx[0, 0])
    written = []
    for i, sub in enumerate("₁₂₃"):
        x = Symbol(f"x{sub}")
        values[x] = float(one.x[0, i])
        written.append(worked(Derivative(Symbol("C"), Symbol(f"w{sub}")), delta * x, values=values))
    return tuple(written)


SHOWN = UNIT.settings, {}

ROW_16 = Lesson(
    number=16,
    chapter=5,
    title="A nudge, and the derivative",
    quote="Our brains have created an approximation of the flight of the ball, which follows the equation v̄ = "
    "Δx/Δt. … how "
    "much and in which direction does the cost function move with a small change in the weight?",
    paragraphs=(
        "v̄ = Δx/Δt is an average velocity, one number about two moments, and not the flight of a ball, which is a "
        "parabola. Let the two moments move together and the average becomes the velocity at an instant: a derivative.",
        "The same with a weight: nudge it by h, see how far C moves, divide. On a computer h cannot go to 0. The error "
        "falls with h, or with h² if the nudge goes to both sides, until rounding takes over. So nudges are good for "
        "checking, and derivatives for training.",
    ),
    widgets=(
        Widget("nudge", "The error of a nudge", (Slider("h", "exponent of h", -12, 0, 0.5, -3),), _nudge),
        Widget("ball", "Average and instant", (Slider("dt", "Δt in seconds", 0.01, 1.3, 0.01, 1),), _ball),
    ),
    tries=(
        Try("A large nudge, h = 0.1", "nudge", {"h": -1}),
        Try("The best one to both sides, near 10⁻⁵", "nudge", {"h": -5}),
        Try("Too small: rounding", "nudge", {"h": -12}),
        Try("A ball, over one second", "ball", {"dt": 1}),
        Try("A ball, over a hundredth", "ball", {"dt": 0.01}),
    ),
    anchors=(
        Anchor("∂C/∂w₁", -0.033657, lambda: _nudge(-3.0).numbers["slope"]),
        Anchor(
            "error to both sides, h = 10⁻² over h = 10⁻³ (h²: about 100)",
            100,
            lambda: _nudge(-2.0).numbers["central"] / _nudge(-3.0).numbers["central"],
            digits=2,
        ),
        Anchor(
            "error to one side, h = 10⁻² over h = 10⁻³ (h: about 10)",
            10,
            lambda: _nudge(-2.0).numbers["forward"] / _nudge(-3.0).numbers["forward"],
            digits=2,
        ),
        Anchor("velocity of the ball at 0.5 s", 5.095, lambda: _ball(1.0).numbers["instantaneous"], digits=4),
    ),
    setup=Setup(*SHOWN, "network", {"path": "0.W", "index": [0, 0]}, UNIT.words),
)

ROW_17 = Lesson(
    number=17,
    chapter=5,
    title="The chain rule: three factors that multiply",
    quote="But C is a function of y and ŷ, so we need to use the Chain Rule to actually calculate this. "
    "δC/δw = δC/δa · δa/δz · δz/δw … C′(a(z(w, x))) · a′(z(w, x)) · z′(w, x) · w′",
    paragraphs=(
        "How does a weight reach the cost? Not directly: it moves z, z moves a, and a moves C. That is why there is a "
        "chain, and not because C is a function of two things. Like gears: each factor says how many times as far the "
        "next one turns, so the factors multiply.",
        "The three are small questions with small answers: ∂C/∂a is the difference, ∂a/∂z the slope of σ at z, ∂z/∂w "
        "the "
        "input. The article writes a fourth, w′, which is 1; what needs saying is that the third is a derivative with "
        "respect to w.",
        "The product of the first two has a name, the error δ = ∂C/∂z. That is what δ means in this field. The article "
        "writes δ for the sign of a derivative; here that is ∂.",
    ),
    widgets=(
        Widget(
            "factors",
            "The three factors",
            (Choice("place", "Of", {"w1": "w₁", "w2": "w₂", "w3": "w₃", "b": "the bias b"}, "w1"),),
            _factors,
        ),
        Widget("wiggle", "Why a chain: nudge w₂", (Slider("by", "nudge w₂ by", -0.5, 0.5, 0.01, 0.01),), _wiggle),
        Widget(
            "stray",
            "The fourth factor",
            (Choice("factor", "Factor", {"w'": "w′, the article's fourth", "z'": "z′, with respect to what?"}, "w'"),),
            _stray,
        ),
    ),
    tries=(
        Try("Multiply the factors of w₂", "factors", {"place": "w2"}),
        Try("δ is not ∂C/∂w: compare the three weights", "factors", {"place": "w3"}),
        Try("Nudge w₂ and follow it to C", "wiggle", {"by": 0.01}),
        Try("What is w′?", "stray", {"factor": "w'"}),
        Try("And z′?", "stray", {"factor": "z'"}),
    ),
    anchors=(
        Anchor("δ = ∂C/∂z", -0.033657, lambda: _factors("w1").numbers["delta"]),
        Anchor("∂C/∂a", -0.20587, lambda: _factors("w1").numbers["factor 1"]),
        Anchor("∂a/∂z", 0.16349, lambda: _factors("w1").numbers["factor 2"]),
        Anchor("∂C/∂w₁", -0.03366, lambda: _factors("w1").numbers["gradient"], digits=4),
        Anchor("∂C/∂w₂", -0.10097, lambda: _factors("w2").numbers["gradient"]),
        Anchor("∂C/∂w₃", -0.06731, lambda: _factors("w3").numbers["gradient"], digits=4),
        Anchor(
            "two weights in a row: ∂C/∂w₁",
            -0.564,
            lambda: nets.weights_of(nets.chain().with_(nets.chain().grads()[1]))[0],
        ),
        Anchor(
            "two weights in a row: ∂C/∂w₂",
            -0.752,
            lambda: nets.weights_of(nets.chain().with_(nets.chain().grads()[1]))[1],
        ),
    ),
    setup=Setup(*SHOWN, "network", {"path": "0.W", "index": [1, 0]}, UNIT.words),
    formulas=lambda: (*_error_formulas(), unit_derivation("w2")),
)

ROW_18 = Lesson(
    number=18,
    chapter=5,
    title="The same for the bias",
    quote="The bias derivation is very similar: δC/δb = δC/δa · δa/δz · δz/δb. Which gives us δC/δw = (a − ŷ)σ′(z).",
    paragraphs=(
        "The result is right and its name is not: it is ∂C/∂b. And one step is left out. A bias is added to the sum, "
        "so "
        "when it is nudged, z moves just as far: ∂z/∂b = 1.",
        "So the derivative for a bias is the error of its unit itself, ∂C/∂b = δ. A weight has its input as one more "
        "factor.",
    ),
    widgets=(Widget("bias", "Nudge the bias", (Slider("by", "nudge b by", -0.5, 0.5, 0.01, 0.01),), _bias),),
    tries=(
        Try("Nudge b by 0.01: z moves by 0.01", "bias", {"by": 0.01}),
        Try("A large nudge: the slope is that of this place only", "bias", {"by": 0.5}),
    ),
    anchors=(
        Anchor("∂C/∂b", -0.033657, lambda: _bias(0.01).numbers["∂C/∂b"]),
        Anchor("δ of the unit", -0.033657, lambda: _bias(0.01).numbers["delta"]),
        Anchor("∂z/∂b", 1, lambda: unit_derivation("b").facts["factors"][2]["value"]),
    ),
    setup=Setup(*SHOWN, "network", {"path": "0.b", "index": [0]}, UNIT.words),
    formulas=lambda: (unit_derivation("b"),),
)

ROW_21 = Lesson(
    number=21,
    chapter=5,
    title="The chain rule, step by step, for any expression",
    quote="The derivative of 3(x² + 1) can be done in three steps: 1. Calculate the derivative of the outside "
    "expression, "
    "and ignore the inside expression: 3(…)′ → 3.",
    paragraphs=(
        "The result 6x is right. But the outside is a straight line here, with the slope 3 everywhere, so the example "
        "hides the point of the rule: the outer derivative is taken at the inside. With 3(x² + 1)³ it matters: 9u² at "
        "u = x² + 1, times 2x.",
        "Type an expression of your own. It is read, never run; it is differentiated by rules, and beside the result "
        "stand jax.grad and a nudge. Wrong explanations of the chain rule stood in widely used courses for years. So "
        "no "
        "formula on this page is typed twice: what is shown is what was evaluated and tested.",
    ),
    widgets=(
        Widget(
            "stepper",
            "Your expression",
            (
                Typed("expression", "Expression", "3*(x**2+1)"),
                Typed("at", "At", "2"),
                Slider("steps", "steps shown", 1, 8, 1, 8),
            ),
            _stepper,
        ),
        Widget(
            "where",
            "Where the outer derivative is taken",
            (Choice("place", "Taken at", {"inside": "the inside u = x² + 1", "x": "x itself"}, "inside"),),
            _where,
        ),
    ),
    tries=(
        Try("3(x² + 1), one step", "stepper", {"expression": "3*(x**2+1)", "at": "2", "steps": 1}),
        Try("3(x² + 1)³, all steps", "stepper", {"expression": "3*(x**2+1)**3", "at": "2", "steps": 8}),
        Try(
            "A cost: (σ(0.5w + 0.85) − 1)²/2",
            "stepper",
            {"expression": "(sigmoid(0.5*w+0.85)-1)**2/2", "at": "0.5", "steps": 8},
        ),
        Try("Two variables: (x + y)·z", "stepper", {"expression": "(x+y)*z", "at": "x=-2, y=5, z=-4", "steps": 8}),
        Try("Take the outer derivative at x", "where", {"place": "x"}),
    ),
    anchors=(
        Anchor(
            "derivative of 3(x² + 1) at 2, which is 6x",
            12,
            lambda: derive("3*(x**2+1)", at=2.0).facts["derivative_value"],
        ),
        Anchor("derivative of 3(x² + 1)³ at 2, which is 18x(x² + 1)²", 900, lambda: _where("inside").numbers["right"]),
        Anchor("with the outer derivative taken at x (wrong)", 144, lambda: _where("x").numbers["found"]),
        Anchor(
            "largest error of any equation of the derivation",
            0,
            lambda: round(derive("3*(x**2+1)**3", at=2.0).error(), 12),
        ),
    ),
    setup=Setup(*SHOWN, "lessons", None, "Nothing: this lesson needs no network."),
    formulas=lambda: (derive("3*(x**2+1)", at=2.0),),
)

LESSONS = (ROW_16, ROW_17, ROW_18, ROW_21)
