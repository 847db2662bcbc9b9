"""Result codes: integers that say how a run or a limit ended.

A jitted program cannot raise an exception.  Each run and each limit therefore carries a code, and
the nominal time from which on the code holds (the group `codes` of a result, also in a sweep).
`hdjax.limit`, which computes a single limit, turns a bad code into an exception with the advice
below.
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
        """What happened to the run or limit, and what to try, as the end of a message.

        Example:
            >>> Code.STEPS_EXHAUSTED.advice
            'its solver took max_steps steps; try a larger max_steps, or looser tolerances'
        """
        return _ADVICE[self]

    @property
    def words(self) -> str:
        """The name of the code in lower case and with spaces, for figures and pages.

        Example:
            >>> Code.STEP_TOO_SMALL.words
            'step too small'
        """
        return self.name.lower().replace("_", " ")


_ADVICE = {
    Code.NOT_RUN: "it was not run; the sweep was interrupted before, or its program failed",
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
