"""Signs of failure show on paths that fail, and not on others."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import GradientFlow, links
from hdjax.multiindex.flows import Planted
from hdjax.multiindex.links import from_coefficients

TIMES = jnp.arange(11.0)


def test_waits_of_a_curve_by_hand():
    """A wait from 2 to 6 of 10; the end, which nothing follows, is none."""
    wait = multiindex.diagnostics.slow_growth("loss", 0.05)
    steps = jnp.array([4.0, 3.0, 2.0, 2.0, 2.05, 1.95, 2.0, 1.0, 0.0, 0.0, 0.0])
    assert float(wait(TIMES, {"loss": steps})) == pytest.approx(0.4)
    # A straight line waits for as long as it takes to leave the neighbourhood of a point.
    wide = multiindex.diagnostics.slow_growth("loss", 0.15)
    assert float(wide(TIMES, {"loss": 10 - TIMES})) == pytest.approx(0.1)
    assert float(wait(TIMES, {"loss": 10 - TIMES})) == 0
    resting = jnp.where(TIMES < 1, 1.0, 0.0)
    assert float(wait(TIMES, {"loss": resting})) == 0


def test_falls_and_ends_of_curves_by_hand():
    curve = jnp.array([0.1, 0.5, 0.3, 0.6, 0.2, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9])
    fall = multiindex.diagnostics.oscillation("cosines")
    assert float(fall(TIMES, {"cosines": jnp.stack([TIMES, curve], axis=1)})) == pytest.approx(0.4)
    assert float(fall(TIMES, {"cosines": TIMES})) == 0
    stuck = multiindex.diagnostics.trapped(0.5)
    for end, expected in ((0.8, 1), (0.4, 0)):
        rests = jnp.where(TIMES < 5, 1.0, end)
        assert float(stuck(TIMES, {"loss": rests})) == expected
    # It falls by more than 1 % of its value in the last quarter.
    assert float(stuck(TIMES, {"loss": 2 - 0.01 * TIMES})) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiindex.diagnostics.slow_growth("loss", 0.0), "tolerance"),
        (lambda: multiindex.diagnostics.trapped(-0.1), "level"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def curves(system, ts):
    result = hd.limit(
        system,
        ts,
        statistics=["loss", "cosines"],
        paths={
            "wait": multiindex.diagnostics.slow_growth("loss"),
            "fall": multiindex.diagnostics.oscillation("cosines"),
            "stuck": multiindex.diagnostics.trapped(0.01),
        },
    )
    return {name: float(result.paths_limit[name]) for name in ("wait", "fall", "stuck")}


@pytest.mark.slow
def test_signs_of_failure():
    """Each on a case that shows it, and on one that does not."""
    link = links.hermite_polynomial(2)
    ts = np.linspace(0, 20, 201)
    waiting = curves(GradientFlow(link, 100, start=[[0.1]]), ts)
    assert waiting["wait"] > 0.3  # 1/(8 g_0) = 12.5 at a saddle
    assert waiting["fall"] < 1e-7  # principal angles are monotone
    assert waiting["stuck"] == 0
    linear = curves(GradientFlow(links.hermite_polynomial(1), 100, start=[[0.6]]), ts / 10)
    assert linear["wait"] < 0.1
    swinging = curves(multiindex.StiefelDescent(link, 100, 5.0, start=[[0.3]]), np.arange(30.0))
    assert swinging["fall"] > 0.1
    cubic = from_coefficients({(2,): 0.7, (3,): 0.7})
    stuck = curves(GradientFlow(cubic, 100, Planted(), start=[[-0.2]]), ts)
    assert stuck["stuck"] == 1
