"""Optimisers that transform the gradient have reference values, and limits of their simulations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, GramSampler, OnePassSGD
from hdjax.streaming.losses import LeastSquares, Logistic
from hdjax.streaming.losses.altered import Altered, signed
from hdjax.streaming.optimisers import Adam, Clipped, Optax, RMSProp, SignSGD
from tests.streaming.optimisers.problems import quadratic, risks


@pytest.mark.parametrize(
    ("optimiser", "gamma", "excess"),
    [(Clipped(0.7), 1.0, 0.1348558974), (SignSGD(), 0.8, 0.2824977734)],
)
def test_reference_risks(optimiser, gamma, excess):
    """Excess risk |K^(1/2) (X - X*)|^2 / 2 at t = 2."""
    risk = risks(quadratic(100, optimiser, gamma), [0.0, 2.0])[1]
    np.testing.assert_allclose(risk - 0.045, excess, rtol=1e-7)


@pytest.mark.slow
def test_generic_gradients_agree_with_closed_forms():
    """Clipping and signs by quasi-Monte Carlo against Huber's and the absolute error's moments."""
    law = hd.streaming.projections.Projections.natural(
        jnp.array([[0.8, 0.3], [0.3, 1.1]]), students=1
    )
    loss = LeastSquares(sigma=[0.3, 2.0], probabilities=[0.8, 0.2], scale=1.5)
    huber = hd.streaming.losses.Huber(0.7 / 1.5, [0.3, 2.0], [0.8, 0.2]).closed_form(law, None)
    generic = hd.streaming.moments(Altered(loss, jnp.array([0.7])), law, jnp.asarray(0), None)
    # What 8192 points leave of an integrand with a kink.
    np.testing.assert_allclose(generic.stein, 1.5 * huber.stein, atol=8e-3)
    np.testing.assert_allclose(generic.noise, 1.5**2 * huber.noise, atol=2e-3)
    signs = signed(loss).closed_form(law, None)
    generic = hd.streaming.moments(Altered(loss), law, jnp.asarray(0), None)
    np.testing.assert_allclose(generic.stein, signs.stein, atol=8e-3)
    np.testing.assert_allclose(generic.noise, signs.noise, atol=1e-6)
    assert float(signs.risk) == pytest.approx(1.5 / 2 * (1.3 + 0.8 * 0.09 + 0.2 * 4))


FOLLOWED = {
    "clipped": (Clipped(0.6), 1.0, {"loss": LeastSquares([0.3, 3.0], probabilities=[0.9, 0.1])}),
    "sign": (SignSGD(), 0.6, {}),
    "adam": (Adam(4.0, 0.5), 0.8, {"batch_size": 2, "ridge": 0.1}),
    "rmsprop": (RMSProp(0.8), 0.6, {}),
    "adam, fixed windows": (RMSProp(0.8, 0.5), 0.6, {}),
}


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("name", FOLLOWED)
def test_simulation_tends_to_the_limit(name):
    """The gap of the means is within 4 standard errors and what is left of order 1/d at d = 600."""
    optimiser, gamma, options = FOLLOWED[name]
    system = quadratic(600, optimiser, gamma, **options)
    plan = {"method": Direct("float32"), "runs": 64, "fluctuations": False, "statistics": ["risk"]}
    result = hd.compare(system, [0.0, 0.5, 1.5], key=jax.random.key(1), **plan)
    gap = np.abs(result.mean["risk"].values - result.limit["risk"].values)[1:]
    error = result.std["risk"].values[1:] / 8
    fall = result.limit["risk"].values[0] - result.limit["risk"].values[-1]
    # The windows' means are taken over 4096 draws.
    assert np.all(gap < 4 * error + 0.02 * fall)
    assert fall > 4 * np.max(gap)


@pytest.mark.slow
def test_clipping_and_signs_of_other_losses():
    """By quasi-Monte Carlo, at d = 400."""
    for optimiser in (Clipped(0.2), SignSGD()):
        system = OnePassSGD(
            Logistic("sampled"),
            hd.spectra.explicit([0.5, 2.0], [240, 160]),
            1.0,
            GaussianStart(scale=2.0),
            GaussianStart(),
            optimiser=optimiser,
        )
        plan = {"statistics": ["distance"], "runs": 48, "fluctuations": False}
        result = hd.compare(system, [0.0, 1.0], key=jax.random.key(2), **plan)
        gap = float(result.mean["distance"][1] - result.limit["distance"][1])
        assert abs(gap) < 4 * float(result.std["distance"][1]) / 48**0.5 + 0.02


def softmax(x, teacher, component, noise, theta):
    return jax.nn.logsumexp(x) - x[component]


@pytest.mark.slow
def test_adam_on_a_mixture():
    """Overlaps and second moments (of the limit and of the transformation's state) at d = 200."""
    d = 200
    angle = np.pi * (np.arange(d)[:, None] + 0.5) * np.arange(1, 3)[None] / d
    system = OnePassSGD(
        hd.streaming.losses.FunctionLoss(softmax),
        hd.spectra.explicit([0.3, 0.8], [d // 2, d // 2]),
        0.5,
        GaussianStart(columns=2),
        mixture=hd.streaming.Mixture([0.7, 0.3], np.sqrt(2 / d) * np.cos(angle)),
        ridge=0.1,
        optimiser=Adam(5.0, 0.3),
    )
    own = {"overlaps": None, "second": lambda system, summary: summary.side.accumulated}
    plan = {"key": jax.random.key(0), "runs": 32, "statistics": own, "fluctuations": False}
    result = hd.compare(system, [0.0, 2.0], **plan)
    for name in own:
        start, end = result.limit[name].values
        gap = result.mean[name].values[-1] - end
        assert np.all(np.abs(gap) < 4 * result.std[name].values[-1] / 32**0.5 + 4 / d)
        assert np.abs(end - start).max() > 0.1


@pytest.mark.slow
def test_transformations_of_optax_are_simulated():
    """`optax.identity()` is SGD, step by step; what has no limit says so."""
    plan = {"key": jax.random.key(0), "runs": 2, "statistics": ["risk", "overlaps"]}
    method = Direct("float64")
    plain = hd.simulate(quadratic(50, None, 0.5, ridge=0.2), [0.5, 1.0], method=method, **plan)
    system = quadratic(50, optax.identity(), 0.5, ridge=0.2)
    same = hd.simulate(system, [0.5, 1.0], method=method, **plan)
    np.testing.assert_allclose(same.runs["overlaps"], plain.runs["overlaps"], rtol=1e-12)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        lion = quadratic(50, Optax(optax.scale_by_lion()), 0.5)
        result = hd.simulate(lion, [0.0, 1.0], **plan)
        assert float(result.mean["risk"][1]) < float(result.mean["risk"][0])
        with pytest.raises(hd.NoLimitError, match="allowed with one: SGD, Momentum, HeavyBall"):
            hd.limit(lion, [0.0, 1.0])


def test_columns_on_axes_are_doubted():
    """The limits of what acts coordinate by coordinate need columns that are spread."""
    axis, spread = np.eye(50)[0], np.ones(50) / 50**0.5
    for column, optimiser in ((axis, SignSGD()), (axis, Adam(1.0))):
        system = OnePassSGD(
            LeastSquares(), hd.spectra.identity(50), 0.5, column, spread, optimiser=optimiser
        )
        with pytest.warns(UserWarning, match="a coordinate has 1 of a column's norm"):
            system.validate(compared=True)
        system.validate()


@pytest.mark.slow
def test_what_a_transformation_is_not_for():
    with pytest.raises(ValueError, match="level: 0"):
        Clipped(0.0)
    with pytest.raises(ValueError, match=r"beta2: 1\.0"):
        RMSProp(1.0)
    with pytest.raises(ValueError, match="beta1"):
        RMSProp(0.5, 0.9)
    with pytest.raises(ValueError, match="forgetting"):
        Adam(-1.0)
    with pytest.raises(ValueError, match="batch_size: 2; allowed with SignSGD: 1"):
        quadratic(50, SignSGD(), 0.5, batch_size=2)
    with pytest.raises(ValueError, match=r"ridge: 0\.1; allowed with Clipped: 0"):
        quadratic(50, Clipped(1.0), 0.5, ridge=0.1)
    with pytest.raises(TypeError, match="allowed: Direct"):
        quadratic(50, SignSGD(), 0.5).simulator(GramSampler())
    with pytest.raises(hd.NoFluctuationsError, match="SignSGD"):
        hd.compare(
            quadratic(50, SignSGD(), 0.5),
            [0.0, 1.0],
            key=jax.random.key(0),
            runs=2,
            fluctuations=True,
        )
    covariance = hd.spectra.from_covariance(np.array([[2.0, 0.5], [0.5, 1.0]]))
    with pytest.raises(ValueError, match="spectrum: with a basis"):
        OnePassSGD(LeastSquares(), covariance, 1.0, np.ones(2), np.zeros(2), optimiser=Adam(1.0))
