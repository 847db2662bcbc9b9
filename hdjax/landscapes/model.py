"""Gradient span algorithms on isotropic Gaussian random functions: the system of the family.

    E f(x) = mu(|x|^2/2),      Cov(f(x), f(y)) = kappa(|x|^2/2, |y|^2/2, <x, y>)/d,

and x_{k+1} a linear combination of x_0 and the gradients seen so far, whose prefactors may depend
on all values and inner products.  For a fixed number of steps, f(x_k) and all inner products become
deterministic as d grows (Benning and Döring, arXiv 2410.09973, where d is N and k is n).

Scalings: points and step sizes are O(1), values vary by O(d^-1/2), each partial derivative is
O(d^-1/2), so |grad f|^2 is O(1).  Time is the step k.  A spin glass H on the sphere of radius
d^1/2 with Cov = d xi(overlap) is f(x) = H(d^1/2 x)/d.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from hdjax import spectra
from hdjax.landscapes import limit
from hdjax.landscapes._arguments import check_numbers, numbers
from hdjax.landscapes.algorithms import Algorithm
from hdjax.landscapes.explicit import Ambient, OnVectors
from hdjax.landscapes.fluctuations import standard_deviations
from hdjax.landscapes.kernels import Kernel, as_radial
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.order import OrderParameters
from hdjax.landscapes.simulate import Previsible, steps
from hdjax.spectra import Spectrum
from hdjax.system import NoFluctuationsError, Simulator, System, is_concrete

# Points are O(1): a squared norm beyond this has left the region that the theory speaks of.
_DIVERGED = 1e8


class Horizon(NamedTuple):
    """What a compiled program must know: how many observations, and d where arrays are in R^d."""

    evaluations: int
    dimension: int | None = None


class GradientSpan(System):
    """A gradient span algorithm on a Gaussian random function.

    Args:
        kernel: kappa, see `hdjax.landscapes.kernels`; kernels add and multiply.
        algorithm: see `hdjax.landscapes.algorithms`.
        dimension: d, an integer of at least 1, or infinity.  A leaf: the sampler compiles once for
            all dimensions.
        mean: mu, a function of lambda = |x|^2/2: a number, the coefficients of a polynomial, or
            any differentiable function.
        radius: |x_0|; the direction of x_0 is arbitrary.
        noise: kernel of mini-batch noise: step k sees f + epsilon_k with epsilon_k fresh,
            independent, of mean 0 and covariance noise/d.  In the limit f(x_k) is that of f.
        spectrum: eigenvalues of a covariance K (`hdjax.spectra`), in dimension d: the function is
            f(K^{1/2} x).  Progress stays predictable, with another limit, and depends on x_0; the
            previsible sampler does not apply (use `Explicit`), nor do error bars.
        shares: (g,) of |x_0|^2 in the eigenspaces of K, summing to 1; None: as in a random
            direction.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> system = hd.landscapes.GradientSpan(
        ...     hd.landscapes.SquaredExponential(scale=1.0),
        ...     hd.landscapes.GradientDescent(0.5),
        ...     dimension=10**6,
        ... )
        >>> hd.limit(system, ts=[0, 1, 2]).limit("value").values.round(4).tolist()
        [0.0, -0.4412, -0.7288]
    """

    family: ClassVar[str] = "landscapes"
    time_label: ClassVar[str] = "step k"
    labels: ClassVar[Mapping[str, str]] = {
        "value": "value f(x_k)",
        "gradient_norm": "squared gradient norm |g_k|^2",
        "norm": "squared norm |x_k|^2",
        "start_overlap": "overlap with the start <x_k, x_0>",
        "gradient_overlap": "overlap with the first gradient <g_k, g_0>",
    }

    kernel: Kernel
    algorithm: Algorithm
    mean: Callable
    radius: Float[Array, ""]
    dimension: Float[Array, ""]
    noise: Kernel | None
    spectrum: Spectrum | None
    shares: Float[Array, " g"] | None

    def __init__(
        self,
        kernel: Kernel,
        algorithm: Algorithm,
        dimension: Any,
        *,
        mean: Any = 0.0,
        radius: Any = 1.0,
        noise: Kernel | None = None,
        spectrum: Spectrum | None = None,
        shares: Any = None,
    ):
        for name, value, kind in (("kernel", kernel, Kernel), ("algorithm", algorithm, Algorithm)):
            if not isinstance(value, kind):
                raise TypeError(f"{name}: {value!r}; allowed: one of hdjax.landscapes")
        if noise is not None and not isinstance(noise, Kernel):
            raise TypeError(f"noise: {noise!r}; allowed: a kernel of hdjax.landscapes or None")
        self.kernel, self.algorithm, self.noise = kernel, algorithm, noise
        self.mean = as_radial("mean", mean)
        self.radius = numbers("radius", radius, "at least 0")
        self.dimension = numbers("dimension", dimension, "positive or infinite")
        if spectrum is None and shares is not None:
            raise ValueError("shares: given; allowed without a spectrum: None")
        if spectrum is not None and spectrum.size != dimension:
            raise ValueError(f"dimension: {dimension}; allowed: that of the spectrum")
        self.spectrum = spectrum
        if spectrum is not None:
            shares = spectrum.weights if shares is None else shares
        self.shares = None if shares is None else numbers("shares", shares, "at least 0", ndim=1)
        self.validate()

    @property
    def problem(self) -> Problem:
        """What the recursions need to know."""
        eigenvalues = weights = shares = jnp.ones(1, self.radius.dtype)
        if self.spectrum is not None and self.shares is not None:
            eigenvalues, weights = self.spectrum.eigenvalues, self.spectrum.weights
            shares = self.shares
        masses = self.radius**2 * shares
        parts = self.kernel, self.mean, self.noise, self.algorithm
        return Problem(*parts, eigenvalues, weights, masses)

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        check_numbers("radius", self.radius, "at least 0")
        check_numbers("dimension", self.dimension, "positive or infinite")
        if is_concrete(self.dimension):
            d = np.asarray(self.dimension)
            if np.any(np.isfinite(d) & ((d != np.floor(d)) | (d > 1e15))):
                raise ValueError(f"dimension: {d}; allowed: an integer up to 1e15, or infinity")
        if self.spectrum is not None and self.shares is not None:
            spectra.validate(self.spectrum)
            g = self.spectrum.eigenvalues.shape[-1]
            if self.shares.shape[-1] != g:
                raise ValueError(f"shares: {self.shares.shape[-1]}; allowed: one for each of {g}")
            check_numbers("shares", self.shares, "at least 0")
            if is_concrete(self.shares) and np.any(abs(np.asarray(self.shares.sum(-1)) - 1) > 1e-4):
                raise ValueError(f"shares: sum {np.asarray(self.shares.sum(-1))}; allowed: 1")
        self.algorithm.check(self.radius)
        if realised:
            raise ValueError("start: 'realised'; allowed: 'law' (x_0 is given, and not random)")
        if is_concrete(self) and self.radius.ndim == 0 and self._rests():
            raise ValueError(
                f"radius: {float(self.radius)}; with this kernel and mean the gradient at x_0 is 0 "
                "and nothing moves; allowed: a start with a gradient"
            )

    def _horizon(self, ts: Any, horizon: Horizon | None) -> Horizon:
        if horizon is not None:
            return horizon
        if not is_concrete(ts):
            raise ValueError(
                "ts: traced, while the number of steps fixes shapes; allowed: a NumPy array (jnp "
                "arrays are traced inside jit), or horizon=system.horizon(ts) from outside"
            )
        return self.horizon(np.asarray(ts, np.float64))

    def _rests(self) -> bool:
        """Whether the gradient at x_0 is 0 with probability one."""
        problem = self.problem
        half = jnp.vdot(problem.eigenvalues, problem.masses) / 2
        jet = self.kernel.jet(half, half, 2 * half, jnp.zeros_like(half))
        drift = jax.grad(self.mean)(half) * half
        return float(jet.derivative) == 0 and float(drift) == 0

    def horizon(self, ts: Float[np.ndarray, " times"], method: Any = None) -> Horizon:
        evaluations = int(steps(ts)[-1]) + 1
        if not isinstance(method, OnVectors) or np.isinf(self.dimension):
            return Horizon(evaluations)
        return Horizon(evaluations, int(self.dimension))

    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """Previsible coordinates (`Previsible`, the default), or vectors in R^d (`Explicit`...)."""
        method = Previsible() if method is None else method
        if not isinstance(method, Previsible | OnVectors):
            names = "Previsible(...), Explicit(...), Function(...), Ambient() or None"
            raise TypeError(f"method: {method!r}; allowed: {names}")
        if self.spectrum is not None and isinstance(method, Previsible | Ambient):
            raise ValueError(
                f"method: {type(method).__name__}; allowed with a spectrum: Explicit(...), "
                "Function(...) (rotation invariance is lost)"
            )
        return method.simulator(self, horizon)

    def start(self) -> OrderParameters:
        """The order parameters at x_0 as d grows."""
        first = limit.trajectory(self.problem, 1, lambda order: order)
        return jax.tree.map(lambda leaf: leaf[0], first)

    def limit(
        self,
        ts: Float[Array | np.ndarray, " times"],
        start: OrderParameters | None = None,
        save: Callable[[OrderParameters], PyTree[Array]] = lambda summary: summary,
        horizon: Horizon | None = None,
    ) -> PyTree[Array]:
        """The limit at steps `ts`, by `hdjax.landscapes.limit`.

        Args:
            ts: (times,) steps; concrete unless `horizon` is given.
            start: None (x_0 is given).
            save: what to keep of the order parameters.
            horizon: how many observations to make.
        """
        horizon = self._horizon(ts, horizon)
        return _limit(self.problem, jnp.asarray(ts), horizon.evaluations, save)

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[OrderParameters], dict[str, Array]],
        start: OrderParameters | None = None,
        horizon: Horizon | None = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations at this d (`fluctuations.py`); arguments as for `limit`."""
        if self.spectrum is not None:
            raise NoFluctuationsError("fluctuations: not known with a spectrum")
        horizon = self._horizon(ts, horizon)
        return standard_deviations(self, jnp.asarray(ts), statistics, horizon.evaluations)

    def alive(self, summary: OrderParameters) -> Bool[Array, ""]:
        """Finite, and |x|^2 below 10^8 (unbounded landscapes diverge in a few steps)."""
        leaves = [leaf for leaf in jax.tree.leaves(summary) if eqx.is_inexact_array(leaf)]
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
        return finite & (summary.norm < _DIVERGED)

    def statistics(self, summary: OrderParameters) -> dict[str, Array]:
        """Value, squared norms of gradient and point, overlaps with the first of each."""
        return {
            "value": summary.value,
            "gradient_norm": summary.gradient_norm,
            "norm": summary.norm,
            "start_overlap": summary.points[0],
            "gradient_overlap": summary.gradients[0],
        }


@eqx.filter_jit
def _limit(
    problem: Problem,
    ts: Float[Array, " times"],
    evaluations: int,
    save: Callable[[OrderParameters], PyTree[Array]],
) -> PyTree[Array]:
    saved = limit.trajectory(problem, evaluations, save)
    recorded = jnp.round(ts).astype(int)
    return jax.tree.map(lambda leaf: leaf[recorded], saved)
