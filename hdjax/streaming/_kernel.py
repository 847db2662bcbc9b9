"""The inner loop of direct one-pass SGD, which processes a block of steps by matrix products.

`DirectSimulator` (`simulate.py`) calls `advance`.  The algorithm is

    X_{j+1} = rho_j X_j - gamma_j / (d b) sum_i a_ji g_ji^T,    rho_j = 1 - gamma_j tau / d,

with b samples a_ji = mean_c + K_c^{1/2} z in step j, and g_ji the gradient of the loss at
X_j^T a_ji.  Over a block of n steps, whose n b samples are the rows of A, X_j stays in the span of
X_0 and of these rows.  A step needs only the projections S = A X_j:

    X_n = pi_0 X_0 - sum_j pi_{j+1} a_j c_j^T,    S <- rho_j S - (A a_j) c_j^T,

with c_j = gamma_j / d g_j and pi_j = rho_j ... rho_{n-1}.  The blocks of columns
Z = [memories | X] of an optimiser move together, Z_{j+1} = Z_j (1 + M_j) - a_j g_j w_j: rho_j is
then a matrix.

The sequential loop runs on S (n b rows) alone, and a block needs only a few matrix products with
arrays of size d.  The result equals step-by-step SGD up to rounding.  Samples are drawn for several
blocks at a time.

Several devices may divide the coordinates of a run (`Share`).  Each then holds its rows of X and
its columns of A, and the projections A X and the Gram matrix A A^T of a block are summed over the
devices.

Source: the slides "Hitting the High-D(imensional) Notes", slide "One-pass SGD", for the algorithm
and its scaling (paper: arXiv 2308.08977); the blocks are derived here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float, Int, Key, UInt32

from hdjax import precise, random
from hdjax.random import Stream
from hdjax.streaming.limit import Side
from hdjax.streaming.optimisers.linear import moved

# The number of normals drawn at a time: half a megabyte in float32, which fits a core's cache.
_DRAWN = 2**17
_ROWS = (((1,), (1,)), ((), ()))  # dimension numbers of A B^T
_COLUMNS = (((0,), (0,)), ((), ()))  # dimension numbers of A^T B

T = TypeVar("T")

_dot = partial(lax.dot_general, precision=lax.Precision.HIGHEST)


class Share(NamedTuple):
    """The coordinates that a device has, of a run that several devices divide.

    The normals of a pair belong to the coordinates i and ceil(d/2) + i.  A device has the pairs
    from `first` on: their first coordinates, then their second ones.  Coordinates beyond the last
    one of the run have scale zero.

    Attributes:
        first: the number of the first pair.
        dimension: the number d of coordinates of all devices together.
        axis: the axis of the mesh over which sums are taken.
    """

    first: Int[Array, ""]
    dimension: int
    axis: str

    def numbers(self, count: int, batch_size: int) -> UInt32[Array, " numbers"]:
        """The numbers of the pairs of this device, `count` of each sample of a step."""
        sample, pair = (lax.broadcasted_iota(jnp.uint32, (batch_size, count), i) for i in (0, 1))
        pairs = -(-self.dimension // 2)
        return (sample * pairs + pair + self.first.astype(jnp.uint32)).reshape(-1)


class _Data(NamedTuple):
    """The law of a sample, and the frozen teacher columns `fixed` that it is projected on."""

    scale: Float[Array, "c d"]
    means: Float[Array, "c d"] | None
    probabilities: Float[Array, " c"]
    fixed: Float[Array, "s d"]
    noise: Any
    batch: int
    share: Share | None = None

    @property
    def dimension(self) -> int:
        """The number d of coordinates of a sample."""
        return self.scale.shape[1] if self.share is None else self.share.dimension

    def total(self, sums: T) -> T:
        """Sums over the coordinates of all devices, from those over the coordinates of this one."""
        return sums if self.share is None else lax.psum(sums, self.share.axis)

    @property
    def extras(self) -> int:
        """The number of normals of a sample for its label noise and its mixture component."""
        return self.noise.dim + (self.scale.shape[0] > 1)


class _Descent(NamedTuple):
    """The gradient and the rule of the steps from tick `start` to tick `stop`."""

    gradient: Callable
    rules: Callable
    start: Int[Array, ""]
    stop: Int[Array, ""]


class _Samples(NamedTuple):
    """The samples of a block: rows of A, mixture components and label noise."""

    rows: Float[Array, "n_b d"]
    component: Int[Array, "n b"]
    noise: Float[Array, "n b k"]


def block_size(d: int) -> int:
    """The default number of steps in a block.

    On a CPU eight steps are faster than four in high dimension and slower in low dimension, by a
    fifth either way (measured at d = 64 to 16384). A GPU takes about 8 microseconds for an
    iteration of a loop, which pays for larger Gram matrices (from a model, not measured).
    """
    if jax.default_backend() == "cpu":
        return 4 if d < 2048 else 8
    return 32 if d <= 10_000 else 8


def side_by_side(d: int) -> int | None:
    """The number of runs in one `vmap`, further runs following one group after the other.

    None: all runs.  On a CPU a batch of runs is faster only if a single run has little work in each
    iteration (jax 0.12: a tenth faster at d = 32, a quarter slower at d = 512).
    """
    return max(1, 256 // d) if jax.default_backend() == "cpu" else None


def advance(
    moving: Float[Array, "d p"],
    side: Side,
    k0: Int[Array, ""],
    k1: Int[Array, ""],
    key: Key[Array, ""],
    *,
    fixed: Float[Array, "d s"],
    means: Float[Array, "c d"] | None,
    scale: Float[Array, "c d"],
    probabilities: Float[Array, " c"],
    gradient: Callable,
    noise: Any,
    rules: Callable,
    steps: int,
    batch_size: int,
    share: Share | None = None,
) -> tuple[Float[Array, "d p"], Side]:
    """The columns and side parameters after SGD from tick k0 to tick k1, both traced.

    Args:
        moving: columns [memories | X] in the eigenbasis, of the dtype of the run.
        side: the variables beside the columns, of the same dtype.
        k0: the first tick.
        k1: the tick after the last.
        key: the key of the run; the draws of a tick depend on the key and on the tick alone.
        fixed: teacher columns X*; s may be 0.
        means: the means of the mixture's components, or None.
        scale: square roots of the eigenvalues of each component's covariance.
        probabilities: the probabilities of the components.
        gradient: `(x, teacher, component, noise, theta) -> (dx, dtheta)` of one sample's loss.
        noise: the law of the label noise, a function from `dim` standard normals to the noise of
            one sample.
        rules: `(moving^T, side) -> (tick -> (w, M))`, called at the start of each block.
        steps: number of steps in a block (static); the result depends on it by rounding only.
        batch_size: number of samples averaged in each step (static).
        share: which coordinates the columns and the scale have; None: all of them.

    Returns:
        The columns and `side` at tick k1.
    """
    data = _Data(scale, means, probabilities, fixed.T, noise, batch_size, share)
    descent = _Descent(gradient, rules, k0, k1)
    dtype, half = moving.dtype, -(-moving.shape[0] // 2)
    labels = random.stream(key, Stream.LABELS)
    key = random.stream(key, Stream.STEPS)
    # At most d/32 steps are drawn together, since an interval between records is often a tenth of d
    # steps.  At least two blocks are drawn together: with one block XLA would repeat the generator
    # in each use of the draws, which is ten times slower.
    drawn = min(_DRAWN // (2 * half * batch_size), moving.shape[0] // 32)
    drawn = max(drawn // steps, 2) * steps
    numbers = batch_size * half if share is None else share.numbers(half, batch_size)

    def draw(i, state):
        # Because of the inner loop XLA stores the draws once; without a loop it would repeat the
        # generator in each of their uses.  The loop's bounds skip blocks outside [k0, k1).
        tick = i * drawn
        pairs = random.normal_pairs(key, tick, drawn, numbers, dtype)
        extras = random.normals(labels, tick, drawn, batch_size * data.extras, dtype)
        first = jnp.maximum(k0 - tick, 0) // steps
        last = -(-jnp.minimum(k1 - tick, drawn) // steps)

        def block(j, state):
            rows, own = (lax.dynamic_slice_in_dim(x, j * steps, steps) for x in (pairs, extras))
            samples = _samples(
                data,
                rows.reshape(steps * batch_size, half),
                own.reshape(steps * batch_size, data.extras),
                steps,
            )
            return _block(descent, data, samples, tick + j * steps, *state)

        return lax.fori_loop(first, last, block, state)

    state = lax.fori_loop(k0 // drawn, -(-k1 // drawn), draw, (moving.T, side))
    return state[0].T, state[1]


def _samples(
    data: _Data, pairs: Complex[Array, "n_b half"], extras: Float[Array, "n_b k"], steps: int
) -> _Samples:
    """The samples of a block of `steps` steps, made from standard normals."""
    d, shape = data.scale.shape[1], (steps, data.batch)
    half = d - d // 2
    component, scale, means = _chosen(data, extras)
    # Two writes vectorise; jax 0.12 compiles a concatenation to a loop with a branch.
    rows = jnp.zeros((pairs.shape[0], d), scale.dtype)
    rows = lax.dynamic_update_slice(rows, pairs.real * scale[:, :half], (0, 0))
    rows = lax.dynamic_update_slice(rows, pairs.imag[:, : d // 2] * scale[:, half:], (0, half))
    noise = jax.vmap(data.noise)(extras[:, : data.noise.dim]).reshape(*shape, -1)
    return _Samples(rows if means is None else rows + means, component.reshape(shape), noise)


def _chosen(data: _Data, extras: Float[Array, "n k"]) -> tuple[Array, Array, Array | None]:
    """The component, the scale and the mean of each sample, chosen by its last normal."""
    components, n = data.scale.shape[0], extras.shape[0]
    scale, means = data.scale, data.means
    if components == 1:
        return jnp.zeros(n, jnp.int32), scale, means
    # A normal above the quantile of a component's cumulative probability chooses a later component.
    edges = jax.scipy.special.ndtri(jnp.cumsum(data.probabilities)[:-1])
    component = (extras[:, -1, None] > edges[None]).sum(1, dtype=jnp.int32)
    return component, scale[component], None if means is None else means[component]


def _block(
    descent: _Descent,
    data: _Data,
    samples: _Samples,
    tick: Int[Array, ""],
    moving: Float[Array, "p d"],
    side: Side,
) -> tuple[Float[Array, "p d"], Side]:
    """The transposed columns and side parameters after the steps of one block, from `tick` on."""
    rows, shape = samples.rows, samples.component.shape
    (steps, batch), d = shape, rows.shape[1]
    ticks = tick + jnp.arange(steps, dtype=tick.dtype)
    active = (ticks >= descent.start) & (ticks < descent.stop)
    rule = jax.vmap(descent.rules(moving, side))(ticks)
    weights, mixing = (jnp.where(active.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for x in rule)
    blocks = weights.shape[1]
    products = _dot(rows, moving, _ROWS), _dot(rows, data.fixed, _ROWS), _gram(rows, batch)
    projections, teachers, gram = data.total(products)
    projections = projections.reshape(*shape, blocks, -1)
    teachers = teachers.reshape(*shape, -1)
    gram = gram.reshape(steps, batch, steps, batch)

    def step(carry, inputs):
        projections, parameters = carry
        j, active, weights, mixing, teacher, component, noise = inputs
        g, slope = jax.vmap(descent.gradient, in_axes=(0, 0, 0, 0, None))(
            projections[j, :, -1], teacher, component, noise, parameters[-1]
        )
        # A product with a weight of zero would let NaN and infinity leak out of masked steps.
        g = jnp.where(active, g / batch, 0)
        slope = jax.tree.map(lambda s: jnp.where(active, s.mean(0), 0), slope)
        pushed = (gram[:, :, j, :, None] * g[None, None]).sum(2)
        mixed = (projections[:, :, :, None] * mixing[None, None, :, :, None]).sum(2)
        projections = projections + mixed - pushed[:, :, None] * weights[None, None, :, None]
        change = moved(parameters, slope, weights, mixing)
        return (projections, jax.tree.map(jnp.add, parameters, change)), g

    inputs = (jnp.arange(steps), active, weights, mixing, teachers, *samples[1:])
    (_, parameters), g = lax.scan(
        step, (projections, side.parameters), inputs, unroll=min(steps, 8)
    )

    def later(kept, rule):
        # The factors that the later steps of the block apply to the gradient of a step.
        weights, mixing = rule
        return kept + (mixing[:, :, None] * kept[None]).sum(1), (weights[:, None] * kept).sum(0)

    eye = jnp.eye(blocks, dtype=rows.dtype)
    kept, weights = lax.scan(later, eye, (weights, mixing), reverse=True, unroll=min(steps, 8))
    coefficients = (g[:, :, None] * weights[:, None, :, None]).reshape(steps * batch, -1)
    moving = moving.reshape(blocks, -1, d)
    moving = (moving[:, None] * kept[:, :, None, None]).sum(0).reshape(-1, d)
    accumulated = side.accumulated
    if accumulated is not None:
        inner = data.total(_inner(rows.reshape(steps, batch, d)))
        accumulated = accumulated + _squares(inner, g) / data.dimension**2
    side = Side.of(parameters, accumulated)
    return moving - _combine(coefficients, rows), side


def _inner(rows: Float[Array, "n b d"]) -> Float[Array, "n b b"]:
    """The inner products of the samples of each step."""
    return precise.einsum("nbd,ncd->nbc", rows, rows)


def _squares(inner: Float[Array, "n b b"], g: Float[Array, "n b m"]) -> Float[Array, ""]:
    """The sum over steps of |sum_i a_i g_i^T|^2, the squared norms of the gradients."""
    return precise.einsum("nbc,nbm,ncm->", inner, g, g)


def _gram(rows: Float[Array, "n d"], batch: int) -> Float[Array, "n n"]:
    """The Gram matrix A A^T of the rows of a block.

    For few rows the columns of the last step are zero: no later step of the block needs them.
    """
    if rows.shape[0] > 4:
        return _dot(rows, rows, _ROWS)
    # On a CPU products with single rows take half the time of the product of so flat a matrix.
    products = [precise.dot(rows, row) for row in rows[:-batch]]
    return jnp.stack(products + [jnp.zeros_like(rows[:, 0])] * batch, axis=1)


def _combine(coefficients: Float[Array, "n m"], rows: Float[Array, "n d"]) -> Float[Array, "m d"]:
    """The product C^T A of coefficients and rows."""
    if rows.shape[0] > 32:
        return _dot(coefficients, rows, _COLUMNS)
    # This is one loop over the coordinates; jax 0.10 compiles the product under a vmap to a slow
    # loop.
    total = jnp.zeros((coefficients.shape[1], rows.shape[1]), rows.dtype)
    for c, row in zip(coefficients, rows, strict=True):
        total = total + c[:, None] * row[None]
    return total
