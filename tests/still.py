"""A simulator that draws a start and keeps it: the engine's part of a test alone."""

import hdjax as hd
from hdjax.clocks import Steps


class Still(hd.Simulator):
    """A state that rests (abstract); a subclass draws it."""

    @property
    def clock(self):
        return Steps(1)

    def advance(self, state, k0, k1, key):
        return state

    def summary(self, state):
        return state
