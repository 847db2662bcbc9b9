"""Constant rates: their values, and schedules that are stacked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.schedules import Constant, PowerDecay
from tests.schedules.values import assert_values


def test_stacked_schedules_trace_once():
    traces = []

    @jax.jit
    def rate(schedule, t):
        traces.append(None)
        return schedule(t)

    rates = [rate(Constant(value), jnp.asarray(1.0)) for value in (0.1, 0.2, 3)]
    assert rates == [0.1, 0.2, 3.0]
    assert len(traces) == 1

    stacked = jax.vmap(Constant)(jnp.array([0.1, 0.2]))
    np.testing.assert_array_equal(jax.vmap(lambda s: s(0.0))(stacked), [0.1, 0.2])
    decays = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *map(PowerDecay, (1.0, 2.0), (1.0, 0.5))
    )
    np.testing.assert_allclose(jax.vmap(lambda s: s(3.0))(decays), [0.25, 1.0])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), lambda t: 0.3 + 0 * t),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(schedule, expected):
    assert_values(schedule, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(np.inf), "value: inf; allowed"),
    ],
)
def test_invalid_rates_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
