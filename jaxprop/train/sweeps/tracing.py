"""Which settings can be numbers in one compiled program: found out by trying.

A program gets a number as a tracer, whose value Python does not see: what compares it, counts with it or checks it
fails, such as a cost that checks its setting or a schedule that has a number of steps. Such a setting has a program
for each of its values.
"""

from collections.abc import Callable


def traceable(names: tuple[str, ...], attempt: Callable[[tuple[str, ...]], object]) -> tuple[str, ...]:
    """Return the most names for which `attempt(names)` raises nothing; those that fail alone are left out.

    >>> def attempt(names):
    ...     if "steps" in names:
    ...         raise TypeError("a tracer has no value")
    >>> traceable(("rate", "steps", "decay"), attempt)
    ('rate', 'decay')
    """

    def works(chosen: tuple[str, ...]) -> bool:
        try:
            attempt(chosen)
        except Exception:  # whatever a maker says of a tracer; its real mistakes are found with real values
            return False
        return True

    if not names or works(names):
        return names
    alone = tuple(name for name in names if len(names) > 1 and works((name,)))
    return alone if len(alone) < 2 or works(alone) else ()
