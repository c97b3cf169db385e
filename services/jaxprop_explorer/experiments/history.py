"""What was done to an experiment on the way: changes at steps, checked, from which the same θ comes again."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jaxprop.errors import JaxpropError

MOST_STEPS, MOST_CHANGES = 1_000_000, 2_000  # that an address may ask to be done again


class Change(BaseModel):
    """What was changed after `at` steps: one number of θ, whether it is pruned, or settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: int = Field(ge=0, le=MOST_STEPS)
    edit: tuple[str, tuple[int, ...], float] | None = None
    prune: tuple[str, tuple[int, ...], bool] | None = None
    set: dict[str, Any] | None = None


def read_changes(history: Sequence[Any], steps: int) -> list[Change]:
    """Check what an address says was done."""
    if not isinstance(steps, int) or not 0 <= steps <= MOST_STEPS:
        raise JaxpropError(f"steps: found {steps!r}, expected 0 to {MOST_STEPS:,}")
    if not isinstance(history, list | tuple) or len(history) > MOST_CHANGES:
        raise JaxpropError(f"history: expected a list of up to {MOST_CHANGES:,} changes")
    try:
        found = [Change.model_validate(change) for change in history]
    except ValidationError as error:
        at = ".".join(map(str, error.errors()[0]["loc"]))
        raise JaxpropError(f"history: a change is not readable ({at}: {error.errors()[0]['msg']})") from None
    at = [*(change.at for change in found), steps]
    if at != sorted(at):
        raise JaxpropError("history: found changes out of order, expected each at its step, and none after the last")
    return found


def remember(history: list[dict[str, Any]], step: int, what: str, change: Any) -> None:
    """Note a change; one at the same place and step stands for the earlier, whatever other places changed since."""

    def place(one: Any) -> Any:
        return sorted(one) if what == "set" else one[:2]

    for k in range(len(history) - 1, -1, -1):
        earlier = history[k]
        if earlier["at"] != step or what not in earlier:
            break
        if place(earlier[what]) == place(change):
            del history[k]
            break
    if len(history) >= MOST_CHANGES:
        raise JaxpropError(f"{MOST_CHANGES:,} changes are all that are kept of one run: start anew")
    history.append({"at": step, what: change})
