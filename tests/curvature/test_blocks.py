"""Blocks and the diagnostics of their top spaces, in runs and in the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.curvature import Alignment, Block
from hdjax.streaming import mixtures
from tests.curvature.problems import TWO


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d", "alpha", "snr", "no_separation", "unconcentrated"),
    [
        (100, 0.7, 0.2, 1, 1),  # no outlier at all
        (30, 3600.0, 0.16, 1, 0),  # outliers next to a bulk that is nearly a point
        (200, 8.0, 2.0, 0, 1),  # outliers apart from a bulk that is as wide as their distance
        (60, 30.0, 30.0, 0, 0),
    ],
)
def test_diagnostics_on_both_sides(d, alpha, snr, no_separation, unconcentrated):
    """X = 0, where the block is that of a spiked covariance: each failure without the other."""
    mixture = mixtures.mixture_softmax(
        d,
        2,
        snr=snr,
        learning_rate=1.0,
        start=jnp.zeros((d, 2)),
        rule=hd.gaussian.GaussHermite(4),
    )
    system = Alignment(mixture, TWO, alpha=alpha)
    simulator = system.simulator(horizon=system.horizon(np.zeros(1)))
    run = jax.jit(lambda key: system.statistics(simulator.summary(simulator.init(key))))
    for found in (run(jax.random.key(0)), system.statistics(system.start())):
        assert found["hessian_0_no_separation"] == no_separation
        assert found["hessian_0_unconcentrated"] == unconcentrated


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Block(0, "fisher"), "kind: 'fisher'"),
        (lambda: Block(-1), "index: -1"),
        (lambda: Block(0, rank=0), "rank: 0"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
