"""Chunks joined to rows, and rows to what an experiment returns."""

import jax
import numpy as np

from hdjax.engine.collected import KEPT_RUNS, Chunk, Piece, Row, collect
from hdjax.engine.ensemble import Curves, Theory
from hdjax.engine.moments import moments_of


def chunk(values):
    """Runs (points, runs, times) of one statistic."""
    shape = values.shape[:2]
    runs = Curves(
        {"a": values}, {}, np.ones(values.shape, bool), np.zeros(shape, np.int32), np.zeros(shape)
    )
    return Chunk(Piece(runs, None, {}, {"p": 2 * values}), moments_of(runs, {}))


def theory(points):
    return Theory(None, None, {"a": np.ones((points, 4))})


def test_chunks_of_a_row_are_joined_in_order():
    values = np.random.default_rng(0).normal(size=(2, 5, 4))
    row = Row(theory(2), "runs").add(chunk(values[:, :3]), 3).add(chunk(values[:, 3:]), 2)
    assert (row.points, row.runs, row.kept_runs) == (2, 5, 5)
    found = row.join()
    np.testing.assert_array_equal(found.runs["a"], values)
    np.testing.assert_array_equal(found.probes["p"], 2 * values)
    np.testing.assert_allclose(row.streamed.values["a"].mean, values.mean(1), rtol=1e-14)


def test_a_summary_keeps_some_runs_and_the_moments_of_all():
    values = np.random.default_rng(0).normal(size=(1, KEPT_RUNS - 1, 4))
    row = Row(theory(1), "summary")
    for _ in range(3):
        row = row.add(chunk(values), KEPT_RUNS - 1)
    assert (row.runs, row.kept_runs, row.kept(7)) == (3 * (KEPT_RUNS - 1), KEPT_RUNS, 0)
    assert row.join().runs["a"].shape == (1, KEPT_RUNS, 4)
    np.testing.assert_array_equal(row.streamed.values["a"].count, row.runs)


def test_points_are_joined_and_a_limit_alone_has_no_runs():
    values = np.random.default_rng(0).normal(size=(3, 2, 4))
    rows = [Row(theory(2), "runs").add(chunk(values[:2]), 2)]
    rows.append(Row(theory(1), "runs").add(chunk(values[2:]), 2))
    found = collect(rows, False, {}, {})
    assert (found.points, found.runs, found.interrupted) == (3, 2, False)
    np.testing.assert_array_equal(found.kept.runs["a"], values)
    alone = collect([Row(theory(2), "runs")], False, {}, {})
    assert alone.kept.runs is None
    assert alone.streamed is None
    assert jax.tree.leaves(alone.kept.predicted_std)[0].shape == (2, 4)
