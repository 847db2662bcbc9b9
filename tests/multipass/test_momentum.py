"""SGD with momentum as a system: runs that follow the limit, and what is refused."""

import warnings

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import MomentumSGD, Spectral, gaussian_problem
from tests.multipass.problems import plain_reference


@pytest.mark.slow
def test_momentum_within_three_standard_errors_at_four_batch_fractions():
    problem = gaussian_problem(200, 100, key=jax.random.key(5), noise=0.5)
    steps = [0, 1, 2, 5, 10, 20, 40]
    result = hd.sweep(
        lambda zeta: MomentumSGD(problem, 0.4, batch_fraction=zeta, momentum=0.3),
        {"zeta": [0.05, 0.2, 0.5, 0.9]},
        steps,
        key=jax.random.key(26),
        runs=200,
        statistics=["loss"],
        shared_keys=False,
    )
    gap = (result.mean["loss"] - result.limit["loss"]).values[:, 1:]
    error = result.std["loss"].values[:, 1:] / np.sqrt(200)
    assert np.all(np.abs(gap) < 3 * error), gap / error


@pytest.mark.slow
def test_momentum_with_a_ridge_and_a_schedule_follows_its_limit():
    """Means of 200 runs within 3 standard errors, risk and loss."""
    problem = gaussian_problem(200, 100, key=jax.random.key(5), noise=0.5)
    schedule = hd.schedules.PowerDecay(initial=0.6, exponent=0.5, timescale=5.0)
    result = hd.compare(
        MomentumSGD(problem, schedule, batch_fraction=0.2, momentum=0.3, ridge=0.5),
        [1, 2, 5, 10, 20, 40],
        key=jax.random.key(7),
        runs=200,
    )
    for name in ("loss", "risk"):
        gap = (result.mean[name] - result.limit[name]).values
        error = result.std[name].values / np.sqrt(200)
        assert np.all(np.abs(gap) < 3 * error), (name, gap / error)


def test_unstable_momentum_is_warned_of():
    problem = gaussian_problem(40, 20, key=jax.random.key(0))
    for system in (
        MomentumSGD(problem, 2.5, batch_fraction=0.1, momentum=0.2),
        MomentumSGD(problem, 2.5, batch_fraction=1.0, momentum=0.2),
    ):
        with pytest.warns(UserWarning, match="is not stable"):
            system.validate(compared=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MomentumSGD(problem, 0.5, batch_fraction=0.1, momentum=0.2).validate(compared=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.3), "a batch of 3.6 samples"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=1.5), "batch_fraction: 1.5"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, momentum=1.0), "momentum: 1.0"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, solver=Spectral()), "solver"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(plain_reference())
