"""The limit of gradient span algorithms as d grows, by a recursion without any matrix inverse.

`GradientSpan` and `fluctuations.py` call `trajectory`.  Vectors are linear combinations of x_0 and
Gaussian fields u_0, u_1, ... with <u_k, u_l> = A_kl = kappa_3(x_k, x_l), a subscript of kappa
being a partial derivative in this argument.  With x_k = p_k x_0 + sum_{l<k} R_kl u_l,

    f_k = mu(|x_k|^2/2) + sum_{l<k} R_kl kappa_3(k, l),
    g_k = u_k + sum_{l<k} R_kl kappa_33(k, l) x_l
              + [mu'(|x_k|^2/2) + sum_{l<k} R_kl kappa_13(k, l)] x_k,

with kappa and its derivatives at (|x_k|^2/2, |x_l|^2/2, <x_k, x_l>), in this order.  A step costs
O(n^2) operations; the recursion is accurate in float32, and differentiable.

The recursion follows from averaging the generating functional of the trajectory over f.  It equals
the sampler (`sampler.py`) at d = infinity, whose limit exists by arXiv 2410.09973, but needs no
inverse, and so no strictly positive definite covariance (open question 1 of the source).

An anisotropic function f(x) = h(K^{1/2} x) has the same recursion in each eigenspace of K.  Vectors
then have coefficients for each eigenvalue lambda_e (of weight w_e, with the part m_e of |x_0|^2),
kernels take z = K^{1/2} x, and the response is an average, R_kl = sum_e w_e lambda_e^{1/2} r_kl^e.
The isotropic case is that of one eigenvalue, 1.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from hdjax import precise
from hdjax.landscapes.algorithms import Algorithm
from hdjax.landscapes.kernels.base import Kernel
from hdjax.landscapes.order import OrderParameters

# Long runs are cut into panels of steps whose arrays grow, so that early steps do not pay for late
# ones; short runs have one panel, which compiles faster.
_PANELS, _SHORT = 5, 128


class Problem(eqx.Module):
    """The function, the algorithm and the start of a run, for the limit and the sampler.

    Attributes:
        kernel: kappa.
        mean: mu, a function of |z|^2/2, z = K^{1/2} x.
        noise: kernel of the mini-batch noise of each observed gradient, or None.
        algorithm: the algorithm.
        eigenvalues: (e,) the eigenvalues lambda_e of K; 1 if the function is isotropic.
        weights: (e,) the shares w_e of the eigenspaces in the dimension, summing to 1.
        masses: (e,) the parts m_e of |x_0|^2 in the eigenspaces, summing to |x_0|^2.
    """

    kernel: Kernel
    mean: Callable
    noise: Kernel | None
    algorithm: Algorithm
    eigenvalues: Float[Array, " e"]
    weights: Float[Array, " e"]
    masses: Float[Array, " e"]


class _State(eqx.Module):
    """The run before step k: vectors as coefficients over (x_0, u_0, u_1, ...) per eigenvalue.

    Rows of step k and later are 0.

    Attributes:
        fields: A_kl.
        halves: |z_k|^2/2.
        points: x_k.
        gradients: g_k.
        x: the point at which the next step observes.
        memory: the state of the algorithm.
    """

    fields: Float[Array, "n n"]
    halves: Float[Array, " n"]
    points: Float[Array, "n e n+1"]
    gradients: Float[Array, "n e n+1"]
    x: Float[Array, "e n+1"]
    memory: PyTree


def trajectory(
    problem: Problem, evaluations: int, save: Callable[[OrderParameters], PyTree]
) -> PyTree:
    """The limit along a run.

    Args:
        problem: the function, the algorithm and the start.
        evaluations: the number of observations; the steps are 0, ..., evaluations - 1.
        save: a function of the order parameters, whose values are kept.

    Returns:
        The values of `save` after each step, stacked.
    """
    dtype, groups = problem.masses.dtype, problem.masses.shape[0]
    panels = _PANELS if evaluations > _SHORT else 1
    edges = [round(evaluations * i / panels) for i in range(1, panels + 1)]

    x = jnp.zeros((groups, 1), dtype).at[:, 0].set(1.0)
    empty = jnp.zeros((0, groups, 1), dtype)
    state = _State(
        jnp.zeros((0, 0), dtype), jnp.zeros(0, dtype), empty, empty, x, problem.algorithm.init(x)
    )
    pieces, first = [], 0
    for last in edges:
        state = _grown(state, last)

        def step(state: _State, k: Int[Array, ""]) -> tuple[_State, PyTree]:
            state, order = _step(problem, state, k, evaluations)
            return state, save(order)

        state, saved = jax.lax.scan(step, state, jnp.arange(first, last))
        pieces.append(saved)
        first = last
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces)


def _step(
    problem: Problem, state: _State, k: Int[Array, ""], length: int
) -> tuple[_State, OrderParameters]:
    """The state after an observation at x_k and the move to x_{k+1}; and the order parameters."""
    n = state.halves.shape[0]
    earlier = jnp.arange(n) < k
    present = jnp.arange(n) == k
    roots = jnp.sqrt(problem.eigenvalues)[:, None]
    x = state.x
    points = state.points.at[k].set(x)

    def lowered(vector: Array, fields: Array) -> Array:
        """The inner products of a vector with the basis (x_0, u_0, ...), per eigenspace."""
        inner = precise.dot(vector[:, 1:], fields)
        return jnp.concatenate(
            [problem.masses[:, None] * vector[:, :1], problem.weights[:, None] * inner], axis=1
        )

    def against(rows: Array, covector: Array) -> Array:
        return precise.einsum("lei,ei->l", rows, covector)

    # x_k is a combination of u_l with l < k, so that rows k and later of A are not needed yet.
    overlaps = against(points, roots**2 * lowered(x, state.fields))
    half = overlaps[k] / 2
    halves = state.halves.at[k].set(half)
    distances = jnp.where(present, 0.0, jnp.maximum(half + halves - overlaps, 0.0))

    def derivatives(b: Array, t: Array, h: Array) -> tuple[Array, Array, Array]:
        jet = problem.kernel.jet(half, b, t, h)
        return jet.derivative, jet.response, jet.own_response

    third, response, own = jax.vmap(derivatives)(halves, overlaps, distances)
    field = jnp.where(earlier | present, third, 0.0)
    R = jnp.where(earlier, jnp.dot((problem.weights * roots[:, 0]), x[:, 1:]), 0.0)
    value = problem.mean(half) + jnp.dot(R, field)
    if problem.noise is not None:
        noise = problem.noise.jet(half, half, 2 * half, jnp.zeros_like(half)).derivative
        field = jnp.where(present, field + noise, field)
    fields = state.fields.at[k].set(field).at[:, k].set(field)

    slope = jax.grad(problem.mean)(half) + jnp.dot(R, own)
    pulled = precise.einsum("l,lei->ei", R * response, points)
    g = roots**2 * (pulled + slope * x)
    g = g.at[:, k + 1].add(roots[:, 0])
    gradients = state.gradients.at[k].set(g)

    def dot(v: Array, w: Array) -> Array:
        return precise.vdot(v, lowered(w, fields))

    low_x, low_g = lowered(x, fields), lowered(g, fields)
    rows = [(points, low_x), (gradients, low_g), (gradients, low_x), (points, low_g)]
    products = [jnp.pad(against(*pair), (0, length - n)) for pair in rows]
    ahead, memory = problem.algorithm.step(state.memory, k, x, value, g, dot)
    return (
        _State(fields, halves, points, gradients, ahead, memory),
        OrderParameters(k, value, *products),
    )


def _grown(state: _State, n: int) -> _State:
    """The state with its arrays padded to n steps."""
    more = n - state.halves.shape[0]

    def vector(leaf: Array) -> Array:
        # An algorithm remembers scalars, and vectors whose coefficients are the last axis.
        return jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, more)]) if leaf.ndim else leaf

    def rows(leaf: Array) -> Array:
        return jnp.pad(vector(leaf), [(0, more)] + [(0, 0)] * (leaf.ndim - 1))

    return _State(
        rows(state.fields),
        vector(state.halves),
        rows(state.points),
        rows(state.gradients),
        vector(state.x),
        jax.tree.map(vector, state.memory),
    )
