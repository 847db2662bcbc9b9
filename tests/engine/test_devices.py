"""Several devices, imitated on the host: the same runs, spread over them."""

import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import sys
import jax
import numpy as np
import hdjax as hd

jax.config.update("jax_enable_x64", True)
system = hd.streaming.OnePassSGD(
    hd.streaming.losses.LeastSquares(sigma=0.5),
    hd.spectra.power_law(40, 0.3),
    0.7,
    hd.streaming.GaussianStart(),
    hd.streaming.GaussianStart(),
)
jax.config.update("jax_disable_most_optimizations", True)
result = hd.compare(
    system,
    [0.0, 1.0],
    key=jax.random.key(3),
    runs=6,
    start="realised",
    statistics=["risk"],
    fluctuations=False,
)
np.savez(sys.argv[1], devices=len(jax.devices()), risk=result.runs["risk"].values,
         std=result.std["risk"].values, limit=result.limit["risk"].values)
"""


def run(path, devices):
    flag = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, env=environment)
    return np.load(path)


@pytest.mark.slow
def test_runs_are_spread_over_devices(tmp_path):
    # Six runs on four devices: the chunk is padded to eight, and the padding is not counted.
    one, four = run(tmp_path / "one.npz", 1), run(tmp_path / "four.npz", 4)
    assert int(four["devices"]) == 4
    assert four["risk"].shape == (6, 2)
    np.testing.assert_allclose(four["risk"], one["risk"], rtol=2e-5)
    np.testing.assert_allclose(four["std"], one["std"], rtol=1e-4)
    np.testing.assert_allclose(four["limit"], one["limit"], rtol=1e-6)
