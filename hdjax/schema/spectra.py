"""Spectra in a config: a table for each function of `hdjax.spectra`, chosen by `kind`.

`build(d)` makes the spectrum; d may be None where the table itself fixes the dimension.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from hdjax import spectra
from hdjax.schema.arrays import ArrayField
from hdjax.schema.tables import Call, Kind, NonNegative, Positive, PositiveInteger


class InDimension(Call):
    """A spectrum of any dimension, which must be given."""

    def build(self, *arguments: Any) -> spectra.Spectrum:
        """The spectrum in dimension `arguments[0]`."""
        return super().build(_required(*arguments))


class Identity(InDimension):
    """K = I."""

    make = spectra.identity
    kind: Literal["identity"] = "identity"


class PowerLaw(InDimension):
    """Eigenvalues proportional to i^-exponent."""

    make = spectra.power_law
    kind: Literal["power_law"] = "power_law"
    exponent: float
    normalise: bool = True


class Powers(InDimension):
    """Eigenvalues proportional to (i/d)^(2 exponent)."""

    make = spectra.powers
    kind: Literal["powers"] = "powers"
    exponent: float
    normalise: bool = True


class Uniform(InDimension):
    """Eigenvalues spread evenly over [low, high]."""

    make = spectra.uniform
    kind: Literal["uniform"] = "uniform"
    low: NonNegative
    high: NonNegative
    normalise: bool = True


class MarchenkoPastur(InDimension):
    """The Marchenko-Pastur law of ratio d/n; with `points`, its Gauss rule (limits only)."""

    make = spectra.marchenko_pastur
    kind: Literal["marchenko_pastur"] = "marchenko_pastur"
    ratio: Positive
    points: PositiveInteger | None = None
    normalise: bool = True


def _explicit(
    d: int | None, eigenvalues: Any, multiplicities: Any, weights: Any, normalise: bool
) -> spectra.Spectrum:
    if weights is not None:
        if multiplicities is not None:
            raise ValueError("weights: given beside multiplicities; allowed: one of them")
        multiplicities = _shares(weights, _required(d))
    return _agreed(spectra.explicit(eigenvalues, multiplicities, normalise=normalise), d)


class Explicit(Call):
    """Given eigenvalues, with `multiplicities`, or with `weights` that share out the dimension."""

    make = _explicit
    kind: Literal["explicit"] = "explicit"
    eigenvalues: ArrayField
    multiplicities: ArrayField | None = None
    weights: ArrayField | None = None
    normalise: bool = False


def _from_covariance(d: int | None, covariance: Any, normalise: bool) -> spectra.Spectrum:
    return _agreed(spectra.from_covariance(covariance, normalise=normalise), d)


class Covariance(Call):
    """The spectrum of a dense covariance, with its eigenvectors."""

    make = _from_covariance
    kind: Literal["covariance"] = "covariance"
    covariance: ArrayField
    normalise: bool = False


SpectrumConfig = Annotated[
    Identity | PowerLaw | Powers | Uniform | MarchenkoPastur | Explicit | Covariance,
    Field(discriminator="kind"),
    Kind(),
]


def _required(d: int | None) -> int:
    if d is None:
        raise ValueError("dimension: missing; allowed: a positive integer")
    return d


def _agreed(spectrum: spectra.Spectrum, d: int | None) -> spectra.Spectrum:
    if d is not None and d != spectrum.size:
        raise ValueError(f"dimension: {d}; allowed: {spectrum.size}, that of the spectrum, or none")
    return spectrum


def _shares(weights: np.ndarray, d: int) -> np.ndarray:
    """Multiplicities near weights * d that sum to d (largest remainders)."""
    if not (np.all(weights > 0) and abs(weights.sum() - 1) < 1e-6):
        raise ValueError(f"weights: {weights}; allowed: positive numbers that sum to 1")
    exact = weights * d
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: d - counts.sum()]] += 1
    return counts
