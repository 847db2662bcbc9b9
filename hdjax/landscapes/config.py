"""Config tables of the family: an algorithm on a random function with `family = "landscapes"`.

    [system]
    dimension = 1e6
    kernel = { kind = "matern52", scale = 0.8 }     # "squared_exponential" if nothing is said
    algorithm = { kind = "heavy_ball", rate = 0.3, momentum = 0.5 }
    mean = [0.0, 0.2]                               # coefficients in |x|^2/2
    radius = 1.0

This module registers only the tables that TOML writes differently from the constructors.  The keys
of any other table are the signature of its constructor, which is registered beside the class.
"""

from typing import Annotated, Any

import numpy as np

from hdjax import landscapes
from hdjax.registry import In, NonNegatives, OneOf, OneOrMoreReal, Size, Slot, declare, register
from hdjax.system import System

declare("landscapes.method", Slot(default="previsible"))
declare("landscapes.statistic", Slot(default="overlap", named=True))


@register("landscapes.algorithm", "optimised")
def _optimised(
    family: Annotated[str, OneOf("constant", "schedule", "heavy_ball", "lower_triangular")],
    steps: Size,
    **landscape: Any,
) -> landscapes.algorithms.Algorithm:
    """The algorithm of a family with the lowest limit of the value after `steps` steps.

    The optimum is local (`hdjax.landscapes.meta.optimise`).

    Args:
        family: the free parameters: one step size, one step size for each step, a rate and a
            momentum, or all prefactors of gradients.
        steps: the number of steps after which the value is minimal.
        **landscape: arguments of `hdjax.landscapes.GradientSpan`.
    """
    make, start = landscapes.meta.algorithm_family(family, steps)

    def system(parameters: Any) -> landscapes.GradientSpan:
        return landscapes.GradientSpan(algorithm=make(parameters), dimension=np.inf, **landscape)

    return make(landscapes.meta.optimise(system, start, steps).parameters)


def _system(  # noqa: D417 (the others are the constructor's)
    dimension: Size,
    *,
    kernel: Annotated[Any, In("landscapes.kernel")] = "squared_exponential",
    algorithm: Annotated[Any, In("landscapes.algorithm")],
    spectrum: Annotated[Any, In("spectrum")] = None,
    shares: NonNegatives | None = None,
    kind: Annotated[str, OneOf("trajectory", "next_observation")] = "trajectory",
    mean: OneOrMoreReal = 0.0,
    **landscape: Any,
) -> System:
    """An algorithm on a random function, from a start.

    Args:
        dimension: d.
        kind: the system: "trajectory" records the run, "next_observation" the conditional law of
            each observation before it is made.
    """
    landscape |= {"kernel": kernel, "mean": mean}
    built = algorithm(**landscape)
    if isinstance(built, landscapes.optimisers.Optimiser):
        given = {"spectrum": spectrum, "shares": shares}
        given |= {"kind": None if kind == "trajectory" else kind}
        for name, value in given.items():
            if value is not None:
                own = type(built).__name__
                raise ValueError(f"{name}: given; allowed with {own}: its default")
        return landscapes.ComponentWise(optimiser=built, dimension=dimension, **landscape)
    system = landscapes.GradientSpan(
        algorithm=built,
        dimension=dimension,
        spectrum=None if spectrum is None else spectrum(d=dimension),
        shares=shares,
        **landscape,
    )
    return system if kind == "trajectory" else landscapes.NextObservation(system)


register("landscapes.system", "", _system)(landscapes.GradientSpan)
