"""Gradient span algorithms on isotropic Gaussian random functions: the system `GradientSpan`.

    E f(x) = mu(|x|^2/2),      Cov(f(x), f(y)) = kappa(|x|^2/2, |y|^2/2, <x, y>)/d.

The algorithm takes as x_{k+1} a linear combination of x_0 and the gradients seen so far, whose
prefactors may depend on all values and inner products seen so far.  For a fixed number of steps,
f(x_k) and all inner products become deterministic as d grows.

Scalings: points and step sizes are O(1).  Values vary by O(d^-1/2), and each partial derivative is
O(d^-1/2), so that |grad f|^2 is O(1).  Time is the step k.  A spin glass H on the sphere of radius
d^1/2 with covariance d xi(overlap) is the function f(x) = H(d^1/2 x)/d.

Source: Benning and Döring, arXiv 2410.09973, Definitions 2.1 (algorithm) and 2.3 (function) and
Remark 2.6 (scaling); the source writes N for d and n for k.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from hdjax import spectra
from hdjax.checks import is_concrete
from hdjax.landscapes import limit
from hdjax.landscapes._arguments import check_numbers, numbers
from hdjax.landscapes.algorithms import Algorithm
from hdjax.landscapes.explicit import Ambient, Explicit, Function
from hdjax.landscapes.fluctuations import mean_corrections, source, standard_deviations
from hdjax.landscapes.kernels.base import Kernel, as_radial
from hdjax.landscapes.landscape import Horizon, Spanning, check_kernels, jet_at_start
from hdjax.landscapes.limit import Problem
from hdjax.landscapes.order import OrderParameters
from hdjax.landscapes.rates import RandomFunctionDescent
from hdjax.landscapes.simulate import Previsible
from hdjax.registry import AnyDimension, In, NonNegative, NonNegatives, OneOrMoreReal
from hdjax.spectra import Spectrum
from hdjax.system import Method, NoFluctuationsError, NoMeanCorrectionError


class GradientSpan(Spanning):
    """A gradient span algorithm on a Gaussian random function, and its limit as d grows.

    Args:
        kernel: kappa, d times the covariance of f (`hdjax.landscapes.kernels`); kernels add and
            multiply.
        algorithm: the algorithm (`hdjax.landscapes.algorithms`).
        dimension: d, an integer of at least 1, or infinity.  The dimension is an array, so that
            the sampler compiles once for all dimensions.
        mean: mu, a function of lambda = |x|^2/2: a number, the coefficients of a polynomial, or
            any differentiable function.
        radius: |x_0|; the direction of x_0 is arbitrary.
        noise: kernel of mini-batch noise: step k sees f + epsilon_k with epsilon_k fresh,
            independent, of mean 0 and covariance noise/d.  In the limit the value is that of f.
        spectrum: eigenvalues of a covariance K (`hdjax.spectra`) in dimension d; the function is
            then f(K^{1/2} x).  Its limit is deterministic too, and depends on the direction of
            x_0; the previsible sampler does not apply (use `Explicit`), nor do error bars.
        shares: (g,) the shares of |x_0|^2 in the eigenspaces of K, summing to 1; None: those of a
            random direction.

    Raises:
        ValueError, TypeError: an argument is not allowed; the message names the argument, its
            value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> system = hd.landscapes.GradientSpan(
        ...     hd.landscapes.kernels.SquaredExponential(scale=1.0),
        ...     hd.landscapes.algorithms.GradientDescent(0.5),
        ...     dimension=10**6,
        ... )
        >>> hd.limit(system, ts=[0, 1, 2]).limit["value"].values.round(4).tolist()
        [0.0, -0.4412, -0.7288]
    """

    methods: ClassVar[tuple[type[Method], ...]] = (Previsible, Explicit, Function, Ambient)

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
        dimension: AnyDimension,
        *,
        mean: OneOrMoreReal | Callable = 0.0,
        radius: NonNegative = 1.0,
        noise: Annotated[Kernel, In("landscapes.kernel")] | None = None,
        spectrum: Annotated[Spectrum, In("spectrum")] | None = None,
        shares: NonNegatives | None = None,
    ):
        check_kernels(kernel, noise)
        if not isinstance(algorithm, Algorithm):
            raise TypeError(f"algorithm: {algorithm!r}; allowed: one of hdjax.landscapes")
        self.kernel, self.algorithm, self.noise = kernel, algorithm, noise
        self.mean = as_radial("mean", mean)
        self.radius = numbers("radius", radius, "at least 0")
        self.dimension = numbers("dimension", dimension, "positive or infinite")
        if spectrum is None and shares is not None:
            raise ValueError("shares: given; allowed without a spectrum: None")
        if spectrum is not None and spectrum.size != dimension:
            raise ValueError(
                f"dimension: {dimension}; allowed: that of the spectrum, {spectrum.size}"
            )
        self.spectrum = spectrum
        if spectrum is not None:
            shares = spectrum.weights if shares is None else shares
        self.shares = None if shares is None else numbers("shares", shares, "at least 0", ndim=1)
        self.validate()

    @property
    def problem(self) -> Problem:
        """The function, the algorithm and the start, as the sampler and the limit take them."""
        eigenvalues = weights = shares = jnp.ones(1, self.radius.dtype)
        if self.spectrum is not None and self.shares is not None:
            eigenvalues, weights = self.spectrum.eigenvalues, self.spectrum.weights
            shares = self.shares
        masses = self.radius**2 * shares
        parts = self.kernel, self.mean, self.noise, self.algorithm
        return Problem(*parts, eigenvalues, weights, masses)

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.check_numbers(realised)
        if self.spectrum is not None and self.shares is not None:
            spectra.validate(self.spectrum)
            g = self.spectrum.eigenvalues.shape[-1]
            if self.shares.shape[-1] != g:
                raise ValueError(
                    f"shares: shape {self.shares.shape[-1:]}; allowed: {(g,)}, one for each "
                    "eigenvalue of the spectrum"
                )
            check_numbers("shares", self.shares, "at least 0")
            if is_concrete(self.shares) and np.any(abs(np.asarray(self.shares.sum(-1)) - 1) > 1e-4):
                raise ValueError(f"shares: sum {np.asarray(self.shares.sum(-1))}; allowed: 1")
        self.algorithm.check(self.radius)
        single = is_concrete(self) and self.radius.ndim == 0
        if single:
            for part in jax.tree.leaves(self.algorithm, is_leaf=_knows_landscape):
                if _knows_landscape(part):
                    part.check(self.kernel, self.mean)
        if single and self._rests():
            raise ValueError(
                f"radius: {float(self.radius)}; allowed with this kernel and mean: a radius at "
                "which the gradient is not 0 (otherwise nothing moves)"
            )

    def _rests(self) -> bool:
        """Whether the gradient at x_0 is 0 with probability one."""
        problem = self.problem
        half = jnp.vdot(problem.eigenvalues, problem.masses) / 2
        jet = jet_at_start(self.kernel, half)
        drift = jax.grad(self.mean)(half) * half
        return float(jet.derivative) == 0 and float(drift) == 0

    def trajectory(
        self, evaluations: int, save: Callable[[OrderParameters], PyTree[Array]]
    ) -> PyTree[Array]:
        """The limit after each step, stacked, by the recursion of `hdjax.landscapes.limit`.

        Args:
            evaluations: the number of observations; the steps are 0, ..., evaluations - 1.
            save: a function of the order parameters, whose values are kept.
        """
        return limit.trajectory(self.problem, evaluations, save)

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[OrderParameters], dict[str, Array]],
        start: OrderParameters | None = None,
        horizon: Horizon | None = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations of statistics at this dimension (`fluctuations.py`).

        Args:
            ts: (times,) steps; concrete unless `horizon` is given.
            statistics: the statistics by name, as a function of the order parameters.
            start: not used: x_0 is given.
            horizon: the number of observations to make.

        Raises:
            NoFluctuationsError: the system has a spectrum, float64 is not enabled, or there are
                more than 32 observations.
        """
        if self.spectrum is not None:
            raise NoFluctuationsError("spectrum: given; allowed with fluctuations: None")
        horizon = self.given_horizon(ts, horizon)
        return standard_deviations(self, jnp.asarray(ts), statistics, horizon.evaluations)

    def mean_correction(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[OrderParameters], dict[str, Array]],
        start: OrderParameters | None = None,
        horizon: Horizon | None = None,
    ) -> dict[str, Array]:
        """The bias of statistics to first order in 1/d (`fluctuations.py`), at this dimension.

        The arguments are those of `fluctuations`.

        Raises:
            NoMeanCorrectionError: the system has a spectrum, or there are more than 16
                observations.
        """
        if self.spectrum is not None:
            raise NoMeanCorrectionError("spectrum: given; allowed with mean_correction: None")
        horizon = self.given_horizon(ts, horizon)
        return mean_corrections(self, jnp.asarray(ts), statistics, horizon.evaluations)

    def about(self, horizon: Horizon) -> Mapping[str, str]:
        """Whether the predicted spread comes from derivatives of the sampler or from runs."""
        found = source(horizon.evaluations)
        exact = "of the sampler, exact to first order in 1/d"
        sampled = "of the sampler at d = 1e10, to about 3 %"
        text = f"{found} {exact if found == 'derivatives' else sampled}"
        return {"fluctuations": f"predicted std: {text}"}


def _knows_landscape(part: Any) -> bool:
    """Whether a part of an algorithm is made for one kernel and mean, which must be checked."""
    return isinstance(part, RandomFunctionDescent)
