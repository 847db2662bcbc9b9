"""The system that goes from saddle to saddle records what the flow does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import SaddleToSaddle, links
from hdjax.multiindex.links import from_coefficients
from tests.multiindex.problems import NEURONS


@pytest.mark.slow
def test_saddle_system_records_what_the_flow_does():
    """Cosines on the clock log10 t as in the integrated flow, wherever the records fall."""
    link = from_coefficients({(1, 0): 0.8, (0, 2): 0.6})
    start = [[0.03, 0.01], [-0.02, 0.04]]
    system = SaddleToSaddle(link, 1000, start=start, step=0.01)
    simulator = system.simulator()
    ticks = simulator.clock.ticks(np.array([0.0, 0.5, 1.0, 2.0, 2.5, 3.0]))
    advance = jax.jit(lambda state, k0, k1: simulator.advance(state, k0, k1, jax.random.key(0)))

    def run(ticks):
        state, last, summaries = simulator.init(jax.random.key(0)), 0, []
        for tick in ticks:
            state = advance(state, jnp.asarray(last), jnp.asarray(tick))
            summaries.append(simulator.summary(state))
            last = tick
        return jax.tree.map(lambda *x: np.stack(x), *summaries)

    found, fewer = run(ticks), run(ticks[[0, 3, 5]])
    path = (
        multiindex.GradientFlow(link, 1000, start=start)
        .limit(jnp.asarray(10 ** simulator.clock.times(ticks)))
        .values
    )
    exact = np.linalg.eigvalsh(np.einsum("tqr,tqs->trs", path.matrix, path.matrix))[:, ::-1]
    np.testing.assert_allclose(found.cosines, exact, atol=1e-5)
    np.testing.assert_array_equal(fewer.cosines, found.cosines[[0, 3, 5]])
    # An escape time is censored by the record until it has happened.
    np.testing.assert_allclose(found.escapes[0], [0.0, 0.0], atol=1e-12)
    assert (np.diff(found.escapes, axis=0) >= 0).all()
    assert found.escapes[-1, 0] < 1 < found.escapes[-1, 1] < 3
    assert system.exponents.tolist() == [0, 1]


def test_wrong_saddles():
    link = links.sine()
    for options, message in (
        ({"level": 1.0}, "level"),
        ({"step": 0.0}, "step"),
        ({"directions": 12}, "dimension"),
    ):
        with pytest.raises(ValueError, match=message):
            SaddleToSaddle(link, 10, **options)
    with pytest.raises(TypeError, match="method"):
        SaddleToSaddle(link, 100).simulator("direct")
    with pytest.raises(ValueError, match="power sums"):
        multiindex.SaddleToSaddle(NEURONS, 100)
    with jax.enable_x64(False), pytest.raises(ValueError, match="single precision"):
        SaddleToSaddle(links.sine(), 1e12)
    with pytest.raises(hd.NoLimitError):
        SaddleToSaddle(link, 100).limit(jnp.array([1.0]))
