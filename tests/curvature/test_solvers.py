"""Top spaces and spectral measures against dense eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import curvature


def test_top_space_of_close_and_degenerate_eigenvalues():
    values = np.concatenate([[3.0, 3.0, 2.999], np.linspace(0, 2.5, 97)])
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0]
    matrix = jnp.asarray(rotation * values @ rotation.T)
    found = curvature.top_space(
        lambda v: jnp.dot(matrix, v), jnp.zeros((100, 1)), 3, jax.random.key(0), tolerance=1e-9
    )
    np.testing.assert_allclose(found.values, [3, 3, 2.999], atol=1e-9)
    np.testing.assert_allclose(
        curvature.alignment.principal_cosines(found.vectors, jnp.asarray(rotation[:, :3])),
        1,
        atol=1e-8,
    )


@pytest.mark.slow
def test_spectral_measure_of_a_wishart_matrix_with_an_outlier():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((400, 150))
    rows[:, 0] *= 5
    matrix = jnp.asarray(rows.T @ rows / 400)
    product = lambda v: jnp.dot(matrix, v)  # noqa: E731
    exact = np.linalg.eigvalsh(matrix)
    top = curvature.top_space(product, jnp.eye(150)[:, :1], 1, jax.random.key(0))
    measure = curvature.spectral_measure(
        product, 150, jax.random.key(1), known=top, probes=20, steps=40
    )
    assert measure.atoms.dtype == jnp.float64
    assert float(measure.weights.sum()) == pytest.approx(1, abs=1e-12)
    # Lanczos is exact for moments; the probes' spread is what is left (4 standard errors).
    for power, bound in ((1, 0.02), (2, 0.04)):
        bulk = (exact[:-1] ** power).sum() / 150
        own = float(measure.mean(lambda x: x**power)) - exact[-1] ** power / 150  # noqa: B023
        assert abs(own / bulk - 1) < bound
    grid = jnp.linspace(-1, 40, 4000)
    assert float(jnp.trapezoid(measure.density(grid, 0.1), grid)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: curvature.top_space(lambda v: v, jnp.ones((5, 1)), 4, jax.random.key(0)),
            "rank: 4",
        ),
        (
            lambda: curvature.spectral_measure(lambda v: v, 5, jax.random.key(0), steps=6),
            "probes, steps",
        ),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
