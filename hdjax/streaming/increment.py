"""The random increment of one step of SGD, on Gram blocks and side parameters.

`expansion.py` takes the covariance Sigma of the increment from here, `CorrectedDiffusion` its
draws.  In a step the blocks and theta change by xi / d, where for a sample of component c with
gradient g, projections p_i = W'^T P_i a on the columns, and slope h = grad_theta f,

    xi = (-gamma (p_i g^T E_x^T + E_x g p_i^T) + gamma^2/b w_i lambda_i^c E_x g g^T E_x^T,
          -gamma h)

without the ridge, which is not random.  Given r = mean + L z, the projections are Gaussian,

    p_i = m_i + lambda_i K_i z + rho_i,    K_i = V_i L^{-T},
    Cov(rho_i, rho_j) = delta_ij lambda_i V_i - lambda_i lambda_j K_i K_j^T,

with m_i the column of V_i that belongs to the component's mean.  So xi is the sum of two linear
maps.  The first is of the features g (1, z)^T, g g^T and h of the sample, with one set of features
for each component, so that their covariance includes the differences between components.  The
second is of rho g^T, whose covariance is that of rho times E g g^T.  With an optimiser's memories
gamma E_x^T becomes Gamma E_z^T.

The increment goes beyond arXiv 2308.08977; it is derived here for any number of columns, mixtures
and batches of b (cross products of the samples of a batch are neglected: O(d^-1/2)).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.streaming.field import BlockField
from hdjax.streaming.limit import BlockState, Side
from hdjax.streaming.moments import mean_over_samples
from hdjax.streaming.optimisers.linear import moved, times_weights
from hdjax.streaming.projections import Layout


class Increment(eqx.Module):
    """The covariance Sigma of the increment xi, in parts.

    Attributes:
        features: (f, f) covariance of the features of all components.
        lift: (f, n) linear map from the features to the flattened state (blocks, theta).
        variance: (c, g, q, q) covariances lambda_i^c V_i of the projections p_i.
        explained: (c, g, q, k) coefficients lambda_i^c K_i of z in the projections p_i.
        lower: (c, k, k) factor L of each component.
        noise: (c, m, m) p_c E g g^T / b.
        weights: (blocks,) Gamma, the weights of a gradient in the optimiser's blocks of columns.
        layout: the kinds and numbers of columns.
    """

    features: Float[Array, "f f"]
    lift: Float[Array, "f n"]
    variance: Float[Array, "c g q q"]
    explained: Float[Array, "c g q k"]
    lower: Float[Array, "c k k"]
    noise: Float[Array, "c m m"]
    weights: Float[Array, " blocks"]
    layout: Layout = eqx.field(static=True)

    def covariance(self) -> Float[Array, "n n"]:
        """Sigma as a matrix, for the flattened state."""
        _, g, q, _ = self.variance.shape
        m, n = self.noise.shape[-1], self.lift.shape[1]
        known = self.explained
        rest = -precise.einsum("ciax,cjbx->ciajb", known, known)
        rest = rest.at[:, jnp.arange(g), :, jnp.arange(g)].add(jnp.moveaxis(self.variance, 1, 0))
        rest = precise.einsum("ciajb,ckl->iakjbl", rest, self.noise)
        basis = jnp.eye(g * q * m, dtype=rest.dtype).reshape(-1, g, q, m)
        push = jax.vmap(lambda d: drift_of(d, self.weights).ravel())(basis)
        blocks = precise.multi_dot([push.T, rest.reshape(g * q * m, -1), push])
        total = precise.multi_dot([self.lift.T, self.features, self.lift])
        if blocks.shape[0] == n:
            return total + blocks
        return total.at[: blocks.shape[0], : blocks.shape[0]].add(blocks)

    def variance_along(
        self, blocks: Float[Array, "g q q"], side: Float[Array, " rest"]
    ) -> Float[Array, ""]:
        """The variance v^T Sigma v of v^T xi along v = (blocks, flattened side).

        Time and memory are linear in the state.  The variance is the sum of a part in the features
        and a part in rho g^T.  For the latter, T_i is such that the sum over i of rho_i^T T_i g is
        v^T (-(rho g^T Gamma E_z^T + its transpose)).
        """
        feature = precise.dot(self.lift, jnp.concatenate([blocks.ravel(), side]))
        total = precise.multi_dot([feature, self.features, feature])
        m, shape = self.noise.shape[-1], blocks.shape[:2]
        zero = jnp.zeros((*shape, m), blocks.dtype)
        (t,) = jax.vjp(lambda direction: drift_of(direction, self.weights), zero)[1](blocks)
        own = precise.einsum("gak,cgab,gbl->ckl", t, self.variance, t)
        known = precise.einsum("cgax,gak->cxk", self.explained, t)
        rest = own - precise.einsum("cxk,cxl->ckl", known, known)
        return total + jnp.sum(rest * self.noise)

    @property
    def normals(self) -> int:
        """The number of standard normals that `sample` takes."""
        c, g, q, _ = self.variance.shape
        return self.features.shape[0] + c * g * q * self.noise.shape[-1]

    def sample(self, z: Float[Array, " normals"]) -> Float[Array, " n"]:
        """A draw of N(0, Sigma) from standard normals, in time and memory linear in the state."""
        c, g, q, _ = self.variance.shape
        f, k = self.features.shape[0], self.lower.shape[-1]
        root = gaussian.factor(self.features)
        total = precise.multi_dot([z[:f], root.T, self.lift])
        z = z[f:].reshape(c, g, q, -1)
        own = jax.vmap(jax.vmap(gaussian.factor))(self.variance)
        drawn = (own[..., None] * z[:, :, None]).sum(3)
        # The part that z explains is subtracted: it is among the features already.
        first = self.layout.first
        seen = jax.vmap(solve)(self.lower, drawn[:, :, first : first + k].sum(1))
        rest = drawn - (self.explained[..., None] * seen[:, None, None]).sum(3)
        colour = jax.vmap(gaussian.factor)(self.noise)
        rest = (rest[..., None, :] * colour[:, None, None]).sum((0, 4))
        blocks = drift_of(rest, self.weights).ravel()
        return total.at[: blocks.size].add(blocks)


class Features(eqx.Module):
    """Moments of the features (g (1, z)^T, g g^T, h) of a sample, for each component.

    `mean` and `square` are the first and second moments of the features; `lower`, `variance` and
    `explained` are as in `Increment`.
    """

    mean: Float[Array, "*c f"]
    square: Float[Array, "*c f f"]
    lower: Float[Array, "*c k k"]
    explained: Float[Array, "*c g q k"]
    variance: Float[Array, "*c g q q"]


def sample_features(field: BlockField, state: BlockState) -> Features:
    """The moments of the features of every component at `state` = (blocks, side)."""
    blocks, side = state
    seen = slice(field.layout.first, field.layout.first + field.layout.seen)

    def one(component: Array) -> Features:
        law = field.law(blocks, component)

        def features(z: Float[Array, " k"], noise: Float[Array, " l"]) -> tuple[Array, ...]:
            x, teacher = law.at(z)
            gradient, slope = field.loss.gradient(x, teacher, component, noise, side.theta)
            affine = jnp.concatenate([jnp.ones_like(z, shape=1), z])
            parts = jnp.outer(gradient, affine), jnp.outer(gradient, gradient), slope
            flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(parts)])
            return flat, jnp.outer(flat, flat)

        mean, square = mean_over_samples(features, field.loss, law)
        eigenvalues, lower = field.eigenvalues[component], law.factor
        known = jax.vmap(lambda v: solve(lower, v[seen]).T)(blocks)
        scale = eigenvalues[:, None, None]
        return Features(mean, square, lower, scale * known, scale * blocks)

    return jax.vmap(one)(jnp.arange(field.probabilities.shape[0]))


def increment(field: BlockField, t: Float[Array, ""], state: BlockState) -> Increment:
    """The `Increment` of a step at time `t` and `state` = (blocks, side), for groups of `field`."""
    blocks, side = state
    (weights, _), b, layout = field.rule(t, state), field.batch_size, field.layout
    n, m, p = layout.seen, layout.students, layout.moving
    components, dtype = field.probabilities.shape[0], blocks.dtype
    _, unravel_theta = ravel_pytree(side.theta)
    parts = sample_features(field, state)
    mean, square, explained = parts.mean, parts.square, parts.explained
    f, share, start = mean.shape[1], field.probabilities, m * (n + 1)
    second = mean[:, start : start + m * m].reshape(-1, m, m)
    covariance = jnp.zeros((components, f, components, f), dtype)
    covariance = covariance.at[jnp.arange(components), :, jnp.arange(components)].set(
        share[:, None, None] * square
    )
    mean = share[:, None] * mean
    covariance = covariance - mean[:, :, None, None] * mean[None, None]

    def lift(vector: Float[Array, " f"], component: Array) -> Array:
        weighted = vector[:start].reshape(m, n + 1)
        direction = (explained[component][:, :, None] * weighted[None, None, :, 1:]).sum(3)
        if layout.means:
            column = layout.first + n + component
            direction = direction + blocks[:, :, column, None] * weighted[None, None, :, 0]
        change = drift_of(direction, weights)
        scale = field.weights * field.eigenvalues[component] / b
        corner = vector[start : start + m * m].reshape(m, m)
        spread = times_weights(times_weights(corner, weights).T, weights)
        change = change.at[:, :p, :p].add(scale[:, None, None] * spread[None])
        slope = unravel_theta(vector[start + m * m :])
        still = jnp.zeros((weights.size, weights.size), dtype)
        parameters = moved(side.parameters, slope, weights, still)
        accumulated = None if side.accumulated is None else scale.sum() * jnp.trace(corner)
        return ravel_pytree((change, Side.of(parameters, accumulated)))[0]

    basis = jnp.eye(f, dtype=dtype)
    of_component = jax.vmap(jax.vmap(lift, in_axes=(0, None)), in_axes=(None, 0))
    maps = of_component(basis, jnp.arange(components)).reshape(components * f, -1)
    return Increment(
        features=covariance.reshape(components * f, -1) / b,
        lift=maps,
        variance=parts.variance,
        explained=explained,
        lower=parts.lower,
        noise=share[:, None, None] * second / b,
        weights=weights,
        layout=layout,
    )


def second_order(
    field: BlockField, t: Float[Array, ""], state: BlockState
) -> Float[Array, "g q q"]:
    """The second-order change G of the blocks: E[change in one step] = F/d + G/d^2.

    With Q_i(z) = E[|P_i a|^2 | z] - lambda_i d_i = (1, z) S_i (1, z)^T, the 1/d^2 part of
    E (change of X)^T P_i (change of X) is, for batches of b and Y with the ridge,

        gamma^2 (1/b (E[Q_i g g^T] - Y0_i^T V_i Y0_i) + Y_i^T V_i Y_i),

    where Y0 is Y without the ridge.  With an optimiser's memories X stands for all moving columns.
    """
    blocks, _ = state
    (weights, _), b, layout = field.rule(t, state), field.batch_size, field.layout
    n, m, share = layout.seen, layout.students, field.probabilities
    seen = slice(layout.first, layout.first + n)
    parts = sample_features(field, state)
    start = m * (n + 1)
    square = parts.square[:, :start, :start].reshape(-1, m, n + 1, m, n + 1)

    def form(component: Array, lower: Array, explained: Array, eigenvalues: Array) -> Array:
        """The matrices S_i of every group."""
        inner = jax.vmap(lambda k: solve(lower, k[seen]))(explained) * eigenvalues[:, None, None]
        constant = -jnp.trace(inner, axis1=1, axis2=2)
        cross = jnp.zeros_like(inner[:, 0])
        if layout.means:
            column = seen.stop + component
            constant = constant + blocks[:, column, column]
            cross = explained[:, column]
        top = jnp.concatenate([constant[:, None], cross], axis=1)[:, None]
        return jnp.concatenate([top, jnp.concatenate([cross[:, :, None], inner], 2)], 1)

    forms = jax.vmap(form)(
        jnp.arange(share.shape[0]), parts.lower, parts.explained, field.eigenvalues
    )
    noise = precise.einsum("c,caxby,cgxy->gab", share, square, forms)
    bare = field.direction(field.component_moments(state))
    drift = field.coefficients(t, state).drift

    def quadratic(y: Float[Array, "g q k"]) -> Float[Array, "g k k"]:
        return precise.einsum("gam,gab,gbk->gmk", y, blocks, y)

    noise = times_weights(times_weights(noise - quadratic(bare), weights).mT, weights) / b
    corner = noise + quadratic(drift)
    p = layout.moving
    return jnp.zeros_like(blocks).at[:, :p, :p].set(corner)


def drift_of(
    direction: Float[Array, "g q m"], weights: Float[Array, " blocks"]
) -> Float[Array, "g q q"]:
    """The change -(D Gamma E_z^T + its transpose) of the blocks by a direction D."""
    spread = times_weights(direction, weights)
    padded = jnp.pad(spread, ((0, 0), (0, 0), (0, spread.shape[1] - spread.shape[2])))
    return -(padded + padded.mT)


def solve(lower: Float[Array, "k k"], right: Float[Array, "k *rest"]) -> Float[Array, "k *rest"]:
    """The solution L^{-1} B for lower-triangular L, with rows of zeros where L has zero columns."""
    return gaussian.solve_transpose(lower.T[::-1, ::-1], right[::-1])[::-1]
