"""Where an equation comes from: the user's line, and the modules around it.

JAX keeps with each equation the stack of calls that made it, up to the function that was being traced. An equation
inside a jitted function, a scan or a remat has the lines within that function; the line that called it is that of the
equation around. So the lines stay right when two callers share one program that JAX had traced for the first of them.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax

from jaxprop.xray.versions import Equation

_JAX = os.path.dirname(jax.__file__) + os.sep
_OURS = os.path.dirname(os.path.dirname(__file__)) + os.sep
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@dataclass(frozen=True)
class Line:
    """A line of source: its file, its number and the function that it stands in."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.number} ({self.function})"


def line_of(equations: Iterable[Equation]) -> Line | None:
    """Find the user's line of an equation: the innermost one outside of libraries, or else outside of JAX.

    Args:
        equations: the equation, then the ones around it, from the inside out.
    """
    library: Line | None = None
    for equation in equations:
        for frame in frames(equation):
            found = Line(frame.file_name, frame.line_num, frame.function_name)
            if not any(folder in frame.file_name for folder in _INSTALLED):
                return found
            library = library or found
    return library


def frames(equation: Equation) -> list[Any]:
    """List the calls that made an equation, the innermost first, without those of JAX and of this library."""
    traceback = getattr(equation.source_info, "traceback", None)
    if traceback is None:
        return []
    return [f for f in traceback.frames if not f.file_name.startswith((_JAX, _OURS, "<frozen"))]
