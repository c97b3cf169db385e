"""What `check_layer` found: one line a check, a table to read."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative_beyond
from jaxprop.check.factors import factor_of
from jaxprop.tables import Table, Tabular

TINY = 1e-3  # an array this much smaller than the largest is measured against that: below is round-off


@dataclass(frozen=True)
class Agreement:
    """How far two arrays are apart: max|Δ|, max|Δ| / max|reference|, and the cosine between them."""

    absolute: float
    relative: float
    cosine: float

    @classmethod
    def of(cls, found: Any, reference: Any, scale: float | None = None, rounding: float = 0.0) -> "Agreement":
        """Compare two arrays of one shape (relative to `scale` if given); NaN anywhere makes them disagree.

        rounding: what two right ways to compute them may be apart; only what is beyond it counts as relative.
        """
        found, reference = (np.asarray(v, dtype=np.float64).ravel() for v in (found, reference))
        absolute = float(np.max(np.abs(found - reference), initial=0.0))
        scale = float(np.max(np.abs(reference), initial=0.0)) if scale is None else scale
        lengths = float(np.linalg.norm(found) * np.linalg.norm(reference))
        cosine = float(found @ reference) / lengths if lengths > 0 else float(absolute == 0)
        return cls(absolute, float(relative_beyond(absolute, scale, rounding)), cosine)

    @classmethod
    def judged(
        cls, found: Any, reference: Any, tolerance: float, rounding: float, scale: float | None = None
    ) -> "Agreement":
        """Compare them as they are, and where that is more than `tolerance`, beyond their rounding."""
        plain = cls.of(found, reference, scale)
        return plain if plain.within(tolerance) else cls.of(found, reference, scale, rounding)

    def within(self, tolerance: float) -> bool:
        """Whether max|Δ| / max|reference| is at most `tolerance` (false for NaN)."""
        return bool(self.relative <= tolerance)


@dataclass(frozen=True)
class Check:
    """One thing that was tried: of which factor, what was found, what is allowed; ok is None where it does not apply.

    >>> print(Check("linear in dy", "all 3 factors", "0", "1e-12", True).verdict)
    ok
    """

    name: str
    factor: str
    found: str
    allowed: str
    ok: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return "skipped" if self.ok is None else "ok" if self.ok else "WRONG"

    def __str__(self) -> str:
        where = f" of {self.factor}" if self.factor else ""
        return f"{self.name}{where}: found {self.found}" + (f", allowed {self.allowed}" if self.allowed else "")


@dataclass(frozen=True)
class LayerReport(Tabular):
    """What the battery said of a layer: `.ok`, `.rows`, `.wrong`; `print(report)` is a table.

    >>> LayerReport("Mine()", (Check("vmap", "all 2 factors", "1", "1e-12", False),)).ok
    False
    """

    layer: str
    rows: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.wrong

    @property
    def wrong(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(row for row in self.rows if row.ok is False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        return self.as_table().text(widest=60)

    def as_table(self) -> Table:
        """Return a row for every check, the verdict below."""
        lines = [("check", "of", "found", "allowed", "verdict")]
        lines += [(row.name, row.factor, row.found, row.allowed, row.verdict) for row in self.rows]
        tried = sum(row.ok is not None for row in self.rows)
        verdict = f"all {tried} checks pass" if self.ok else f"{len(self.wrong)} of {tried} checks FAIL"
        return Table(lines, notes=(f"{self.layer}: {verdict}",))


def agree(
    name: str, found: Any, expected: Any, tolerance: float, examples: int, each: bool = False, floor: float = TINY
) -> Iterator[Check]:
    """Compare two trees: a row for every array (`each`) or for every one that is wrong, else one for all.

    An array is measured by its own largest entry, but not by less than `floor` times the tree's.
    """
    mine, theirs = (
        {path: np.asarray(a, np.float64) for path, a in by_path(tree).items()} for tree in (found, expected)
    )
    if not theirs:
        yield Check(name, "", "nothing to differentiate", "", None)
        return
    largest = max(float(np.max(np.abs(a), initial=0)) for a in theirs.values())
    rows, worst = [], 0.0
    for path, reference in theirs.items():
        if path not in mine or mine[path].shape != reference.shape:
            what = f"shape {mine[path].shape}" if path in mine else "nothing"
            rows.append(Check(name, factor_of(path), what, f"shape {reference.shape}", False))
            continue
        scale = max(float(np.max(np.abs(reference), initial=0)), floor * largest)
        agreement = Agreement.of(mine[path], reference, scale)
        ok, worst = agreement.within(tolerance), max(worst, agreement.relative)
        hint = "" if ok else _hint(mine[path], reference, agreement, examples)
        rows.append(Check(name, factor_of(path), f"{agreement.relative:.2g}{hint}", f"{tolerance:.0e}", ok))
    wrong = [row for row in rows if not row.ok]
    if each or wrong:
        yield from rows if each else wrong
    else:
        yield Check(name, f"all {len(rows)} arrays", f"{worst:.2g}", f"{tolerance:.0e}", True)


def _hint(found: np.ndarray, expected: np.ndarray, agreement: Agreement, examples: int) -> str:
    """What a wrong answer that points the right way is off by."""
    if not abs(agreement.cosine) > 1 - 1e-9:
        return ""
    ratio = float(np.vdot(expected, found) / np.vdot(expected, expected))
    why = " = 1/N: dy is per example, never divide by N" if abs(ratio * examples - 1) < 1e-6 else ""
    return f" (it is {ratio:.4g} × the right one{why})"
