"""What is warned of: heavy rows, localised singular vectors, and an inexact spread."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import MomentumSGD, MultiPassSGD, Problem, Spectral, gaussian_problem
from hdjax.multipass.diagnostics import linear_noise_error, row_kurtosis
from hdjax.schedules import PiecewiseConstant
from tests.multipass.problems import HALVED, rescaled


def test_rows_that_are_amplified_are_warned_of():
    matrix = np.eye(50, 20)
    matrix[0] = 1.5
    with pytest.warns(UserWarning, match="amplifies that sample"):
        hd.compare(
            MultiPassSGD(Problem(matrix, np.ones(50)), 0.95, solver=Spectral()),
            [0.0, 0.1],
            key=jax.random.key(0),
            runs=1,
            fluctuations=False,
        )


def test_localised_vectors_are_warned_of():
    single = Problem(np.eye(100, 50) * np.linspace(0.5, 1, 50), np.ones(100))
    for system in (MultiPassSGD(single, 0.5), MomentumSGD(single, 0.5, batch_fraction=0.5)):
        with pytest.warns(UserWarning, match="concentrated on few samples"):
            system.validate(compared=True)


def warned(system):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        system.validate(compared=True)
    return [str(w.message) for w in caught]


def test_the_linear_noise_equation_is_warned_of_where_it_does_not_carry():
    """Few samples or heavy rows; of unlike rows it is silent where another theory predicts."""
    few = gaussian_problem(60, 20, key=jax.random.key(9), noise=0.5, normalise_rows=True)
    (message,) = warned(MultiPassSGD(few, HALVED))
    assert "n = 60" in message
    assert "26 %" in message
    assert not warned(MultiPassSGD(few, 0.8))
    many = gaussian_problem(400, 40, key=jax.random.key(9), noise=0.5)
    system = MultiPassSGD(many, HALVED)
    assert not warned(system)
    assert "linear-noise" in system.about(None)["fluctuations"]
    heavy = rescaled(many, 0.4, 9)
    messages = warned(MultiPassSGD(heavy, PiecewiseConstant([1.0], [0.2, 0.1])))
    assert "heaviest row" in messages[-1]


def test_the_error_of_the_linear_noise_equation():
    """It grows with 1/sqrt(n), d/n and the kurtosis of the rows."""
    even = Problem(jnp.ones((100, 3)), jnp.ones(100))
    np.testing.assert_allclose(linear_noise_error(even), 0.2)
    np.testing.assert_allclose(
        linear_noise_error(Problem(jnp.ones((400, 200)), jnp.ones(400))), 0.15
    )
    one = Problem(even.matrix.at[0].multiply(10.0), even.labels)
    kurtosis = (99 + 1e4) / 100 / ((99 + 100) / 100) ** 2
    np.testing.assert_allclose(row_kurtosis(one), kurtosis)
    np.testing.assert_allclose(linear_noise_error(one), 0.2 + 0.75 * (kurtosis - 1))
