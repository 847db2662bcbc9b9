"""Learning rates as functions of time, gamma(t), in the time t of a family (t = k/d for streaming).

A schedule is a module whose numbers are array leaves, so that schedules of one kind stack, and a
sweep over their numbers compiles once.  The numbers of a Python closure (a lambda, an Optax
schedule) are constants of the traced program: a closure works, but each new closure is traced
again, and systems with different closures cannot be stacked.  Prefer the modules below, `Table` for
tabulated rates, or a module-level function with its numbers as arguments,
`jax.tree_util.Partial(rate, jnp.array(0.3))`.
"""

from hdjax.schedules.base import Constant, Schedule, ScheduleLike
from hdjax.schedules.functions import FunctionOfStep, FunctionOfTime, as_schedule, from_optax
from hdjax.schedules.shapes import (
    Cosine,
    Joined,
    PiecewiseConstant,
    PowerDecay,
    Table,
    Warmup,
)

__all__ = [
    "Constant",
    "Cosine",
    "FunctionOfStep",
    "FunctionOfTime",
    "Joined",
    "PiecewiseConstant",
    "PowerDecay",
    "Schedule",
    "ScheduleLike",
    "Table",
    "Warmup",
    "as_schedule",
    "from_optax",
]
