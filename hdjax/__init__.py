"""hdjax: does a high-dimensional algorithm do what its deterministic equivalent says?

It runs many random trajectories of an algorithm at dimension d side by side, integrates the limit
d -> infinity on the same device, and compares the two in one jitted program.
"""

# ruff: noqa: E402  (what ends the command comes before imports that take seconds)
from hdjax.signals import end_the_command

end_the_command()

# isort: split

from hdjax import (
    curvature,
    datasets,
    gaussian,
    landscapes,
    multiindex,
    multipass,
    networks,
    random,
    schedules,
    spectra,
    streaming,
)
from hdjax.engine import (
    Plan,
    Result,
    compare,
    ensemble,
    limit,
    load,
    make_plan,
    paths,
    scaling,
    simulate,
    sweep,
)
from hdjax.system import NoFluctuationsError, NoLimitError, Simulator, System

__all__ = [
    "NoFluctuationsError",
    "NoLimitError",
    "Plan",
    "Result",
    "Simulator",
    "System",
    "compare",
    "curvature",
    "datasets",
    "ensemble",
    "gaussian",
    "landscapes",
    "limit",
    "load",
    "make_plan",
    "multiindex",
    "multipass",
    "networks",
    "paths",
    "random",
    "scaling",
    "schedules",
    "simulate",
    "spectra",
    "streaming",
    "sweep",
]
