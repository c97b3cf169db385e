"""One step of gradient descent for one number, and the same with the sign flipped: predicted and actual change of C."""

from typing import Any

from jaxprop.derivations import Derivation
from jaxprop.derivations.derivation import worked
from jaxprop.derivations.formula import Formula, Symbol
from jaxprop_explorer.shown.cards import gradient_of
from jaxprop_explorer.shown.written import Printer

η = Symbol("η")


def update_json(found: Derivation, printer: Printer) -> dict[str, Any]:
    """Return w, −η·∂C/∂w, w' and the change of C, and the same where the step is added, as the article has it."""
    facts, gradient = found.facts, gradient_of(found)
    rate, value, before = facts["learning_rate"], facts["value"], facts["before"]
    w = gradient.by
    assert isinstance(w, Symbol)
    values = {w: facts["parameter"], gradient: value, η: rate}

    def way(sign: int, change: float) -> dict[str, Any]:
        step: Formula = η * gradient if sign > 0 else -(η * gradient)
        squared: Formula = η * gradient**2 if sign > 0 else -(η * gradient**2)
        new = worked(Symbol(w.name + "'", w.index, w.layer), w + step if sign > 0 else w - η * gradient, values=values)
        moved, predicted = sign * rate * value, sign * rate * value**2
        return {
            "step": printer.math(step), "moved": printer.number(moved),
            "new": printer.equation(new), "updated": printer.number(facts["parameter"] + moved),
            "predicted": printer.number(predicted), "predicted_by": printer.math(squared),
            "actual": printer.number(change), "costs": _apart(before, before + change),
            "rises": change > 0, "falls": change < 0, "words": _words(sign, change, predicted),
        }  # fmt: skip

    return {
        "rate": printer.number(rate), "rate_text": f"{rate:.6g}", "rate_is": printer.math(η), "symbol": printer.math(w),
        "value": printer.number(facts["parameter"]),
        "down": way(-1, facts["actual_change"]), "up": way(1, facts["flipped_change"]),
    }  # fmt: skip


def _apart(before: float, after: float) -> str:
    """Return "0.5 → 0.499", with as many digits as it takes to tell the two apart."""
    for digits in range(6, 18):
        numbers = [Printer(digits=digits).number(each) for each in (before, after)]
        if numbers[0] != numbers[1]:
            break
    return " → ".join(numbers)


def _words(sign: int, change: float, predicted: float) -> str:
    if change == 0:
        return "C does not move: the derivative is 0, or the step is too small to be seen."
    falls = change < 0
    if sign > 0:
        if falls:
            return "Even with the sign flipped C falls: this step is so large that it crosses to the other side."
        return "With the sign flipped C rises: adding the derivative climbs the hill. The article says to add it."
    if not falls:
        return "C rises: the step is too large, and lands on the other side higher up. A smaller η lets it fall."
    near = abs(change - predicted) <= 0.1 * abs(predicted)
    how = "nearly as predicted" if near else "less or more than predicted, since C bends"
    return f"C falls, {how}."
