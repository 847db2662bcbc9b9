"""How far an experiment is: a bar on standard error, or a function of the user."""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from hdjax import hosts

# Seconds between two reports of a chunk that is running.
_REPORT = 1.0


class Progress:
    """The steps and runs that are done, of all that there are.

    Of several processes, the first one alone shows them.

    Args:
        show: True: a bar, if standard error is a terminal; False: nothing; or a function, which is
            called with a dictionary after each chunk, and about once a second in between: "done"
            and "remaining" runs, "steps" that are done and "steps_remaining", "steps_per_second",
            "runs_per_second" and "seconds_left", which are null until they can be estimated.
        steps: number of steps of all runs together.
        runs: number of runs, at all points together.

    Example:
        >>> progress = Progress(lambda report: print(report["done"], report["remaining"]), 10, 5)
        >>> progress.advance(4)
        >>> progress.finish(2)
        2 3
    """

    def __init__(self, show: bool | Callable[[dict[str, Any]], Any], steps: int, runs: int):
        show = show if hosts.is_first() else False
        self._report = None if isinstance(show, bool) else show
        self._totals, self._done = (steps, runs), [0, 0]
        self._computed, self._begin = [0, 0], time.monotonic()
        # The steps of the chunk that is running.
        self._last, self._running = self._begin, 0
        hidden = None if show is True and steps else True
        self._bar = tqdm(
            total=steps, unit="step", unit_scale=True, disable=hidden, leave=False, file=sys.stderr
        )

    def advance(self, steps: int, computed: bool = True) -> None:
        """Count steps; those that a checkpoint held do not count for the speed."""
        self._count(0, steps, computed)
        self._running += steps
        self._bar.update(steps)
        if time.monotonic() - self._last > _REPORT:
            self._tell()

    def finish(self, runs: int, computed: bool = True) -> None:
        """Count the runs of a finished chunk."""
        self._count(1, runs, computed)
        self._running = 0
        self._tell()

    def take_back(self) -> None:
        """Take back the steps of the chunk that is running, because they are made again."""
        self.advance(-self._running, computed=False)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _count(self, which: int, number: int, computed: bool) -> None:
        self._done[which] += number
        self._computed[which] += number * computed

    def _tell(self) -> None:
        self._last = time.monotonic()
        if self._report is None:
            return
        seconds = max(self._last - self._begin, 1e-9)
        speed, runs_speed = (number / seconds or None for number in self._computed)
        left = self._totals[0] - self._done[0]
        self._report(
            {
                "done": self._done[1],
                "remaining": self._totals[1] - self._done[1],
                "steps": self._done[0],
                "steps_remaining": left,
                "steps_per_second": speed,
                "runs_per_second": runs_speed,
                "seconds_left": left / speed if speed else None,
            }
        )
