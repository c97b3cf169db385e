"""`save`: a picture as a file, PNG, SVG, PDF, or a GIF of a film."""

import io
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxprop.errors import JaxpropError, pick
from jaxprop.style import pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GIF = ".gif"
_FORMATS = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@dataclass(frozen=True)
class Film:
    """Frames that are drawn one after the other on one figure, by calling them; each stands for `seconds`.

    >>> from matplotlib.figure import Figure
    >>> Film(Figure(), ()).seconds
    2.5
    """

    figure: "Figure"
    frames: "tuple[Callable[[], None], ...]"
    seconds: float = 2.5


def save(
    picture: "Axes | Figure | Film | Sequence[Axes] | np.ndarray",
    path: str | Path,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the figure of `picture` (axes, several axes, or a figure) as PNG, SVG or PDF, by suffix; return the path.

    A film is written as a GIF, and `progress(frame, frames)` is called after each of its frames. A picture drawn anew
    gives the same bytes. Raises JaxpropError for another suffix, and for a folder that is missing or cannot be written.

    >>> import tempfile
    >>> from jaxprop import Sigmoid, plot
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(plot.activation(Sigmoid()), Path(folder, "sigmoid.svg")).suffix
    '.svg'
    """
    pyplot()
    path = Path(path)
    known = (_GIF,) if isinstance(picture, Film) else tuple(_FORMATS)
    if path.suffix.lower() == _GIF and _GIF not in known:
        raise JaxpropError(f"{path}: a GIF moves, and this picture does not: write {path.with_suffix('.png')}")
    suffix = pick(path.suffix.lower(), known, "picture suffix (path must end in one of these)")
    if path.is_dir():
        raise JaxpropError(f"{path} is a folder; expected a file name such as {path / 'picture.png'}")
    if not path.parent.is_dir():
        raise JaxpropError(f"{path}: there is no folder {path.parent}; make it first: mkdir -p {path.parent}")
    written = _film(picture, progress) if isinstance(picture, Film) else _still(picture, suffix)
    try:
        path.write_bytes(written)
    except OSError as error:
        raise JaxpropError(
            f"{path}: cannot be written ({os.strerror(error.errno or 0)}); choose another folder, or give yourself "
            f"the right to write: ls -ld {path.parent}"
        ) from error
    return path


def _still(picture: Any, suffix: str) -> bytes:
    import matplotlib

    figure: Any = picture if hasattr(picture, "savefig") else np.asarray(picture, dtype=object).flat[0].figure
    written = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "jaxprop"}):
        figure.draw_without_rendering()  # the layout settles in the second drawing
        figure.savefig(written, format=suffix[1:], dpi=160, metadata=_FORMATS[suffix])
    return written.getvalue()


def _film(film: Film, progress: Callable[[int, int], None] | None) -> bytes:
    from matplotlib.animation import PillowWriter

    writer = PillowWriter(fps=1 / film.seconds)  # pyright: ignore[reportArgumentType]
    film.frames[-1]()
    film.figure.draw_without_rendering()  # the layout of one frame is that of all: nothing jumps
    film.figure.set_layout_engine("none")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "film.gif")
        with writer.saving(film.figure, file, dpi=110):  # pyright: ignore[reportArgumentType]
            for i, draw in enumerate(film.frames):
                draw()
                writer.grab_frame()
                if progress is not None:
                    progress(i + 1, len(film.frames))
        return file.read_bytes()
