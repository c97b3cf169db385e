"""Where an equation comes from: the user's line, and the lines that called it.

JAX keeps with each equation the stack of calls that made it, up to the function that was being traced. An equation
inside a jitted function, a scan or a remat has the calls within that function; those that led there stand with the
equation around. So the lines stay right when two callers share one program that JAX had traced for the first of them.
"""

import linecache
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import jax

from jaxprop.xray.versions import Equation


def _folder(path: str) -> str:
    return path.replace("\\", "/").rstrip("/") + "/"


_HERE = os.path.dirname(__file__)
_UNSEEN = (_folder(os.path.dirname(jax.__file__)), _folder(_HERE), "<frozen ")
_LIBRARIES = (
    *{_folder(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")},
    _folder(os.path.dirname(_HERE)),  # this library, wherever it lies
)
_INSTALLED = ("/site-packages/", "/dist-packages/")


@dataclass(frozen=True)
class Line:
    """A line of source: its file, its number, the function that it stands in, and its text where that can be read."""

    file: str
    number: int
    function: str
    text: str = field(default="", compare=False)

    @property
    def short(self) -> str:
        """Name it without its function, such as "model.py:12"."""
        return f"{_normal(self.file).rpartition('/')[2]}:{self.number}"

    def __str__(self) -> str:
        return f"{self.short} ({self.function})"


@dataclass(frozen=True, eq=False)  # told apart and looked up by identity: code is slow to compare
class Function:
    """A function on a stack of calls.

    users: whether it is the user's.    unseen: whether it is JAX's or this X-ray's.
    """

    code: CodeType
    users: bool
    unseen: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """One call on a stack: a function, and how far it had come, in bytes of its code and in lines of its file."""

    function: Function
    at: int
    line: Line


Stack = tuple[Frame, ...]  # the outermost call first


def is_unseen(file: str) -> bool:
    """Say whether a file is JAX's or this X-ray's, whose calls tell a user nothing."""
    return _normal(file).startswith(_UNSEEN)


def is_users(file: str) -> bool:
    """Say whether a file is the user's: of no installed library, nor Python's own. Cells of a notebook are."""
    file = _normal(file)
    return not file.startswith((*_UNSEEN, *_LIBRARIES)) and not any(folder in file for folder in _INSTALLED)


def _normal(file: str) -> str:
    return file.replace("\\", "/")


class Places:
    """Reads the stacks of one program's equations; each function and each line is looked at once."""

    def __init__(self) -> None:
        self._functions: dict[int, Function] = {}
        self._frames: dict[tuple[int, int], Frame | None] = {}

    def stack(self, equation: Equation) -> Stack:
        """List the calls that made an equation, without those of JAX and of this X-ray."""
        traceback = getattr(equation.source_info, "traceback", None)
        if traceback is None:
            return ()
        frames, found = self._frames, []
        for code, at in zip(*traceback.raw_frames(), strict=True):
            key = (id(code), at)
            frame = frames[key] if key in frames else self._new(code, at, traceback)
            if frame is not None:
                found.append(frame)
        found.reverse()
        return tuple(found)

    def _new(self, code: CodeType, at: int, traceback: Any) -> Frame | None:
        function = self._functions.get(id(code))
        if function is None:
            function = Function(code, is_users(code.co_filename), is_unseen(code.co_filename))
            self._functions[id(code)] = function
        frame = None
        if not function.unseen:
            number = traceback.code_addr2line(code, at)
            text = linecache.getline(code.co_filename, number).strip()
            frame = Frame(
                function, at, Line(code.co_filename, number, code.co_qualname.rpartition("<locals>.")[2], text)
            )
        self._frames[id(code), at] = frame
        return frame


def lines(stack: Stack) -> tuple[Line | None, tuple[Line, ...]]:
    """Give the user's line of an equation, and the user's lines that called it, from the inside out.

    Where no call on the stack is the user's, the line is the innermost one of a library, and no callers are given.

    Args:
        stack: of the equations around, the outermost first, and of the equation itself.
    """
    found: list[Line] = []
    for frame in reversed(stack):
        line = frame.line
        if frame.function.users and not (found and (line.file, line.number) == (found[-1].file, found[-1].number)):
            found.append(line)
    if found:
        return found[0], tuple(found[1:])
    return (stack[-1].line, ()) if stack else (None, ())


def line_of(equations: Sequence[Equation]) -> Line | None:
    """Find the user's line of an equation.

    Args:
        equations: the equation, then the ones around it, from the inside out.
    """
    places = Places()
    return lines(tuple(frame for equation in reversed(equations) for frame in places.stack(equation)))[0]
