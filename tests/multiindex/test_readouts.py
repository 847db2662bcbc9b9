"""Readouts fit the student's link to samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import multiindex

READOUTS = {
    "hermite": multiindex.readouts.HermiteRidge(3),
    "kernel": multiindex.readouts.KernelRidge(0.4),
    "random": multiindex.readouts.RandomFeatures(8, 3),
    "network": multiindex.readouts.Network(16, updates=30),
}


@pytest.mark.parametrize("name", READOUTS)
def test_gradient_is_that_of_the_ridge_objective(name):
    """Envelope theorem: the partial gradient at the fit against differences of the fitted value."""
    readout = READOUTS[name]
    x = jax.random.normal(jax.random.key(0), (40, 6))
    y = jnp.tanh(x[:, 0]) + 0.1 * x[:, 1]
    w, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (6, 2)))
    kept = readout.initial(jax.random.key(2), 2)

    def fitted(w):
        with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32
            return readout.fit(kept, x @ w, y)

    def partial(w, parameters):
        values = jax.vmap(lambda u: readout.predict(parameters, u))(x @ w)
        return jnp.mean((y - values) ** 2)

    parameters = jax.jit(fitted)(w)
    assert float(partial(w, parameters)) < 0.7 * float(jnp.mean(y**2))
    if name == "network":
        return  # trained, not minimised

    def objective(w):
        """min over the link of the mean squared error and the penalty."""
        if name == "kernel":
            weights, points = fitted(w)
            gram = jax.vmap(lambda a: jax.vmap(lambda b: readout._kernel(a, b))(points))(points)
            penalty = readout.ridge * weights @ gram @ weights
            values = gram @ weights
            return jnp.mean((y - values) ** 2) + penalty
        weights = fitted(w)[0] if name == "random" else fitted(w)
        return partial(w, fitted(w)) + readout.ridge * jnp.sum(weights[1:] ** 2)

    def at_fixed_link(w):
        # The kernel's points move with W: their feature map is held, not their coordinates.
        if name == "kernel":
            weights, points = parameters
            u = x @ w
            cross = jax.vmap(lambda a: jax.vmap(lambda b: readout._kernel(a, b))(points))(u)
            return jnp.mean((y - cross @ weights) ** 2)
        return partial(w, parameters)

    whole, own = (jax.jit(jax.grad(value))(w) for value in (objective, at_fixed_link))
    np.testing.assert_allclose(own, whole, atol=2e-6)


def test_mehler_kernel_is_its_series():
    kernel = multiindex.readouts.KernelRidge(0.3)
    u, v = jnp.array([0.4, -0.7]), jnp.array([1.1, 0.2])
    rows = multiindex.hermite.all_indices(2, 30)
    both = multiindex.hermite.products(u, rows) * multiindex.hermite.products(v, rows)
    series = jnp.sum(0.3 ** jnp.asarray(rows.sum(1), float) * both)
    assert float(kernel._kernel(u, v)) == pytest.approx(float(series), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiindex.readouts.HermiteRidge(0), "degree"),
        (lambda: multiindex.readouts.KernelRidge(1.5), "rho"),
        (lambda: multiindex.readouts.Network(updates=0), "updates"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
