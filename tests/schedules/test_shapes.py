"""Shapes of schedules: their values, compositions and derivatives, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.schedules import Cosine, Joined, PiecewiseConstant, PowerDecay, Table, Warmup
from tests.schedules.values import TIMES, assert_values


def test_schedules_compose():
    cosine = Cosine(initial=0.8, horizon=4.0)
    warmed, joined = Warmup(cosine, 2.0), Joined(Warmup(0.8, 1.0), 1.0, cosine)
    times = jnp.linspace(0, 8, 33)
    rise = np.minimum(np.asarray(times) / 2, 1)
    np.testing.assert_allclose(jax.vmap(warmed)(times), rise * jax.vmap(cosine)(times))
    expected = np.where(times < 1, 0.8 * times, jax.vmap(cosine)(jnp.maximum(times - 1, 0)))
    np.testing.assert_allclose(jax.vmap(joined)(times), expected)
    for wrong in (lambda: Warmup(0.5, 0.0), lambda: Joined(0.5, -1.0, 0.5)):
        with pytest.raises(ValueError, match="allowed"):
            wrong()


def test_rates_are_differentiable():
    def total(initial, exponent):
        return jax.vmap(PowerDecay(initial, exponent, 2.0))(TIMES).sum()

    gradient = jax.grad(total, argnums=(0, 1))(1.5, 0.5)
    base = (1 + np.asarray(TIMES) / 2) ** -0.5
    np.testing.assert_allclose(gradient, (base.sum(), -(1.5 * base * np.log(1 / base**2)).sum()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiecewiseConstant([1.0], [1.0]), "values: 1 rates; allowed with 1 boundaries: 2"),
        (lambda: PiecewiseConstant([2.0, 1.0], [1.0] * 3), "boundaries: .*; allowed: increasing"),
        (lambda: PiecewiseConstant([1.0], [1.0, -2.0]), "values: -2.0; allowed"),
        (lambda: PowerDecay(1.0, -0.5), "exponent: -0.5; allowed"),
        (lambda: PowerDecay(1.0, 0.5, 0.0), "timescale: 0.0; allowed: .*above 0"),
        (lambda: Cosine(1.0, 0.0), "horizon: 0.0; allowed: .*above 0"),
        (lambda: Table([0.0, 1.0], [1.0]), "values: 1 rates; allowed: as many as times"),
        (lambda: Table([], []), "values: 0 rates; allowed"),
    ],
)
def test_invalid_rates_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (PiecewiseConstant([1.0, 4.0], [3.0, 2.0, 0.0]), lambda t: 3.0 - (t >= 1) - 2 * (t >= 4)),
        (PowerDecay(2.0, 0.5, 4.0), lambda t: 2 / np.sqrt(1 + t / 4)),
        (Cosine(2.0, 4.0, 0.5), lambda t: 1.25 + 0.75 * np.cos(np.pi * np.minimum(t / 4, 1))),
        (Table([0.5, 2.5], [1.0, 3.0]), lambda t: np.clip(t + 0.5, 1, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(schedule, expected):
    assert_values(schedule, expected)
