"""Ready-made problems: Gaussian matrices, and random features of digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import gaussian_problem, random_features_problem
from hdjax.multipass.data import digits, split
from hdjax.multipass.diagnostics import row_norms
from hdjax.multipass.modes import delocalisation, svd_modes


def test_random_features_of_digits_are_what_the_theory_needs():
    """Rows of norm 1, no eigenvalue of order n, spread leading singular vectors; wrong input."""
    parts = split(digits(), 500, 200, seed=0)
    problem = random_features_problem(parts, 200, key=jax.random.key(0))
    np.testing.assert_allclose(row_norms(problem), 1, rtol=1e-12)
    modes, left = svd_modes(problem)
    assert modes.eigenvalues.max() < 100
    assert delocalisation(np.asarray(modes.eigenvalues), left) < 15
    for options, message in (
        ({"features": 0}, "features: 0"),
        ({"features": 10, "activation": "cube"}, "activation: 'cube'"),
    ):
        with pytest.raises(ValueError, match=message):
            random_features_problem(parts, key=jax.random.key(0), **options)


def test_a_given_covariance_keeps_its_scale():
    """Rows have E |a_i|^2 = tr Sigma/d; made unit, they have squared norm 1 for any Sigma."""
    eigenvalues, key = np.linspace(1.0, 5.0, 100), jax.random.key(0)
    problem = hd.multipass.gaussian_problem(400, 100, key=key, eigenvalues=eigenvalues)
    # The mean of 400 rows: 5 standard errors, from E (|a|^2)^2 - (E |a|^2)^2 = 2 tr Sigma^2/d^2.
    error = (2 * (eigenvalues**2).sum()) ** 0.5 / 100 / 20
    assert abs(float(row_norms(problem).mean()) - 3) < 5 * error
    unit = hd.multipass.gaussian_problem(
        40, 100, key=key, eigenvalues=eigenvalues, normalise_rows=True
    )
    np.testing.assert_allclose(row_norms(unit), 1, rtol=1e-6)


def test_the_risk_is_that_of_fresh_samples():
    """Signal and noise have exact sizes; the risk is a mean over 10^5 fresh samples."""
    eigenvalues = np.array([0.5, 1.0, 3.0])
    problem = gaussian_problem(
        20, 3, key=jax.random.key(1), signal=2.0, noise=0.5, eigenvalues=eigenvalues
    )
    risk = problem.quadratics["risk"]
    # X = X* has no risk but the noise.  The gradient vanishes there.
    target = np.linalg.solve(np.asarray(risk.matrix), -np.asarray(risk.vector))
    np.testing.assert_allclose(np.mean(target**2), 4, rtol=1e-12)
    np.testing.assert_allclose(risk(jnp.asarray(target)), 0.125, rtol=1e-12)
    noise = np.asarray(problem.labels) - np.asarray(problem.matrix) @ target
    np.testing.assert_allclose(np.mean(noise**2), 0.25, rtol=1e-12)
    x, rng = np.array([0.3, -1.0, 0.7]), np.random.default_rng(0)
    rows = rng.standard_normal((100_000, 3)) * np.sqrt(eigenvalues / 3)
    losses = (rows @ (x - target) + 0.5 * rng.standard_normal(len(rows))) ** 2 / 2
    assert abs(losses.mean() - float(risk(jnp.asarray(x)))) < 4 * losses.std() / np.sqrt(len(rows))


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ((0, 3), {}, "samples: 0; allowed: an integer, at least 1"),
        ((4, 0), {}, "dimension: 0; allowed: an integer, at least 1"),
        ((4, 3), {"signal": -1.0}, r"signal: -1\.0; allowed: a finite number, at least 0"),
        ((4, 3), {"noise": np.inf}, "noise: inf; allowed: a finite number, at least 0"),
        ((4, 3), {"eigenvalues": [1.0, 2.0]}, r"eigenvalues: shape \(2,\); allowed: \(3,\)"),
        ((4, 3), {"eigenvalues": [1.0, -1.0, 2.0]}, r"eigenvalues: \[1\.0, -1\.0, 2\.0\]; allowed"),
    ],
)
def test_wrong_problems_are_refused(sizes, options, message):
    with pytest.raises(ValueError, match=message):
        gaussian_problem(*sizes, key=jax.random.key(0), **options)
