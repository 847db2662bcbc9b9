"""The base of one-pass systems: statistics of columns, when a state is alive, the vector field."""

import dataclasses

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np

import hdjax as hd
from hdjax.streaming import GramStart, OnePassSGD, losses


def test_vector_field_serves_the_users_own_solver():
    """The squared distance of logistic regression at t = 3 (math, section 14)."""
    spectrum = hd.spectra.explicit([0.5, 2.0], [60, 40])
    block = np.array([[0.6, 0.15], [0.15, 0.9]])
    start = GramStart(np.asarray(spectrum.weights)[:, None, None] * block)
    model = OnePassSGD(losses.Logistic(), spectrum, 3.0, start)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(model.vector_field),
        diffrax.Tsit5(),
        0.0,
        3.0,
        0.01,
        model.start().state,
    )
    np.testing.assert_allclose(solution.ys[0][0].sum(0)[0, 0], 0.179552570, rtol=1e-6)


def columns(**options):
    """Least squares in six dimensions with c = 2, from given columns; the columns themselves."""
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(2, 6))
    spectrum = hd.spectra.explicit([0.5, 2.0], [4, 2])
    loss = losses.LeastSquares(sigma=0.5, scale=2.0)
    return OnePassSGD(loss, spectrum, 0.4, x, target, **options), x, target


def test_statistics_are_those_of_the_columns():
    """Risk (|K^1/2 (X - X*)|^2 + sigma^2), gradient 2 K (X - X*), for given columns."""
    model, x, target = columns()
    found = eqx.filter_jit(lambda model: model.statistics(model.start()))(model)
    k, gap = np.repeat([0.5, 2.0], [4, 2]), x - target
    np.testing.assert_allclose(found["risk"], gap @ (k * gap) + 0.25, rtol=1e-12)
    np.testing.assert_allclose(found["distance"], gap @ gap, rtol=1e-12)
    np.testing.assert_allclose(found["gradient_norm"], 4 * np.sum((k * gap) ** 2), rtol=1e-12)
    both = np.stack([x, target], axis=1)
    np.testing.assert_allclose(found["overlaps"], both.T @ both, rtol=1e-12)
    assert set(found) == {"risk", "distance", "gradient_norm", "overlaps"}


def test_an_iterate_has_statistics_of_its_own():
    """An average starts at X_0, so its risk and distance are those of X."""
    model, x, target = columns(optimiser=hd.streaming.optimisers.Averaging(1.0))
    found = eqx.filter_jit(lambda model: model.statistics(model.start()))(model)
    gap = x - target
    np.testing.assert_allclose(found["average_distance"], gap @ gap, rtol=1e-12)
    np.testing.assert_allclose(found["average_risk"], found["risk"], rtol=1e-12)


def test_the_velocity_of_least_squares():
    """d|X - X*|^2/dt = -2 gamma c E|e|^2 + gamma^2 c^2 tr K/d (E|e|^2 + sigma^2), by hand."""
    model, x, target = columns()
    blocks, _ = eqx.filter_jit(model.vector_field)(jnp.zeros(()), model.start().state)
    k, gap = np.repeat([0.5, 2.0], [4, 2]), x - target
    error = gap @ (k * gap)
    expected = -2 * 0.4 * 2 * error + (0.4 * 2) ** 2 * k.mean() * (error + 0.25)
    np.testing.assert_allclose(blocks.sum(0)[0, 0], expected, rtol=1e-12)
    # The teacher does not move.
    np.testing.assert_allclose(blocks[:, 1, 1], 0, atol=1e-15)


def test_a_state_is_alive_while_it_is_finite_and_of_its_order_of_magnitude():
    model, _, _ = columns()
    start = model.start()
    size = float(jnp.trace(start.blocks.sum(0)))

    def alive(factor):
        return bool(model.alive(dataclasses.replace(start, blocks=factor * start.blocks)))

    bound = 1e4 * (1 + size) / size
    assert alive(0.999 * bound)
    assert not alive(1.001 * bound)
    assert not alive(np.nan)
