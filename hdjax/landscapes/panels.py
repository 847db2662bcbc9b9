"""An inverse Cholesky factor to which the sampler adds observations, in panels of several steps.

Let C be the covariance of all components of all steps, and C = F F^T its Cholesky factorisation.
The rows of F that belong to a panel of steps are [K, L], with L the square block of the panel and K
the columns of earlier panels.  The panel keeps L^-1 [-K, 1].  Applied to the whitened covariances
of earlier panels and the covariances of its own steps with a new observation, these rows whiten the
latter.  A step therefore needs the panels up to its own, and no panel of later steps.

A panel is an array (steps, components, columns), with as many components as the last of its steps
observes; rows of steps that were not made yet are 0.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PyTree

Panels = list[Float[Array, "_ _ _"]]
# Runs of at least _SHORT steps are cut where these fifths of their steps end: the wide panels of
# late steps have fewer steps.
_SHORT, _FIFTHS = 12, (2, 3, 4, 5)


def bounds(n: int) -> list[tuple[int, int]]:
    """The pairs (first, end) of the panels of a run of n steps: each has steps first <= k < end."""
    ends = [n] if n < _SHORT else [-(-n * fifths // 5) for fifths in _FIFTHS]
    return list(itertools.pairwise([0, *ends]))


def empty(n: int, dtype: DTypeLike) -> Panels:
    """Panels of zeros with room for n steps, of which step k has k + 2 components."""
    shapes = [(end - first, end + 1) for first, end in bounds(n)]
    columns = itertools.accumulate(steps * b for steps, b in shapes)
    return [jnp.zeros((*shape, q), dtype) for shape, q in zip(shapes, columns, strict=True)]


def own_factors(panels: Panels, n: int) -> Float[Array, "n c"]:
    """The diagonals of the inverse Cholesky factors of conditional covariances, step by step.

    The covariance of a step is conditional on all steps before it.

    Args:
        panels: the factor.
        n: the number of steps.
    """
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
    """The conditioning of an observation of c components on the steps before k.

    Args:
        panels: the factor.
        innovations: the whitened numbers that the steps have drawn.
        k: the number of steps that were made.
        covariance: (first, end) -> (steps, components, c), the covariances of the steps of a panel
            with the observation.

    Returns:
        The covariances of the whitened numbers with the observation, panel by panel; and the mean
        and the covariance of the observation that the earlier steps explain.
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
    """The factor after the rows of step k are added.

    Args:
        panels: the factor.
        k: the step.
        inverse: the inverse Cholesky factor of the covariance of step k given all steps before it.
        whitened: the covariances of the whitened numbers of each panel with the components of
            step k, from `whiten`.
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
    """A panel after the rows of a step are added at `place`, if the step belongs to the panel.

    With W the whitened covariances of earlier panels and Y those of this panel, the rows are
    `inverse` times ([-W^T, 1] - Y^T panel).
    """
    steps, b, q = panel.shape
    inside = (place >= 0) & (place < steps)
    own = inverse[:b, :b]

    def rows() -> Array:
        *before, part = [own @ part[:, :b].T for part in whitened]
        left = jnp.concatenate([*before, jnp.zeros_like(part)], axis=1)
        rows = -left - part @ panel.reshape(-1, q)
        return jax.lax.dynamic_update_slice(rows, own, (0, q - part.shape[1] + place * b))

    # For a step of another panel the index is out of range, and the update is dropped.
    return panel.at[jnp.where(inside, place, steps)].set(_if(inside, rows), mode="drop")


def _if(condition: Bool[Array, ""], function: Callable[[], PyTree]) -> PyTree:
    """The value of `function` if the condition holds, and zeros of the same shapes otherwise."""
    shapes = jax.eval_shape(function)
    zeros = lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
    return jax.lax.cond(condition, function, zeros)
