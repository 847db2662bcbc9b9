"""Learning rates that the limit singles out.

With A = <X - X*, grad R> and I the noise's trace (arXiv 2308.08977, section on learning rates),

    d/dt |X - X*|^2 = -2 gamma A + gamma^2 I,    gamma_crit = 2 A / I,

where for Gaussian data I = (tr K/d) E|g|^2 / b.
"""

from typing import TYPE_CHECKING

import jax.numpy as jnp
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from hdjax.streaming.field import GramSummary
    from hdjax.streaming.model import OnePassSGD


def critical_learning_rate(
    system: "OnePassSGD", summary: "GramSummary | None" = None
) -> Float[Array, ""]:
    """The learning rate at which |X - X*|^2 is momentarily stationary: it falls below, grows above.

    Args:
        system: with as many teacher as student columns.
        summary: where; None is the start.

    Returns:
        gamma = O(1), the step being gamma/d (negative where every rate increases the distance).

    Raises:
        ValueError: m != s, where there is no distance.

    Example:
        >>> bool(critical_learning_rate(system) > 0)
        True
    """
    layout = system.layout
    if not layout.centred:
        raise ValueError(
            f"system: {layout.students} student and {layout.teachers} teacher columns; allowed: "
            "as many of each, so that |X - X*| exists"
        )
    field = system.field()
    if summary is None:
        summary = system.start()
    parts = field.component_moments((summary.blocks, summary.theta))
    m = layout.students
    moved = jnp.einsum("gab,gbm->am", summary.blocks[:, :m], field.direction(parts))
    noise = jnp.einsum("gii->", field.noise(parts))
    return 2 * jnp.trace(moved) / noise
