"""One ReLU unit: moments in closed form, exact recovery, wrong input."""

from typing import ClassVar

import numpy as np
import pytest

from hdjax.streaming.losses import ReLUUnit
from hdjax.streaming.projections import Projections
from tests.streaming.losses.closed_forms import ClosedForms, Reference, moments
from tests.streaming.models import isotropic


class TestClosedForms(ClosedForms):
    cases: ClassVar = {
        "relu": Reference(
            ReLUUnit(sigma=0.3), 0.2879975797, (0.3231749904, -0.3018080421), 0.3660315086, 2e-2
        )
    }


def test_at_recovery_only_the_label_noise_is_left():
    """x = x*: R = sigma^2/2, half of all samples have a gradient, of variance sigma^2."""
    found = moments(ReLUUnit(sigma=0.3), Projections.natural(np.full((2, 2), 0.9), 1), 0, None)
    np.testing.assert_allclose(found.risk, 0.045, rtol=1e-12)
    np.testing.assert_allclose(found.noise[0, 0], 0.045, rtol=1e-12)
    np.testing.assert_allclose(found.stein[:, 0], [0.5, -0.5], rtol=1e-12)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"sigma: -0\.1; allowed: a finite number, at least 0"):
        ReLUUnit(-0.1)
    with pytest.raises(ValueError, match="allowed with ReLUUnit: 1 and 1"):
        isotropic(ReLUUnit(), target=False)
