"""Starts that users give: the Gram blocks that follow, given columns, what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import (
    GaussianStart,
    GramStart,
    Mixture,
    OnePassSGD,
    losses,
)


def test_dense_covariance_is_the_diagonal_problem():
    """Given arrays are rotated once: the same risk as in any other coordinates."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 30))
    covariance = root @ root.T / 30
    start, target = rng.normal(size=(2, 30)) / np.sqrt(30)
    spectrum = hd.spectra.from_covariance(covariance)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.3, start, target)
    gap = start - target
    risk = float(model.statistics(model.start())["risk"])
    np.testing.assert_allclose(risk, gap @ covariance @ gap / 2, rtol=1e-10)
    gradient = float(model.statistics(model.start())["gradient_norm"])
    np.testing.assert_allclose(gradient, np.sum((covariance @ gap) ** 2), rtol=1e-10)


@pytest.mark.slow
def test_a_limit_goes_on_from_blocks_with_its_memory():
    """Half of a path of the heavy ball, and the other half from the Gram blocks in the middle."""
    spectrum, ball = hd.spectra.explicit([0.5, 2.0], [8, 6]), hd.streaming.optimisers.HeavyBall(0.5)
    fine = hd.Integrator(rtol=1e-9, atol=1e-12)
    parts = losses.LeastSquares(sigma=0.3), spectrum, 0.4
    whole = OnePassSGD(
        *parts, GaussianStart(overlap=0.2), GaussianStart(), optimiser=ball, integrator=fine
    )
    path = whole.limit(jnp.array([0.0, 1.0, 3.0])).values
    start = GramStart(path.with_memories[1], students=1, memories=1)
    rest = OnePassSGD(*parts, start, optimiser=ball, integrator=fine)
    found = rest.limit(jnp.array([0.0, 2.0])).values
    np.testing.assert_allclose(found.with_memories, path.with_memories[1:], rtol=1e-6)
    # Without the memory the ball starts at rest.
    still = OnePassSGD(*parts, GramStart(path.natural[1]), optimiser=ball, integrator=fine)
    moved = still.limit(jnp.array([0.0, 2.0])).values.natural[1]
    assert not np.allclose(moved, path.natural[2], rtol=0.01)


def test_blocks_of_an_overlap_with_a_given_target():
    """X = .6 X* + sqrt(2^2 - .6^2) Z: the mean of W^T P_i W, by hand."""
    target = np.sin(np.arange(10.0))
    spectrum = hd.spectra.explicit([0.5, 2.0], [6, 4])
    start = GaussianStart(2.0, overlap=0.6)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.1, start, target)
    for block, rows, weight in zip(
        model.start().natural, np.split(target, [6]), (0.6, 0.4), strict=True
    ):
        p = rows @ rows
        expected = [[0.36 * p + 3.64 * weight, 0.6 * p], [0.6 * p, p]]
        np.testing.assert_allclose(block, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"start": np.ones(7)}, ValueError, r"start: shape \(7, 1\)"),
        (
            {"start": np.full(20, np.nan)},
            ValueError,
            r"start: an array of shape \(20,\) with the entry nan; allowed",
        ),
        ({"start": None}, TypeError, "start: None; allowed: an instance of GaussianStart"),
        (
            {"mixture": Mixture([0.5, 0.5], np.ones((20, 3)))},
            ValueError,
            "mixture.means: 3 columns",
        ),
        ({"start": GramStart(np.eye(2)[None])}, ValueError, "given together with a GramStart"),
        (
            {"start": GramStart(np.stack([np.eye(2)] * 3)), "target": None},
            ValueError,
            "start: 3 Gram blocks; allowed: 1",
        ),
        (
            {"start": GramStart(np.eye(3)[None], memories=1), "target": None},
            ValueError,
            "start: Gram blocks with 1 memories; allowed: 0, or the 0 memories",
        ),
        (
            {"target": GramStart(np.eye(2)[None])},
            TypeError,
            r"target: GramStart\(blocks=f64\[1,2,2\], students=1, memories=0\); allowed",
        ),
        (
            {"start": GaussianStart(overlap=0.5), "target": GaussianStart(columns=2)},
            ValueError,
            r"overlap: \[0.5\]; allowed with 1 student and 2 teacher columns: 0",
        ),
    ],
)
def test_wrong_systems(change, kind, message):
    arguments = {
        "loss": losses.LeastSquares(),
        "spectrum": hd.spectra.identity(20),
        "learning_rate": 0.1,
        "start": GaussianStart(),
        "target": GaussianStart(),
    }
    with pytest.raises(kind, match=message):
        OnePassSGD(**(arguments | change))


def test_wrong_parts():
    with pytest.raises(ValueError, match="indefinite"):
        GramStart(np.array([[[1.0, 2.0], [2.0, 1.0]]]))
    with pytest.raises(ValueError, match="not symmetric"):
        GramStart(np.array([[[1.0, 0.5], [0.2, 1.0]]]))
    with pytest.raises(
        ValueError,
        match=r"blocks: an array of shape \(1, 2, 2\) with the entry nan; allowed",
    ):
        GramStart(np.full((1, 2, 2), np.nan))
    with pytest.raises(ValueError, match=r"students: None, with blocks of width 3"):
        GramStart(np.eye(3)[None])
    with pytest.raises(ValueError, match=r"students: 3; allowed: 1 to 2"):
        GramStart(np.eye(2)[None], 3)
    with pytest.raises(ValueError, match="scale"):
        GaussianStart(scale=-1.0)
    with pytest.raises(ValueError, match="overlap"):
        GaussianStart(overlap=1.5)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: GramStart(np.eye(3)[None]), ValueError, "students: None, with blocks of width 3"),
        (lambda: GramStart(np.eye(3)[None], 2, memories=1), ValueError, "students: 2; allowed"),
        (lambda: GramStart(1j * np.eye(2)[None]), TypeError, "blocks"),
        (lambda: GramStart(np.zeros((0, 2, 2))), ValueError, r"blocks: shape \(0, 2, 2\)"),
    ],
)
def test_gram_starts_that_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_memories_that_the_optimiser_lacks_are_refused():
    start = GramStart(np.eye(3)[None], 1, memories=1)
    with pytest.raises(ValueError, match="Gram blocks with 1 memories; allowed: 0, or the 0"):
        OnePassSGD(losses.LeastSquares(), hd.spectra.identity(9), 0.5, start)
