"""The map of emergence against the spectrum at its points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, gaussian
from hdjax.streaming import mixtures


@pytest.mark.slow
def test_emergence_map_counts_what_the_spectrum_has():
    mixture = mixtures.mixture_softmax(100, 3, snr=4.0, learning_rate=1.0, ridge=0.01)
    alphas, snrs = jnp.array([0.7, 3.0, 20.0]), jnp.array([1.0, 6.0])
    counts, margins = curvature.emergence_map(
        mixture,
        0,
        "hessian",
        alphas=alphas,
        snrs=snrs,
        ts=jnp.array([0.0, 2.0]),
        rule=gaussian.GaussHermite(16),
    )
    assert counts.shape == (2, 2, 3)
    assert np.all(np.diff(counts, axis=-1) >= 0)
    assert counts[0, 0, 0] == 0
    assert counts[1, 1, 2] == 3
    own = mixtures.mixture_softmax(100, 3, snr=6.0, learning_rate=1.0, ridge=0.01)
    summary = jax.tree.map(lambda x: x[-1], own.limit(jnp.array([0.0, 2.0])).values)
    theory = curvature.block_theory(own, summary, 0, "hessian", 3.0, gaussian.GaussHermite(16))
    np.testing.assert_allclose(theory.emergence()[1], margins[1, 1, 1], atol=1e-7)
