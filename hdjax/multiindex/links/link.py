"""Link functions f* of a multi-index model, by their Hermite tensors.

A target F*(x) = f*(W*^T x), x ~ N(0, I_d), enters every population equation through one symmetric
tensor per degree,

    C_k[i_1, ..., i_k] = alpha_beta sqrt(beta!/k!),   beta_j = #{l: i_l = j},
    alpha_beta = E[f*(z) H_beta(z)],   |f*|^2 = sum_k |C_k|_F^2  (+ the residual of truncation),

z ~ N(0, I_r).  Source: Bietti, Bruna, Pillaud-Vivien, arXiv 2310.19793 (Hermite decomposition of
the target).  Here tensors take the place of coefficients, so that rotations and averages act index
by index.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import gaussian, precise
from hdjax.checks import Checked, checked, is_concrete
from hdjax.multiindex.hermite import multi_indices, products
from hdjax.multiindex.tensors import (
    PowerSum,
    Tensors,
    as_tensor,
    evaluate,
    squared_norm,
    transform,
)
from hdjax.registry import In, PositiveFloat, Real, Values, register

# With more variables a tensor grid has too many nodes.
_MOST_GRID_VARIABLES = 4


class Link(Checked):
    """A link f*: R^r -> R, truncated at a degree.

    Use `from_coefficients`, `from_function`, the closed forms (`sine`, `relu`, ...), `product` and
    `ridge` rather than the constructor.

    Attributes:
        tensors: Hermite tensors C_0, ..., C_D, as arrays or `PowerSum`s; None for an absent degree.
        residual: the energy of f* beyond degree D.
        function: f* itself, from z (r,) to a scalar; None: f* is the truncated series.
        variables: r.

    Example:
        >>> link = from_coefficients({(1, 0): 0.8, (1, 1): 0.6})
        >>> round(float(link.norm2), 6)
        1.0
    """

    tensors: Tensors
    residual: Float[Array, ""]
    function: Any
    variables: int = eqx.field(static=True)

    @property
    def degree(self) -> int:
        """D, the highest degree that is kept."""
        return len(self.tensors) - 1

    @property
    def norm2(self) -> Float[Array, ""]:
        """The squared norm E[f*(z)^2], including the residual of truncation."""
        return squared_norm(self.tensors) + self.residual

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        """The value f*(z).

        Raises:
            ValueError: z has another number of entries than r.
        """
        if z.shape != (self.variables,):
            raise ValueError(f"z: shape {z.shape}; allowed: ({self.variables},), the variables")
        if self.function is not None:
            return self.function(z)
        return evaluate(self.tensors, z)

    def coefficient(self, beta: Sequence[int]) -> Float[Array, ""]:
        """The coefficient alpha_beta = E[f*(z) H_beta(z)].

        Raises:
            ValueError: beta is not a tuple of r degrees whose sum is at most D.
        """
        if len(beta) != self.variables or min(beta) < 0 or sum(beta) > self.degree:
            raise ValueError(
                f"beta: {tuple(beta)}; allowed: {self.variables} degrees of at least 0 whose sum "
                f"is at most {self.degree}"
            )
        tensor: Any = self.tensors[sum(beta)]
        if tensor is None:
            return jnp.zeros(())
        index = tuple(i for i, count in enumerate(beta) for _ in range(count))
        factorials = math.prod(math.factorial(count) for count in beta)
        entries = math.factorial(sum(beta)) / factorials
        if isinstance(tensor, PowerSum):
            entry = jnp.sum(tensor.weights * jnp.prod(tensor.vectors[np.array(index, int)], axis=0))
        else:
            entry = tensor[index]
        return entry * math.sqrt(entries)

    def rotate(self, rotation: Float[Array, "r r"]) -> "Link":
        """The link z -> f*(O^T z), whose tensors are O^{(x) k} C_k.

        Raises:
            ValueError: O is not orthogonal, or not (r, r).
        """
        rotation = jnp.asarray(rotation, jnp.result_type(float))
        size = self.variables
        if rotation.shape != (size, size):
            raise ValueError(f"rotation: shape {rotation.shape}; allowed: {(size, size)}")
        if is_concrete(rotation):
            gap = np.abs(np.asarray(rotation @ rotation.T) - np.eye(self.variables)).max()
            if gap > 1e-5:
                raise ValueError(
                    f"rotation: |O O^T - I| = {gap:.3g}; allowed: an orthogonal matrix"
                )
        function = None if self.function is None else _Rotated(self.function, rotation)
        return Link(transform(self.tensors, rotation), self.residual, function, self.variables)

    def dense(self) -> "Link":
        """The link with every tensor as an array of r^k entries."""
        tensors = tuple(t.dense() if isinstance(t, PowerSum) else t for t in self.tensors)
        return Link(tensors, self.residual, self.function, self.variables)

    @property
    def is_dense(self) -> bool:
        """Whether every tensor is an array and none a power sum."""
        return not any(isinstance(tensor, PowerSum) for tensor in self.tensors)

    def truncate(self, degree: int) -> "Link":
        """The link represented up to `degree`; the energy of higher degrees goes to the residual.

        Raises:
            ValueError: the degree is below 0.
        """
        if degree < 0:
            raise ValueError(f"degree: {degree}; allowed: at least 0")
        dropped = squared_norm(self.tensors[degree + 1 :])
        function = _Series(self.tensors) if self.function is None else self.function
        return Link(self.tensors[: degree + 1], self.residual + dropped, function, self.variables)


@checked
def from_coefficients(coefficients: Mapping[tuple[int, ...], Real]) -> Link:
    """The polynomial link sum_beta alpha_beta H_beta.

    Args:
        coefficients: {beta: alpha_beta}, beta a tuple of r degrees.

    Raises:
        ValueError: there is no coefficient, tuples have different lengths, a degree is negative, or
            a number is not finite.

    Example:
        >>> saddles = from_coefficients({(1, 0): 0.8, (0, 2): 0.6})
    """
    betas = [tuple(int(b) for b in beta) for beta in coefficients]
    values = [jnp.asarray(value, jnp.result_type(float)) for value in coefficients.values()]
    if not betas or len({len(beta) for beta in betas}) != 1 or not betas[0]:
        raise ValueError(
            f"coefficients: {betas}; allowed: at least one tuple, all of the same length r >= 1"
        )
    if min(min(beta) for beta in betas) < 0:
        raise ValueError(f"coefficients: {betas}; allowed: degrees of at least 0")
    r, tensors = len(betas[0]), []
    for k in range(max(map(sum, betas)) + 1):
        rows = multi_indices(r, k).tolist()
        chosen = [
            (rows.index(list(b)), v) for b, v in zip(betas, values, strict=True) if sum(b) == k
        ]
        if not chosen:
            tensors.append(None)
            continue
        alpha = jnp.zeros(len(rows), jnp.result_type(float))
        for place, value in chosen:
            alpha = alpha.at[place].add(value)
        tensors.append(as_tensor(alpha, r, k))
    return Link(tuple(tensors), jnp.zeros((), jnp.result_type(float)), None, r)


@checked
def from_function(
    function: Callable[[Float[Array, " r"]], Array],
    variables: int,
    degree: int,
    *,
    rule: gaussian.Rule | None = None,
    threshold: PositiveFloat = 1e-12,
) -> Link:
    """The link of any function by quadrature; the energy that truncation misses is its residual.

    The default rule is Gauss-Hermite with 2 degree + 20 nodes for each variable.  It is exact for
    polynomials of degree up to degree + 39, and converges slowly for kinks (use the closed forms,
    or `gaussian.Trapezoid`).  Beyond four variables the default is quasi-Monte Carlo, and
    `threshold` has to exceed its noise.

    Args:
        function: f*, from z (r,) to a scalar, traceable.
        variables: r.
        degree: D, the highest degree that is kept.
        rule: the quadrature rule; None: the default for r.
        threshold: coefficients below this times |f*| are set to zero, because rounding in a
            coefficient that vanishes would act as a smaller leap.

    Raises:
        ValueError: `variables` or `degree` is below 1, or a value is not finite.

    Example:
        >>> link = from_function(lambda z: jnp.tanh(z[0] * z[1]), variables=2, degree=4)
        >>> bool(link.residual < 0.02)
        True
    """
    if variables < 1 or degree < 1:
        raise ValueError(f"variables, degree: {variables}, {degree}; allowed: at least 1")
    if rule is None:
        grid = variables <= _MOST_GRID_VARIABLES
        rule = gaussian.GaussHermite(2 * degree + 20) if grid else gaussian.QMC(16)
    z, w = (jnp.asarray(x, jnp.result_type(float)) for x in rule.nodes(variables))
    values = jax.vmap(function)(z)
    if is_concrete(values) and not np.isfinite(np.asarray(values)).all():
        raise ValueError("function: values that are not finite; allowed: finite at every node")
    norm2, small = jnp.sum(w * values**2), 0.0
    if is_concrete(norm2):
        small = threshold * float(norm2) ** 0.5
    tensors: list[Any] = []
    for k in range(degree + 1):
        rows = multi_indices(variables, k)
        alpha = precise.dot(w * values, jax.vmap(lambda x, b=rows: products(x, b))(z))
        alpha = jnp.where(jnp.abs(alpha) > small, alpha, 0)
        empty = is_concrete(alpha) and not np.any(np.asarray(alpha))
        tensors.append(None if empty else as_tensor(alpha, variables, k))
    residual = jnp.maximum(norm2 - squared_norm(tuple(tensors)), 0)
    return Link(tuple(tensors), residual, jax.tree_util.Partial(function), variables)


def product(*factors: Link, degree: int | None = None) -> Link:
    """The link prod_i u_i(z_i), from links u_i in one variable each.

    Args:
        *factors: links with r = 1.
        degree: D, the highest total degree that is kept; None: the sum of the factors' degrees.

    Raises:
        ValueError: there is no factor, or a factor has several variables.

    Example:
        >>> u, v = hd.multiindex.links.sine(1.0), hd.multiindex.links.cosine(1.0)
        >>> link = product(u, v, degree=5)
    """
    if not factors or any(link.variables != 1 for link in factors):
        found = [link.variables for link in factors]
        raise ValueError(f"factors: {found} variables; allowed: one or more links of 1 variable")
    degree = sum(link.degree for link in factors) if degree is None else degree
    r, tensors = len(factors), []
    for k in range(degree + 1):
        alpha, empty = [], True
        for beta in multi_indices(r, k).tolist():
            parts = [
                link.coefficient((b,))
                for link, b in zip(factors, beta, strict=True)
                if b <= link.degree and link.tensors[b] is not None
            ]
            value = jnp.zeros((), jnp.result_type(float))
            if len(parts) == r:
                value, empty = jnp.prod(jnp.stack(parts)), False
            alpha.append(value)
        tensors.append(None if empty else as_tensor(jnp.stack(alpha), r, k))
    total = jnp.prod(jnp.stack([link.norm2 for link in factors]))
    residual = jnp.maximum(total - squared_norm(tuple(tensors)), 0)
    return Link(tuple(tensors), residual, _Product(factors), r)


# A link, which a config writes as a table.
LinkLike = Annotated[Link, In("multiindex.link")]


@register("multiindex.link", "ridge")
@checked
def ridge(link: LinkLike, direction: Values) -> Link:
    """The link z -> phi(theta . z) of a unit vector theta: C_k = alpha_k theta^{(x) k}.

    Args:
        link: phi, in one variable.
        direction: theta (r,), a unit vector.

    Raises:
        ValueError: phi has several variables, or theta is not a unit vector.

    Example:
        >>> link = ridge(hd.multiindex.links.sine(1.0, degree=7), [0.6, 0.8])
    """
    theta = jnp.asarray(direction, jnp.result_type(float))
    if link.variables != 1 or theta.ndim != 1:
        raise ValueError(
            f"link, direction: {link.variables} variables, shape {theta.shape}; allowed: 1 and (r,)"
        )
    if is_concrete(theta) and abs(float(jnp.linalg.norm(theta)) - 1) > 1e-6:
        raise ValueError(f"direction: norm {float(jnp.linalg.norm(theta)):.6g}; allowed: 1")
    tensors = transform(link.tensors, theta[:, None])
    return Link(tensors, link.residual, _Ridge(link, theta), theta.shape[0])


@register("multiindex.link", "ridge_sum")
@checked
def ridge_sum(link: LinkLike, directions: Values, weights: Values | None = None) -> Link:
    """The link z -> sum_j w_j phi(u_j . z) of unit vectors u_j, j <= J: a two-layer network.

    It serves many variables, because its tensors are kept as power sums, sum_j w_j alpha_k
    u_j^{(x) k}, and contracted at the cost J^2.  The residual is exact for orthogonal directions,
    and otherwise an upper bound.

    Args:
        link: phi, in one variable.
        directions: U (r, J), unit columns.
        weights: w (J,); None: ones.

    Raises:
        ValueError: phi has several variables, a column is not a unit vector, or there are not J
            weights.

    Example:
        >>> link = ridge_sum(hd.multiindex.links.relu(4), np.eye(8), weights=np.full(8, 0.5))
        >>> link.variables, round(float(link.coefficient((2, *[0] * 7))), 3)
        (8, 0.141)
    """
    dtype = jnp.result_type(float)
    columns = jnp.asarray(directions, dtype)
    if link.variables != 1 or columns.ndim != 2:
        raise ValueError(
            f"link, directions: {link.variables} variables, shape {columns.shape}; allowed: 1 and "
            "(r, J)"
        )
    count = columns.shape[1]
    w = jnp.ones(count, dtype) if weights is None else jnp.asarray(weights, dtype)
    if w.shape != (count,):
        raise ValueError(f"weights: shape {w.shape}; allowed: ({count},), one for each direction")
    if is_concrete(columns):
        norms = np.linalg.norm(np.asarray(columns), axis=0)
        if np.abs(norms - 1).max() > 1e-6:
            raise ValueError(f"directions: norms {norms.round(6).tolist()}; allowed: 1")
    tensors = tuple(
        None if tensor is None else PowerSum(w * link.coefficient((k,)), columns, k)
        for k, tensor in enumerate(link.tensors)
    )
    # For directions of inner product rho, |sum_{k > D} alpha_k^2 rho^k| <= |rho|^{D+1} residual.
    angles = jnp.abs(precise.dot(columns.T, columns)) ** (link.degree + 1)
    bound = jnp.sum(jnp.abs(w)[:, None] * angles * jnp.abs(w)[None, :]) * link.residual
    return Link(tensors, bound, _RidgeSum(link, columns, w), columns.shape[0])


class _Series(eqx.Module):
    tensors: Tensors

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        return evaluate(self.tensors, z)


class _Rotated(eqx.Module):
    function: Any
    rotation: Float[Array, "r r"]

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        return self.function(precise.dot(z, self.rotation))


class _Product(eqx.Module):
    factors: tuple[Link, ...]

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        return jnp.prod(jnp.stack([link(z[i : i + 1]) for i, link in enumerate(self.factors)]))


class _Ridge(eqx.Module):
    link: Link
    direction: Float[Array, " r"]

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        return self.link(precise.dot(self.direction, z)[None])


class _RidgeSum(eqx.Module):
    link: Link
    directions: Float[Array, "r J"]
    weights: Float[Array, " J"]

    def __call__(self, z: Float[Array, " r"]) -> Float[Array, ""]:
        values = jnp.sum(self.directions * z[:, None], axis=0)
        return jnp.sum(self.weights * jax.vmap(lambda x: self.link(x[None]))(values))
