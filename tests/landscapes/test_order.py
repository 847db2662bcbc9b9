"""Order parameters: inner products of points and gradients, and overlaps with a step."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import OverlapWithStep
from hdjax.landscapes.order import from_vectors


def test_order_parameters_are_inner_products():
    """Rows of later steps are 0, and so are products with them."""
    rng = np.random.default_rng(0)
    points, gradients = rng.standard_normal((2, 4, 3))
    points[3:] = gradients[3:] = 0
    parts = jnp.asarray(2), jnp.asarray(0.7), jnp.asarray(points), jnp.asarray(gradients)
    order = from_vectors(*parts)
    for found, rows, vector in (
        (order.points, points, points[2]),
        (order.gradients, gradients, gradients[2]),
        (order.point_gradients, gradients, points[2]),
        (order.gradient_points, points, gradients[2]),
    ):
        expected = [sum(a * b for a, b in zip(row, vector, strict=True)) for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        assert found[3] == 0
    np.testing.assert_allclose(order.norm, np.linalg.norm(points[2]) ** 2, rtol=1e-13)
    np.testing.assert_allclose(order.gradient_norm, np.linalg.norm(gradients[2]) ** 2, rtol=1e-13)
    assert float(order.value) == 0.7
    # A step that the run does not reach has overlap 0.
    assert OverlapWithStep(1)(None, order) == order.points[1]
    assert OverlapWithStep(0, "gradients")(None, order) == order.gradients[0]
    assert OverlapWithStep(4)(None, order) == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OverlapWithStep(-1), ValueError, "step: -1"),
        (lambda: OverlapWithStep(0, "values"), ValueError, "of: 'values'"),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
