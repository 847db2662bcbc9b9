"""How a multi-index experiment is written in a config with `family = "multiindex"`.

    [system]
    dimension = 1e12
    link = { kind = "coefficients", values = [0.8, 0.6], degrees = [[1, 0], [0, 2]] }
    directions = 2                                      # q; r if nothing is said
    start = [[0.1, 0.0], [0.0, 0.1]]                    # M = W^T W*; Haar if nothing is said
    algorithm = "saddle_to_saddle"                      # { kind = "sgd", learning_rate = 0.1 }

What is here is what TOML says differently from the constructors; the rest of each table is its
constructor's signature, registered beside it.
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
def _coefficients(values: Reals, degrees: list[list[int]]) -> multiindex.Link:
    """Sum of value times H_beta, beta the row of `degrees`.

    Args:
        values: the coefficients.
        degrees: beta of each, a row of as many degrees as there are variables.
    """
    if len(values) != len(degrees):
        raise ValueError(f"values: {len(values)}; allowed: {len(degrees)}, a row each")
    return multiindex.from_coefficients(dict(zip(map(tuple, degrees), values, strict=True)))


@register("multiindex.link", "radial_harmonics")
def _radial_harmonics(weights: dict[str, NonNegative]) -> multiindex.Link:
    """A radial part and harmonics: `weights = { m3 = 0.02, m4 = 0.04 }` are the a_m^2.

    Args:
        weights: a_m^2 of each harmonic m, small.
    """
    for name in weights:
        if not (name[:1] == "m" and name[1:].isdecimal() and 1 <= len(name[1:]) <= 2):
            raise ValueError(f"weights: {name[:20]!r}; allowed: m1 to m99")
    return multiindex.radial_harmonics({int(m[1:]): square for m, square in weights.items()})


@register("multiindex.link", "product")
def _product(
    factors: list[Annotated[Any, In("multiindex.link")]], degree: Size | None = None
) -> multiindex.Link:
    """A product of links in one variable each.

    Args:
        factors: the links.
        degree: up to which Hermite degree; None: the sum of the factors'.
    """
    return multiindex.product(*factors, degree=degree)


@register("multiindex.student", "joint")
def _joint(
    target_link: multiindex.Link,
    ratio: NonNegative,
    start: Annotated[str, OneOf("best", "planted")] = "best",
) -> Any:
    """A link that moves 1/ratio times faster; ratio 0 is the best link at every time.

    Args:
        target_link: the target's own.
        ratio: time scale of the link in units of that of the directions.
        start: the link at the start.
    """
    if ratio == 0:
        return multiindex.Profiled()
    return multiindex.Joint(ratio, target_link if start == "planted" else None)


@register("multiindex.statistic", "conditioning")
def _conditioning(degrees: list[Size] = [1, 2, 4]) -> multiindex.conditioning:  # noqa: B006
    """log10 of lambda_min(M)^{-k}.

    Args:
        degrees: the k.
    """
    return multiindex.conditioning(tuple(degrees))


@register("multiindex.system", "")
def _system(
    *,
    link: Annotated[Any, In("multiindex.link")],
    dimension: Size,
    directions: Size | None = None,
    start: Values | None = None,
    algorithm: Annotated[Any, In("multiindex.algorithm")] = "gradient_flow",
) -> Any:
    """A link, a dimension, a start and what is run.

    Args:
        link: the target's f*.
        dimension: d.
        directions: q, the student's; None: as many as the start or the target has.
        start: M = W^T W* (q, r); None: a Haar one.
        algorithm: what is run.
    """
    problem = {"dimension": dimension, "directions": directions, "start": start}
    return algorithm(link=link, target_link=link, **problem)
