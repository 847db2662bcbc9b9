"""Steady states of the limit are floors of the risk, and plateaus left at their growth rate."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, GramStart, OnePassSGD
from hdjax.streaming.losses import ErfCommittee, LeastSquares, Logistic
from hdjax.streaming.steady_states import AtSteadyState, stability, steady_state

LAMBDA, WEIGHTS = np.array([0.5, 2.0]), np.array([0.6, 0.4])


def least_squares(gamma, sigma, batch=1):
    spectrum = hd.spectra.explicit(LAMBDA, [60, 40])
    return OnePassSGD(
        LeastSquares(sigma), spectrum, gamma, GaussianStart(), GaussianStart(), batch_size=batch
    )


@pytest.mark.slow
def test_floor_of_least_squares():
    """sigma^2/2 / (1 - gamma kappa/2b), and at X = X* stable up to 2b/kappa."""
    kappa, sigma = LAMBDA @ WEIGHTS, 0.7
    gammas = jnp.array([0.2, 0.8, 1.6])
    base = least_squares(1.0, sigma)

    def floor(gamma):
        system = eqx.tree_at(lambda s: s.learning_rate.value, base, gamma)
        found = steady_state(system, horizon=3.0)
        return system.statistics(found.summary)["risk"], found.found, found.growth

    risks, found, growth = jax.vmap(floor)(gammas)
    np.testing.assert_allclose(risks, sigma**2 / 2 / (1 - gammas * kappa / 2), rtol=1e-8)
    assert found.all()
    assert np.all(growth < 0)
    blocks = np.zeros((2, 2, 2))
    for b in (1, 3):
        threshold = float(
            hd.streaming.learning_rates.stability_threshold(base.spectrum, batch_size=b)
        )
        for share, sign in ((0.99, -1), (1.01, 1)):
            system = least_squares(share * threshold, 0.0, b)
            recovered = eqx.tree_at(lambda s: s.blocks, system.start(), jnp.asarray(blocks))
            assert np.sign(np.max(np.real(stability(system, recovered)))) == sign


@pytest.mark.slow
def test_above_stability_there_is_none():
    with pytest.raises(FloatingPointError, match="steady_state: none was found"):
        steady_state(least_squares(2.5, 0.7), horizon=1.0)
    with pytest.raises(ValueError, match="6000 unknowns"):
        steady_state(
            OnePassSGD(
                LeastSquares(0.5),
                hd.spectra.uniform(3000, 0.5, 1.5),
                0.5,
                GaussianStart(),
                GaussianStart(),
            )
        )


@pytest.mark.slow
def test_floor_of_logistic_is_where_the_limit_ends():
    spectrum = hd.spectra.uniform(200, 0.2, 1.8)
    system = OnePassSGD(
        Logistic("sampled"),
        spectrum,
        1.0,
        GaussianStart(),
        GaussianStart(),
        ridge=0.02,
        compression=1e-3,
    )
    found = steady_state(system, horizon=20.0)
    end = system.limit(jnp.array([300.0]), save=system.statistics).values
    floor = system.statistics(found.summary)
    np.testing.assert_allclose(floor["risk"], end["risk"][0], rtol=1e-5)
    np.testing.assert_allclose(floor["distance"], end["distance"][0], rtol=1e-4)
    # What Newton's method finds from the end is what it finds from far before.
    own = {"floor": AtSteadyState("risk"), "growth": AtSteadyState("growth")}
    limit = hd.limit(system, [20.0, 60.0], statistics=own)
    np.testing.assert_allclose(limit.limit["floor"], floor["risk"], rtol=1e-6)
    np.testing.assert_allclose(limit.limit["growth"], found.growth, rtol=1e-4)


def committee(gram, gamma=0.5):
    """Two erf units taught by two."""
    return OnePassSGD(
        ErfCommittee(np.ones(2), np.ones(2)),
        hd.spectra.identity(100),
        gamma,
        GramStart(gram[None], students=2),
        integrator=hd.Integrator(rtol=1e-9, atol=1e-12),
    )


@pytest.mark.slow
def test_plateau_of_a_committee_is_left_at_its_growth_rate():
    # Alike in law: the units stay alike in the limit, which ends at the plateau.
    alike = np.diag([0.2, 0.2, 1.0, 1.0])
    alike[:2, 2:] = alike[2:, :2] = 0.05
    plateau = steady_state(committee(alike), horizon=200.0)
    natural = plateau.summary.natural[0]
    np.testing.assert_allclose(natural[0, 2], natural[0, 3], rtol=1e-6)
    assert 0.01 < float(plateau.growth) < 0.5
    # A small difference of the units' overlaps then grows at that rate.
    start = np.array(natural)
    start[0, 2] = start[2, 0] = start[0, 2] + 1e-6
    start[1, 3] = start[3, 1] = start[1, 3] + 1e-6
    ts = jnp.array([0.0, 30.0, 50.0])
    system = committee(start)
    gap = system.limit(ts, save=lambda s: s.overlaps[0, 2] - s.overlaps[0, 3]).values
    rate = np.log(gap[2] / gap[1]) / 20
    np.testing.assert_allclose(rate, plateau.growth, rtol=0.01)


def test_a_statistic_of_a_steady_state_needs_a_rate_and_a_name():
    def system(rate):
        law = hd.streaming.GaussianStart()
        return hd.streaming.OnePassSGD(
            hd.streaming.losses.LeastSquares(0.5), hd.spectra.identity(60), rate, law, law
        )

    moving, plain = system(hd.schedules.PowerDecay(0.8, 1.0)), system(0.5)
    with pytest.raises(ValueError, match="PowerDecay, which depends on t"):
        AtSteadyState("risk")(moving, moving.start())
    with pytest.raises(ValueError, match=r"name: 'rsk'; allowed: .*risk.*growth"):
        AtSteadyState("rsk")(plain, plain.start())
    with pytest.raises(TypeError, match="start"):
        hd.streaming.steady_states.steady_state(plain, 10.0)
