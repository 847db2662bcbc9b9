"""The engine: many runs, their limit and the comparison, for any `System`.

`ensemble.py` is the pure jitted program, `drive.py` the host loop round it, `compare.py`,
`scaling.py` and `sweep.py` what a user calls, `result.py` what they return.
"""

from hdjax.engine import paths
from hdjax.engine.compare import compare, limit, make_plan, simulate
from hdjax.engine.ensemble import Plan, ensemble
from hdjax.engine.result import QUANTILES, Result, load
from hdjax.engine.scaling import fit_exponent, scaling
from hdjax.engine.sweep import sweep

__all__ = [
    "QUANTILES",
    "Plan",
    "Result",
    "compare",
    "ensemble",
    "fit_exponent",
    "limit",
    "load",
    "make_plan",
    "paths",
    "scaling",
    "simulate",
    "sweep",
]
