"""Ending well when somebody asks for it: Ctrl-C, and SIGTERM, which a machine gets before it is taken away."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from jaxprop.train.together import any_process

HEARD = (signal.SIGINT, signal.SIGTERM)


class Asked(KeyboardInterrupt):
    """A signal asked for the end, and training stands where nothing is half done."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Stopping:
    """Hear Ctrl-C and SIGTERM within `with`, and end training at the next place where nothing is half done.

    From the first signal on, the earlier handlers are back: a second one ends at once, as it would without this. A
    signal that is ignored stays so. Python runs handlers in its main thread, so in another nothing is heard.

    >>> earlier = signal.getsignal(signal.SIGTERM)
    >>> try:
    ...     with Stopping() as stopping:
    ...         signal.raise_signal(signal.SIGTERM)
    ...         stopping.here()
    ... except KeyboardInterrupt as asked:
    ...     print(asked.number == signal.SIGTERM, signal.getsignal(signal.SIGTERM) == earlier)
    True True
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.told = False
        self._earlier: dict[int, Callable[[int, FrameType | None], Any] | int] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in HEARD:
                earlier = signal.getsignal(number)
                if earlier not in (None, signal.SIG_IGN):  # None: a handler that Python cannot put back
                    self._earlier[number] = earlier  # pyright: ignore[reportArgumentType]
                    signal.signal(number, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        if self.number is not None and not self.told:  # it came when training was over: it is for what comes now
            signal.raise_signal(self.number)

    def here(self) -> None:
        """Raise `Asked` if a signal has come, to this process or to another of the run: nothing is half done here."""
        if any_process(self.number is not None):
            self.told = True
            raise Asked(signal.SIGTERM if self.number is None else self.number)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._give_back()

    def _give_back(self) -> None:
        while self._earlier:
            signal.signal(*self._earlier.popitem())
