"""The loop over chunks: the same numbers in any chunks and on any devices, and interrupts."""

import os
import subprocess
import sys

import numpy as np
import pytest

import hdjax as hd
from hdjax.engine import collected, drive
from hdjax.engine.progress import Progress
from tests.engine.problems import TIMES, compare, least_squares


@pytest.mark.slow
@pytest.mark.parametrize("start", ["law", "realised"])
def test_chunks_draw_the_same_numbers(key, start):
    options = {"key": key, "runs": 7, "start": start, "statistics": ["risk"]}
    options["fluctuations"] = False
    whole = compare(least_squares(), TIMES, **options)
    chunked = compare(least_squares(), TIMES, **options, chunk=3)
    again = compare(least_squares(), TIMES, **options, chunk=3)
    np.testing.assert_allclose(whole.runs["risk"], chunked.runs["risk"], rtol=2e-5)
    np.testing.assert_allclose(whole.std["risk"], chunked.std["risk"], rtol=1e-4)
    np.testing.assert_array_equal(chunked.runs["risk"], again.runs["risk"])
    np.testing.assert_array_equal(chunked.std["risk"], again.std["risk"])


@pytest.mark.slow
def test_summary_streams_moments(key):
    """More runs than are kept: moments cover all of them, quantiles the first 1024."""
    system, ts = least_squares(d=8), [0.0, 1.0]
    full = compare(system, ts, key=key, runs=1500, statistics=["risk"])
    streamed = compare(system, ts, key=key, runs=1500, statistics=["risk"], keep="summary")
    assert streamed.runs.sizes["run"] == 1024
    assert "1024" in streamed.tree.attrs["note"]
    assert streamed.tree.attrs["runs"] == 1500
    np.testing.assert_allclose(streamed.mean["risk"], full.mean["risk"], rtol=1e-12)
    np.testing.assert_allclose(streamed.std["risk"], full.std["risk"], rtol=1e-12)
    error = full.sup_error["risk"].values
    np.testing.assert_allclose(streamed.sup_error_mean["risk"], error.mean(), rtol=1e-10)
    np.testing.assert_allclose(streamed.sup_error_std["risk"], error.std(ddof=1), rtol=1e-10)


class Mortal(hd.streaming.OnePassSGD):
    """SGD whose runs end where the squared norm of the student is above 1."""

    def alive(self, summary):
        return summary.overlaps[0, 0] <= 1


def test_mixed_divergence_keeps_the_good_runs_in_the_moments(key):
    system = Mortal(
        hd.streaming.losses.LeastSquares(),
        hd.spectra.power_law(40, exponent=0.3),
        0.7,
        hd.streaming.GaussianStart(),
        hd.streaming.GaussianStart(),
    )
    result = hd.simulate(system, [0.0], key=key, runs=40)
    bad = np.isfinite(result.codes["since"].values)
    whole = hd.simulate(least_squares(sigma=0.0), [0.0], key=key, runs=40)
    np.testing.assert_array_equal(bad, whole.runs["overlaps"].values[:, 0, 0, 0] > 1)
    assert 0 < bad.sum() < 40
    assert int(result.codes["alive"][0]) == int(result.count["risk"][0]) == 40 - bad.sum()
    np.testing.assert_allclose(result.mean["risk"][0], whole.runs["risk"].values[~bad, 0].mean())


def test_an_interrupt_while_a_chunk_is_added_leaves_it_out(key, monkeypatch):
    merge, calls = collected.merge, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return merge(*arguments)

    monkeypatch.setattr(collected, "merge", interrupted)
    options = {"key": key, "runs": 6, "chunk": 2, "statistics": ["risk"]}
    result = hd.simulate(least_squares(), [0.0, 1.0], **options)
    assert (result.tree.attrs["runs"], result.tree.attrs["interrupted"]) == (4, 1)
    np.testing.assert_array_equal(result.codes["alive"], 4)
    np.testing.assert_allclose(result.mean["risk"], result.runs["risk"].mean("run"))
    assert result.runs.sizes["run"] == 4


def test_curves_that_the_host_cannot_keep_are_refused(key):
    with pytest.raises(ValueError, match=r"runs: the curves of 10{9} at 1000 times need .*summary"):
        hd.simulate(least_squares(), np.arange(1000.0), key=key, runs=10**9)


def test_segments_stay_finite_however_many_chunks_are_fast(key):
    """10^6 short runs are thousands of chunks, each of which asks for a longer segment."""
    system = least_squares()
    plan = hd.make_plan(system, [0.0, 1.0], start=None)
    experiment = drive.Experiment([system], [plan], key, 1)
    with drive.prepared(experiment, progress=Progress(False, 1, 1)) as loop:
        for _ in range(2000):
            loop._pace(1e-6)
        assert loop.stride == len(loop.records)
        loop._pace(1e6)
        assert loop.stride == 1


def test_a_run_that_does_not_fit(key):
    """d = 10^12 is fine for the limit, and refused by a method that holds every coordinate."""
    law = hd.streaming.GaussianStart()
    loss, spectrum = hd.streaming.losses.LeastSquares(), hd.spectra.identity(10**12)
    system = hd.streaming.OnePassSGD(loss, spectrum, 0.5, law, law)
    with pytest.raises(ValueError, match=r"needs .* GiB for a run"):
        hd.simulate(system, [1e-11], key=key, runs=1)


SCRIPT = """
import sys
import jax
import numpy as np
import hdjax as hd
from hdjax.engine import devices

devices._SPREAD = 0
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
