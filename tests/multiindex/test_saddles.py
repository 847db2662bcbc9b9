"""Leap exponents, and the freezing algorithm over all time scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import SaddleToSaddle, links
from hdjax.multiindex.freezing import escape_times
from hdjax.multiindex.links import from_coefficients

R0 = jnp.array([[1e-3, 2e-3], [-2e-3, 1.5e-3]])
ROTATION = jnp.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
# Stages (exponent, directions) of the derivation's section 6.
STAGES = [
    ({(1, 0): 1.0}, [(1, 1)]),
    ({(1, 0): 0.8, (1, 1): 0.6}, [(1, 1), (1, 1)]),
    ({(1, 0): 0.8, (1, 2): 0.6}, [(1, 1), (2, 1)]),
    ({(1, 1): 1.0}, [(2, 2)]),
    ({(1, 0): 0.8, (0, 2): 0.6}, [(1, 1), (2, 1)]),
    ({(2, 0): 0.8, (0, 3): 0.6}, [(2, 1), (3, 1)]),
    ({(1, 1, 1): 1.0}, [(3, 3)]),
    ({(1, 0, 0): 0.5, (1, 1, 0): 0.5, (1, 1, 1): 0.5}, [(1, 1), (1, 1), (1, 1)]),
    ({(1, 0, 0): 0.5, (1, 1, 1): 0.5}, [(1, 1), (2, 2)]),
    ({(4, 0): 1.0, (2, 1): 0.5}, [(1, 1), (2, 1)]),
]
REFERENCE = {
    "h1+h2": ({(1, 0): 0.8, (0, 2): 0.6}, (4.767997, 57395.77)),
    "h2+h3": ({(2, 0): 0.8, (0, 3): 0.6}, (39064.697, 3.162173e9)),
    "z1z2": ({(1, 1): 1.0}, (37851.13, 54380.15)),
}


@pytest.mark.slow
def test_stages_of_links():
    for coefficients, stages in STAGES[:-1]:
        link = from_coefficients(coefficients)
        found = [(leap.exponent, len(leap.strengths)) for leap in multiindex.leaps.leaps(link)]
        assert found == stages, coefficients
    # h_4(z_1) + h_2(z_1) z_2/2 in plain powers has no linear term: z_2 comes with h_2(z_1).
    mixed = from_coefficients({(4, 0): 1.0, (2, 1): 0.5})
    assert [(s.exponent, len(s.strengths)) for s in multiindex.leaps.leaps(mixed)] == [(3, 2)]
    assert multiindex.leaps.exponents(from_coefficients({(1, 0): 1.0})) == [0, -1]


def test_leaps_do_not_depend_on_coordinates_and_give_the_slope():
    link = from_coefficients({(1, 0): 0.8, (0, 2): 0.5, (0, 3): 0.4})
    rotated = multiindex.leaps.leaps(link.rotate(ROTATION))
    assert [leap.exponent for leap in rotated] == [1, 2]
    np.testing.assert_allclose(abs(rotated[0].directions[:, 0] @ ROTATION[:, 0]), 1, atol=1e-12)
    # S(P_E + eps P_N) on the complement is sum_s s eps^{s-1} Q_s.
    strength = multiindex.leaps.leaps(link)[1].strengths[0]
    eps = 1e-6
    s = multiindex.averaging.energy_gradient(link, jnp.diag(jnp.array([1.0, eps**0.5])))
    assert float(s[1, 1]) == pytest.approx(2 * eps * strength, rel=1e-4)
    # Below the threshold a coefficient does not count.
    faint = from_coefficients({(1,): 1e-5, (2,): 1.0})
    assert multiindex.leaps.exponents(faint) == [1]
    assert multiindex.leaps.exponents(faint, threshold=1e-12) == [0]


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_escape_times(name):
    """Also in rotated coordinates, where S rotated afterwards would be off by orders."""
    coefficients, reference = REFERENCE[name]
    link = from_coefficients(coefficients)
    follow = jax.jit(lambda link, factor: jnp.exp(escape_times(link, factor, step=0.01)))
    np.testing.assert_allclose(follow(link, R0), reference, rtol=2e-7)
    if name == "h2+h3":
        rotated = follow(link.rotate(ROTATION), R0 @ ROTATION.T)
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
        factor = jnp.array([[np.sqrt(g / (1 - g))]])
        time = jnp.exp(follow(links.hermite_polynomial(s), factor))
        assert float(time[0]) == pytest.approx(exact, rel=2e-6)
    sine = jax.jit(lambda factor: jnp.exp(escape_times(links.sine(), factor, step=0.01)))
    factor = jnp.array([[np.sqrt(1e-6 / (1 - 1e-6))]])
    assert float(sine(factor)[0]) == pytest.approx(9.326486558, rel=2e-6)


@pytest.mark.slow
def test_turning_direction_against_the_integrated_flow():
    """For .8 z_1 + .6 z_1 z_2 the first direction rests at an unstable saddle, and leans slowly."""
    link = from_coefficients({(1, 0): 0.8, (1, 1): 0.6})
    follow = jax.jit(lambda factor: jnp.exp(escape_times(link, factor, step=0.01)))
    np.testing.assert_allclose(follow(R0), [4.767979, 13.112057], rtol=2e-7)
    key, d = jax.random.key(1), jnp.asarray(1e8)
    times = follow(multiindex.starts.haar_odds(key, d, 2, 2))
    start = multiindex.starts.haar_overlap(key, d, 2, 2)
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
        starts = jax.vmap(lambda key: multiindex.starts.haar_odds(key, d, 2, 2))(keys)
        return jax.vmap(lambda factor: escape_times(link, factor))(starts)

    for coefficients, logarithmic, slopes in (
        ({(2, 0): 0.8, (0, 3): 0.6}, (False, False), (1, 2)),
        ({(1, 1): 1.0}, (False, False), (1, 1)),
        ({(1, 0): 0.8, (1, 2): 0.6}, (True, False), (1 / 2.56, 1)),
        ({(1, 0): 0.8, (1, 1): 0.6}, (True, True), (1 / 2.56, 1 / 2.56 + 1 / 1.44)),
    ):
        link = from_coefficients(absent | coefficients)
        low, high = (np.asarray(times(link, jnp.asarray(d))) for d in (1e10, 1e12))
        grown = [
            np.median(np.exp(high[:, j]) - np.exp(low[:, j]))
            if linear
            else np.median(high[:, j]) - np.median(low[:, j])
            for j, linear in enumerate(logarithmic)
        ]
        np.testing.assert_allclose(np.array(grown) / np.log(100), slopes, rtol=0.02)


@pytest.mark.slow
def test_three_directions_of_leap_three():
    """For z_1 z_2 z_3 all are found at a time of order d^2."""
    link = from_coefficients({(1, 1, 1): 1.0})
    follow = jax.jit(lambda factor: escape_times(link, factor, step=0.05))
    key = jax.random.key(0)
    low, high = (
        follow(multiindex.starts.haar_odds(key, jnp.asarray(d), 3, 3)) for d in (1e10, 1e12)
    )
    np.testing.assert_allclose((high - low) / np.log(100), [2, 2, 2], rtol=0.02)


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


def test_directions_that_are_never_learnt():
    """An irrelevant direction, and one more than there are columns."""
    alone = escape_times(from_coefficients({(1, 0): 1.0}), R0)
    assert np.isfinite(alone[0])
    assert np.isinf(alone[1])
    few = escape_times(from_coefficients({(1, 0): 0.8, (0, 1): 0.6}), R0[:1])
    assert np.isfinite(few[0])
    assert np.isinf(few[1])


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
    with pytest.raises(ValueError, match="float64"):
        escape_times(link, jnp.ones((1, 1), jnp.float32))
    with jax.enable_x64(False), pytest.raises(ValueError, match="single precision"):
        SaddleToSaddle(links.sine(), 1e12)
    with pytest.raises(hd.NoLimitError):
        SaddleToSaddle(link, 100).limit(jnp.array([1.0]))
