"""SGD in the top spaces of its blocks, and off them."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax import curvature, streaming
from hdjax.curvature import Alignment
from hdjax.streaming import mixtures


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.long
def test_training_in_the_top_space_alone():
    """Keeps most of the progress, the complement loses most; records do not change a run."""
    d = 80
    mixture = mixtures.mixture_softmax(d, 3, snr=6.0, learning_rate=1.0, ridge=0.01)
    system, key = Alignment(mixture), jax.random.key(0)

    def fall(method):
        result = hd.simulate(
            system, [0.0, 1.1, 3.0], key=key, runs=2, method=method, statistics=["risk"]
        )
        return result.runs["risk"].values

    top = fall(curvature.ProjectedSGD("top", rank=3, refresh=40, samples=400))
    off = fall(curvature.ProjectedSGD("complement", rank=3, refresh=40, samples=400))
    plain = fall(None)
    progress = plain[:, 0] - plain[:, -1]
    assert np.all(top[:, 0] - top[:, -1] > 0.7 * progress)
    assert np.all(off[:, 0] - off[:, -1] < 0.5 * progress)


def test_methods_that_are_wrong():
    with pytest.raises(ValueError, match="space: 'bottom'"):
        curvature.ProjectedSGD("bottom")
    with pytest.raises(ValueError, match="refresh: 0"):
        curvature.ProjectedSGD(refresh=0)
    heavy = mixtures.mixture_softmax(
        20, 2, snr=1.0, learning_rate=1.0, optimiser=streaming.optimisers.HeavyBall(1.0)
    )
    with pytest.raises(ValueError, match="HeavyBall"):
        curvature.ProjectedSGD().simulator(heavy)
