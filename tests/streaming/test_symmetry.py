"""Starts that the limit never leaves: which they are, and what a comparison says."""

import warnings

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart, OnePassSGD, losses
from hdjax.streaming.symmetry import never_leaves
from tests.streaming.models import hinge, isotropic


@pytest.mark.parametrize(
    ("loss", "overlap", "rests"),
    [
        (losses.PhaseRetrieval(), 0.0, True),
        (losses.LipschitzPhaseRetrieval(), 0.0, True),
        (losses.PhaseRetrieval(), 1e-3, False),
        (losses.LeastSquares(), 0.0, False),
        (losses.ReLUUnit(), 0.0, False),
    ],
)
def test_even_losses_rest_at_an_overlap_of_zero(loss, overlap, rests):
    model = isotropic(loss, 0.03, GaussianStart(overlap=overlap))
    assert never_leaves(model) is rests


def test_orthogonal_arrays_rest_and_systems_without_teachers_do_not():
    start, target = np.eye(6)[:, 0], np.eye(6)[:, 1]
    spectrum, loss = hd.spectra.identity(6), losses.PhaseRetrieval()
    assert never_leaves(OnePassSGD(loss, spectrum, 0.1, start, target))
    assert not never_leaves(OnePassSGD(loss, spectrum, 0.1, start + 0.1 * target, target))
    alone = losses.ComponentLogistic([0.0])
    assert not never_leaves(OnePassSGD(alone, spectrum, 0.1, start))


@pytest.mark.slow
def test_symmetric_start_warns_and_realised_starts_serve():
    def model(overlap):
        return OnePassSGD(
            losses.PhaseRetrieval(),
            hd.spectra.identity(50),
            0.03,
            GaussianStart(overlap=overlap),
            GaussianStart(),
        )

    arguments = {"key": jax.random.key(0), "runs": 2, "statistics": ["risk"]}
    with pytest.warns(UserWarning, match="start='realised'"):
        hd.compare(model(0.0), [0.0, 0.1], fluctuations=False, **arguments)
    hd.compare(model(0.0), [0.0, 0.1], start="realised", fluctuations=False, **arguments)
    hd.compare(model(0.2), [0.0, 0.1], fluctuations=False, **arguments)


def test_what_moves_is_not_told_that_it_rests():
    warm_up = hd.schedules.Table([0.0, 1.0], [0.0, 0.5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        isotropic(losses.LeastSquares(), warm_up).validate(compared=True)
        isotropic(hinge).validate(compared=True)
    with pytest.warns(UserWarning, match="never leaves"):
        isotropic(losses.PhaseRetrieval(), warm_up).validate(compared=True)
