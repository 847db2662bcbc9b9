"""The modes of the problem of the reference values, computed once, and images of five classes."""

import numpy as np
import pytest

from hdjax.multipass.modes import svd_modes
from tests.multipass.problems import reference


@pytest.fixture(scope="session")
def modes():
    return svd_modes(reference())[0]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    classes = np.arange(60) % 5
    means = rng.integers(0, 255, (5, 4, 4, 3))
    noisy = means[classes] + rng.integers(-30, 30, (60, 4, 4, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8), classes.astype(np.uint8)
