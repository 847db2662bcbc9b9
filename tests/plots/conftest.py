"""Figures are drawn on axes of their own."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(autouse=True)
def _no_pyplot():
    """Nothing may be left behind in pyplot's state."""
    yield
    assert plt.get_fignums() == []
