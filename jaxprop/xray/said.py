"""A report in a few sentences: what is not finite, whether errors vanish or explode, and what was not looked into."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from jaxprop.tables import shown
from jaxprop.xray.rows import Row
from jaxprop.xray.sites import Site
from jaxprop.xray.versions import CUSTOM

PRODUCTS = ("dot_general", "conv_general_dilated")
SHARE = 1e-3  # an error vanishes where it is less than this share of what it was, and explodes beyond the inverse


def not_finite(rows: Sequence[Row], came_out_finite: str) -> list[str]:
    """Say where NaN and infinity arise first: going forward, and if there are none, going back.

    came_out_finite: what is, of f's value and gradient, as a sentence begins; "" where not all is.
    """
    found = sorted(filter(None, (_first(rows, name) for name in ("inf", "NaN"))))
    if not found:
        return ["All numbers are finite."]
    said = [sentence for _, sentence in found]
    if came_out_finite:
        said.append(f"{came_out_finite} finite all the same, as with a mask of -inf.")
    return said


def _first(rows: Sequence[Row], name: str) -> tuple[int, str] | None:
    """When NaN, or infinity, first arises, to sort by; and that in words."""
    order = {id(row): i for i, row in enumerate(rows)}
    forward = next((row for row in rows if row.holds(name, "value")), None)
    if forward is not None:
        where = f"in the argument {forward.name}" if forward.is_argument else _located(forward, "value", name)
        return order[id(forward)], f"First {name}: {where}."
    back = next((row for row in reversed(rows) if row.holds(name, "error")), None)
    if back is None:
        return None
    where = f"gradient of {back.name}" if back.is_argument else f"error of {_located(back, 'error', name)}"
    return 2 * len(rows) - order[id(back)], f"First {name}: in the {where}; no value holds {name}."


def _located(row: Row, which: str, name: str) -> str:
    return f"{row.name} at {row.place}{_step(row, which, name)}"


def _step(row: Row, which: str, name: str) -> str:
    """The first step of it, of a row in a scan."""
    found = np.argwhere(getattr(row, which).trouble_by_step(name))
    if not row.site.axes or not len(found):
        return ""
    at = found[0 if which == "value" else -1]
    return ", " + ", ".join(
        f"{'device' if kind == 'shard_map' else 'step'} {i} of {n}"
        for (kind, n), i in zip(row.site.axes, at, strict=False)
    )


def through_depth(rows: Sequence[Row]) -> list[str]:
    """Say of errors and values what becomes of them between the ends of the program, and of a scan's steps.

    Matrix products stand for the layers; where few were measured, as in a light report, all arrays do.
    """
    arrays = [row for row in rows if not row.is_argument and row.value is not None and not row.shape.endswith("[]")]
    products = [row for row in arrays if row.site.primitive in PRODUCTS]
    found, what = (products, "matrix products") if len(products) > 3 else (arrays, "arrays inside")
    errors, values = [row.error.rms for row in found[::-1] if row.error], [row.value.rms for row in found if row.value]
    of = f"of the {len(found)} {what}"
    said = [
        *_judged("error", errors, f"in the last quarter {of}", "in the first"),
        *_judged("value", values, f"in the first quarter {of}", "in the last"),
    ]
    scanned = (row for row in found if [kind for kind, _ in row.site.axes] == ["scan"] and row.error is not None)
    for row in scanned:
        steps = row.error.steps[np.isfinite(row.error.steps)][::-1] if row.error else np.zeros(0)
        around = f"of the {len(steps)} steps of the scan around {row.line or row.scope}"
        if judged := _judged("error", list(steps), f"in the last quarter {around}", "in the first"):
            return [*said, *judged]
    return said


def _judged(what: str, sizes: Sequence[float], start: str, end: str) -> list[str]:
    """Compare the medians of the first and the last quarter of what comes one after the other."""
    finite = [size for size in sizes if np.isfinite(size)]
    if len(finite) < 4:
        return []
    quarter = len(finite) // 4
    before, after = float(np.median(finite[:quarter])), float(np.median(finite[-quarter:]))
    if before == 0:
        return [f"The {what}s are 0 {start}."]
    verb = "vanish" if after < SHARE * before else "explode" if after > before / SHARE else "neither vanish nor explode"
    return [f"The {what}s {verb}: their RMS is {shown(before, 2)} {start}, {shown(after, 2)} {end}."]


def not_looked_into(sites: Sequence[Site]) -> Iterator[str]:
    """Say what this report cannot show."""
    loops = sum("while" in site.around for site in sites)
    if loops:
        yield (
            f"{_equations(loops)} in a while loop: its turns are taken together, and no error comes back through it "
            "(JAX differentiates none)"
        )
    custom = Counter(site.primitive for site in sites if site.primitive.split(" ")[0] in CUSTOM)
    for name, count in custom.items():
        rule = name.partition(" ")[2] or name
        times = f" ({count} times)" if count > 1 else ""
        yield f"{rule} has a derivative of its own{times}: seen from outside, what it computes within is not shown"
    scans = sorted({site.axes for site in sites if site.axes}, key=str)
    for axes in scans:
        names = " of ".join(f"{n} {'devices' if kind == 'shard_map' else 'steps'}" for kind, n in reversed(axes))
        count = sum(site.axes == axes for site in sites)
        yield f"{_equations(count)} in {names}, taken together here; a row's value.steps and error.steps have each"


def _equations(count: int) -> str:
    return f"{count} equation{'s lie' if count > 1 else ' lies'}"
