"""Spectra of data covariances K, as measures of a few groups of equal eigenvalues.

    mu = sum_i w_i delta(lambda_i),   w_i = d_i / d,   sum_i w_i = 1,

with multiplicities d_i of the eigenvalues lambda_i of K. Coordinates are those of the eigenbasis,
group after group. What depends on mu alone can be computed on a few nodes, at a cost that does
not depend on d: for the limits on those of `reduced`, with the error that they leave, and for
polynomials of the eigenvalues on those of the Gauss rule, `Spectrum.compress`.
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
