"""What is known along a direction of the previsible frame before it had a name.

The *history* of e_j, its derivatives at x_0, ..., x_{j-1}, is independent of all that is older;
the inverse Cholesky factor B of A whitens it to (0, ..., 0, zeta) (`sampler.py`).  As e_j is
orthogonal to those points, the whitened histories (i, j) have with an observation at x_k the
covariances

    H_k[(i, j), .] = <x_k, e_j> V_k[i, .] + a_k[i] 1[. = D_{e_j}],      i < j <= k,

V_k = B v_k with v_k[l, .] what D_e f(x_l) has with it for e orthogonal to x_l, over <x_k, e>, and
a_k = B (kappa_3(x_l, x_k))_{l<k}.  So what they explain, H_l^T H_k, needs a sum over i alone, and
no H is ever formed.  Source: arXiv 2410.09973, section 4.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from hdjax.landscapes.kernels import Jet


class Observations(eqx.Module):
    """Of some steps: what their covariances with others need; component 0 is the value.

    Attributes:
        point: x_k.
        aside: V_k^T.
        along: a_k.
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
    """At x, a step of its own: with `jets` of the earlier points and x, and B in `fields`."""

    def beside(jet: Jet, point: Float[Array, " n"]) -> Float[Array, " c"]:
        across = jet.hessian[2] - jet.hessian[3]
        slope = across[1] * x + across[2] * point + across[3] * (x - point)
        return jnp.append(jet.derivative, slope)

    aside = jnp.where(earlier[:, None], jax.vmap(beside)(jets, points), 0.0)
    along = jnp.where(earlier, jax.vmap(lambda jet: jet.derivative)(jets), 0.0)
    return Observations(x[None], (fields @ aside).T[None], (fields @ along)[None])


def explained(seen: Observations, new: Observations) -> Float[Array, "steps b c"]:
    """H_l^T H_k, the part of an observation's covariances with `seen` that histories explain.

    With 1[i < j] for the history i of direction j, a sum over i of

        V_l[i, b] V_k[i, c] sum_j <x_l, e_j> <x_k, e_j> 1[i < j]
            + <x_k, e_b> a_l[i] V_k[i, c] 1[i < b] + <x_l, e_c> V_l[i, b] a_k[i] 1[i < c]
            + a_l[i] a_k[i] 1[i < b] 1[b = c].
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
    """What they let expect of an observation: only (j - 1, j) is not 0, but zeta."""
    zeta = lengths[:-1]
    expected = new.aside[0, :, :-1] @ (new.point[0, 1:] * zeta)
    return expected.at[2:].add(new.along[0, :-1] * zeta)
