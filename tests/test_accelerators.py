"""Every simulation and every limit is lowered for NVIDIA GPUs and for TPUs, without such a machine.

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


# One case for each family, with the spreads that its theory predicts.
THEORIES = [
    "one pass",
    "alignment",
    "multi pass",
    "momentum",
    "previsible",
    "flow",
    "finite samples",
    "Stiefel",
]

THEORY = """
import sys
import jax
import hdjax as hd
from hdjax.engine.ensemble import predict
from tests.test_streams import CASES

for wide in (False, True):
    jax.config.update("jax_enable_x64", wide)
    for name in sys.argv[1:]:
        system, _ = CASES[name][0]()
        plan = hd.make_plan(system, [0.0, 1.0, 2.0], runs=False, fluctuations=None)
        program = jax.jit(lambda: predict(system, plan))
        lowered = jax.export.export(program, platforms=("cuda", "tpu"))().mlir_module()
        assert ("f64" in lowered) == wide, name
"""


@pytest.mark.slow
def test_every_simulation_is_lowered_for_accelerators():
    run(SCRIPT, *CASES)


@pytest.mark.slow
def test_every_theory_is_lowered_for_accelerators():
    """In both precisions; where JAX has float32 alone, nothing is in float64, which TPUs lack."""
    run(THEORY, *THEORIES)


def run(script, *words):
    # A solver's error becomes NaN, as in the command line: a call back to Python is not exported.
    environment = {**os.environ, "EQX_ON_ERROR": "nan"}
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
