"""Models, parameters and exact results that several tests of one-pass SGD share."""

import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import hdjax as hd
from hdjax.streaming import GaussianStart, GramStart, Mixture, OnePassSGD, losses

# A covariance of one student and one teacher projection, and one of two of each.
B = np.array([[0.8, 0.3], [0.3, 1.1]])
LOWER = np.array([[1.0, 0, 0, 0], [0.3, 0.8, 0, 0], [0.5, -0.2, 0.9, 0], [-0.1, 0.4, 0.2, 0.7]])
GRAM = LOWER @ LOWER.T
# The weights of two groups.
HALF = np.array([0.6, 0.4])[:, None, None]
# Model S of the spectral-alignment note, three classes: overlaps of the columns with the means, of
# the columns with each other, and of the means with each other.
S = np.array([[0.8, -0.3, 0.1], [-0.4, 0.9, -0.2], [-0.1, -0.2, 0.5]])
Q = np.array([[1.2, 0.1, -0.2], [0.1, 1.0, -0.3], [-0.2, -0.3, 0.9]])
G = np.array([[1.0, 0.0, 0.5], [0.0, 1.44, 0.0], [0.5, 0.0, 1.25]])


def isotropic(loss, learning_rate=0.2, start=None, target=True, **options):
    """A system in 100 dimensions with covariance I, from random columns."""
    return OnePassSGD(
        loss,
        hd.spectra.identity(100),
        learning_rate,
        GaussianStart() if start is None else start,
        GaussianStart() if target else None,
        **options,
    )


def least_squares(d, **options):
    """The model of the exact finite-d mean: group distances (.7, .3) spread evenly, X* = 0."""
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = [0.7, 0.3]
    spectrum = hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10])
    loss = losses.LeastSquares(sigma=0.5)
    return OnePassSGD(loss, spectrum, 0.8, GramStart(blocks), **options)


def exact_mean_risk(d, steps, batch):
    """E risk of `least_squares` by the recursion for E delta_i^2, by group (math, section 9)."""
    lam, counts = np.array([0.5, 2.0]), np.array([6 * d // 10, 4 * d // 10])
    total, g = np.array([0.7, 0.3]), 0.8 / d
    for _ in range(steps):
        spread = counts * lam * (lam @ total + 0.25) + lam**2 * total
        total = total * (1 - g * lam) ** 2 + g**2 / batch * spread
    return (lam @ total + 0.25) / 2


def trained(x, teacher, component, noise, theta):
    """The logistic loss of a logit with a trained gain and bias; component 0 has label 1."""
    logit = theta["gain"] * jnp.tanh(x[0]) + theta["bias"]
    label = jnp.where(component == 0, 1.0, 0.0).astype(x.dtype)
    return jnp.logaddexp(0.0, logit) - label * logit


def two_means(d, loss=None, **options):
    """A mixture of two components with opposite means and the same covariance."""
    means = np.stack([np.ones(d), -np.ones(d)], axis=1) / np.sqrt(d)
    loss = losses.ComponentLogistic([1.0, 0.0]) if loss is None else loss
    return OnePassSGD(
        loss,
        hd.spectra.explicit([0.25], [d]),
        2.0,
        GaussianStart(scale=0.7),
        mixture=Mixture([0.3, 0.7], means),
        ridge=0.05,
        **options,
    )


def two_covariances(d, start, means, **options):
    """A mixture of two components with commuting covariances, and a trained head."""
    return OnePassSGD(
        losses.FunctionLoss(trained),
        hd.spectra.explicit([0.5, 2.0], [6 * d // 10, 4 * d // 10]),
        1.5,
        start,
        mixture=Mixture([0.3, 0.7], means, eigenvalues=[[0.1, 0.9], [1.2, 0.3]]),
        theta={"gain": 1.0, "bias": -0.2},
        **options,
    )


def noise_of_least_squares(spectrum, gamma, sigma, distances, variances, ts):
    """Risk and its standard deviation from the derivation (section 5), on all groups, by SciPy.

    `distances` are those of the start in each eigenspace, `variances` d times their variances.
    """
    lam, w = np.asarray(spectrum.eigenvalues), np.asarray(spectrum.weights)
    g, beta = len(lam), lam * w

    def rate(t, z):
        y, p = z[:g], z[g:].reshape(g, g)
        own = lam * y
        e2 = own.sum() + sigma**2
        jacobian = gamma**2 * np.outer(beta, lam) - 2 * gamma * np.diag(lam)
        cross = np.outer(own, beta)
        noise = 4 * gamma**2 * (e2 * np.diag(own) + np.outer(own, own))
        noise += 2 * gamma**4 * e2**2 * np.outer(beta, beta) - 4 * gamma**3 * e2 * (cross + cross.T)
        drift = gamma**2 * beta * e2 - 2 * gamma * own
        return np.concatenate([drift, (jacobian @ p + p @ jacobian.T + noise).ravel()])

    start = np.concatenate([distances, np.diag(variances).ravel()])
    found = solve_ivp(rate, (0, ts[-1]), start, "DOP853", ts, rtol=1e-10, atol=1e-14).y.T
    variance = [lam @ z[g:].reshape(g, g) @ lam / 4 for z in found]
    risk = (found[:, :g] @ lam + sigma**2) / 2
    return risk, np.sqrt(np.array(variance) / float(spectrum.dimension))


def risk_of(model):
    return lambda summary: {"risk": model.statistics(summary)["risk"]}


def hinge(x, teacher, component, noise, theta):
    """The hinge loss, as a plain function."""
    return jnp.maximum(1 - jnp.sign(teacher[0]) * x[0], 0)


def flipped_by_draw(x, teacher, component, noise, theta):
    """The hinge loss with labels that a uniform draw flips with probability 0.1."""
    label = jnp.where(noise[0] < 0.1, -1.0, 1.0) * jnp.sign(teacher[0])
    return jnp.maximum(1 - label * x[0], 0)
