"""Runs on their way: segments of time change no bit, and stops between records hardly any."""

import itertools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.engine.runs import Stops, advance, blank, shapes
from tests.engine.problems import least_squares

TIMES = [0.0, 0.25, 0.5, 1.0]


@pytest.fixture(scope="module")
def prepared():
    """A program (stops, segments) -> runs after their last stop."""
    system, key = least_squares(), jax.random.key(1)
    probes = {"draw": lambda simulator, state, key: jax.random.normal(key)}
    plan = hd.make_plan(system, TIMES, start="realised", probes=probes, statistics=["risk"])
    ids = jnp.arange(3)
    program = jax.jit(partial(advance, system, plan, key, ids))
    running = blank(shapes(system, plan, key), key, ids.shape)

    def run(stops, bounds):
        state = running
        for first, last in itertools.pairwise(bounds):
            state = program(state, stops, jnp.asarray(first), jnp.asarray(last))
        return state

    return plan, run


def test_segments_change_no_bit(prepared):
    plan, run = prepared
    stops = Stops(plan.ticks, jnp.arange(4))
    whole = run(stops, [0, 4])
    for bounds in ([0, 1, 2, 3, 4], [0, 3, 4]):
        assert eqx.tree_equal(run(stops, bounds), whole)
    assert whole.alive.all()
    assert np.isfinite(whole.values["risk"]).all()
    assert len(np.unique(whole.probes["draw"])) == 12
    np.testing.assert_array_equal(whole.tick, plan.ticks[-1])


def test_stops_between_records_record_nothing(prepared):
    plan, run = prepared
    whole = run(Stops(plan.ticks, jnp.arange(4)), [0, 4])
    ticks, records = jnp.array([0, 3, 10, 15, 20, 33, 40]), jnp.array([0, -1, 1, -1, 2, -1, 3])
    found = run(Stops(ticks, records), [0, 7])
    np.testing.assert_allclose(found.values["risk"], whole.values["risk"], rtol=2e-5)
    np.testing.assert_array_equal(found.probes["draw"], whole.probes["draw"])
