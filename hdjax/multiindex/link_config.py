"""How a link is written in a config: a table with a `kind`, or a bare name."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hdjax import multiindex
from hdjax.schema import ArrayField, Call, Kind, NonNegative, PositiveInteger


class Sine(Call):
    """The link sin(omega z)."""

    make = multiindex.sine
    kind: Literal["sine"] = "sine"
    omega: float = 1.0
    degree: PositiveInteger = 11


class Cosine(Call):
    """The link cos(omega z)."""

    make = multiindex.cosine
    kind: Literal["cosine"] = "cosine"
    omega: float = 1.0
    degree: PositiveInteger = 10


class Exponential(Call):
    """The link e^(omega z)."""

    make = multiindex.exponential
    kind: Literal["exponential"] = "exponential"
    omega: float = 0.5
    degree: PositiveInteger = 10


class ReLU(Call):
    """The link max(0, z)."""

    make = multiindex.relu
    kind: Literal["relu"] = "relu"
    degree: PositiveInteger = 10


class Sign(Call):
    """The link sign(z)."""

    make = multiindex.sign
    kind: Literal["sign"] = "sign"
    degree: PositiveInteger = 11


class Erf(Call):
    """The link erf(z/sqrt 2)."""

    make = multiindex.erf
    kind: Literal["erf"] = "erf"
    degree: PositiveInteger = 11


class Hermite(Call):
    """The normalised Hermite polynomial h_degree."""

    make = multiindex.hermite_polynomial
    kind: Literal["hermite"] = "hermite"
    degree: PositiveInteger


def _coefficients(values: list[float], degrees: list[list[int]]) -> multiindex.Link:
    pairs = zip(map(tuple, degrees), values, strict=True)
    return multiindex.from_coefficients(dict(pairs))


class Coefficients(Call):
    """Sum of value times H_beta, beta the row of `degrees`."""

    make = _coefficients
    kind: Literal["coefficients"] = "coefficients"
    values: list[float]
    degrees: list[list[int]]

    @model_validator(mode="after")
    def _as_many(self) -> "Coefficients":
        if len(self.values) != len(self.degrees):
            raise ValueError(
                f"values: {len(self.values)}; allowed: {len(self.degrees)}, a row each"
            )
        return self


def _radial(weights: dict[str, float]) -> multiindex.Link:
    return multiindex.radial_harmonics({int(m[1:]): square for m, square in weights.items()})


class RadialHarmonics(Call):
    """A radial part and harmonics: `weights = { m3 = 0.02, m4 = 0.04 }` are the a_m^2."""

    make = _radial
    kind: Literal["radial_harmonics"] = "radial_harmonics"
    weights: dict[Annotated[str, Field(pattern=r"^m[1-9]\d?$")], NonNegative]


def _product(factors: list[Any], degree: int | None) -> multiindex.Link:
    return multiindex.product(*[factor.build() for factor in factors], degree=degree)


def _ridge(link: Any, direction: Any) -> multiindex.Link:
    return multiindex.ridge(link.build(), direction)


def _ridge_sum(link: Any, directions: Any, weights: Any) -> multiindex.Link:
    return multiindex.ridge_sum(link.build(), directions, weights)


class Product(Call):
    """A product of links in one variable each."""

    make = _product
    kind: Literal["product"] = "product"
    factors: "list[Link]"
    degree: PositiveInteger | None = None


class Ridge(Call):
    """A link in one variable along a unit vector."""

    make = _ridge
    kind: Literal["ridge"] = "ridge"
    link: "Link"
    direction: ArrayField


class RidgeSum(Call):
    """A sum of ridge functions of one link, a two-layer network."""

    make = _ridge_sum
    kind: Literal["ridge_sum"] = "ridge_sum"
    link: "Link"
    directions: ArrayField
    weights: ArrayField | None = None


Link = Annotated[
    Sine
    | Cosine
    | Exponential
    | ReLU
    | Sign
    | Erf
    | Hermite
    | Coefficients
    | RadialHarmonics
    | Product
    | Ridge
    | RidgeSum,
    Field(discriminator="kind"),
    Kind(),
]


Product.model_rebuild()
Ridge.model_rebuild()
RidgeSum.model_rebuild()
