"""The law of training samples against runs: their loss, and the edges of their matrices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature, streaming
from hdjax.streaming import mixtures


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.long
def test_training_samples_are_remembered():
    """Loss and edges on training data, d = 300, from the limit alone."""
    d, t = 300, 3.0
    system = mixtures.mixture_softmax(d, 3, snr=1.5, learning_rate=3.0)
    law = curvature.training_samples(system, jnp.array(t))
    loss = float(curvature.training_loss(system, law))
    n, simulator = int(t * d), system.simulator()

    @jax.jit
    def run(key):
        state = simulator.advance(simulator.init(key), jnp.asarray(0), jnp.asarray(n), key)
        samples = streaming.samples.draw_samples(system, key, 0, n, state.frozen)
        x, none = jnp.dot(samples.rows, state.moving), jnp.zeros(0, jnp.float32)
        losses = jax.vmap(lambda x, c: system.loss(x, none, c, none, None))(x, samples.component)
        tops = [
            jnp.linalg.eigvalsh(
                curvature.empirical(system, samples, state.moving, state.frozen, None, kind)
                .restrict([0])
                .dense()
            )[-1]
            for kind in ("hessian", "gradient")
        ]
        return losses.mean(), jnp.stack(tops)

    keys = jax.vmap(jax.random.key)(jnp.arange(9))
    losses, tops = jax.lax.map(run, keys)
    error = float(losses.std()) / 3
    assert abs(float(losses.mean()) - loss) < 4 * error + 2 / d
    test = float(system.statistics(law.summary)["risk"])
    assert test > loss + 0.2
    for kind, top in zip(("hessian", "gradient"), tops.T, strict=True):
        _, edge = curvature.block_theory(system, law.summary, 0, kind, t, nodes=law.nodes).edges()
        assert abs(float(top.mean()) / float(edge) - 1) < 0.06
        _, fresh = curvature.block_theory(system, law.summary, 0, kind, t).edges()
        assert float(edge) < 0.97 * float(fresh)
        # A comparison on training samples has their law, and none before there are n of them.
        alignment = curvature.Alignment(system, [curvature.Block(0, kind, 1)], alpha=t, train=True)
        own = eqx.filter_jit(alignment.limit)(jnp.array([1.0, t])).values.measured[f"{kind}_0_edge"]
        assert np.isnan(own[0])
        assert float(own[1]) == pytest.approx(float(edge), rel=0.01)
