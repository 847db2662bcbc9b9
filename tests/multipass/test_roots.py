"""Roots in a bracket, to rounding."""

import numpy as np
import pytest

from hdjax.multipass._roots import find_root


def test_roots_are_exact_to_rounding():
    """Tiny ones and large ones alike."""
    for root in (1e-200, 3e-9, 1.0, 7e8):
        found = find_root(lambda x, root=root: x - root, 0.0, 1e9)
        np.testing.assert_allclose(found, root, rtol=1e-13)
    found = find_root(lambda x: np.cos(x) - x, 0.0, 1.0)
    np.testing.assert_allclose(found, 0.7390851332151607, rtol=1e-14)
    assert find_root(lambda x: x, 0.0, 1.0) == 0


def test_a_bracket_without_a_change_of_sign_is_refused():
    with pytest.raises(ValueError, match="different signs"):
        find_root(lambda x: x + 1, 0.0, 1.0)
