"""What tests of schedules share: times, a function of the step, and a check of values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

TIMES = jnp.array([0.0, 0.5, 1.0, 2.5, 4.0, 9.0])


def step_rate(step):
    return 0.3 / (1 + step)


def assert_values(schedule, expected):
    """A schedule has the values of a function of NumPy, at times of any type."""
    values = jax.jit(jax.vmap(schedule))(TIMES)
    np.testing.assert_allclose(values, expected(np.asarray(TIMES)), rtol=1e-14)
    assert values.dtype == jnp.float64
    # A simulation in single precision asks at single-precision times, a user at Python's.
    for t in (TIMES[2].astype(jnp.float32), 1.0, 1):
        value = schedule(t)
        assert value.shape == ()
        assert value == pytest.approx(float(expected(1.0)), rel=1e-14)
    assert all(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(schedule))
