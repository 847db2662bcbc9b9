"""Chunks: how runs and points are shared out, and that the cores in use do not change a bit."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.engine import drive


@pytest.mark.parametrize("runs", [1, 3, 7, 8, 64, 1000])
@pytest.mark.parametrize("points", [1, 2, 5, 13])
@pytest.mark.parametrize("lanes", [1, 10, 5000])
@pytest.mark.parametrize("cores", [1, 2, 8])
def test_chunks_are_enough_and_fit(runs, points, lanes, cores):
    width, height = drive._split(runs, points, lanes, cores)
    across, down = -(-runs // width), -(-points // height)
    # Every run of every point is in a chunk, and no chunk is empty.
    assert (across - 1) * width < runs <= across * width
    assert (down - 1) * height < points <= down * height
    # All cores' chunks together fit, unless a single run does not.
    assert width * height * cores <= lanes or width * height == 1 or lanes < cores
    # As many chunks as cores, where there are enough runs or points; points that do not divide
    # evenly may leave half of the cores out.
    possible = max(1, min(cores, runs // 4)) * points
    assert across * down >= min(cores, possible) * (0.5 if points > 1 else 1)


def system(rate):
    return hd.streaming.OnePassSGD(
        hd.streaming.least_squares,
        hd.spectra.identity(16),
        rate,
        hd.streaming.GaussianStart(),
        hd.streaming.GaussianStart(),
    )


@pytest.mark.slow
def test_the_cores_in_use_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(drive, "cores", lambda: 3)
    options = {"key": jax.random.key(0), "runs": 14, "statistics": ["risk"]}
    results = []
    for cores in ("1", "3"):
        monkeypatch.setenv("HDJAX_CORES", cores)
        assert drive.side_by_side() == int(cores)
        results.append(hd.sweep(system, {"rate": [0.2, 0.5]}, [0.0, 1.0], **options).data)
    alone, together = results
    for name in alone.data_vars:
        np.testing.assert_array_equal(alone[name], together[name])
    assert alone.sizes["run"] == 14
    assert not np.array_equal(alone["risk"].isel(run=0), alone["risk"].isel(run=13))


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "two", ""])
def test_a_wrong_number_of_cores_is_refused(monkeypatch, value):
    monkeypatch.setenv("HDJAX_CORES", value)
    with pytest.raises(ValueError, match=r"HDJAX_CORES: .*; allowed: a positive integer"):
        drive.side_by_side()
