"""The variance of the loss of SGD on a fixed problem, from moments of a random linear recursion.

These are the theories "exact" and "closed" of `fluctuations.py`.  On the left singular vectors u_j
of A the residual is r = sum_j rho_j u_j + r_0, and no step moves the part r_0.  Let y = (rho,
|r_0|), a vector of p + 1 numbers.  A step that draws sample i is

    y' = B_i y,  B_i = 1 - gamma g_i v_i^T,  v_i = (u_ji, r_0i/|r_0|),  g_i = (lambda_j u_ji, 0),

where v_i.y = r_i is the residual of the sample, and the loss is |y|^2/2.  The moments of y of each
order obey a closed linear recursion, without any approximation.

`exact_variances` iterates the covariance of y y^T, that is the fourth moments; a step costs a few
n (p + 1)^4 multiplications.

`closed_variances` needs second moments alone.  The conditional mean E[|y_T|^2 given y_k] is the
quadratic form y_k^T W_{T-k} y_k with W_{k+1} = 1/n sum_i B_i^T W_k B_i and W_0 = 1.  The variance
of |y_T|^2 is the sum over k < T of

    E var_i[q_i],    q_i = y_k^T B_i^T W B_i y_k,    W = W_{T-1-k}.

The q_i are quadratic in y_k, so that their variances need fourth moments of y_k.  These are
approximated by those of a Gaussian vector with the exact mean and covariance of y_k.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from hdjax import precise
from hdjax.multipass.problem import Problem
from hdjax.schedules import Schedule

# Steps k at which covariances are tabulated, each larger than the one before by 15 % or by 1.
# Linear interpolation between them changes the variance by .2 %.
_STEPS = np.unique(np.ceil(1.15 ** np.arange(160)))
# Sums over k are taken by two Gauss points in each of so many cells from either end of [0, T]; each
# cell is twice as long as the one before.
_CELLS = 14


class Chain(eqx.Module):
    """The recursion y' = (1 - gamma g_i v_i^T) y of q = p + 1 numbers, and its start.

    Attributes:
        out: (n, q) the vectors v_i.
        into: (n, q) the vectors g_i.
        drift: (q,) the diagonal of 1/n sum_i g_i v_i^T = diag(lambda, 0)/n.
        start: (q,) y_0, scaled to length 1.
        unit: the loss per sample of a y of length 1.
    """

    out: Float[Array, "n q"]
    into: Float[Array, "n q"]
    drift: Float[Array, " q"]
    start: Float[Array, " q"]
    unit: Float[Array, ""]


def chain(problem: Problem) -> Chain:
    """The random linear recursion of SGD on `problem`.

    Args:
        problem: the data.

    Example:
        >>> chain(hd.multipass.Problem(jnp.eye(3), jnp.ones(3))).start.shape
        (4,)
    """
    matrix, n = problem.matrix, problem.samples
    residual = precise.dot(matrix, problem.start) - problem.labels
    u, s, _ = jnp.linalg.svd(matrix, full_matrices=False)
    rho = precise.dot(u.T, residual)
    fixed = residual - precise.dot(u, rho)
    size, length = jnp.linalg.norm(fixed), jnp.linalg.norm(residual)
    direction = fixed / jnp.where(size == 0, 1, size)
    eigenvalues = jnp.append(s**2, 0)
    out = jnp.column_stack([u, direction])
    start = jnp.append(rho, size) / jnp.where(length == 0, 1, length)
    return Chain(out, out * eigenvalues[None], eigenvalues / n, start, length**2 / 2 / n)


def exact_variances(
    chain: Chain, learning_rate: Schedule, steps: Int[Array, " times"]
) -> Float[Array, " times"]:
    """The exact variance of the loss per sample.

    Args:
        chain: the recursion of the problem.
        learning_rate: gamma as a function of t = k/n.
        steps: (times,) increasing steps k.
    """
    n, y = chain.out.shape[0], chain.start
    start = jnp.outer(y, y), jnp.zeros(4 * y.shape, y.dtype)

    def step(k: Int[Array, ""], moments: tuple[Array, Array]) -> tuple[Array, Array]:
        return _moments(chain, learning_rate(k.astype(y.dtype) / n), *moments)

    def record(carry: tuple[tuple, Array], now: Int[Array, ""]) -> tuple[tuple, Array]:
        moments, last = carry
        moments = lax.fori_loop(last, now, step, moments)
        return (moments, now), jnp.einsum("aabb->", moments[1])

    variances = lax.scan(record, (start, jnp.zeros_like(steps[0])), steps)[1]
    return chain.unit**2 * variances


def _moments(
    chain: Chain,
    gamma: Float[Array, ""],
    second: Float[Array, "q q"],
    covariance: Float[Array, "q q q q"],
) -> tuple[Float[Array, "q q"], Float[Array, "q q q q"]]:
    """The second moment S = E y y^T and the covariance of y y^T, each one step later.

    The new covariance is the mean over i of the image of the old covariance under B_i, plus the
    covariance over i of B_i S B_i^T.
    """
    v, g = chain.out, -gamma * chain.into
    sides = _product("ia,ib->iab", g, _product("ia,ab->ib", v, second))
    pairs = _product("ia,ib->iab", g, g)
    squares = _product("ia,ab,ib->i", v, second, v)[:, None, None]
    moves = sides + sides.transpose(0, 2, 1) + squares * pairs
    mean = jnp.mean(moves, axis=0)
    around = moves - mean[None]

    one = _product("ia,abcd->ibcd", v, covariance)
    two, across = _product("ib,ibcd->icd", v, one), _product("ic,ibcd->ibd", v, one)
    three = _product("ic,icd->id", v, two)
    four = _product("id,id->i", v, three)[:, None, None]
    # The products of B_i on the four indices (ab, cd): g_i v_i^T acts on one of them or on three
    # (single), on both of a pair (double), on one of either pair (either), or on all (last).
    single = _product("ia,ibcd->abcd", g, one)
    single += _product("iab,icd->abcd", _product("ia,ib->iab", three, g), pairs)
    double = _product("iab,icd->abcd", pairs, two)
    either = _product("iac,ibd->abcd", pairs, across)
    last = _product("iab,icd->abcd", pairs, four * pairs)
    last += _product("iab,icd->abcd", around, around)
    moved = covariance + (4 * single + 2 * double + 4 * either + last) / v.shape[0]
    # The terms above stand for one choice of indices each; the mean over equivalent choices sums
    # the others, and keeps the result symmetric in spite of rounding.
    for order in ((1, 0, 2, 3), (0, 1, 3, 2), (2, 3, 0, 1)):
        moved = (moved + moved.transpose(order)) / 2
    return second + mean, moved


def closed_variances(
    chain: Chain, gamma: Float[Array, ""], steps: Int[Array, " times"]
) -> Float[Array, " times"]:
    """The variance of the loss per sample, with fourth moments as for a Gaussian vector.

    Args:
        chain: the recursion of the problem.
        gamma: the learning rate, constant.
        steps: (times,) steps k.
    """
    dtype = chain.start.dtype
    last = steps.max().astype(dtype)
    nodes = jnp.append(0, jnp.asarray(_STEPS)).astype(dtype)
    start = jnp.outer(chain.start, chain.start)
    second = _table(chain.drift, chain.out, chain.into, gamma, start, nodes, last)
    means = jax.vmap(lambda k: _mean(chain, gamma, k))(nodes)
    covariances = second - means[:, :, None] * means[:, None, :]
    identity = jnp.eye(chain.start.size, dtype=dtype)
    weights = _table(chain.drift, chain.into, chain.out, gamma, identity, nodes, last)

    def gained(k: Float[Array, ""], left: Float[Array, ""]) -> Float[Array, ""]:
        mean, covariance = _mean(chain, gamma, k), _between(nodes, covariances, k)
        return _gained(chain, gamma, mean, covariance, _between(nodes, weights, left))

    points, shares = _cells(dtype)

    def at(end: Float[Array, ""]) -> Float[Array, ""]:
        # The sum over k becomes an integral over [0, end]; step k has the interval (k, k + 1).
        k, left = points * end - 0.5, (1 - points) * end - 0.5
        each = lax.map(lambda pair: gained(*pair), (jnp.maximum(k, 0), jnp.maximum(left, 0)))
        return end * jnp.dot(shares, each)

    return chain.unit**2 * lax.map(at, steps.astype(dtype))


def _gained(
    chain: Chain,
    gamma: Float[Array, ""],
    mean: Float[Array, " q"],
    covariance: Float[Array, "q q"],
    weight: Float[Array, "q q"],
) -> Float[Array, ""]:
    """The mean E var_i[q_i], q_i = y^T B_i^T W B_i y, over a Gaussian y of given moments.

    The part of q_i that depends on i is r_i z_i, with r_i = v_i.y, z_i = b_i.y and
    b_i = -2 gamma W g_i + gamma^2 (g_i^T W g_i) v_i.  The mean over i of r_i z_i is y^T D y, where
    D is the change of W in a step.
    """
    v, g = chain.out, chain.into
    weighed = _product("ia,ab->ib", g, weight)
    curvature = jnp.sum(weighed * g, axis=1, keepdims=True)
    b = -2 * gamma * weighed + gamma**2 * curvature * v
    v_c, b_c = _product("ia,ab->ib", v, covariance), _product("ia,ab->ib", b, covariance)
    rr, rz, zz = jnp.sum(v_c * v, 1), jnp.sum(v_c * b, 1), jnp.sum(b_c * b, 1)
    r, z = _product("ia,a->i", v, mean), _product("ia,a->i", b, mean)
    squares = (rr + r**2) * (zz + z**2) + 2 * (rz + r * z) ** 2 - 2 * r**2 * z**2
    change = _change(chain.drift, g, v, gamma, weight)
    spread = _product("ab,bc->ac", change, covariance)
    pull = _product("ab,b->a", change, mean)
    common = (jnp.trace(spread) + jnp.dot(mean, pull)) ** 2
    common += 2 * jnp.sum(spread * spread.T) + 4 * jnp.dot(pull, covariance @ pull)
    return jnp.mean(squares) - common


def _change(
    drift: Float[Array, " q"],
    out: Float[Array, "n q"],
    into: Float[Array, "n q"],
    gamma: Float[Array, ""],
    square: Float[Array, "q q"],
) -> Float[Array, "q q"]:
    """The change of S in a step: the mean over i of B_i S B_i^T, less S.

    With `out` = v_i and `into` = g_i, B_i is 1 - gamma g_i v_i^T.  With both exchanged, B_i is
    replaced by its transpose, which gives the change of W.
    """
    residuals = jnp.sum(_product("ia,ab->ib", out, square) * out, axis=1)
    noise = _product("ia,ib->ab", into * residuals[:, None], into) / out.shape[0]
    return gamma**2 * noise - gamma * (drift[:, None] + drift[None, :]) * square


def _mean(chain: Chain, gamma: Float[Array, ""], k: Float[Array, ""]) -> Float[Array, " q"]:
    """The mean E y_k at a k that need not be an integer."""
    factor = 1 - gamma * chain.drift
    return jnp.sign(factor) ** jnp.round(k) * jnp.abs(factor) ** k * chain.start


def _table(
    drift: Float[Array, " q"],
    out: Float[Array, "n q"],
    into: Float[Array, "n q"],
    gamma: Float[Array, ""],
    start: Float[Array, "q q"],
    nodes: Float[Array, " nodes"],
    last: Float[Array, ""],
) -> Float[Array, "nodes q q"]:
    """The matrices that `start` becomes after k steps, for each k of `nodes`.

    With Delta the change in a step, s steps are (1 + Delta)^s.  Newton's series of this power is
    exact with four terms for s <= 4; longer ways are cut to pieces of gamma lambda s/n <= 1/2.
    Nodes beyond the first that is at least `last` repeat its matrix.
    """
    longest = jnp.maximum(4, 1 / (2 * gamma * jnp.max(drift)))

    def change(square: Array) -> Array:
        return _change(drift, out, into, gamma, square)

    def advance(square: Array, gap: Array) -> tuple[Array, Array]:
        parts = jnp.ceil(gap / longest)
        s = gap / jnp.where(parts == 0, 1, parts)

        def leap(_: Array, square: Array) -> Array:
            term = square
            for order in (3, 2, 1, 0):
                term = square + (s - order) / (order + 1) * change(term)
            return term

        square = lax.fori_loop(0, parts.astype(int), leap, square)
        return square, square

    gaps = jnp.where(nodes[:-1] < last, jnp.diff(nodes), 0)
    return jnp.concatenate([start[None], lax.scan(advance, start, gaps)[1]])


def _between(
    nodes: Float[Array, " nodes"], table: Float[Array, "nodes q q"], k: Float[Array, ""]
) -> Float[Array, "q q"]:
    """The matrix at k, by linear interpolation between the nodes of a table."""
    upper = jnp.clip(jnp.searchsorted(nodes, k, side="right"), 1, nodes.size - 1)
    share = (k - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1])
    return (1 - share) * table[upper - 1] + share * table[upper]


def _cells(dtype: jnp.dtype) -> tuple[Float[Array, " points"], Float[Array, " points"]]:
    """Points and weights for integrals over (0, 1) whose integrand may be steep at either end."""
    edges = np.append(0, 0.5 ** np.arange(_CELLS, 0, -1))
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    points = np.concatenate([middle - half / 3**0.5, middle + half / 3**0.5])
    points, shares = np.concatenate([points, 1 - points]), np.tile(half, 4)
    return jnp.asarray(points, dtype), jnp.asarray(shares, dtype)


def _product(indices: str, *arrays: Array) -> Array:
    """`einsum` at the highest precision."""
    return precise.einsum(indices, *arrays)
