"""Problems in their eigenbasis: by a decomposition, by Lanczos iterations, and by a law."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import MultiPassSGD, Problem, Spectral
from hdjax.multipass.laws import MarchenkoPastur, SampleCovariance
from hdjax.multipass.modes import delocalisation, law_modes, svd_modes
from hdjax.multipass.rates import condition_number
from tests.multipass.problems import HALF, D, reference


def exact_inverse(matrix):
    """The inverse of A^T A in rational arithmetic."""
    rows = np.vectorize(Fraction)(matrix.astype(float))
    p = rows.shape[1]
    system = np.hstack([rows.T.dot(rows), np.vectorize(Fraction)(np.eye(p))])
    for c in range(p):
        system[c] /= system[c, c]
        for i in set(range(p)) - {c}:
            system[i] -= system[i, c] * system[c]
    return system[:, p:].astype(float)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_raw_units_have_full_rank(dtype):
    """A constant column beside large numbers: kappa in rational arithmetic, the floor by QR."""
    rng = np.random.default_rng(0)
    scales = np.array([20, 1e4, 1e8, 0.1, 10, 3e9])
    means = np.array([1975, 5e4, 3e8, 1.7, 70, 3e9])
    columns = means + scales * rng.standard_normal((16, 6))
    matrix = np.column_stack([np.ones(16), columns]).astype(dtype)
    labels = 200 + 80 * rng.standard_normal(16)
    modes, _ = svd_modes(Problem(matrix, labels))
    exact = matrix.astype(float)
    largest = np.linalg.svd(exact, compute_uv=False)[0] ** 2
    kappa = largest * np.linalg.eigvalsh(exact_inverse(matrix))[-1]
    assert kappa > 1e19
    np.testing.assert_allclose(condition_number(modes), kappa, rtol=1e-6)
    frame = np.linalg.qr(exact / np.linalg.norm(exact, axis=0))[0]
    residual = labels - frame @ (frame.T @ labels)
    np.testing.assert_allclose(modes.floor, residual @ residual / 2, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rounding_gives_no_rank(dtype):
    """Products of thin factors, and columns that are given twice and centred."""
    rng = np.random.default_rng(1)
    thin = rng.standard_normal((30, 5)) @ rng.standard_normal((5, 8))
    twice = np.repeat(rng.standard_normal((2000, 6)), 2, axis=1).astype(dtype)
    for matrix, rank in ((thin.astype(dtype), 5), (twice - twice.mean(axis=0), 6)):
        problem = Problem(matrix, np.ones(len(matrix)))
        for own in (problem, problem.scaled()):
            modes, _ = svd_modes(own)
            assert int((modes.eigenvalues > 0).sum()) == rank
        assert condition_number(modes) < 1e4


def test_modes_of_the_reference():
    modes = MultiPassSGD(reference(), 0.5).modes
    expected = [2.8663619530, 2.2544037097, 2.1976575445, 1.7070951311]
    expected += [1.1103270260, 0.5122402048, 0.3741365330, 0.1452756701]
    np.testing.assert_allclose(modes.eigenvalues, expected, atol=1e-10)
    np.testing.assert_allclose(modes.floor, 0.1244696961, atol=1e-10)


def test_values_are_means_over_random_points():
    """Over all signs of the coordinates' deviations, whose variances are given: exact means."""
    problem = reference()
    modes, _ = svd_modes(problem)
    vt = np.linalg.svd(np.asarray(problem.matrix), full_matrices=False)[2]
    rng = np.random.default_rng(0)
    mean, variances = rng.standard_normal(D), rng.uniform(0.1, 1.0, D)
    residuals = modes.singular_values * mean - modes.labels
    np.testing.assert_allclose(modes.coordinates(residuals), mean, rtol=1e-11)
    found = modes.values(residuals, jnp.asarray(mean), jnp.asarray(variances))
    signs = np.array(list(itertools.product([-1, 1], repeat=D)))
    points = (mean + signs * np.sqrt(variances)) @ vt
    seen = jax.jit(jax.vmap(problem.values))(jnp.asarray(points))
    for name in ("loss", "q", "rows"):
        np.testing.assert_allclose(found[name], seen[name].mean(), rtol=1e-11)


def test_delocalisation():
    """n for a vector on one sample, 1 for one of equal entries; weights are squared eigenvalues."""
    single, equal = np.eye(4)[0], np.full(4, 0.5)
    left = np.column_stack([single, equal])
    assert float(delocalisation(np.array([1.0, 0.0]), left)) == 4
    assert float(delocalisation(np.array([0.0, 3.0]), left)) == 1
    np.testing.assert_allclose(delocalisation(np.array([1.0, 3.0]), left), (4 + 9) / 10)
    assert float(delocalisation(np.zeros(2), left)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.5, [0.62500, 0.20381, 0.13493, 0.12516]), (2.0, [0.62500, 0.22521, 0.05883, 0.00365])],
)
def test_the_law_gives_the_curve_of_a_large_matrix(ratio, expected):
    modes = law_modes(MarchenkoPastur(ratio), 1000, noise=0.5, risk=True)
    system = MultiPassSGD(None, 1.0, modes=modes, solver=Spectral())
    ts = jnp.array([0, 1, 3, 10.0])
    law = system.limit(ts).values
    np.testing.assert_allclose(law["loss"], expected, atol=6e-6)
    d = int(600 * ratio)
    problem = hd.multipass.gaussian_problem(600, d, key=jax.random.key(1), noise=0.5)
    own = MultiPassSGD(problem, 1.0, solver=Spectral()).limit(ts).values
    np.testing.assert_allclose(own["loss"], law["loss"], atol=0.02)
    np.testing.assert_allclose(own["risk"], law["risk"], atol=0.02)


@pytest.mark.slow
def test_lanczos_measures_give_the_curve_of_the_decomposition():
    problem = hd.multipass.gaussian_problem(300, 150, key=jax.random.key(2), noise=0.5)
    plain = Problem(problem.matrix, problem.labels)
    rule = hd.multipass.modes.lanczos_modes(plain, 20, jax.random.key(3), probes=8)
    ts = jnp.array([0, 0.5, 2, 8.0])
    exact = MultiPassSGD(plain, 0.8, solver=Spectral()).limit(ts).values["loss"]
    found = MultiPassSGD(plain, 0.8, modes=rule).limit(ts).values["loss"]
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-10)
    np.testing.assert_allclose(found, exact, rtol=0.02)


def test_lanczos_ends_where_it_breaks_down():
    """Two distinct eigenvalues: two nodes, though more are asked for."""
    matrix = np.diag([1.0, 1.0, 2.0, 2.0, 2.0])
    rule = hd.multipass.modes.lanczos_modes(Problem(matrix, np.ones(5)), 5, jax.random.key(0))
    assert np.isfinite(np.asarray(rule.eigenvalues)).all()
    used = (np.asarray(rule.multiplicities) > 1e-9) | (np.asarray(rule.labels) ** 2 > 1e-9)
    values = np.unique(np.round(np.asarray(rule.eigenvalues)[used], 6))
    np.testing.assert_allclose(values, [1, 4])
    np.testing.assert_allclose(rule.multiplicities.sum(), 5, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: law_modes(HALF, 10, noise=-1.0), "noise: -1.0"),
        (lambda: law_modes(SampleCovariance(0.5, [1.0]), 10, risk=True), "risk: True"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()
