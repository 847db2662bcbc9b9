"""Plans: statistics of the user beside those of the system, and their dtypes."""

import jax.numpy as jnp
import numpy as np

import hdjax as hd
from tests.engine.problems import least_squares


def test_statistics_of_the_user_stand_beside_those_of_the_system():
    statistics = {"risk": None, "count": lambda system, summary: 3, "flag": lambda *_: True}
    system = least_squares()
    plan = hd.make_plan(system, [0.0, 1.0], statistics=statistics)
    found = plan.evaluate(system, system.start())
    assert list(found) == list(statistics)
    np.testing.assert_allclose(found["risk"], system.statistics(system.start())["risk"])
    # Whole numbers and flags become numbers that can be NaN.
    assert all(jnp.issubdtype(value.dtype, jnp.inexact) for value in found.values())
    assert (float(found["count"]), float(found["flag"])) == (3, 1)
