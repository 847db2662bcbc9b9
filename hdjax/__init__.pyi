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
from .codes import Code
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
from .integrate import Integrator
from .limits import Limit
from .system import (
    Method,
    NoFluctuationsError,
    NoLimitError,
    PlainSystem,
    Simulator,
    System,
    WithoutFluctuations,
    WithoutLimit,
)

__all__ = [
    "Code",
    "Integrator",
    "Limit",
    "Method",
    "NoFluctuationsError",
    "NoLimitError",
    "PlainSystem",
    "Plan",
    "Result",
    "Simulator",
    "System",
    "WithoutFluctuations",
    "WithoutLimit",
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
