"""The profiled flow on anisotropic inputs is the isotropic one of whitened inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import GradientFlow
from hdjax.multiindex.anisotropic import anisotropic_overlap, gradient
from hdjax.multiindex.flows import Planted, Profiled
from hdjax.multiindex.problem import OverlapSummary
from tests.multiindex.problems import A, M, gram


def test_overlap_is_that_of_the_whitened_frames():
    """Frames of K^{1/2} W and K^{1/2} W* by polar decompositions of SciPy."""
    rng = np.random.default_rng(0)
    eigenvalues = rng.uniform(0.2, 3.0, 9)
    w, target = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    frames = [scipy.linalg.polar(np.sqrt(eigenvalues)[:, None] * x)[0] for x in (w, target)]
    found = anisotropic_overlap(*(jnp.asarray(x) for x in (eigenvalues, w, target)))
    np.testing.assert_allclose(found, frames[0].T @ frames[1], atol=1e-13)


@pytest.mark.slow
def test_anisotropic_flow():
    """Preconditioned it is the isotropic reduced flow; the plain one is not, and keeps W^T W."""
    eigenvalues = np.linspace(0.5, 2.0, 24)
    flow = GradientFlow(A, 24, start=M, integrator=hd.Integrator(rtol=1e-10))
    link = flow.problem.link
    method = multiindex.Anisotropic(eigenvalues)
    simulator = flow.simulator(method)
    key, end = jax.random.key(0), jnp.asarray(simulator.clock.ticks(np.array([2.0]))[0])
    zero = jnp.zeros_like(end)
    start = simulator.init(key)
    np.testing.assert_allclose(simulator.summary(start).matrix, M, atol=1e-12)
    final = jax.jit(lambda s: simulator.summary(simulator.advance(s, zero, end, key)))(start)
    limit = flow.limit(jnp.array([2.0])).values
    np.testing.assert_allclose(gram(final.matrix), gram(limit.matrix)[0], atol=1e-9)

    plain = flow.simulator(multiindex.Anisotropic(eigenvalues, preconditioned=False))
    moved = jax.jit(lambda s: plain.advance(s, zero, end, key))(start)
    np.testing.assert_allclose(moved.T @ moved, start.T @ start, atol=1e-7)
    assert np.abs(gram(plain.summary(moved).matrix) - gram(limit.matrix)[0]).max() > 0.01

    # The gradient against differences of the loss |f~|^2 - E(G).
    scale, target = jnp.asarray(eigenvalues), plain.target

    def loss(w):
        matrix = multiindex.anisotropic.anisotropic_overlap(scale, w, target)
        return Profiled().loss(link, OverlapSummary.of(matrix))

    own = gradient(link, scale, start, target)
    direction = jax.random.normal(jax.random.key(9), start.shape)
    h = 1e-5
    slope = (loss(start + h * direction) - loss(start - h * direction)) / (2 * h)
    assert float((own * direction).sum()) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: GradientFlow(A, 10).simulator(multiindex.Anisotropic(np.ones(9))),
            "eigenvalues",
        ),
        (
            lambda: GradientFlow(A, 9, Planted()).simulator(multiindex.Anisotropic(np.ones(9))),
            "student",
        ),
        (lambda: multiindex.Anisotropic(np.zeros(9)), "eigenvalues"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
