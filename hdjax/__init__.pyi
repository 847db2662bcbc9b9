# What `hd.` offers. `__init__.py` imports each of these names when it is first used.
from . import (
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
from .engine import (
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
from .system import NoFluctuationsError, NoLimitError, Simulator, System

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

__version__: str
