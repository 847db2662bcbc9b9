"""Spectra of data covariances K, which the systems of SGD take as their `spectrum`.

A `Spectrum` is the measure of the groups of equal eigenvalues of K,

    mu = sum_i w_i delta(lambda_i),   w_i = d_i / d,   sum_i w_i = 1,

with multiplicities d_i of the eigenvalues lambda_i. Coordinates are those of the eigenbasis, group
after group. Quantities that depend on mu alone can be computed on a few nodes, at a cost that does
not depend on d: limits on the nodes of `reduced`, which has an error estimate, and means of
polynomials of the eigenvalues on the nodes of a Gauss rule, `Spectrum.compress`.
"""

from hdjax.spectra._reduction import Reduction, reduced
from hdjax.spectra.laws import (
    explicit,
    from_covariance,
    identity,
    marchenko_pastur,
    power_law,
    powers,
    uniform,
)
from hdjax.spectra.spectrum import Spectrum, validate

__all__ = [
    "Reduction",
    "Spectrum",
    "explicit",
    "from_covariance",
    "identity",
    "marchenko_pastur",
    "power_law",
    "powers",
    "reduced",
    "uniform",
    "validate",
]
