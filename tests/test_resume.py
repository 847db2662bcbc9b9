"""Real processes that are killed at random moments, and end with the numbers of an undisturbed one.

The moments fall into the import, the compilation, the simulation and the writing of files.
"""

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from hdjax import store

CONFIGS = {
    "streaming": """
family = "streaming"
[system]
dimension = 400
loss = { kind = "least_squares", sigma = 0.5 }
learning_rate = 0.3
target = {}
[run]
times = [0.0, 1.0, 40.0]
runs = 96
chunk = 8
statistics = ["risk"]
fluctuations = false
""",
    "landscapes": """
family = "landscapes"
[system]
dimension = 200
kernel = { kind = "spin_glass", coefficients = [0.0, 0.5, 0.2] }
algorithm = { kind = "gradient_descent", rate = 0.2 }
mean = [0.0, 1.5]
[run]
times = [0, 1, 2, 5]
runs = 1200
chunk = 100
statistics = ["value", "gradient_norm"]
[sweep]
"system.algorithm.rate" = [0.1, 0.2]
""",
    "multipass": """
family = "multipass"
[system]
dimension = 100
problem = { kind = "gaussian", ratio = 0.5, noise = 0.5 }
learning_rate = 0.8
[run]
times = [0.0, 1.0, 40.0]
runs = 96
chunk = 8
statistics = ["loss"]
[scaling]
dims = [60, 120]
""",
}
KILLS = 7


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_numbers(family, tmp_path):
    config = tmp_path / f"{family}.toml"
    config.write_text(CONFIGS[family])
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    # JAX has set it in this process, to a value at which XLA warns of what it finds on disk.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)

    def begin(*words):
        command = [sys.executable, "-m", "hdjax", *words, "--checkpoint-every", "0.2"]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ended(process):
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")

    whole, out = tmp_path / "whole", tmp_path / "out"
    ended(begin("run", str(config), "--out", str(whole)))
    # Programs are on disk from here on.
    seconds = time.monotonic()
    ended(begin("run", str(config), "--out", str(whole), "--force"))
    seconds = time.monotonic() - seconds

    moments = random.Random(family)
    run = ["run", str(config), "--out", str(out)]
    for _ in range(KILLS):
        process = begin(*run)
        try:
            process.communicate(timeout=moments.uniform(0.1, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    begun = list(out.glob("**/run.json"))
    resume = ["resume", str(out)] if begun else run
    ended(begin(*resume))

    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )
    found, expected = store.load_result(out), store.load_result(whole)
    for node in expected.subtree:
        for name, variable in node.data_vars.items():
            np.testing.assert_array_equal(found[node.path][name], variable, err_msg=str(name))
