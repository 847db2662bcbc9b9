"""Modes by products with the matrix, against the singular value decomposition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass.krylov import krylov_modes

RNG = np.random.default_rng(0)
N, D = 300, 200
SCALES = np.arange(1, D + 1) ** -0.4
ROWS = RNG.standard_normal((N + 100, D)) * SCALES
ROWS = ROWS / np.sqrt(np.mean(np.sum(ROWS[:N] ** 2, axis=1)))
LABELS = (ROWS @ RNG.standard_normal((D, 2))) * 3 + 0.3 * RNG.standard_normal((N + 100, 2))


@pytest.fixture(scope="module")
def modes():
    parts = [jnp.asarray(part) for part in (ROWS[:N], LABELS[:N], ROWS[N:], LABELS[N:])]
    return krylov_modes(*parts, points=40, probes=20, key=jax.random.key(0))


def test_limits_are_those_of_the_whole_spectrum(modes):
    ts = jnp.array([0.0, 0.5, 2.0, 10.0])
    for c, own in enumerate(modes):
        test = hd.multipass.SampleRisk(ROWS[N:], LABELS[N:, c])
        problem = hd.multipass.Problem(ROWS[:N], LABELS[:N, c], None, {"test": test})
        exact = hd.multipass.MultiPassSGD(problem, 1.0).limit(ts).values
        found = hd.multipass.MultiPassSGD(None, 1.0, modes=own).limit(ts).values
        for name in ("loss", "test"):
            # The error is that of 20 random vectors in 200 dimensions.
            np.testing.assert_allclose(found[name], exact[name], rtol=0.04)


def test_traces_are_estimated(modes):
    trace = float(jnp.sum(modes[0].multiplicities * modes[0].eigenvalues))
    assert trace == pytest.approx(N)
    assert float(modes[0].samples) == N


def test_a_spectrum_of_few_eigenvalues_ends_the_iteration():
    rows = jnp.eye(20)
    (own,) = krylov_modes(
        rows, jnp.ones((20, 1)), rows, jnp.ones((20, 1)), points=15, key=jax.random.key(0)
    )
    np.testing.assert_allclose(own.eigenvalues, 1, rtol=1e-6)
    assert float(own.floor) == pytest.approx(0, abs=1e-9)
