"""The mean path of SGD: gradient flow, against exponentials of matrices in R^d."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from hdjax.multipass import Problem, Quadratic
from hdjax.multipass.flow import Flow
from hdjax.multipass.modes import svd_modes


@pytest.fixture(scope="module")
def problem():
    """Six samples in R^4, of which one direction is never seen; it decays by the ridge alone."""
    rng = np.random.default_rng(0)
    matrix = np.pad(rng.standard_normal((6, 3)), ((0, 0), (0, 1)))
    forms = {"size": Quadratic(np.eye(4)), "last": Quadratic(np.diag([0, 0, 0, 2.0]))}
    return Problem(matrix, rng.standard_normal(6), rng.standard_normal(4), forms)


@pytest.mark.parametrize("ridge", [None, 0.3])
def test_it_is_the_exponential_of_the_hessian(problem, ridge):
    modes, _ = svd_modes(problem)
    flow = Flow(modes, None if ridge is None else jnp.asarray(ridge))
    matrix, start = np.asarray(problem.matrix), np.asarray(problem.start)
    hessian = matrix.T @ matrix + (ridge or 0.0) * np.eye(4)
    end = np.linalg.pinv(hessian) @ matrix.T @ np.asarray(problem.labels)
    unseen = np.array([0, 0, 0, start[3]]) if ridge is None else 0.0
    for time in (0.0, 0.4, 2.0):
        x = end + unseen + linalg.expm(-time * hessian) @ (start - end - unseen)
        decay = flow.decay(jnp.asarray(time))
        found = flow.values(decay, jnp.zeros(4))
        for name, value in problem.values(jnp.asarray(x)).items():
            np.testing.assert_allclose(found[name], value, rtol=1e-11)
        # The loss is a sum over samples here.
        loss = flow.loss(decay, jnp.zeros(4))
        np.testing.assert_allclose(loss, 6 * problem.loss(jnp.asarray(x)), rtol=1e-11)
    assert abs(x - start).max() > 0.1
