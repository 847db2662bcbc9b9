"""A function of R^4 in general position, on which algorithms are run by plain formulas."""

import jax.numpy as jnp
import numpy as np

# A function of R^4 with values, gradients and a start in general position.
CURVATURES = np.array([0.3, 0.7, 1.1, 1.9])
START = np.array([1.0, -0.5, 0.8, 0.4])
STEPS = 5
norm = np.linalg.norm


def f(x):
    return CURVATURES @ x**2 / 2 + x[0] ** 3 / 6


def g(x):
    return CURVATURES * x + np.array([x[0] ** 2 / 2, 0, 0, 0])


def descended(rate):
    """x' = x - rate(k, x) g(x)."""
    points = [START]
    for k in range(STEPS):
        points.append(points[-1] - rate(k, points) * g(points[-1]))
    return points


def run(algorithm, basis):
    """Points of R^d; the algorithm sees coefficients over the rows of `basis`, and their metric."""
    metric = jnp.asarray(basis @ basis.T)
    inverse = np.linalg.inv(basis)

    def dot(u, v):
        return u @ metric @ v

    x = jnp.asarray(START @ inverse)
    state, points = algorithm.init(x), [START]
    for k in range(STEPS):
        there = points[-1]
        gradient = jnp.asarray(g(there) @ inverse)
        x, state = algorithm.step(state, jnp.asarray(k), x, jnp.asarray(f(there)), gradient, dot)
        points.append(np.asarray(x) @ basis)
    return points


def assert_formula(algorithm, expected):
    """An orthonormal basis, and one that is far from it (as the limit's)."""
    oblique = np.eye(4) + 0.4 * np.triu(np.ones((4, 4)), 1)
    for basis in (np.eye(4), oblique):
        np.testing.assert_allclose(run(algorithm, basis), expected, rtol=1e-11)


def assert_rest(algorithm):
    x = jnp.asarray(START)
    state = algorithm.init(x)
    for k in range(2):
        arguments = jnp.asarray(k), x, jnp.asarray(0.3), jnp.zeros(4)
        ahead, state = algorithm.step(state, *arguments, jnp.vdot)
        np.testing.assert_allclose(ahead, START, rtol=1e-15)
