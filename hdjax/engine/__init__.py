"""The engine: runs of any `System`, its limit, and their comparison.

`compare.py`, `scaling.py` and `sweep.py` have the functions that a user calls, and `result.py` the
`Result` that they return.  `ensemble.py` is the pure program on which they stand, and `drive.py`
the loop on the host that runs it chunk by chunk, with `checkpoint.py` to keep what is finished.
"""

from hdjax.engine import paths
from hdjax.engine.checkpoint import Checkpoint
from hdjax.engine.compare import compare, limit, make_plan, simulate
from hdjax.engine.ensemble import ensemble
from hdjax.engine.plan import Plan
from hdjax.engine.result import QUANTILES, Result, load
from hdjax.engine.scaling import fit_exponent, scaling
from hdjax.engine.sweep import sweep

__all__ = [
    "QUANTILES",
    "Checkpoint",
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
