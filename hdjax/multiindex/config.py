"""How a multi-index experiment is written in a config with `family = "multiindex"`.

    [system]
    dimension = 1e12
    link = { kind = "coefficients", values = [0.8, 0.6], degrees = [[1, 0], [0, 2]] }
    directions = 2                                      # q; r if nothing is said
    start = [[0.1, 0.0], [0.0, 0.1]]                    # M = W^T W*; Haar if nothing is said
    algorithm = "saddle_to_saddle"                      # { kind = "sgd", learning_rate = 0.1 }

This module holds the tables that differ from the signatures of their constructors.  Every other
table is derived from the signature of a constructor that is registered where it is defined.
"""

from typing import Annotated, Any

from hdjax import multiindex
from hdjax.registry import (
    In,
    NonNegative,
    OneOf,
    Reals,
    Size,
    Slot,
    Values,
    declare,
    register,
)

declare("multiindex.method", Slot(default="full_flow"))
declare("multiindex.statistic", Slot(default="conditioning", named=True))
declare("multiindex.path", Slot(includes=("path",)))
declare("multiindex.algorithm", Slot(given=("link", "dimension", "directions", "start")))


@register("multiindex.link", "coefficients")
def _coefficients(values: Reals, degrees: list[list[int]]) -> multiindex.links.Link:
    """The sum of value times H_beta over the rows beta of `degrees`.

    Args:
        values: the coefficients alpha_beta.
        degrees: the beta of each coefficient, a row of as many degrees as there are variables.
    """
    if len(values) != len(degrees):
        raise ValueError(
            f"values: {len(values)} numbers; allowed: {len(degrees)}, one for each row of degrees"
        )
    return multiindex.links.from_coefficients(dict(zip(map(tuple, degrees), values, strict=True)))


@register("multiindex.link", "radial_harmonics")
def _radial_harmonics(weights: dict[str, NonNegative]) -> multiindex.links.Link:
    """A radial part plus harmonics: `weights = { m3 = 0.02, m4 = 0.04 }` are the a_m^2.

    Args:
        weights: a_m^2 of each harmonic m, small numbers.
    """
    for name in weights:
        if not (name[:1] == "m" and name[1:].isdecimal() and 1 <= len(name[1:]) <= 2):
            raise ValueError(f"weights: {name[:20]!r}; allowed: m1 to m99")
    return multiindex.traps.radial_harmonics({int(m[1:]): square for m, square in weights.items()})


@register("multiindex.link", "product")
def _product(
    factors: list[Annotated[Any, In("multiindex.link")]], degree: Size | None = None
) -> multiindex.links.Link:
    """The product of links in one variable each.

    Args:
        factors: the links.
        degree: the highest total Hermite degree; None: the sum of the factors' degrees.
    """
    return multiindex.links.product(*factors, degree=degree)


@register("multiindex.student", "joint")
def _joint(
    target_link: multiindex.links.Link,
    ratio: NonNegative,
    start: Annotated[str, OneOf("best", "planted")] = "best",
) -> Any:
    """A link that moves 1/ratio times faster than the directions; at ratio 0 it is the best link.

    Args:
        target_link: f*, the link of the target.
        ratio: the time scale of the link in units of the time scale of the directions.
        start: the link at the start.
    """
    if ratio == 0:
        return multiindex.flows.Profiled()
    return multiindex.flows.Joint(ratio, target_link if start == "planted" else None)


@register("multiindex.statistic", "conditioning")
def _conditioning(degrees: list[Size] = [1, 2, 4]) -> multiindex.averaging.conditioning:  # noqa: B006
    """The statistic log10 of lambda_min(M)^{-k}.

    Args:
        degrees: the degrees k.
    """
    return multiindex.averaging.conditioning(tuple(degrees))


@register("multiindex.system", "")
def _system(
    *,
    link: Annotated[Any, In("multiindex.link")],
    dimension: Size,
    directions: Size | None = None,
    start: Values | None = None,
    algorithm: Annotated[Any, In("multiindex.algorithm")] = "gradient_flow",
) -> Any:
    """A multi-index model and the algorithm that is run on it.

    Args:
        link: f*, the link of the target.
        dimension: d.
        directions: q, the number of student columns; None: as many as the start or the target has.
        start: the overlap M = W^T W* at the start (q, r); None: a Haar start.
        algorithm: the algorithm that is run.
    """
    problem = {"dimension": dimension, "directions": directions, "start": start}
    return algorithm(link=link, target_link=link, **problem)
