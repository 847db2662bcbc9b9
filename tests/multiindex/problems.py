"""Links, overlaps and matrices that several tests of multi-index models use."""

import jax.numpy as jnp
import numpy as np

from hdjax.multiindex import links
from hdjax.multiindex.links import from_coefficients

A = from_coefficients({(1, 0): 0.8, (1, 1): 0.6, (0, 2): 0.5})
B = from_coefficients({(1,): 0.8, (2,): 0.6})
CUBIC = from_coefficients({(1, 0): 0.3, (1, 1): 0.6, (2, 1): 0.4, (0, 3): -0.5, (3, 0): 0.2})
LINK = from_coefficients({(1, 0): 0.8, (0, 2): 0.6, (1, 1): 0.3, (2, 1): 0.2})
NEURONS = links.ridge_sum(links.sine(), np.eye(2))
M = jnp.array([[0.2, 0.1], [-0.15, 0.25]])
ROTATION = jnp.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])


def gram(matrix):
    return np.einsum("...qr,...qs->...rs", matrix, matrix)
