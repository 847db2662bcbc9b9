"""The size of chunks, and the stops of long runs."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.engine.chunks import ChunkSize, chunk_size, fitted, make_stops
from hdjax.engine.runs import shapes
from tests.engine.problems import least_squares


def size(runs, points=1, chunk=None, keep="runs"):
    system = least_squares()
    plan = hd.make_plan(system, [0.0, 1.0], start=None)
    one = shapes(system, plan, jax.random.key(0))
    return chunk_size(plan, one, runs=runs, points=points, chunk=chunk, keep=keep)


def test_chunks_have_equal_sizes_and_cover_all_runs():
    assert size(1) == ChunkSize(1, 1)
    for runs in (7, 1024, 1025, 5000):
        width = size(runs, keep="summary").runs
        assert width <= 1024
        assert -(-runs // width) * width - runs < -(-runs // width)


def test_small_chunks_hold_several_points():
    assert size(8, points=5) == ChunkSize(8, 5)
    assert size(512, points=5) == ChunkSize(512, 2)
    assert size(8, points=5, chunk=3) == ChunkSize(3, 5)


def test_a_chunk_fits_what_its_program_takes():
    """A quarter of the memory is for a chunk, and a guess within a factor of two stays."""
    for need, width in ((100, 64), (60, 64), (50, 125), (1, 1000), (200, 32), (10**6, 1), (0, 64)):
        found = fitted(ChunkSize(64, 1), need=need, memory=400, runs=1000)
        assert found == ChunkSize(width, 1), need
    assert fitted(ChunkSize(64, 4), need=1, memory=400, runs=1000) == ChunkSize(250, 4)


@pytest.mark.parametrize("ticks", [[[0, 10]], [[0, 10**9]], [[3, 50_000, 10**7], [3, 4, 5]]])
def test_stops_contain_the_records_and_are_close(ticks):
    ticks = np.array(ticks)
    stops, records = make_stops(ticks)
    assert stops.shape == (len(ticks), len(records))
    np.testing.assert_array_equal(stops[:, records >= 0], ticks)
    np.testing.assert_array_equal(records[records >= 0], np.arange(ticks.shape[1]))
    gaps = np.diff(stops, axis=1)
    assert gaps.min() >= 0
    assert np.all(gaps <= np.maximum(4096, ticks[:, -1:] // 256))
    assert len(records) <= ticks.shape[1] + 256
