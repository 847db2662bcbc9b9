"""Layouts of columns and laws of projections: frames, factors, covariances that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.streaming.projections import Layout, Memory, Projections
from tests.streaming.models import GRAM

LAYOUTS = {
    "centred": Layout(2, 2),
    "one student, two teachers": Layout(1, 2),
    "means": Layout(1, 1, 3),
    "memories": Layout(2, 2, 0, (Memory("average", iterate=True), Memory("momentum"))),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_columns_are_those_of_the_frame_times_its_matrix(name):
    """W = W' A, with a determinant of one."""
    layout = LAYOUTS[name]
    columns = np.random.default_rng(0).normal(size=(6, layout.width))
    inside = np.asarray(layout.to_frame(jnp.asarray(columns)))
    np.testing.assert_allclose(inside @ layout.frame, columns, atol=1e-14)
    assert round(np.linalg.det(layout.frame)) == 1
    assert layout.width == layout.moving + layout.teachers + layout.means


def test_iterates_and_students_are_differences_to_their_teachers():
    layout = LAYOUTS["memories"]
    columns = np.random.default_rng(1).normal(size=(5, 8))
    average, momentum, x, target = np.split(columns, 4, axis=1)
    expected = np.concatenate([average - target, momentum, x - target, target], axis=1)
    np.testing.assert_allclose(layout.to_frame(jnp.asarray(columns)), expected, atol=1e-14)
    # An iterate starts at X, any other memory at zero; this holds in frame coordinates too.
    start = columns[:, 4:] @ layout.extension
    np.testing.assert_allclose(start, np.concatenate([x, 0 * x, x, target], axis=1))


@pytest.mark.parametrize("gram", [GRAM, np.ones((4, 4))])
def test_projections_at_normals_have_their_covariance(gram):
    """r = A^T (mean + L z) is affine in z: its matrix times itself transposed is B."""
    frame = Layout(2, 2).frame
    back = np.linalg.inv(frame)
    inside = jnp.asarray(back.T @ gram @ back)
    mean = np.array([0.3, -0.2, 0.5, 1.0])
    law = Projections(inside, jnp.asarray(frame), 2, jnp.asarray(mean))

    def r(z):
        return jnp.concatenate(law.at(z))

    origin = r(jnp.zeros(4))
    np.testing.assert_allclose(origin, frame.T @ mean, atol=1e-12)
    matrix = np.asarray(jax.jacfwd(r)(jnp.zeros(4)))
    np.testing.assert_allclose(matrix @ matrix.T, gram, atol=1e-7)
    np.testing.assert_allclose(law.gram, gram, atol=1e-12)
    subtract = np.block([[np.eye(2), np.zeros((2, 2))], [-np.eye(2), np.eye(2)]])
    np.testing.assert_allclose(law.error_gram, subtract.T @ gram @ subtract, atol=1e-12)


def test_errors_near_recovery_keep_their_digits_in_float32():
    """|X - X*|^2 = 1e-12 beside |X*|^2 = 1: 1 - 1 in natural coordinates, exact in the frame."""
    frame = jnp.asarray(Layout(1, 1).frame, jnp.float32)
    inside = jnp.array([[1e-12, 0.0], [0.0, 1.0]], jnp.float32)
    law = Projections(inside, frame, 1)
    np.testing.assert_allclose(law.error_gram[0, 0], 1e-12, rtol=1e-6)
    np.testing.assert_allclose(law.determinant, 1e-12, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Projections.natural([[1.0, 2.0], [2.0, 1.0]], 1), "lowest eigenvalue -1"),
        (lambda: Projections.natural([[1.0, 0.5], [0.2, 1.0]], 1), "a symmetric matrix"),
        (lambda: Projections.natural([[1.0, np.nan], [np.nan, 1.0]], 1), "finite numbers"),
        (lambda: Projections.natural(jnp.ones(2), 1), r"covariance: shape \(2,\)"),
        (lambda: Projections.natural(jnp.eye(2), 3), "students: 3; allowed: 1 to 2"),
    ],
)
def test_laws_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
