"""Result codes: how a run or a limit ended, as data that a program carries.

Inside a jitted program nothing can be raised: a run, a limit and a point of a sweep carry a code,
and the nominal time from which on it holds (the group `codes` of a result).  Where a single limit
is asked for, the engine turns its code into an exception with the advice below.
"""

import enum


class Code(enum.IntEnum):
    """How a run or a limit ended."""

    NOT_RUN = -1
    FINE = 0
    DIVERGED = 1
    STEPS_EXHAUSTED = 2
    STEP_TOO_SMALL = 3
    NO_ROOT = 4
    NOT_FINITE = 5

    @property
    def advice(self) -> str:
        """What happened, and what to try.

        Example:
            >>> Code.STEPS_EXHAUSTED.advice
            'its solver took max_steps steps; try a larger max_steps, or looser tolerances'
        """
        return _ADVICE[self]

    @property
    def words(self) -> str:
        """The code as a reader knows it.

        Example:
            >>> Code.STEP_TOO_SMALL.words
            'step too small'
        """
        return self.name.lower().replace("_", " ")


_ADVICE = {
    Code.NOT_RUN: "it was not run; the sweep was interrupted before",
    Code.FINE: "it is fine",
    Code.DIVERGED: "it diverges; try a smaller learning rate (is it above stability?)",
    Code.STEPS_EXHAUSTED: (
        "its solver took max_steps steps; try a larger max_steps, or looser tolerances"
    ),
    Code.STEP_TOO_SMALL: (
        "its solver's steps fell to the rounding of t; try a solver for stiff equations, or, if "
        "it grows, a smaller learning rate"
    ),
    Code.NO_ROOT: "its implicit solver found no root; try smaller steps, or an explicit solver",
    Code.NOT_FINITE: "a statistic of it is not finite; its own records say where",
}
