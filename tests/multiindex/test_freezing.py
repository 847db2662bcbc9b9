"""The freezing algorithm finds exact escape times over all time scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import links
from hdjax.multiindex.freezing import escape_times
from hdjax.multiindex.links import from_coefficients
from tests.multiindex.problems import NEURONS, ROTATION

# The overlap whose odds factor is [[1e-3, 2e-3], [-2e-3, 1.5e-3]].
M0 = multiindex.flows.from_odds(jnp.array([[1e-3, 2e-3], [-2e-3, 1.5e-3]])).matrix


REFERENCE = {
    "h1+h2": ({(1, 0): 0.8, (0, 2): 0.6}, (4.767997, 57395.77)),
    "h2+h3": ({(2, 0): 0.8, (0, 3): 0.6}, (39064.697, 3.162173e9)),
    "z1z2": ({(1, 1): 1.0}, (37851.13, 54380.15)),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_escape_times(name):
    """Also in rotated coordinates, where S rotated afterwards would be off by orders."""
    coefficients, reference = REFERENCE[name]
    link = from_coefficients(coefficients)
    follow = jax.jit(lambda link, start: 10 ** escape_times(link, start, step=0.01))
    np.testing.assert_allclose(follow(link, M0), reference, rtol=2e-7)
    if name == "h2+h3":
        rotated = follow(link.rotate(ROTATION), M0 @ ROTATION.T)
        np.testing.assert_allclose(rotated, reference, rtol=2e-7)


@pytest.mark.slow
def test_escape_times_against_the_exact_integral():
    """h_s from g = 1e-6 to 1/2 (section 4), and from d = 10^12 for leap 4: T of order 10^34."""
    follow = jax.jit(escape_times)
    for s, g, exact in (
        (2, 1e-6, 125001.476938695),
        (3, 1e-6, 4.1666750e10),
        (4, 1e-12, (1 / (3 * 1e-36) + 1 / (2 * 1e-24) + 1e12) / 16),
    ):
        time = 10 ** follow(links.hermite_polynomial(s), jnp.array([[np.sqrt(g)]]))
        assert float(time[0]) == pytest.approx(exact, rel=2e-6)
    sine = jax.jit(lambda start: 10 ** escape_times(links.sine(), start, step=0.01))
    assert float(sine(jnp.array([[1e-3]]))[0]) == pytest.approx(9.326486558, rel=2e-6)


@pytest.mark.slow
def test_turning_direction_against_the_integrated_flow():
    """For .8 z_1 + .6 z_1 z_2 the first direction rests at an unstable saddle, and leans slowly."""
    link = from_coefficients({(1, 0): 0.8, (1, 1): 0.6})
    follow = jax.jit(lambda start: 10 ** escape_times(link, start, step=0.01))
    np.testing.assert_allclose(follow(M0), [4.767979, 13.112057], rtol=2e-7)
    key, d = jax.random.key(1), jnp.asarray(1e8)
    start = multiindex.starts.haar_overlap(key, d, 2, 2)
    times = follow(start)
    integrator = hd.Integrator(rtol=1e-10, atol=1e-20)
    flow = multiindex.GradientFlow(link, d, start=start, integrator=integrator)
    matrices = flow.limit(times).values.matrix
    cosines = [np.linalg.svd(m)[1][j] ** 2 for j, m in enumerate(matrices)]
    np.testing.assert_allclose(cosines, 0.5, atol=1e-5)


@pytest.mark.slow
def test_slopes_between_the_largest_dimensions():
    """Medians over common random starts between d = 10^10 and 10^12: within 2 % of the leaps'.

    log T by log d for leaps of 2 and more; T by log d for leap 1, where the direction that waits at
    e_1 of .8 z_1 + .6 z_1 z_2 is unstable, but leans by d^-0.39 alone until T_2.
    """
    keys = jax.random.split(jax.random.key(0), 9)
    # Absent degrees as zeros: one program for all targets.
    absent = {(1, 0): 0.0, (2, 0): 0.0, (3, 0): 0.0}

    @jax.jit
    def times(link, d):
        starts = jax.vmap(lambda key: multiindex.starts.haar_overlap(key, d, 2, 2))(keys)
        return jax.vmap(lambda start: escape_times(link, start))(starts)

    for coefficients, logarithmic, slopes in (
        ({(2, 0): 0.8, (0, 3): 0.6}, (False, False), (1, 2)),
        ({(1, 1): 1.0}, (False, False), (1, 1)),
        ({(1, 0): 0.8, (1, 2): 0.6}, (True, False), (1 / 2.56, 1)),
        ({(1, 0): 0.8, (1, 1): 0.6}, (True, True), (1 / 2.56, 1 / 2.56 + 1 / 1.44)),
    ):
        link = from_coefficients(absent | coefficients)
        low, high = (np.asarray(times(link, jnp.asarray(d))) for d in (1e10, 1e12))
        grown = [
            np.median(10 ** high[:, j] - 10 ** low[:, j])
            if linear
            else np.median(high[:, j]) - np.median(low[:, j])
            for j, linear in enumerate(logarithmic)
        ]
        # Two decades of d are 2 in log10 and log(100) in log.
        decades = np.where(logarithmic, np.log(100), 2)
        np.testing.assert_allclose(np.array(grown) / decades, slopes, rtol=0.02)


@pytest.mark.slow
def test_three_directions_of_leap_three():
    """For z_1 z_2 z_3 all are found at a time of order d^2."""
    link = from_coefficients({(1, 1, 1): 1.0})
    follow = jax.jit(lambda start: escape_times(link, start, step=0.05))
    key = jax.random.key(0)
    low, high = (
        follow(multiindex.starts.haar_overlap(key, jnp.asarray(d), 3, 3)) for d in (1e10, 1e12)
    )
    np.testing.assert_allclose((high - low) / 2, [2, 2, 2], rtol=0.02)


def test_directions_that_are_never_learnt():
    """An irrelevant direction, and one more than there are columns."""
    alone = escape_times(from_coefficients({(1, 0): 1.0}), M0)
    assert np.isfinite(alone[0])
    assert np.isinf(alone[1])
    few = escape_times(from_coefficients({(1, 0): 0.8, (0, 1): 0.6}), M0[:1])
    assert np.isfinite(few[0])
    assert np.isinf(few[1])


LEAP = from_coefficients({(2,): 1.0})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: escape_times(NEURONS, jnp.eye(2)), "power sums"),
        (lambda: escape_times(links.sine(), jnp.ones((1, 1), jnp.float32)), "float64"),
        (
            lambda: escape_times(LEAP, [[np.nan]]),
            r"start: \[\[nan\]\]; allowed: an array of finite real numbers",
        ),
        (lambda: escape_times(LEAP, [[2.0]]), r"start: largest squared cosine 4; allowed"),
        (lambda: escape_times(LEAP, [0.1]), r"start: shape \(1,\); allowed: \(q, 1\)"),
        (lambda: escape_times(LEAP, [[0.1, 0.2]]), r"start: shape \(1, 2\)"),
        (lambda: escape_times(LEAP, [[0.1]], level=2.0), r"level: 2\.0; allowed: above 0"),
        (
            lambda: escape_times(LEAP, [[0.1]], step=-1.0),
            r"step: -1\.0; allowed: a finite number, above 0",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
