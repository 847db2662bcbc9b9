"""Every kind of simulation is lowered for NVIDIA GPUs and for TPUs, on a machine that has neither.

An operation that such a device lacks (eigenvalues of a matrix that is not symmetric, say) is
refused when its program is lowered.  Nothing is compiled or run here.
"""

import os
import subprocess
import sys

import pytest

# One case of `tests.test_streams` for each method of each family.
CASES = [
    "one pass, mixture",
    "gram, mixture",
    "homogenised",
    "corrected",
    "rows",
    "alignment, training",
    "projected",
    "multi pass, reshuffling",
    "multi pass, homogenised",
    "momentum",
    "previsible",
    "spin glass",
    "features",
    "ambient",
    "function",
    "observation",
    "flow",
    "flow, reduced",
    "flow, anisotropic",
    "saddles",
    "descent",
    "finite samples",
    "Stiefel",
    "training",
    "layers",
]

SCRIPT = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import hdjax as hd
from tests.test_streams import CASES, clock

for name in sys.argv[1:]:
    system, method = CASES[name][0]()
    plan = hd.make_plan(system, clock(system, method), method=method, start=None)
    program = jax.jit(lambda key, ids: hd.ensemble(system, plan, key, ids))
    lowered = jax.export.export(program, platforms=("cuda", "tpu"))
    assert lowered(jax.random.key(0), jnp.arange(2)).platforms == ("cuda", "tpu")
"""


@pytest.mark.slow
def test_every_simulation_is_lowered_for_accelerators():
    # A solver's error becomes NaN, as in the command line: a call back to Python is not exported.
    environment = {**os.environ, "EQX_ON_ERROR": "nan"}
    command = [sys.executable, "-c", SCRIPT, *CASES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
