"""A column of dates: days, month and day of the week."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, Self

import numpy as np

from jaxprop.columns.cells import Place, in_row, is_missing
from jaxprop.errors import DataError

ISO = "ISO"
FORMATS = (ISO, "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y",
           "%B %d, %Y", "%d-%b-%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M")  # fmt: skip
_DAY = 86400.0


@dataclass(frozen=True)
class Date:
    """Read a column of dates as days since the first of them, the month (1 to 12) and the weekday (0 is Monday).

    All cells are written in one format, the first of `FORMATS` that reads every training row: 03/04/2020 is the third
    of April unless another row of the column can only be month first. A missing cell is the median day.

    Args:
        name: the column.
        format: how dates are written: "ISO", or as for `datetime.strptime`.
        first: the day that counts from, in days since 1970.
        fill: the value of a missing cell, in days since 1970.
        indicator: whether a last feature says 1 where the cell was missing, as some training rows' were.

    >>> Date("sold", first=18262.0, fill=18262.0).encode(["2020-01-01", "2020-02-03"]).tolist()
    [[0.0, 1.0, 2.0], [33.0, 2.0, 0.0]]
    """

    name: str
    format: str = ISO
    first: float = 0.0
    fill: float = 0.0
    indicator: bool = False
    kind: Literal["date"] = "date"
    __pydantic_config__ = {"extra": "forbid"}

    @classmethod
    def of(cls, name: str, cells: Sequence[Any]) -> Self | None:
        """Return the description of a training column, or None if no format reads all cells that are not missing."""
        known = [cell for cell in cells if not is_missing(cell)]
        for form in FORMATS:
            days = []
            for cell in known:
                if (day := _days(cell, form)) is None:
                    break
                days.append(day)
            else:
                if days:
                    return cls(name, form, float(np.floor(min(days))), float(np.median(days)), len(days) < len(cells))
        return None

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        found = (f"{self.name} (days)", f"{self.name} (month)", f"{self.name} (weekday)")
        return (*found, f"{self.name} missing") if self.indicator else found

    @property
    def scaled(self) -> tuple[bool, ...]:
        """Which of the features are worth standardising."""
        return (True, True, True, False)[: len(self.features)]

    def encode(self, cells: Sequence[Any], place: Place = in_row) -> np.ndarray:
        """Return the features `[N, F]` in float64; DataError names the first cell that is no date."""
        days = np.empty(len(cells))
        for row, cell in enumerate(cells):
            day = self.fill if is_missing(cell) else _days(cell, self.format)
            if day is None:
                how = "2020-12-31" if self.format == ISO else date(2020, 12, 31).strftime(self.format)
                raise DataError(
                    f"{place(row)}, column {self.name!r}: found {cell!r}, expected a date such as {how}; "
                    "correct it or leave it empty"
                )
            days[row] = day
        whole = np.floor(days).astype("datetime64[D]")
        month = whole.astype("datetime64[M]").astype(int) % 12 + 1
        weekday = (np.floor(days) + 3) % 7  # 1970-01-01 was a Thursday
        found = [days - self.first, month, weekday]
        if self.indicator:
            found.append(np.array([is_missing(cell) for cell in cells], np.float64))
        return np.stack(found, 1)


def _days(cell: object, form: str) -> float | None:
    """A date in days since 1970; None if it is none."""
    if isinstance(cell, str):
        try:
            cell = datetime.fromisoformat(cell.strip()) if form == ISO else datetime.strptime(cell.strip(), form)
        except ValueError:
            return None
    if isinstance(cell, np.datetime64):
        cell = cell.astype("datetime64[us]").item()
    if isinstance(cell, datetime):
        return (cell if cell.tzinfo else cell.replace(tzinfo=UTC)).timestamp() / _DAY
    return float((cell - date(1970, 1, 1)).days) if isinstance(cell, date) else None
