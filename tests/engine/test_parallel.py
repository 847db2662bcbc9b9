"""Points of a sweep in one program, and runs on several devices (see also `test_drive.py`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import hdjax as hd
from hdjax.engine import parallel
from hdjax.engine.devices import Layout, place
from hdjax.engine.runs import blank, shapes
from tests.engine.problems import isotropic


def test_points_are_stacked_by_their_numbers():
    """A solver's number of steps is an integer of the program, a rate an array."""
    points = [{"steps": 7, "rate": rate, "curve": np.ones(2) * rate} for rate in (0.5, 1.0)]
    stacked = parallel.stacked(points)
    assert stacked["steps"] == 7
    assert isinstance(stacked["steps"], int)
    np.testing.assert_allclose(stacked["rate"], [0.5, 1.0])
    assert stacked["curve"].shape == (2, 2)


@pytest.mark.slow
def test_stacked_points_are_those_of_one_point():
    """Limits and runs at two rates, together and one by one."""
    key, ids, mesh = jax.random.key(0), jnp.arange(3), Mesh(jax.devices()[:1], ("runs",))
    systems = [isotropic(rate=rate) for rate in (0.3, 0.6)]
    plans = [hd.make_plan(system, [0.0, 1.0], statistics=["risk"]) for system in systems]
    first, last = jnp.asarray(0, jnp.int32), jnp.asarray(2, jnp.int32)

    def found(points):
        many = len(points) > 1
        system = parallel.stacked([systems[i] for i in points])
        plan = parallel.stacked([plans[i] for i in points])
        runs = (len(points), 3) if many else (3,)
        running = blank(shapes(systems[0], plans[0], key), key, runs)
        layout = Layout(mesh, many)
        running = place(running, layout.runs(running))
        known = system, plan, parallel.stacked([key] * len(points)), plan.ticks, jnp.arange(2)
        runs = parallel.advance_points(*known, ids, running, first, last, layout)
        return parallel.predict_points(system, plan, layout).limit["risk"], runs.values["risk"]

    limits, runs = found([0, 1])
    for point in range(2):
        limit, values = found([point])
        np.testing.assert_allclose(limits[point], limit, rtol=1e-6)
        np.testing.assert_allclose(runs[point], values, rtol=2e-5)
