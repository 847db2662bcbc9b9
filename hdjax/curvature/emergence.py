"""Where outliers emerge: their number and their distance from the bulk, from the limit alone.

A branch of F gives an outlier to the right of the bulk if and only if it exceeds the edge there
(`theory.py`), so that a map over (n/d, snr, t) needs no root and no simulation.  `OutlierCount` is
a statistic of an `Alignment`; `emergence_map` serves users who want the whole map.  It goes beyond
"Spectral alignment of SGD" (arXiv 2310.03010), which is for n >> d and large snr.
"""

from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hdjax.checks import Checked, checked
from hdjax.curvature.blocks import Block, predicted
from hdjax.curvature.law import quadrature
from hdjax.curvature.theory import block_theory
from hdjax.curvature.weights import Kind
from hdjax.gaussian import Rule
from hdjax.registry import Count, OneOf, register
from hdjax.streaming import OnePassSGD


@register("curvature.statistic", "outlier_count")
class OutlierCount(Checked):
    """The statistic "number of outliers of a block", of an `Alignment` and its summary.

    For side parameters the number is that of eigenvalues of the population's block above a third of
    the largest, its rank (`blocks.py`).  Both numbers are functions of the Gram blocks: they exist
    for any method and for thousands of runs.

    Args:
        name: the name of the statistic in a config, not used here.
        index: the column, or "theta" for the side parameters.
        matrix: "hessian" or "gradient".

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(64, 3, snr=4.0, learning_rate=1.0)
        >>> system = hd.curvature.Alignment(mixture, alpha=8.0)
        >>> int(OutlierCount()(system, system.start()))
        3
    """

    name: str = eqx.field(static=True, default="outliers")
    index: Count | Annotated[str, OneOf("theta")] = eqx.field(static=True, default=0)
    matrix: Kind = eqx.field(static=True, default="hessian")

    def __call__(self, system: Any, summary: Any) -> Float[Array, ""]:
        if isinstance(self.index, str):
            block = Block(self.index, self.matrix)
            nodes = quadrature(system.training, summary.gram.overlaps, system.rule)
            found = predicted(block, system.training, summary.gram, system.alpha, nodes)
            return found[f"{block.name}_rank"]
        theory = block_theory(
            system.training, summary.gram, self.index, self.matrix, system.alpha, system.rule
        )
        count, _ = theory.emergence()
        return count.astype(system.alpha.dtype)


@checked
@eqx.filter_jit
def emergence_map(
    system: OnePassSGD,
    index: int,
    kind: Kind,
    *,
    alphas: Float[Array, " a"],
    snrs: Float[Array, " l"],
    ts: Float[Array, " t"],
    rule: Rule | None = None,
) -> tuple[Int[Array, "l t a"], Float[Array, "l t a q"]]:
    """The number of outliers of a block over (snr, time, n/d), in one program.

    Args:
        system: a mixture; its own snr is replaced by each of `snrs`.
        index: the column.
        kind: "hessian" or "gradient".
        alphas: values of n/d, positive.
        snrs: values of snr, positive.
        ts: increasing times.
        rule: quadrature rule of expectations; None: the default of their dimension.

    Returns:
        The numbers of outliers, and by how much each branch exceeds the edge (positive for an
        outlier).

    Example:
        >>> mixture = hd.streaming.mixtures.mixture_softmax(64, 3, snr=4.0, learning_rate=1.0)
        >>> grid = jnp.array([2.0, 8.0])
        >>> count, _ = emergence_map(mixture, 0, "hessian", alphas=grid, snrs=grid, ts=grid)
        >>> count.shape
        (2, 2, 2)
    """

    def at_snr(snr: Float[Array, ""]) -> Any:
        noise = jnp.full_like(system.eigenvalues, 1 / snr)
        own = eqx.tree_at(
            lambda s: (s.eigenvalues, s.spectrum.eigenvalues), system, (noise, noise[0])
        )
        summaries = own.limit(ts).values

        def at_time(summary: Any) -> Any:
            theory = block_theory(own, summary, index, kind, alphas[0], rule)

            def at_alpha(alpha: Float[Array, ""]) -> Any:
                return eqx.tree_at(lambda theory: theory.alpha, theory, alpha).emergence()

            return jax.vmap(at_alpha)(alphas)

        return jax.lax.map(at_time, summaries)

    return jax.lax.map(at_snr, snrs)
