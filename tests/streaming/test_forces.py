"""Forces on the iterate: least squares by hand, side parameters by the derivative of the risk."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GramStart, OnePassSGD, losses
from hdjax.streaming.forces import Field
from hdjax.streaming.optimisers import AdaGradNorm

LAM, WEIGHTS = np.array([0.5, 2.0]), np.array([0.6, 0.4])
BLOCK = np.array([[0.6, 0.15], [0.15, 0.9]])


def system(loss, rate=0.7, **options):
    """A system with the same Gram matrix in both groups, up to their weights."""
    start = GramStart(WEIGHTS[:, None, None] * BLOCK)
    return OnePassSGD(loss, hd.spectra.explicit([0.5, 2.0], [60, 40]), rate, start, **options)


@eqx.filter_jit
def forces(model):
    return model.field().forces(model.start().state)


def test_forces_of_least_squares():
    """Y_i = lam_i (1, 0) + tau (1, 1) in the frame [X - X* | X*], noise w lam C / b, no rate."""
    sigma, tau, batch = 0.5, 0.3, 4
    model = system(losses.LeastSquares(sigma=sigma), ridge=tau, batch_size=batch)
    found = forces(model)
    np.testing.assert_allclose(found.direction[:, 0, 0], LAM + tau, rtol=1e-12)
    np.testing.assert_allclose(found.direction[:, 1, 0], tau, rtol=1e-12)
    error = BLOCK[0, 0] - 2 * BLOCK[0, 1] + BLOCK[1, 1]
    c = (WEIGHTS * LAM).sum() * error + sigma**2
    np.testing.assert_allclose(found.noise[:, 0, 0], WEIGHTS * LAM * c / batch, rtol=1e-12)
    assert found.accumulated is None
    assert found.slope is None


def test_a_rate_that_follows_sums_of_squares_has_their_velocity():
    """The sum of |gradient|^2 / d grows by tr(K C)/d."""
    rate = AdaGradNorm(1.0, 1.0)
    model = system(losses.LeastSquares(sigma=0.5), rate)
    found = forces(model)
    error = BLOCK[0, 0] - 2 * BLOCK[0, 1] + BLOCK[1, 1]
    expected = (WEIGHTS * LAM).sum() * ((WEIGHTS * LAM).sum() * error + 0.25)
    np.testing.assert_allclose(found.accumulated, expected, rtol=1e-12)


def test_side_parameters_go_down_the_risk_with_its_ridge():
    loss, tau = losses.ErfCommittee([1.3]), 0.2
    model = system(loss, theta=jnp.array([0.8]), ridge=tau)
    blocks, side = model.start().state

    def penalised(theta):
        law = model.field().law(blocks, jnp.asarray(0))
        return hd.streaming.moments(loss, law, 0, theta).risk + tau / 2 * (theta**2).sum()

    found = forces(model)
    np.testing.assert_allclose(found.slope, jax.jit(jax.grad(penalised))(side.theta), rtol=1e-10)
    # The forces of plain SGD are those that its optimiser hands on.
    again = eqx.filter_jit(lambda model: model.field().optimised(model.start().state))(model)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_the_interface_asks_for_every_method():
    """A right-hand side that lacks one method cannot be made."""

    class Lacking(Field):
        loss: object
        ridge: object
        probabilities: object
        eigenvalues: object
        weights: object
        layout: object

    with pytest.raises(TypeError, match="abstract"):
        Lacking(*[None] * 6)
