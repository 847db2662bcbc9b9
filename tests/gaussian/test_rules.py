"""Rules of quadrature: exact moments, symmetry, and what they refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.gaussian import QMC, GaussHermite, Trapezoid, default_rule

DOUBLE_FACTORIAL = {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0, 4: 3.0, 5: 0.0, 6: 15.0, 8: 105.0}


@pytest.mark.parametrize(
    ("rule", "dim"),
    [(default_rule(d), d) for d in (1, 2, 3)] + [(GaussHermite(12), d) for d in (1, 2, 3)],
)
def test_moments_of_polynomials(rule, dim):
    z, w = rule.nodes(dim)
    assert z.shape == (len(w), dim)
    for degree, moment in DOUBLE_FACTORIAL.items():
        np.testing.assert_allclose((w[:, None] * z**degree).sum(0), moment, rtol=1e-9, atol=1e-11)
    mixed = (w * (z**2).prod(1)).sum()
    assert mixed == pytest.approx(1, rel=1e-11)


def test_gauss_hermite_is_exact_to_its_degree_and_no_further():
    z, w = GaussHermite(4).nodes(1)
    assert (w * z[:, 0] ** 6).sum() == pytest.approx(15, rel=1e-12)
    assert (w * z[:, 0] ** 8).sum() == pytest.approx(105 - 24, rel=1e-12)


@pytest.mark.parametrize("rule", [Trapezoid(32), Trapezoid(33), GaussHermite(7), QMC(6)])
@pytest.mark.parametrize("dim", [1, 2, 4])
def test_rules_are_symmetric_and_normalised(rule, dim):
    if isinstance(rule, Trapezoid) and dim == 4:
        rule = Trapezoid(rule.points - 22)
    z, w = rule.nodes(dim)
    assert w.sum() == pytest.approx(1, rel=1e-14)
    assert (w > 0).all()
    order, mirrored = np.lexsort(z.round(9).T), np.lexsort((-z).round(9).T)
    np.testing.assert_allclose(z[order], -z[mirrored], atol=1e-12)
    np.testing.assert_allclose(w[order], w[mirrored], rtol=1e-12)


def test_no_variables_are_one_node():
    for rule in (default_rule(0), GaussHermite(3), QMC()):
        z, w = rule.nodes(0)
        assert z.shape == (1, 0)
        assert w.tolist() == [1.0]


def test_trapezoid_keeps_to_the_ball_and_off_the_axes():
    z, _ = Trapezoid(40, radius=6.0).nodes(3)
    assert (z**2).sum(1).max() <= 36
    assert abs(z).min() == pytest.approx(0.15)
    assert len(z) < 0.55 * 40**3


def test_qmc_is_fixed_by_its_seed_and_finite():
    rule = QMC(log2_points=10, seed=3)
    z, _ = rule.nodes(5)
    again, _ = QMC(log2_points=10, seed=3).nodes(5)
    other, _ = QMC(log2_points=10, seed=4).nodes(5)
    assert z.shape == (1024, 5)
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(z, again)
    assert not np.array_equal(z, other)
    assert (z**2).mean() == pytest.approx(1, abs=2e-2)


def test_rules_are_static_values():
    assert hash(Trapezoid(8)) == hash(Trapezoid(8))
    assert Trapezoid(8) != Trapezoid(8, radius=5.0)
    z, w = Trapezoid(8).nodes(2, jnp.float32)
    assert z.dtype == w.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        z[0, 0] = 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trapezoid(0), "points: 0; allowed"),
        (lambda: Trapezoid(8, radius=-1.0), "radius: -1.0; allowed"),
        (lambda: Trapezoid(8, radius=float("nan")), "radius: nan; allowed"),
        (lambda: GaussHermite(0), "points: 0; allowed"),
        (lambda: GaussHermite(1000), "points: 1000; allowed"),
        (lambda: QMC(log2_points=40), "log2_points: 40; allowed"),
        (lambda: QMC(seed=-1), "seed: -1; allowed"),
        (lambda: QMC(replicates=1), "replicates: 1; allowed"),
        (lambda: default_rule(1).nodes(-1), "dim: -1; allowed"),
    ],
)
def test_invalid_rules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
