"""Edges of deterministic equivalents against closed forms and against the block's own."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian, spectra, streaming
from hdjax.curvature.full_theory import FullTheory
from hdjax.streaming import mixtures


@pytest.mark.slow
@pytest.mark.long
def test_edges_of_constant_weights():
    """X = 0, weights 1/4: Marchenko-Pastur, and Silverstein's edge with two groups."""
    d, snr, alpha = 40, 4.0, 0.7
    rule = gaussian.GaussHermite(4)
    zero = jnp.zeros((d, 2))
    system = mixtures.mixture_softmax(d, 2, snr=snr, learning_rate=1.0, start=zero, rule=rule)
    ratio = (1 + np.sqrt(1 / alpha)) ** 2
    # All of the Hessian is [[1, -1], [-1, 1]]/4 times a covariance, with the eigenvalue 1/2.
    whole = curvature.full_theory(system, system.start(), "hessian", alpha)
    np.testing.assert_allclose(EDGE(whole), ratio / snr / 2, rtol=1e-7)
    block = curvature.commuting_theory(system, system.start(), 0, "hessian", alpha, rule)
    np.testing.assert_allclose(EDGE(block), ratio / snr / 4, rtol=1e-7)
    assert np.isnan(EDGE(dataclasses.replace(whole, weights=0 * whole.weights)))
    assert np.isnan(EDGE(dataclasses.replace(block, weights=0 * block.weights)))

    e = np.array([2.5, 0.4])
    means = mixtures.orthonormal_means(d, 2)
    system = streaming.OnePassSGD(
        streaming.losses.MixtureSoftmax(2),
        spectra.explicit([1.0, 2.0], [d // 4, 3 * d // 4]),
        1.0,
        zero,
        mixture=streaming.Mixture([0.5, 0.5], means, eigenvalues=np.stack([e, e])),
    )
    theory = curvature.commuting_theory(system, system.start(), 0, "hessian", alpha, rule)
    # The minimum of z(v) = -1/v + E[t/(1 + t v)]/alpha, v the companion transform.
    t, p = e[:, None] / 4, np.array([[0.25], [0.75]])
    v = -np.linspace(0.01, 0.99, 200_001)[None] / t.max()
    z = -1 / v[0] + (p * t / (1 + t * v)).sum(0) / alpha
    np.testing.assert_allclose(EDGE(theory), z.min(), rtol=1e-7)


EDGE = eqx.filter_jit(lambda theory: theory.edge())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "alpha"), [("hessian", 0.5), ("hessian", 4.0), ("gradient", 2.0)])
def test_edge_of_one_column_is_that_of_the_block(kind, alpha):
    """The same nodes and weights: the right ends agree to rounding."""
    columns = mixtures.orthonormal_means(50, 4)
    x = 1.5 * columns[:, :2] + jnp.roll(columns, 1, axis=1)[:, :2]
    system = mixtures.mixture_softmax(
        50, 2, snr=3.0, learning_rate=1.0, start=x, means=columns[:, :2]
    )
    block = curvature.block_theory(system, system.start(), 0, kind, alpha)
    # Without knowledge of the supremum of D, which lies beyond the nodes.
    block = dataclasses.replace(block, largest=block.weights.max())
    nodes = dataclasses.replace(block.nodes, students=1)
    whole = FullTheory(nodes, block.weights[..., None, None], block.alpha)
    np.testing.assert_allclose(EDGE(whole), block.edges()[1], rtol=1e-7)
