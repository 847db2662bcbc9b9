"""Histories of the directions of the previsible frame, and the conditioning on them.

The direction e_j is defined by the gradient at x_{j-1}.  Its *history* is the vector of the earlier
derivatives D_{e_j} f(x_0), ..., D_{e_j} f(x_{j-1}), which is independent of all older data.  The
inverse Cholesky factor B of A whitens it to (0, ..., 0, zeta_{j-1}) (`sampler.py`).

The sampler needs the covariances of histories with an observation at x_k (its components are the
value, and the derivatives along e_0, ..., e_k).  As e_j is orthogonal to x_0, ..., x_{j-1}, entry i
of the whitened history of e_j has the covariances

    H_k[(i, j), .] = <x_k, e_j> V_k[i, .] + a_k[i] 1[. = D_{e_j}],      i < j <= k,

where a_k = B (kappa_3(x_l, x_k))_{l<k} and V_k = B v_k.  Row l of v_k holds the covariances of
D_e f(x_l) with the observation, divided by <x_k, e>, for a direction e orthogonal to x_l and to the
direction of the derivative observed.  The part H_l^T H_k of a covariance that histories explain is
therefore a sum over i alone, and no H is ever formed.

Source: arXiv 2410.09973, section 5.3 (previsible coordinates) and 5.4.3 (block structure).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hdjax.landscapes.kernels.base import Jet


class Observations(eqx.Module):
    """Per-step factors from which the covariances H_k of observations with histories are built.

    Component 0 of an observation is the value, component 1 + j the derivative along e_j.

    Attributes:
        point: x_k in the frame.
        aside: V_k^T, per component and history entry.
        along: a_k, per history entry.
    """

    point: Float[Array, "steps n"]
    aside: Float[Array, "steps c h"]
    along: Float[Array, "steps h"]


def observation(
    fields: Float[Array, "n n"],
    jets: Jet,
    points: Float[Array, "n n"],
    x: Float[Array, " n"],
    earlier: Bool[Array, " n"],
) -> Observations:
    """The factors of a new observation at x, as a single step.

    Args:
        fields: B, the inverse Cholesky factor of A.
        jets: the kernel and its derivatives at each earlier point and x.
        points: the earlier points.
        x: the point of the new observation.
        earlier: which rows of `points` are earlier points.
    """

    def beside(jet: Jet, point: Float[Array, " n"]) -> Float[Array, " c"]:
        """A row of v_k: the covariances for one earlier point."""
        across = jet.hessian[2] - jet.hessian[3]
        slope = across[1] * x + across[2] * point + across[3] * (x - point)
        return jnp.append(jet.derivative, slope)

    aside = jnp.where(earlier[:, None], jax.vmap(beside)(jets, points), 0.0)
    along = jnp.where(earlier, jax.vmap(lambda jet: jet.derivative)(jets), 0.0)
    return Observations(x[None], (fields @ aside).T[None], (fields @ along)[None])


def explained(seen: Observations, new: Observations) -> Float[Array, "steps b c"]:
    """The part H_l^T H_k of the covariances of earlier observations with a new one.

    This is the part that the histories of directions explain.  With the indicator 1[i < j] for
    entry i of the history of e_j, it is the sum over i of

        V_l[i, b] V_k[i, c] sum_j <x_l, e_j> <x_k, e_j> 1[i < j]
            + <x_k, e_b> a_l[i] V_k[i, c] 1[i < b] + <x_l, e_c> V_l[i, b] a_k[i] 1[i < c]
            + a_l[i] a_k[i] 1[i < b] 1[b = c].

    Args:
        seen: the factors of observations at steps l.
        new: the factors of the new observation at step k.
    """
    (_, b, h), c = seen.aside.shape, new.aside.shape[1]
    aside, along = new.aside[0, :, :h], new.along[0, :h]
    # Component 1 + j is the derivative along e_j.
    before = jnp.arange(h)[None] < (jnp.arange(c) - 1)[:, None]
    own_seen = jnp.where(before[None, :b], seen.along[:, None], 0.0)
    own_new = jnp.where(before, along[None], 0.0)
    tails = (seen.point * new.point) @ before[1:].astype(along.dtype)
    left = seen.aside * tails[:, None] + jnp.pad(new.point[0], (1, 0))[None, :b, None] * own_seen
    right = jnp.pad(seen.point, ((0, 0), (1, 0)))[:, None] * (seen.aside @ own_new.T)
    both = (own_seen @ along)[..., None] * jnp.eye(b, c, dtype=along.dtype)[None]
    return left @ aside.T + right + both


def mean(new: Observations, lengths: Float[Array, " n"]) -> Float[Array, " c"]:
    """The mean of an observation given the histories, less the mean of the function.

    Of the whitened history of e_j only the last entry, i = j - 1, is not 0; it is zeta_{j-1}.

    Args:
        new: the factors of the observation.
        lengths: zeta_0, zeta_1, ...; 0 for directions that are not defined yet.
    """
    zeta = lengths[:-1]
    expected = new.aside[0, :, :-1] @ (new.point[0, 1:] * zeta)
    return expected.at[2:].add(new.along[0, :-1] * zeta)
