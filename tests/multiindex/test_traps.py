"""Haar starts of the planted flow are trapped as often as their probabilities say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import GradientFlow, Reduced
from hdjax.multiindex.flows import Planted
from hdjax.multiindex.links import from_coefficients

QUICK = hd.Integrator(rtol=1e-6)


def trapped(link, d, t, runs, student=None):
    """Which of `runs` starts end trapped, with their losses."""
    flow = GradientFlow(link, d, Planted() if student is None else student, integrator=QUICK)
    result = hd.simulate(
        flow,
        [t],
        key=jax.random.key(0),
        runs=runs,
        method=Reduced(),
        statistics=["trapped", "loss", "overlaps"],
        progress=False,
    )
    return result


@pytest.mark.slow
@pytest.mark.optimised
def test_single_index_is_trapped_from_half_of_the_starts():
    """h_2 + h_3: probability 1/2, all resting at m = -2/3, trapped iff m_0 < 0."""
    link = from_coefficients({(2,): 0.7, (3,): 0.7})
    result = trapped(link, 10**4, 40.0, 2000)
    share = float(result.mean["trapped"][-1])
    assert abs(share - multiindex.traps.single_probability(link)) < 3 * 0.5 / np.sqrt(2000)
    ends = result.runs["overlaps"].values[:, -1, 0, 0]
    starts = jax.vmap(
        lambda run: multiindex.starts.haar_overlap(
            jax.random.fold_in(jax.random.key(0), run), jnp.asarray(1e4), 1, 1
        )
    )(jnp.arange(1024))[:, 0, 0]
    caught = result.runs["trapped"].values[:, -1] == 1
    np.testing.assert_array_equal(caught[:1024], np.asarray(starts) < 0)
    np.testing.assert_allclose(ends[caught], -2 / 3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.optimised
def test_two_cubics_are_trapped_from_31_of_48_starts():
    """As d grows; at d = 10^4 after a hundred times the typical time, within three errors."""
    link = from_coefficients({(3, 0): 1.0, (0, 3): 1.0})
    runs = 3000
    result = trapped(link, 10**4, 1000.0, runs)
    p = multiindex.traps.cubics_probability()
    assert p == 31 / 48
    assert abs(float(result.mean["trapped"][-1]) - p) < 3 * np.sqrt(p * (1 - p) / runs)
    # Some rest at M = 0 with loss 2 |f*|^2: four negative entries.
    lost = (result.runs["loss"].values[:, -1] > 3.5).mean()
    assert abs(lost - 1 / 16) < 3 * np.sqrt(15 / 16**2 / runs)


@pytest.mark.slow
@pytest.mark.optimised
def test_two_symmetries_trap_and_one_does_not():
    both = trapped(multiindex.traps.radial_harmonics({3: 0.02, 4: 0.04}), 10**6, 400.0, 500)
    expected = multiindex.traps.basin_probability({3: 0.02, 4: 0.04})
    error = np.sqrt(expected * (1 - expected) / 500)
    assert abs(float(both.mean["trapped"][-1]) - expected) < 3 * error
    one = trapped(multiindex.traps.radial_harmonics({3: 0.0, 4: 0.04}), 10**6, 400.0, 200)
    assert float(one.mean["trapped"][-1]) == 0


def test_probabilities():
    assert multiindex.traps.basin_probability({3: 0.02, 4: 0.04}) == pytest.approx(0.733, abs=1e-3)
    assert multiindex.traps.basin_probability({3: 0.04, 4: 0.02}) == pytest.approx(0.705, abs=1e-3)
    assert multiindex.traps.basin_probability({3: 0.01, 5: 0.04}) == pytest.approx(0.791, abs=1e-3)
    assert multiindex.traps.basin_probability({4: 0.04}) == 0
    for coefficients, expected in (
        ({1: 1.0}, 0),
        ({2: 1.0}, 0),
        ({3: 1.0}, 0.5),
        ({2: 1.0, 4: 0.3}, 0),
        ({2: 1.0, 5: 0.3}, 0.5),
        ({1: 1e-9, 2: 1.0}, 0),
    ):
        link = from_coefficients({(k,): value for k, value in coefficients.items()})
        assert multiindex.traps.single_probability(link) == expected
    # The harmonic polynomial of order 3 by its definition.
    link = multiindex.traps.radial_harmonics({3: 1.0})
    z = jnp.array([0.3, -1.1])
    radial = ((z**2 - 1) / np.sqrt(2)).sum() / np.sqrt(2)
    harmonic = np.real((0.3 - 1.1j) ** 3) / np.sqrt(4 * 6)
    assert float(link(z)) == pytest.approx(float(radial) + harmonic, abs=1e-12)
    assert float(link.norm2) == pytest.approx(2, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiindex.traps.radial_harmonics({}), "weights"),
        (lambda: multiindex.traps.radial_harmonics({0: 0.1}), "weights"),
        (lambda: multiindex.traps.basin_probability({2: 0.1}), "weights"),
        (
            lambda: multiindex.traps.single_probability(
                multiindex.traps.radial_harmonics({3: 1.0})
            ),
            "link",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
