"""Samples that are not Gaussian: exact means at finite d, data sets, universality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, GramStart, Mixture, OnePassSGD
from hdjax.streaming.data import Rademacher, Rows, Sampler, StudentT, UniformEntries
from hdjax.streaming.losses import LeastSquares, Logistic

# Fourth moments of an entry.
LAWS = {"rademacher": (Rademacher(), 1.0), "uniform": (UniformEntries(), 1.8)}
LAWS["student"] = (StudentT(9.0), 4.2)
LAMBDA = np.array([0.5] * 4 + [2.0] * 4)


def small_system(gamma=1.0, sigma=0.5):
    """Eight coordinates, |X_0 - X*|^2 = 1 spread evenly within two groups."""
    spectrum = hd.spectra.explicit([0.5, 2.0], [4, 4])
    start = np.sqrt(np.array([0.7 / 4] * 4 + [0.3 / 4] * 4))
    return OnePassSGD(LeastSquares(sigma=sigma), spectrum, gamma, start, np.zeros(8))


def exact_risk(steps, fourth, gamma=1.0, sigma=0.5, d=8):
    """E risk by the second moments of each coordinate; the fourth moment replaces 3."""
    g, v = gamma / d, np.array([0.7 / 4] * 4 + [0.3 / 4] * 4)
    for _ in range(steps):
        own = v * (1 - 2 * g * LAMBDA + (fourth - 1) * g**2 * LAMBDA**2)
        v = own + g**2 * LAMBDA * (LAMBDA @ v + sigma**2)
    return (LAMBDA @ v + sigma**2) / 2


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_product_laws_have_the_exact_mean(name):
    """Eight steps at d = 8, where Gaussian data are excluded by many standard errors."""
    data, fourth = LAWS[name]
    runs, method = 20000, Direct("float32", data=data)
    options = {"key": jax.random.key(2), "runs": runs, "method": method, "keep": "summary"}
    result = hd.simulate(small_system(), [1.0], statistics=["risk"], **options)
    error = float(result.std["risk"][0]) / runs**0.5
    assert abs(float(result.mean["risk"][0]) - exact_risk(8, fourth)) < 4 * error
    assert abs(exact_risk(8, fourth) - exact_risk(8, 3.0)) > 5 * error


def test_a_batch_of_a_users_law_and_its_basis():
    """A law in rotated coordinates: its covariance is diagonalised, its mean risk exact."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    covariance = (basis * LAMBDA) @ basis.T
    root = jnp.asarray(basis * np.sqrt(LAMBDA))

    def signs(key):
        return jnp.dot(root, jax.random.rademacher(key, (8,), root.dtype), precision="highest")

    start = basis @ np.sqrt(np.array([0.7 / 4] * 4 + [0.3 / 4] * 4))
    spectrum = hd.spectra.from_covariance(covariance)
    system = OnePassSGD(LeastSquares(sigma=0.5), spectrum, 1.0, start, np.zeros(8))
    plan = {"key": jax.random.key(3), "runs": 8000, "statistics": ["risk"], "keep": "summary"}
    result = hd.simulate(system, [1.0], method=Direct(data=Sampler(signs)), **plan)
    error = float(result.std["risk"][0]) / 8000**0.5
    assert abs(float(result.mean["risk"][0]) - exact_risk(8, 1.0)) < 4 * error


def test_rows_are_used_once_each():
    """A data set of orthogonal rows: SGD with the right rate fits each of them in turn."""
    d = 16
    rows = np.sqrt(d) * np.linalg.qr(np.random.default_rng(1).standard_normal((d, d)))[0]
    spectrum, target = hd.spectra.identity(d), np.linspace(-1.0, 1.0, d)
    system = OnePassSGD(LeastSquares(), spectrum, 1.0, np.zeros(d), target)
    plan = {"key": jax.random.key(0), "runs": 3, "statistics": ["distance"]}
    method = Direct("float64", data=Rows(rows))
    result = hd.simulate(system, [0.5, 1.0], method=method, **plan)
    # After all rows nothing is left; halfway runs differ, as each has an order of its own.
    np.testing.assert_allclose(result.runs["distance"][:, 1], 0, atol=1e-25)
    assert len(np.unique(np.round(result.runs["distance"][:, 0].values, 12))) == 3
    with pytest.raises(ValueError, match=r"ts: up to t = 1\.5; allowed: up to 1, when"):
        hd.simulate(system, [1.5], method=method, **plan)


def test_rows_as_given_are_used_in_their_order():
    """SGD in NumPy on rows of a covariance with a basis, batches of two; the same in each run."""
    rows, covariance = correlated_rows(n=20)
    target = np.linspace(-1.0, 1.0, 12)
    spectrum = hd.spectra.from_covariance(covariance)
    system = OnePassSGD(LeastSquares(), spectrum, 0.1, np.zeros(12), target, batch_size=2)
    method = Direct("float64", data=Rows(rows, shuffled=False))
    plan = {"key": jax.random.key(0), "runs": 2, "statistics": ["distance"]}
    result = hd.simulate(system, [10 / 12], method=method, **plan)
    x = np.zeros(12)
    for batch in rows.reshape(10, 2, 12):
        x = x - 0.1 / 12 * batch.T @ (batch @ (x - target)) / 2
    np.testing.assert_allclose(result.runs["distance"][:, 0], np.sum((x - target) ** 2), rtol=1e-10)
    with pytest.raises(TypeError, match="shuffled"):
        Rows(rows, shuffled="no")


@pytest.mark.slow
def test_universality_and_where_it_ends():
    """Logistic regression on signs follows the Gaussian limit unless columns are on the axes."""
    d, spread = 400, GaussianStart(scale=2.0)
    axes = np.zeros((d, 2))
    axes[0] = 2.0, 0.0
    axes[1] = 0.0, 2.0
    gaps = {}
    for name, start, target in (("spread", spread, GaussianStart(2.0)), ("axes", *axes.T)):
        system = OnePassSGD(Logistic(), hd.spectra.identity(d), 4.0, start, target)
        plan = {"key": jax.random.key(5), "runs": 64, "statistics": ["distance"]}
        plan |= {"method": Direct(data=Rademacher()), "fluctuations": False}
        result = hd.compare(system, [0.0, 1.0], **plan)
        gap = float(result.mean["distance"][1] - result.limit["distance"][1])
        gaps[name] = gap, float(result.std["distance"][1]) / 8
    assert abs(gaps["spread"][0]) < 4 * gaps["spread"][1] + 8 / d
    assert abs(gaps["axes"][0]) > 10 * gaps["axes"][1]


def correlated_rows(n=400, d=12):
    """Rows of a spiked covariance with heavy tails, and their own covariance."""
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((d, d)) * np.linspace(0.2, 2.0, d)
    rows = rng.standard_t(5.0, (n, d)) @ mixing
    return rows, rows.T @ rows / n


def with_rows(spectrum, rows):
    d = rows.shape[1]
    system = OnePassSGD(LeastSquares(0.5), spectrum, 0.1, np.ones(d) / d**0.5, np.zeros(d))
    return system.simulator(Direct(data=Rows(rows)))


@pytest.mark.parametrize("factor", [1.0, 0.98, 1.001, 25.0])
def test_rows_of_another_scale_are_refused(factor):
    """The rows' own covariance is taken, and a multiple of it is not, however near to one."""
    rows, covariance = correlated_rows()
    spectrum = hd.spectra.from_covariance(factor * covariance)
    if factor == 1:
        with_rows(spectrum, rows)
        return
    size = f"{np.trace(covariance) / 12:.6g}"
    with pytest.raises(ValueError, match=rf"rows: tr C/d = {size}.*from_covariance\(rows"):
        with_rows(spectrum, rows)


def test_rows_of_another_shape_of_covariance_are_refused():
    rows, covariance = correlated_rows()
    mean = np.trace(covariance) / 12
    with pytest.raises(ValueError, match="rows: "):
        with_rows(hd.spectra.from_covariance(mean * np.eye(12)), rows)
    values, vectors = np.linalg.eigh(covariance)
    with pytest.raises(ValueError, match="rows: "):
        with_rows(hd.spectra.from_covariance((vectors * values[::-1]) @ vectors.T), rows)
    flat = (vectors * np.where(np.arange(12) < 3, 0, values)) @ vectors.T
    with pytest.raises(ValueError, match="where K = 0"):
        with_rows(hd.spectra.from_covariance(flat), rows)


@pytest.mark.parametrize(("n", "d"), [(1, 30), (3, 40), (50, 100), (2000, 10)])
def test_samples_of_the_covariance_are_rows_of_it(n, d):
    spectrum = hd.spectra.power_law(d, 1.0)
    scale = np.sqrt(np.asarray(spectrum.eigenvalues))
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_t(5.0, (n, d)) * 0.6**0.5 * scale
        assert isinstance(with_rows(spectrum, rows), hd.Simulator)


def test_a_law_of_another_scale_is_refused():
    system = small_system()

    def too_large(key):
        return 1.3 * jnp.asarray(np.sqrt(LAMBDA)) * jax.random.normal(key, (8,))

    with pytest.raises(ValueError, match="function: tr C/d"):
        system.simulator(Direct(data=Sampler(too_large)))


def test_wrong_data():
    with pytest.raises(ValueError, match=r"dof: 2\.0; allowed: a finite number, above 2"):
        StudentT(2.0)
    with pytest.raises(ValueError, match=r"rows: shape \(3,\)"):
        Rows(np.zeros(3))
    with pytest.raises(
        ValueError, match=r"rows: an array of shape \(2, 2\) with the entry nan; allowed"
    ):
        Rows(np.full((2, 2), np.nan))
    system = small_system()
    with pytest.raises(ValueError, match="rows: 5 columns; allowed: d = 8"):
        system.simulator(Direct(data=Rows(np.zeros((9, 5)))))
    with pytest.raises(ValueError, match=r"function: samples of shape \(3,\); allowed: \(8,\)"):
        hd.simulate(
            system,
            [1.0],
            key=jax.random.key(0),
            runs=1,
            method=Direct(data=Sampler(lambda key: jnp.zeros(3))),
        )
    mixture = Mixture([0.5, 0.5], GaussianStart(columns=2))
    mixed = OnePassSGD(
        hd.streaming.losses.ComponentLogistic([0.0, 1.0]),
        hd.spectra.identity(8),
        1.0,
        GaussianStart(),
        mixture=mixture,
    )
    with pytest.raises(ValueError, match="Rows with a mixture"):
        mixed.simulator(Direct(data=Rows(np.zeros((9, 8)))))
    with pytest.raises(ValueError, match="block"):
        Direct(block=4, data=Rademacher())
    with pytest.raises(ValueError, match="coordinates"):
        OnePassSGD(
            LeastSquares(),
            hd.spectra.identity(jnp.asarray(8.0)),
            1.0,
            GramStart(np.eye(2)[None], 1),
        ).simulator(Direct(data=Rademacher()))
