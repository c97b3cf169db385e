"""The sections of a report, as HTML: the figures first, then what made them."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import PyTree

from jaxprop import plot
from jaxprop.derivations.html import STYLE, document
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network
from jaxprop.network.summary import summary
from jaxprop.reports import pictures
from jaxprop.reports.answers import Answers, answers
from jaxprop.reports.health import Health, health
from jaxprop.reports.writing import Subject
from jaxprop.tables import Table, shown
from jaxprop.train.confusion import most_confused, per_class

MOST_CLASSES, MOST_COLUMNS = 20, 8
NAMES = {"r2": "R²", "accuracy": "accuracy", "cost": "cost"}

OWN = """
body { max-width: 62rem; }
section { border-top: 1px solid var(--line); padding: 1.25rem 0 0.75rem; }
section p, section li { max-width: 46rem; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: 0.35rem 1.25rem; margin: 0.75rem 0; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 0.75rem 2.5rem; margin: 0 0 1rem; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { font-size: 0.875rem; }
.figures dd { font-size: 1.75rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.2; }
dl.figures { grid-template-columns: none; }
img.drawing { display: block; width: 100%; max-width: 46rem; height: auto; background: #fff; border-radius: 4px; }
img.drawing { margin: 0.75rem 0; }
img.wide { max-width: none; }
img.pixels { width: 5.5rem; height: auto; image-rendering: pixelated; border-radius: 2px; }
.wide { overflow-x: auto; }
.confusion { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
.confusion th { font-weight: 600; padding: 0.25rem 0.6rem; text-align: right; }
.confusion td { padding: 0.25rem 0.6rem; text-align: right; min-width: 2.6rem; border: 1px solid var(--line); }
.confusion .right { background: color-mix(in srgb, #0072b2 calc(var(--share) * 1%), transparent); }
.confusion .wrong { background: color-mix(in srgb, #d55e00 calc(var(--share) * 1%), transparent); }
.confusion .none { color: var(--muted); }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; padding: 0; }
.worst { list-style: none; }
.worst li { border: 1px solid var(--line); border-radius: 4px; padding: 0.75rem; overflow-wrap: anywhere; }
.worst p { margin: 0.2rem 0; font-size: 0.9rem; }
.worst .row { color: var(--muted); }
"""


def page(subject: Subject, net: Network, params: PyTree) -> str:
    """Return the whole page; `net` and `params` are what answers, for a BatchNorm with statistics of the rows."""
    found = answers(net, subject.cost, subject.rows, params)
    if subject.classes and found.counts is not None and len(subject.classes) != len(found.counts):
        raise JaxpropError(f"report: found {len(subject.classes)} names of classes, expected {len(found.counts)}")
    sections = [
        ("Settings", _settings(subject)),
        ("Curves", _curves(subject)),
        ("Gradient health", _health(subject, health(subject.net, subject.cost, subject.rows, subject.params))),
        ("Answers", _answers(subject, found)),
        ("Worst examples", _worst(subject, found)),
    ]
    blocks = (f"<section>\n<h2>{name}</h2>\n{''.join(parts)}\n</section>" for name, parts in sections)
    head = f"<h1>{escape(subject.title)}</h1>\n{_figures(subject, found)}"
    return document(subject.title, "\n".join([head, *blocks]), STYLE + OWN)


def _figures(subject: Subject, found: Answers) -> str:
    """The few numbers that are looked for first."""
    figures = [(NAMES[name], _figure(name, found.figures[name])) for name in NAMES if name in found.figures]
    rows = f"{len(found.costs):,}"
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in [*figures, ("rows", rows)])
    return f'<p class="source">Measured on {escape(subject.of_rows)}.</p>\n<dl class="figures">{items}</dl>'


def _figure(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name == "accuracy" else shown(value)


def _settings(subject: Subject) -> Iterator[str]:
    facts = {"network": repr(subject.net), "cost": repr(subject.cost), **subject.facts}
    if not isinstance(subject.net, Layer):
        facts["network"] = getattr(subject.net, "__name__", "a function f(x, θ)")
    items = "".join(f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    yield f"<dl>{items}</dl>"
    if isinstance(subject.net, Layer):
        yield summary(subject.net, subject.rows.x).as_table().html()


def _curves(subject: Subject) -> Iterator[str]:
    rows = [row for row in subject.history if row.get("cost") is not None and np.isfinite(row["cost"])]
    if not rows:
        yield "<p>Training ended before its first epoch: there is no curve to draw.</p>"
        return
    wanted = ("cost", "validation_cost", "validation_accuracy", "validation_r2")
    keys = [key for key in wanted if any(np.isfinite(_number(row.get(key))) for row in rows)]
    yield pictures.drawn(plot.history(rows, keys=keys), f"The {' and the '.join(keys)} over {len(rows)} epochs.")


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _health(subject: Subject, found: Health) -> Iterator[str]:
    of = "1 row" if found.rows == 1 else f"{found.rows} rows"
    yield f"<p>One backward pass over {of}, with the parameters of the end: ‖∂C/∂θ‖ = {shown(found.norm)}.</p>"
    yield found.layers.html()
    if found.units is not None:
        yield "<p>Units whose slope is zero (dead) or nearly so (saturated) for every row that was looked at:</p>"
        yield found.units.html()
    if subject.result is not None and subject.result.monitor is not None and len(subject.result.monitor):
        yield "<p>What the monitor recorded as training went:</p>"
        inside = pictures.drawn(plot.inside(subject.result), "What the monitor recorded, a panel for each quantity.")
        yield inside.replace("drawing", "wide drawing", 1)


def _answers(subject: Subject, found: Answers) -> Iterator[str]:
    if found.counts is not None:
        names = _classes(subject, len(found.counts))
        if len(names) <= MOST_CLASSES:
            yield "<p>Rows are what is true, columns what the network says.</p>"
            yield _matrix(found.counts, names)
        else:
            yield _pairs(found.counts, names)
        scores = per_class(found.counts)
        head = ("class", "precision", "recall", "F1", "rows")
        cells = [
            (name, *(_share(scores[key][i]) for key in ("precision", "recall", "f1")), str(found.counts[i].sum()))
            for i, name in enumerate(names)
        ]
        yield Table((head, *cells), right=(1, 2, 3, 4)).html()
        return
    expected = np.asarray(subject.cost.expected(found.y), np.float64)
    targets = np.asarray(subject.rows.targets)
    if expected.shape != targets.shape or not np.all(np.isfinite(expected)):
        yield "<p>Each row is asked several questions, or an answer is not finite: there is no picture of them all.</p>"
        return
    error = expected - targets
    told = f"Root mean square error {shown(float(np.sqrt(np.mean(error**2))))}"
    yield f"<p>{told}, mean absolute error {shown(float(np.mean(np.abs(error))))}, in the targets' own unit.</p>"
    name = str(subject.facts.get("target", "the target"))
    yield pictures.answers_drawn(targets.astype(np.float64), expected, name)


def _classes(subject: Subject, count: int) -> list[str]:
    return [str(name) for name in subject.classes or range(count)]


def _matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    lines = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        cells = "".join(_cell(int(count), int(row.sum()), i == j) for j, count in enumerate(row))
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return f'<div class="wide"><table class="confusion"><tr><td class="none"></td>{head}</tr>\n{body}</table></div>'


def _cell(count: int, of: int, right: bool) -> str:
    if not count:
        return '<td class="none">0</td>'
    return f'<td class="{"right" if right else "wrong"}" style="--share: {15 + 55 * count / of:.0f}">{count}</td>'


def _pairs(counts: np.ndarray, names: Sequence[str]) -> str:
    rows = most_confused(counts, names)
    if not rows:
        return f"<p>None of the {len(names)} classes is taken for another.</p>"
    return "<p>Most confused:</p>" + Table((("truth", "prediction", "rows"), *rows), right=(2,)).html()


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else "–"


def _worst(subject: Subject, found: Answers) -> Iterator[str]:
    yield f"<p>The {len(found.worst)} rows of the largest cost Cₙ.</p>"
    items = "".join(f"<li>{''.join(_example(subject, found, int(row)))}</li>" for row in found.worst)
    yield f'<ol class="worst">{items}</ol>'


def _example(subject: Subject, found: Answers, row: int) -> Iterator[str]:
    """One row: what it is, what the network should say and says."""
    number = row if subject.numbers is None else subject.numbers[row]
    x, columns = subject.rows.x, subject.columns
    image = pictures.as_image(x[row], columns) if isinstance(x, np.ndarray) else None
    if image is not None:
        yield pictures.shown(image, f"Row {number} as an image.")
    yield f'<p class="row">row {number} · Cₙ = {shown(float(found.costs[row]))}</p>'
    if found.truth is not None and found.chosen is not None and found.counts is not None:
        names = _classes(subject, len(found.counts))
        truth, chosen = (f"<b>{escape(names[labels[row]])}</b>" for labels in (found.truth, found.chosen))
        yield f"<p>is {truth}, {'as the network says' if truth == chosen else f'taken for {chosen}'}</p>"
    else:
        expected = np.asarray(subject.cost.expected(found.y[row : row + 1]))[0]
        yield f"<p>is {escape(_few(subject.rows.targets[row]))}, the network says {escape(_few(expected))}</p>"
    if image is None and isinstance(x, np.ndarray):
        yield f"<p>{escape(_few(x[row], columns))}</p>"


def _few(values: Any, names: Sequence[str] | None = None) -> str:
    """The first few numbers of an array, with the names of their columns."""
    flat = np.asarray(values).ravel()
    labels = [f"{name} " for name in names] if names is not None and len(names) == flat.size else [""] * flat.size
    parts = [f"{label}{shown(float(value))}" for label, value in zip(labels, flat[:MOST_COLUMNS], strict=False)]
    return ", ".join(parts) + (f" and {flat.size - MOST_COLUMNS} more" if flat.size > MOST_COLUMNS else "")
