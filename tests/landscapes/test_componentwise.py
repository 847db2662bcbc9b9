"""Component-wise optimisers: their updates, their limit, and runs that follow it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax.landscapes import ComponentWise, Explicit, GradientSpan, Previsible
from hdjax.landscapes.algorithms import HeavyBall
from hdjax.landscapes.kernels import Amplitude, Matern52, SpinGlass, SquaredExponential
from hdjax.landscapes.optimisers import Adam, Optimiser, RMSProp, SignDescent

SE = SquaredExponential()
TIMES = np.arange(6.0)


class Linear(Optimiser):
    """The heavy ball, entry by entry."""

    def init(self, x):
        return x

    def update(self, state, k, x, g):
        return x - 0.3 * g + 0.4 * (x - state), x


@pytest.mark.slow
def test_linear_updates_have_the_limit_of_gradient_span_algorithms():
    """Without sampling error, however few the sites: every order parameter, noise included."""
    kernel = Amplitude([1, 0.3]) * Matern52() + SpinGlass([0, 0.1, 0.1])
    options = {"mean": [0.5, 0.1], "noise": SpinGlass([0, 0.2])}
    own = ComponentWise(kernel, Linear(), jnp.inf, sites=50, **options).limit(TIMES).values
    other = GradientSpan(kernel, HeavyBall(0.3, 0.4), jnp.inf, **options).limit(TIMES).values
    for one, two in zip(jax.tree.leaves(own), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.slow
def test_first_steps_in_closed_form():
    """Adam's first step is a sign; E|u| = (2/pi)^(1/2), and the response of a sign is as much."""
    eta, sites = 0.5, 40_000
    exact = -eta * np.sqrt(2 / np.pi) * np.exp(-(eta**2) / 2)
    for optimiser in (Adam(eta), SignDescent(eta), RMSProp(eta * np.sqrt(0.1), decay=0.9)):
        system = ComponentWise(SE, optimiser, jnp.inf, sites=sites)
        value = system.limit(TIMES[:2], save=lambda order: order.value).values
        np.testing.assert_allclose(value[1], exact, atol=2 / np.sqrt(sites))


@pytest.mark.parametrize(
    ("optimiser", "transformation"),
    [
        (Adam(0.1, 0.8, 0.95, 0.01), optax.adam(0.1, 0.8, 0.95, 0.01)),
        (RMSProp(0.1, 0.8, 0.01), optax.rmsprop(0.1, 0.8, 0.01, eps_in_sqrt=False)),
        (SignDescent(0.1), optax.sign_sgd(0.1)),
    ],
)
def test_updates_are_those_of_optax(optimiser, transformation):
    gradients = jax.random.normal(jax.random.key(0), (4, 5))
    x = ours = jnp.ones(5)
    state, memory = transformation.init(x), optimiser.init(x)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for k, g in enumerate(gradients):
            change, state = transformation.update(g, state, x)
            x = optax.apply_updates(x, change)
            ours, memory = optimiser.update(memory, jnp.asarray(k), ours, g)
            np.testing.assert_allclose(ours, x, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.optimised
def test_runs_follow_the_limit():
    """With mini-batch noise at d = 400: within 4 s.e., a bias of order 1/d and the sites' error."""
    runs, d = 200, 400
    names = ["value", "gradient_norm", "norm", "gradient_overlap"]
    found = {}
    for optimiser in (Adam(0.3, beta2=0.9), SignDescent(0.3)):
        system = ComponentWise(
            SpinGlass([0, 0.5, 0.3]), optimiser, d, mean=[0, 1], noise=SpinGlass([0, 0.3])
        )
        result = found[type(optimiser)] = hd.compare(
            system, TIMES, key=jax.random.key(0), runs=runs, method=Explicit(), statistics=names
        )
        for name in names:
            bound = 4 * result.std[name].values / np.sqrt(runs) + 2 / d + 3e-3
            gap = np.abs(result.mean[name] - result.limit[name]).values
            assert np.all(gap < bound), (name, gap, bound)
        assert not hasattr(result, "predicted_std")
    # Each has a limit of its own.
    adam, sign = found.values()
    error = adam.std["value"][-1] / np.sqrt(runs)
    assert abs(adam.mean["value"][-1] - sign.limit["value"][-1]) > 5 * error


def test_points_without_gradient_stay():
    """0/0 is no step."""
    for optimiser in (Adam(0.1, epsilon=0.0), RMSProp(0.1, epsilon=0.0), SignDescent(0.1)):
        x = jnp.ones(2)
        ahead, _ = optimiser.update(optimiser.init(x), jnp.asarray(0), x, jnp.zeros(2))
        np.testing.assert_array_equal(ahead, x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Adam(0.1, beta1=1.0), ValueError, r"beta1: 1\.0; allowed: at least 0 and below"),
        (lambda: Adam(0.1, beta2=-0.1), ValueError, r"beta2: -0\.1; allowed: at least 0"),
        (lambda: Adam(-0.1), ValueError, "-0.1"),
        (lambda: RMSProp(0.1, epsilon=-1.0), ValueError, r"epsilon: -1\.0"),
        (lambda: SignDescent("fast"), TypeError, "fast"),
        (lambda: ComponentWise(SE, HeavyBall(0.1, 0.1), 5), TypeError, "HeavyBall"),
        (lambda: ComponentWise("SE", Adam(0.1), 5), TypeError, "'SE'"),
        (lambda: ComponentWise(SE, Adam(0.1), 5, sites=0), ValueError, "sites: 0"),
        (lambda: ComponentWise(SE, Adam(0.1), 1.5), ValueError, r"dimension: 1\.5"),
        (lambda: GradientSpan(SE, Adam(0.1), 5), TypeError, "Adam"),
        (
            lambda: ComponentWise(SE, Adam(0.1), 5).simulator(Previsible()),
            TypeError,
            "method: Previsible.* allowed with ComponentWise: Explicit",
        ),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
