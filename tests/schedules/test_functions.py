"""Functions of time and of the step as schedules, and what is taken for a schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

from hdjax.schedules import (
    Constant,
    Cosine,
    FunctionOfTime,
    PowerDecay,
    Schedule,
    as_schedule,
    from_optax,
)
from tests.schedules.values import TIMES, assert_values, step_rate


def hyperbola(scale, t):
    return scale / (1 + t)


def test_functions_with_array_arguments_stack():
    traces = []

    @jax.jit
    def rate(schedule):
        traces.append(None)
        return schedule(1.0)

    schedules = [as_schedule(Partial(hyperbola, jnp.asarray(scale))) for scale in (1.0, 4.0)]
    assert [float(rate(schedule)) for schedule in schedules] == [0.5, 2.0]
    assert len(traces) == 1
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *schedules)
    np.testing.assert_array_equal(jax.vmap(lambda s: s(1.0))(stacked), [0.5, 2.0])


def test_optax_schedules_are_functions_of_the_step():
    d = 1000
    cosine = optax.cosine_decay_schedule(0.5, decay_steps=4 * d, alpha=0.1)
    schedule = from_optax(cosine, dimension=d)
    for k in (0, 1, 1234, 4 * d, 9 * d):
        assert schedule(k / d) == pytest.approx(float(cosine(k)), rel=1e-12)
    values = jax.jit(jax.vmap(schedule))(TIMES)
    np.testing.assert_allclose(values, [cosine(t * d) for t in TIMES], rtol=1e-12)
    np.testing.assert_allclose(schedule(2.0), Cosine(0.5, 4.0, 0.05)(2.0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_optax_jumps_fall_on_their_step(dtype):
    """For many d the product (k / d) * d rounds to less than k."""
    for d in (7, 49, 1000, 4099):
        steps = jnp.arange(1, 300)
        for jump in (1, 5, 107):
            constant = optax.piecewise_constant_schedule(1.0, {jump: 0.25})
            schedule = from_optax(constant, jnp.asarray(d, dtype))
            times = steps.astype(dtype) / jnp.asarray(d, dtype)
            got = jax.jit(jax.vmap(schedule))(times)
            np.testing.assert_array_equal(got, [float(constant(k)) for k in steps.tolist()])


def test_a_table_of_steps_is_looked_up_by_integers():
    rates = jnp.array([0.0, 1.0, 3.0, 3.0, 2.0, 2.0, 7.0])
    schedule = from_optax(lambda k: rates[k], dimension=10)
    values = jax.vmap(schedule)(jnp.arange(7) / 10)
    np.testing.assert_array_equal(values, rates)
    # Between steps the rate stays between theirs, and is that of a line on a line.
    between = jax.vmap(schedule)(jnp.linspace(0, 0.6, 61))
    low, high = (jnp.repeat(f(rates[:-1], rates[1:]), 10) for f in (jnp.minimum, jnp.maximum))
    assert bool(((between[:-1] >= low - 1e-12) & (between[:-1] <= high + 1e-12)).all())
    line = from_optax(optax.linear_schedule(0.0, 1.0, 100), dimension=10)
    assert float(line(3.14)) == pytest.approx(0.314, rel=1e-12)
    assert float(jax.grad(line)(3.14)) == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize(
    "wrap",
    [lambda f: f, functools.partial, Partial, jax.jit, FunctionOfTime],
    ids=["bare", "partial", "Partial", "jit", "FunctionOfTime"],
)
@pytest.mark.parametrize(
    "schedule",
    [optax.constant_schedule(0.5), optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100)],
    ids=["constant", "warmup"],
)
def test_optax_schedules_are_not_read_in_time(schedule, wrap):
    with pytest.raises(TypeError, match=r"optax.*; allowed: .*from_optax"):
        as_schedule(wrap(schedule))


def test_as_schedule():
    for number in (0.5, 1, np.float32(0.5), np.asarray(0.5), jnp.asarray(0.5)):
        schedule = as_schedule(number)
        assert isinstance(schedule, Constant)
        assert float(schedule(0.0)) == float(number)
        assert schedule.value.dtype == jnp.float64
    given = PowerDecay(1.0, 0.5)
    assert as_schedule(given) is given
    assert isinstance(as_schedule(lambda t: t), Schedule)
    assert jax.jit(lambda rate: as_schedule(rate)(0.0))(-1.0) == -1.0


@pytest.mark.parametrize("value", ["fast", None, True, {"rate": 1.0}])
def test_what_is_no_rate_is_refused(value):
    with pytest.raises(TypeError, match="learning_rate: "):
        as_schedule(value)
    with pytest.raises(TypeError):
        from_optax(value, 10)
    with pytest.raises(TypeError):
        FunctionOfTime(value)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (FunctionOfTime(lambda t: t**2), lambda t: t**2),
        (from_optax(step_rate, 100), lambda t: 0.3 / (1 + 100 * t)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(schedule, expected):
    assert_values(schedule, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_schedule(-0.1), "learning_rate: -0.1; allowed: finite, 0 or more"),
        (lambda: as_schedule(np.nan), "learning_rate: nan; allowed"),
        (
            lambda: as_schedule([0.1, 0.2]),
            r"learning_rate: .*shape \(2,\); allowed: a scalar.*sweep",
        ),
        (lambda: from_optax(step_rate, 0), "dimension: 0; allowed: .*above 0"),
    ],
)
def test_invalid_rates_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
