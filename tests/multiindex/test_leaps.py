"""Leap exponents of links are those of the derivation, in any coordinates."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex.links import from_coefficients
from tests.multiindex.problems import ROTATION, A

# Stages (exponent, directions) of the derivation's section 6.
STAGES = [
    ({(1, 0): 1.0}, [(1, 1)]),
    ({(1, 0): 0.8, (1, 1): 0.6}, [(1, 1), (1, 1)]),
    ({(1, 0): 0.8, (1, 2): 0.6}, [(1, 1), (2, 1)]),
    ({(1, 1): 1.0}, [(2, 2)]),
    ({(1, 0): 0.8, (0, 2): 0.6}, [(1, 1), (2, 1)]),
    ({(2, 0): 0.8, (0, 3): 0.6}, [(2, 1), (3, 1)]),
    ({(1, 1, 1): 1.0}, [(3, 3)]),
    ({(1, 0, 0): 0.5, (1, 1, 0): 0.5, (1, 1, 1): 0.5}, [(1, 1), (1, 1), (1, 1)]),
    ({(1, 0, 0): 0.5, (1, 1, 1): 0.5}, [(1, 1), (2, 2)]),
    ({(4, 0): 1.0, (2, 1): 0.5}, [(1, 1), (2, 1)]),
]


@pytest.mark.slow
def test_stages_of_links():
    for coefficients, stages in STAGES[:-1]:
        link = from_coefficients(coefficients)
        found = [(leap.exponent, len(leap.strengths)) for leap in multiindex.leaps.leaps(link)]
        assert found == stages, coefficients
    # h_4(z_1) + h_2(z_1) z_2/2 in plain powers has no linear term: z_2 comes with h_2(z_1).
    mixed = from_coefficients({(4, 0): 1.0, (2, 1): 0.5})
    assert [(s.exponent, len(s.strengths)) for s in multiindex.leaps.leaps(mixed)] == [(3, 2)]
    assert multiindex.leaps.exponents(from_coefficients({(1, 0): 1.0})) == [0, -1]


def test_leaps_do_not_depend_on_coordinates_and_give_the_slope():
    link = from_coefficients({(1, 0): 0.8, (0, 2): 0.5, (0, 3): 0.4})
    rotated = multiindex.leaps.leaps(link.rotate(ROTATION))
    assert [leap.exponent for leap in rotated] == [1, 2]
    np.testing.assert_allclose(abs(rotated[0].directions[:, 0] @ ROTATION[:, 0]), 1, atol=1e-12)
    # S(P_E + eps P_N) on the complement is sum_s s eps^{s-1} Q_s.
    strength = multiindex.leaps.leaps(link)[1].strengths[0]
    eps = 1e-6
    s = multiindex.averaging.energy_gradient(link, jnp.diag(jnp.array([1.0, eps**0.5])))
    assert float(s[1, 1]) == pytest.approx(2 * eps * strength, rel=1e-4)
    # Below the threshold a coefficient does not count.
    faint = from_coefficients({(1,): 1e-5, (2,): 1.0})
    assert multiindex.leaps.exponents(faint) == [1]
    assert multiindex.leaps.exponents(faint, threshold=1e-12) == [0]


def test_wrong_arguments():
    with pytest.raises(ValueError, match="threshold"):
        hd.multiindex.leaps.leaps(A, threshold=0.0)
