"""Signals that ask the command line to end, and the exit code of each.

Ctrl-C (SIGINT) gives the exit code 130.  The signals that schedulers and terminals send before they
kill a process (SIGTERM, SIGUSR1, SIGHUP, SIGXCPU) give 75, which BSD's sysexits.h calls
EX_TEMPFAIL: the same command may be tried again.  A signal that the process was started to ignore
(by `nohup`, say) stays ignored.

The module imports nothing that takes long, because a signal may come while the package is imported.
"""

import contextlib
import os
import signal
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
# Not every operating system has all of these signals.
CODES = {getattr(signal, name): code for name, code in _NAMES.items() if hasattr(signal, name)}


class Signals:
    """A context in which a signal raises KeyboardInterrupt in the main thread.

    The first signal decides the exit code.  Within the block of `held` the first signal raises
    nothing, so that a result can be written; a second signal raises KeyboardInterrupt even there.

    Attributes:
        received: the numbers of the signals that were received, in order.

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
        """The exit code of the first signal, or that of Ctrl-C if no signal came."""
        return CODES[self.received[0]] if self.received else INTERRUPTED

    def __enter__(self) -> "Signals":
        self._before = _install(self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A block in which a first signal is recorded but raises nothing."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        if len(self.received) > 1 or not self._held:
            raise KeyboardInterrupt


def end_at_once() -> None:
    """From this call on, a signal prints a line on standard error and ends the process."""
    _install(_leave)


def _leave(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted: nothing was finished\n")
    os._exit(CODES[number])


def _install(handler: Any) -> dict[int, Any]:
    """Set the handler of every signal that is not ignored, and return the former handlers."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in CODES}
    # A handler that was not set from Python is None, and could not be restored.
    before = {n: old for n, old in before.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before
