"""Signals that ask the command to end, each with its own exit code.

Ctrl-C gives 130.  What schedulers and terminals send before they kill (SIGTERM, SIGUSR1, SIGHUP,
SIGXCPU) gives 75, which BSD's sysexits.h calls EX_TEMPFAIL: the same command may be tried again.
A signal that the process was started to ignore (`nohup`) stays ignored.

The package imports this module first: its other imports take seconds, in which a signal may come.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

INTERRUPTED, STOPPED = 130, 75
_NAMES = {
    "SIGINT": INTERRUPTED,
    "SIGTERM": STOPPED,
    "SIGUSR1": STOPPED,
    "SIGHUP": STOPPED,
    "SIGXCPU": STOPPED,
}
# Not every system has all of them.
CODES = {getattr(signal, name): code for name, code in _NAMES.items() if hasattr(signal, name)}


class Signals:
    """While its block runs, a signal raises KeyboardInterrupt where the main thread is.

    The first signal decides the exit code.  Within `held` it raises nothing, so that what was
    computed can be written; a second one raises even there.

    Attributes:
        received: the signals that came, in order.

    Example:
        >>> with Signals() as signals:
        ...     try:
        ...         signal.raise_signal(signal.SIGTERM)
        ...     except KeyboardInterrupt:
        ...         print(signals.exit_code)
        75
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._held = False
        self._before: dict[int, Any] = {}

    @property
    def exit_code(self) -> int:
        """The code of the first signal; that of Ctrl-C if none came."""
        return CODES[self.received[0]] if self.received else INTERRUPTED

    def __enter__(self) -> "Signals":
        self._before = _install(self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within this block a first signal is only noted."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) > 1 or not self._held:
            raise KeyboardInterrupt


def end_the_command() -> None:
    """In the process of the command, let a signal end it at once: there is nothing to lose yet."""
    if _is_the_command():
        _install(_leave)


def _is_the_command() -> bool:
    """`hdjax ...`, or `python -m hdjax ...`, whose first word is "-m" while the package loads."""
    if sys.argv[:1] == ["-m"]:
        return ("-m", "hdjax") in itertools.pairwise(sys.orig_argv)
    return os.path.basename(sys.argv[0] if sys.argv else "") in ("hdjax", "hdjax.exe")


def _leave(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted: nothing was finished\n")
    os._exit(CODES[number])


def _install(handler: Any) -> dict[int, Any]:
    """Set the handler of every signal that is not ignored; returns those before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in CODES}
    # None: not set from Python, which could not set it back.
    before = {n: old for n, old in before.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before
