"""An inverse Cholesky factor to which observations are added, in panels of several steps.

With L a panel's own part of the factor and K its rows to the left, the rows L^-1 [-K, 1] are kept:
they whiten covariances with a new observation, once those of earlier panels are whitened.  Panels
of later steps are not touched.  A panel is an array (steps, components, columns), with as many
components as its last step sees; rows that were not seen yet are 0.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PyTree

Panels = list[Float[Array, "_ _ _"]]
# Longer runs are cut where these fifths of their steps end: panels of about the same size.
_SHORT, _FIFTHS = 12, (2, 3, 4, 5)


def bounds(n: int) -> list[tuple[int, int]]:
    """The steps that the panels of n steps begin with, and those before which they end."""
    ends = [n] if n < _SHORT else [-(-n * fifths // 5) for fifths in _FIFTHS]
    return list(itertools.pairwise([0, *ends]))


def empty(n: int, dtype: DTypeLike) -> Panels:
    """Panels with room for n steps, the k-th of which has k + 2 components."""
    shapes = [(end - first, end + 1) for first, end in bounds(n)]
    columns = itertools.accumulate(steps * b for steps, b in shapes)
    return [jnp.zeros((*shape, q), dtype) for shape, q in zip(shapes, columns, strict=True)]


def own_factors(panels: Panels, n: int) -> Float[Array, "n c"]:
    """The diagonal of the inverse factor of each step's covariance given the steps before."""
    rows = []
    for (_, end), panel in zip(bounds(n), panels, strict=True):
        steps, b, q = panel.shape
        blocks = panel[:, :, q - steps * b :].reshape(steps, b, steps, b)
        own = jnp.diagonal(jnp.diagonal(blocks, axis1=0, axis2=2), axis1=0, axis2=1)
        rows.append(jnp.pad(own, ((0, 0), (0, n - end))))
    return jnp.concatenate(rows)


def whiten(
    panels: Panels,
    innovations: Float[Array, "n c"],
    k: Int[Array, ""],
    covariance: Callable[[int, int], Float[Array, "_ _ c"]],
) -> tuple[list[Float[Array, "_ c"]], Float[Array, " c"], Float[Array, "c c"]]:
    """What the steps before k say of an observation of c components.

    Args:
        panels: the factor.
        innovations: what was drawn, whitened.
        k: the number of steps that were seen.
        covariance: (first, end) -> (steps, components, c) covariances of a panel's steps with it.

    Returns:
        its covariances with their whitened numbers, panel by panel; the mean and the covariance
        that these explain.
    """
    n, c = innovations.shape
    mean, square = jnp.zeros(c, innovations.dtype), jnp.zeros((c, c), innovations.dtype)
    whitened: list[Array] = []
    for (first, end), panel in zip(bounds(n), panels, strict=True):

        def solve(first: int = first, end: int = end, panel: Array = panel) -> tuple[Array, ...]:
            rest = covariance(first, end).reshape(-1, c)
            part = panel.reshape(rest.shape[0], -1) @ jnp.concatenate([*whitened, rest])
            seen = innovations[first:end, : end + 1].ravel()
            return part, part.T @ seen, part.T @ part

        part, *explained = _if(k > first, solve)
        whitened.append(part)
        mean, square = mean + explained[0], square + explained[1]
    return whitened, mean, square


def with_rows(
    panels: Panels,
    k: Int[Array, ""],
    inverse: Float[Array, "c c"],
    whitened: list[Float[Array, "_ c"]],
) -> Panels:
    """The factor with the rows of step k.

    Args:
        panels: the factor.
        k: the step.
        inverse: the inverse Cholesky factor of its covariance given all before.
        whitened: its covariances with the whitened numbers of each panel.
    """
    n = inverse.shape[0] - 1
    places = [k - first for first, _ in bounds(n)]
    return [
        _with_rows(panel, place, inverse, whitened[: i + 1])
        for i, (panel, place) in enumerate(zip(panels, places, strict=True))
    ]


def _with_rows(
    panel: Float[Array, "steps b q"],
    place: Int[Array, ""],
    inverse: Float[Array, "c c"],
    whitened: list[Float[Array, "_ c"]],
) -> Float[Array, "steps b q"]:
    """With W of earlier panels and Y of its own, the inverse factor times ([-W^T, 1] - Y^T panel).

    At `place`, if that is one of the panel's steps.
    """
    steps, b, q = panel.shape
    inside = (place >= 0) & (place < steps)
    own = inverse[:b, :b]

    def rows() -> Array:
        *before, part = [own @ part[:, :b].T for part in whitened]
        left = jnp.concatenate([*before, jnp.zeros_like(part)], axis=1)
        rows = -left - part @ panel.reshape(-1, q)
        return jax.lax.dynamic_update_slice(rows, own, (0, q - part.shape[1] + place * b))

    # Outside, nothing is written.
    return panel.at[jnp.where(inside, place, steps)].set(_if(inside, rows), mode="drop")


def _if(condition: Bool[Array, ""], function: Callable[[], PyTree]) -> PyTree:
    """The function's value, or zeros."""
    shapes = jax.eval_shape(function)
    zeros = lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
    return jax.lax.cond(condition, function, zeros)
