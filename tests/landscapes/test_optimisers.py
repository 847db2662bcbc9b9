"""Component-wise optimisers: their updates, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hdjax.landscapes.optimisers import Adam, RMSProp, SignDescent


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
        (
            lambda: Adam(0.1, beta2=-0.1),
            ValueError,
            r"beta2: -0\.1; allowed: a finite number, at least 0",
        ),
        (lambda: Adam(-0.1), ValueError, "-0.1"),
        (lambda: RMSProp(0.1, epsilon=-1.0), ValueError, r"epsilon: -1\.0"),
        (lambda: SignDescent("fast"), TypeError, "fast"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
