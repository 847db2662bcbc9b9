"""Expectations and their error estimates against integrals on a line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from hdjax.gaussian import (
    QMC,
    GaussHermite,
    Trapezoid,
    expectation,
    expectation_with_error,
)


def slope(x):
    return jax.nn.sigmoid(x) * jax.nn.sigmoid(-x)


def expected_slope(variance):
    root = np.sqrt(variance)

    def integrand(w):
        e = np.exp(-abs(root * w))
        return e / (1 + e) ** 2 * np.exp(-(w**2) / 2) / np.sqrt(2 * np.pi)

    kinks = [0, 1 / root, 5 / root, 20 / root]
    value, _ = scipy.integrate.quad(integrand, 0, 9, points=kinks, epsabs=0, epsrel=1e-13)
    return 2 * value


@pytest.mark.parametrize("variance", [9.0, 100.0, 900.0])
def test_large_logits(variance):
    """Default rule to 1e-12; error of order exp(-x), x = 2 pi^2 / (h sqrt Q), for fewer points."""
    exact = expected_slope(variance)
    assert expectation(lambda z: slope(variance**0.5 * z[0]), 1) == pytest.approx(exact, rel=1e-12)

    x = 13.0
    coarse = Trapezoid(2 * round(8.5 * x * np.sqrt(variance) / (2 * np.pi**2)))
    x = 2 * np.pi**2 / (2 * 8.5 / coarse.points * np.sqrt(variance))
    value = expectation(lambda z: slope(variance**0.5 * z[0]), 1, coarse)
    # First term of Poisson's sum, residue of the double pole at i pi: 4 x exp(-x).
    pole = np.exp(np.pi**2 / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    assert abs(value - exact) == pytest.approx(4 * x * np.exp(-x) * pole, rel=0.1)


def test_gauss_hermite_fails_where_the_trapezoid_does_not():
    """The relative errors that the derivation quotes: 5e-3 at Q = 9, .61 at Q = 100, 20 nodes."""
    for variance, error in ((9.0, 5e-3), (100.0, 0.61)):
        value = expectation(lambda z, q=variance: slope(q**0.5 * z[0]), 1, GaussHermite(20))
        assert abs(value / expected_slope(variance) - 1) == pytest.approx(error, rel=0.2)


FUNCTIONS = {
    "logistic": lambda z: slope(5 * z.sum()),
    "kink": lambda z: jnp.abs(z.sum() - 0.3),
    "smooth": lambda z: jnp.cos(z.sum()) + z[0],
}


def exact_value(name, dim):
    """The functions depend on s = z.sum() ~ N(0, dim) alone (and z[0] has mean zero)."""
    root = np.sqrt(dim)
    of_sum = {
        "logistic": lambda s: 1 / (2 + 2 * np.cosh(5 * s)),
        "kink": lambda s: abs(s - 0.3),
        "smooth": np.cos,
    }[name]

    def integrand(u):
        return of_sum(root * u) * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)

    value, _ = scipy.integrate.quad(
        integrand, -9, 9, points=[-0.5, 0, 0.3 / root, 0.5], epsabs=1e-13, limit=500
    )
    return value


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("rule", "dim"),
    [
        (None, 1),
        (None, 2),
        (None, 3),
        (None, 5),
        (Trapezoid(24), 2),
        (GaussHermite(16), 2),
        (QMC(9), 3),
    ],
)
def test_error_estimates_cover_the_error(name, rule, dim):
    value, error = expectation_with_error(FUNCTIONS[name], dim, rule)
    off = abs(value - exact_value(name, dim))
    # Three standard errors for the randomised rules, with their 7 degrees of freedom four.
    assert off <= 4 * error + 1e-13
    assert error < 0.2
    assert value == expectation(FUNCTIONS[name], dim, rule)


def test_qmc_error_falls_with_its_points():
    errors = [
        float(expectation_with_error(FUNCTIONS["smooth"], 4, QMC(log2, seed=1))[1])
        for log2 in (7, 13)
    ]
    # 64 times the points: Monte Carlo would gain a factor 8.
    assert errors[1] < errors[0] / 12


def test_pytrees_integers_booleans_and_complex_numbers():
    mean = expectation(
        lambda z: {
            "outer": jnp.outer(z, z),
            "sign": (z > 0, jnp.sign(z).astype(int)),
            "wave": jax.lax.complex(jnp.cos(z[0]), jnp.sin(z[0])),
        },
        2,
    )
    np.testing.assert_allclose(mean["outer"], np.eye(2), atol=1e-12)
    np.testing.assert_allclose(mean["sign"][0], 0.5, rtol=1e-12)
    np.testing.assert_allclose(mean["sign"][1], 0, atol=1e-12)
    np.testing.assert_allclose(mean["wave"], np.exp(-0.5), rtol=1e-12)


def test_no_variables():
    assert expectation(lambda z: z.sum() + 2.0, 0) == 2.0
    value, error = expectation_with_error(lambda z: jnp.asarray(2.0), 0)
    assert (value, error) == (2.0, 0.0)


def test_chunks_give_what_one_sum_gives(monkeypatch):
    def fn(z):
        return jnp.tanh(z) * z[0], jnp.log(jnp.abs(z).sum())

    whole = expectation(fn, 2)
    monkeypatch.setattr("hdjax.gaussian.expectations._CHUNK", 1000)
    for got, want in zip(expectation(fn, 2), whole, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)
        assert np.isfinite(got).all()


def test_float32():
    value = expectation(lambda z: slope(3 * z[0]), 1, dtype=jnp.float32)
    assert value.dtype == jnp.float32
    assert value == pytest.approx(expected_slope(9.0), rel=2e-6)


def test_transformations():
    """Derivative of E s(sqrt(Q) w)^2 in Q, under jit and vmap, against a difference quotient."""

    def mean(variance):
        return expectation(lambda z: jax.nn.sigmoid(jnp.sqrt(variance) * z[0]) ** 2, 1)

    at = jnp.array([0.5, 4.0])
    gradient = jax.jit(jax.vmap(jax.grad(mean)))(at)
    forward = jax.vmap(jax.jacfwd(mean))(at)
    quotient = [(mean(v + 1e-5) - mean(v - 1e-5)) / 2e-5 for v in at]
    np.testing.assert_allclose(gradient, quotient, rtol=1e-7)
    np.testing.assert_allclose(forward, gradient, rtol=1e-12)
