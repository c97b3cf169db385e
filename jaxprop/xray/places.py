"""Where an equation comes from: the user's line, and the lines that called it.

JAX keeps with each equation the stack of calls that made it, up to the function that was being traced. An equation
inside a jitted function, a scan or a remat has the calls within that function; those that led there stand with the
equation around. So the lines stay right when two callers share one program that JAX had traced for the first of them.
"""

import linecache
import os
import sysconfig
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, NamedTuple

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

    def __str__(self) -> str:
        return f"{_folder(self.file).rstrip('/').rpartition('/')[2]}:{self.number} ({self.function})"


class Frame(NamedTuple):
    """One call on a stack: a function, and how far it had come (`at`, in bytes of its code)."""

    code: CodeType
    at: int


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
        self._unseen: dict[CodeType, bool] = {}
        self._users: dict[CodeType, bool] = {}
        self._lines: dict[Frame, Line] = {}
        self._told: dict[Stack, tuple[Line | None, tuple[Line, ...]]] = {}
        self._number: Any = None

    def stack(self, equation: Equation) -> Stack:
        """List the calls that made an equation, without those of JAX and of this X-ray."""
        traceback = getattr(equation.source_info, "traceback", None)
        if traceback is None:
            return ()
        self._number = traceback.code_addr2line
        unseen, found = self._unseen, []
        for code, at in zip(*traceback.raw_frames(), strict=True):
            if (hidden := unseen.get(code)) is None:
                hidden = unseen[code] = is_unseen(code.co_filename)
            if not hidden:
                found.append(Frame(code, at))
        return tuple(reversed(found))

    def lines(self, stack: Stack) -> tuple[Line | None, tuple[Line, ...]]:
        """Give the user's line of an equation, and the user's lines that called it, from the inside out.

        Where no call on the stack is the user's, the line is the innermost one of a library, and no callers are given.

        Args:
            stack: of the equations around, the outermost first, and of the equation itself.
        """
        if (told := self._told.get(stack)) is None:
            told = self._told[stack] = self._tell(stack)
        return told

    def _tell(self, stack: Stack) -> tuple[Line | None, tuple[Line, ...]]:
        found: list[Line] = []
        for frame in reversed(stack):
            if self._is_users(frame.code):
                line = self.line(frame)
                if not found or (line.file, line.number) != (found[-1].file, found[-1].number):
                    found.append(line)
        if found:
            return found[0], tuple(found[1:])
        return (self.line(stack[-1]), ()) if stack else (None, ())

    def line(self, frame: Frame) -> Line:
        """Give the line at which a call stood."""
        if (line := self._lines.get(frame)) is None:
            code, number = frame.code, self._number(*frame)
            text = linecache.getline(code.co_filename, number).strip()
            line = Line(code.co_filename, number, code.co_qualname.rpartition("<locals>.")[2], text)
            self._lines[frame] = line
        return line

    def _is_users(self, code: CodeType) -> bool:
        if (found := self._users.get(code)) is None:
            found = self._users[code] = is_users(code.co_filename)
        return found
