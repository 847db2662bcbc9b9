"""What all multi-index systems share: statistics, checks and warnings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.multiindex import GradientFlow, links
from hdjax.multiindex.problem import OverlapSummary, Problem
from tests.multiindex.problems import A


def test_statistics_of_a_flat_overlap():
    """One student of two directions has one angle: |M|^2, and 0 for the other."""
    problem = Problem(A, 10, start=[[0.6, 0.3]])
    summary = OverlapSummary.of(problem.start())
    np.testing.assert_allclose(summary.cosines, [0.45, 0.0], atol=1e-15)
    np.testing.assert_allclose(summary.gap, [[0.64, -0.18], [-0.18, 0.91]], atol=1e-15)
    assert float(problem.statistics(summary, jnp.asarray(0.2))["recovered"]) == 0
    # |f*|^2 = 1.25, of which 1 % is a trap; both squared cosines have to be above 1/2.
    for cosine, loss, recovered, trapped in ((0.71, 0.0124, 1, 0), (0.70, 0.0126, 0, 1)):
        diagonal = OverlapSummary.of(jnp.diag(jnp.array([0.9, cosine])))
        found = problem.statistics(diagonal, jnp.asarray(loss))
        assert (float(found["recovered"]), float(found["trapped"])) == (recovered, trapped)


def test_start_of_a_haar_problem_as_d_grows():
    problem = Problem(A, 10**6, directions=3)
    np.testing.assert_array_equal(problem.start(), np.zeros((3, 2)))
    drawn = problem.sample(jax.random.key(0))
    assert drawn.shape == (3, 2)
    assert 1e-4 < float(abs(drawn).max()) < 6e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientFlow(A, 1), "dimension"),
        (lambda: GradientFlow(A, 2, directions=3), "dimension"),
        (lambda: GradientFlow(A, jnp.asarray(3.0)), "dimension"),
        (lambda: GradientFlow(A, 10, directions=0), "directions"),
        (lambda: GradientFlow(A, 10, start=[0.1, 0.2]), "start"),
        (lambda: GradientFlow(A, 10, start=[[0.1]]), "start"),
        (lambda: GradientFlow(A, 10, start=1.1 * jnp.eye(2)), "largest squared cosine"),
        (lambda: GradientFlow(links.from_coefficients({(0,): 1.0}), 10), "constant"),
        (lambda: GradientFlow(links.from_coefficients({(2,): 0.0}), 10), "constant"),
        (lambda: GradientFlow(A, jnp.asarray(50.0)).simulator(), "dimension"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    with pytest.raises(TypeError, match="link"):
        GradientFlow(lambda z: z[0], 10)


def test_warnings_of_what_cannot_find_all_directions():
    with pytest.warns(UserWarning, match="bad local minima"):
        GradientFlow(A, 10, directions=1).validate()
    with pytest.warns(UserWarning, match="never learnt"):
        GradientFlow(A, 10, start=[[0.1, 0.0], [0.2, 0.0]]).validate()
