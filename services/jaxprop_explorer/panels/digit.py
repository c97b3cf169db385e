"""The digit panel: strokes come in, and out goes what the network saw, said and felt, and the error of a label."""

import base64
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from jaxprop.errors import JaxpropError
from jaxprop_explorer.digits import nonsense
from jaxprop_explorer.digits.network import Reading, examples, read_picture
from jaxprop_explorer.digits.strokes import picture, read
from jaxprop_explorer.panels.command import Asked, Command
from jaxprop_explorer.sessions import Session

SURE = 0.9  # a largest probability above it is an answer
UNSURE = 0.5  # below it the drawing looks like no digit to the network
DOT = 0.04  # of the pad: a drawing that is smaller is only a dot
SHADES = 127

Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class Drawing(Asked):
    """Strokes in the unit square, y down; or, instead, a kind of nonsense that is no stroke."""

    strokes: list[list[Point]] = Field(default_factory=list, max_length=200)
    nonsense: str | None = None
    seed: int = Field(default=0, ge=0, lt=2**31)
    centred: bool = True
    label: int | None = Field(default=None, ge=0, le=9)


def read_drawing(session: Session, asked: Drawing) -> dict[str, Any]:
    """Rasterise, centre, read, and send the error of the label back."""
    if asked.nonsense is None:
        strokes = read(asked.strokes)
        seen = picture(asked.strokes, centred=asked.centred)
        extent = np.ptp(np.concatenate(strokes), axis=0).max() if strokes else 0.0
    else:
        if asked.nonsense not in nonsense.KINDS:
            raise JaxpropError(f"nonsense: {asked.nonsense!r} is none; known: {', '.join(nonsense.KINDS)}")
        strokes, extent = [np.zeros((1, 2))], 1.0
        seen = nonsense.KINDS[asked.nonsense](np.random.default_rng(asked.seed), 1)[0]
    found = {"picture": _maps(seen[..., None], seen.max()), "centred": asked.centred, "label": asked.label}
    if not strokes or extent < DOT or not seen.any():
        return found | _nothing(bool(strokes), bool(seen.any()))
    reading = read_picture(seen, asked.label or 0)
    back = asked.label is not None
    return found | {
        "probabilities": reading.probabilities.tolist(),
        "percent": [percent(share) for share in reading.probabilities],
        "prediction": int(np.argmax(reading.probabilities)),
        "verdict": verdict(reading.probabilities),
        "layers": [
            {"path": stage.path, "name": stage.name, "a": _maps(stage.a), "delta": _maps(stage.delta) if back else None}
            for stage in reading.stages
        ],
        "pixels": _maps(reading.pixels[..., None]) if back else None,
        "cost": reading.cost if back else None,
        "told": _told(asked.label, reading) if asked.label is not None else None,
    }


def _nothing(drawn: bool, seen: bool) -> dict[str, Any]:
    text = "Nothing is drawn: the pad is empty, and an empty pad has no digit to read."
    if drawn:
        text = "There is only a dot: too little to read." if seen else "What is drawn lies outside the picture."
    empty = dict.fromkeys(("probabilities", "percent", "prediction", "pixels", "cost", "told"))
    return {**empty, "verdict": {"kind": "empty", "text": text}, "layers": []}


def verdict(p: np.ndarray) -> dict[str, str]:
    """What the network's ten probabilities say, in a sentence; it says so where they say that it is no digit.

    >>> verdict(np.full(10, 0.1))["kind"], verdict(np.eye(10)[3])["text"]
    ('none', 'The network reads a 3: its probability is over 99.9 %.')
    """
    second, first = (int(digit) for digit in np.argsort(p)[-2:])
    if p[first] < UNSURE:
        text = (
            "This does not look like a digit to the network: its largest probability is only "
            f"{percent(p[first])}, for {a(first)}."
        )
        return {"kind": "none", "text": text}
    if p[first] < SURE:
        both = f"Perhaps {a(first)} ({percent(p[first])}), perhaps {a(second)} ({percent(p[second])})"
        return {"kind": "unsure", "text": f"{both}: the network is not sure."}
    return {"kind": "digit", "text": f"The network reads {a(first)}: its probability is {percent(p[first])}."}


def a(digit: int) -> str:
    """The digit with its article.

    >>> a(3), a(8)
    ('a 3', 'an 8')
    """
    return f"an {digit}" if digit == 8 else f"a {digit}"


def percent(share: Any) -> str:
    """A probability in percent; what is not 1 does not read as 100 %.

    >>> percent(0.1234), percent(0.99996)
    ('12.3 %', 'over 99.9 %')
    """
    return "over 99.9 %" if share > 0.9995 else f"{share:.1%}".replace("%", " %")


def _told(label: int, reading: Reading) -> str:
    end = "a pixel is blue where more ink raises C, and orange where more ink lowers it."
    if not reading.pixels.any():
        end = "but no neuron of a hidden layer answers, so none of it comes through: the error at the pixels is 0."
    return (
        f"If it should be {a(label)}, the cost is C = −ln p = {reading.cost:.3g}. At the outputs δ = p − target: "
        f"{reading.stages[-1].delta[label]:+.3f} at {label}. From there δ flows back; {end}"
    ).replace("-", "−")


def _maps(values: np.ndarray, scale: float | None = None) -> dict[str, Any]:
    """Values `[*F, O]` as O pictures of bytes, and as one strip where there are no positions."""
    values = np.asarray(values, np.float64)
    if values.ndim == 1:
        rows = 2 if len(values) > 16 else 1
        shown = values.reshape(1, rows, -1)
    else:
        shown = np.moveaxis(values, -1, 0)
    scale = float(np.abs(shown).max() if scale is None else scale)
    levels = np.rint(shown / (scale or 1.0) * SHADES).clip(-SHADES, SHADES).astype(np.int8)
    count, height, width = shown.shape
    return {
        "count": count, "height": height, "width": width, "scale": scale,
        "values": [base64.b64encode(one.tobytes()).decode() for one in levels],
    }  # fmt: skip


def offered(session: Session, asked: Asked) -> dict[str, Any]:
    """Digits and nonsense for those who do not draw."""
    random = np.random.default_rng(5)
    scribbles = [nonsense.scribble_strokes(random) for _ in range(6)]
    kinds = [kind for kind in nonsense.KINDS if kind != "scribble"]
    return {"digits": examples(), "scribbles": scribbles, "nonsense": kinds}


COMMANDS = {
    "read": Command(read_drawing, Drawing, locked=False),
    "offered": Command(offered, locked=False),
}
