"""Phase retrieval, smooth and Lipschitz: moments in closed form, its symmetry, wrong input."""

from typing import ClassVar

import numpy as np
import pytest

from hdjax.streaming.losses import LipschitzPhaseRetrieval, PhaseRetrieval
from hdjax.streaming.projections import Projections
from tests.streaming.losses.closed_forms import ClosedForms, Reference, moments
from tests.streaming.models import isotropic


class TestClosedForms(ClosedForms):
    cases: ClassVar = {
        "phase_retrieval": Reference(PhaseRetrieval(), 3.43, (5.2, -2.4), 93.12, 1e-9),
        "lipschitz": Reference(
            LipschitzPhaseRetrieval(),
            0.6439806377,
            (0.5853999233, -0.4144643366),
            2.5759225507,
            2e-2,
        ),
    }


@pytest.mark.parametrize("kind", [PhaseRetrieval, LipschitzPhaseRetrieval])
def test_the_sign_of_the_signal_does_not_matter(kind):
    """With -X* for X* the risk and C are the same, and the H of the teacher changes its sign."""
    plus, minus = (
        moments(kind(0.5), Projections.natural([[0.8, m], [m, 1.1]], 1), 0, None)
        for m in (0.3, -0.3)
    )
    for name in ("risk", "noise"):
        np.testing.assert_allclose(getattr(plus, name), getattr(minus, name), rtol=1e-12)
    np.testing.assert_allclose(
        plus.stein[:, 0], np.array([1.0, -1.0]) * minus.stein[:, 0], rtol=1e-12
    )


@pytest.mark.parametrize("kind", [PhaseRetrieval, LipschitzPhaseRetrieval])
def test_wrong_arguments(kind):
    with pytest.raises(ValueError, match=r"scale: 0\.0; allowed: a finite number, above 0"):
        kind(0.0)
    with pytest.raises(ValueError, match=f"allowed with {kind.__name__}: 1 and 1"):
        isotropic(kind(), target=False)
