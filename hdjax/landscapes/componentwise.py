"""Component-wise optimisers on Gaussian random functions: the system `ComponentWise`.

Adam, RMSProp and sign descent look at the entries of a gradient, so that they are no gradient span
algorithms, and the theorem of arXiv 2410.09973 does not cover them (open question 4 of the source).
Their progress has a deterministic limit too (`effective.py`).  The limit depends on the law of the
coordinates of x_0.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from hdjax.checks import is_concrete
from hdjax.landscapes import effective
from hdjax.landscapes._arguments import numbers
from hdjax.landscapes.effective import MeanField
from hdjax.landscapes.explicit import Ambient, Explicit, Function
from hdjax.landscapes.kernels.base import Kernel, as_radial
from hdjax.landscapes.landscape import Horizon, Landscape, check_kernels, jet_at_start
from hdjax.landscapes.optimisers import Optimiser
from hdjax.landscapes.order import OrderParameters
from hdjax.registry import AnyDimension, NonNegative, OneOrMoreReal, Size
from hdjax.system import Method, WithoutFluctuations


class ComponentWise(Landscape, WithoutFluctuations):
    """Adam, RMSProp, sign descent or another component-wise optimiser on a random function.

    Runs hold vectors of R^d (`Explicit`, `Function`, `Ambient`), as the previsible frame does not
    serve optimisers that look at entries.  x_0 has a uniform direction in each run.  Standard
    deviations are not predicted.

    Args:
        kernel: kappa, as for `GradientSpan`.
        optimiser: the optimiser (`hdjax.landscapes.optimisers`); its rates are in coordinates
            scaled to be O(1).
        dimension: d, an integer of at least 1, or infinity (for the limit alone).
        mean: mu, as for `GradientSpan`.
        radius: |x_0|.
        noise: kernel of mini-batch noise, as for `GradientSpan`.
        sites: the number of copies of a coordinate over which the means of the limit are taken.
            Their random numbers are always the same.  The limit has an error of about
            1/sites^(1/2), or none for linear optimisers.

    Raises:
        ValueError, TypeError: an argument is not allowed; the message names the argument, its
            value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> system = hd.landscapes.ComponentWise(
        ...     hd.landscapes.kernels.SquaredExponential(),
        ...     hd.landscapes.optimisers.SignDescent(0.5),
        ...     dimension=jnp.inf,
        ...     sites=1000,
        ... )
        >>> value = hd.limit(system, ts=[0, 1]).limit["value"].values
        >>> exact = -0.5 * np.sqrt(2 / np.pi) * np.exp(-0.125)  # -eta E|u| C'(eta^2/2)
        >>> bool(abs(value[1] - exact) < 0.05)
        True
    """

    methods: ClassVar[tuple[type[Method], ...]] = (Explicit, Function, Ambient)
    no_fluctuations: ClassVar[str] = "theory for component-wise optimisers has the limit alone"

    kernel: Kernel
    optimiser: Optimiser
    mean: Callable
    radius: Float[Array, ""]
    dimension: Float[Array, ""]
    noise: Kernel | None
    sites: Size = eqx.field(static=True)

    def __init__(
        self,
        kernel: Kernel,
        optimiser: Optimiser,
        dimension: AnyDimension,
        *,
        mean: OneOrMoreReal | Callable = 0.0,
        radius: NonNegative = 1.0,
        noise: Kernel | None = None,
        sites: Size = 100_000,
    ):
        check_kernels(kernel, noise)
        if not isinstance(optimiser, Optimiser):
            raise TypeError(f"optimiser: {optimiser!r}; allowed: Adam, RMSProp, SignDescent, ...")
        if sites < 1:
            raise ValueError(f"sites: {sites}; allowed: at least 1")
        self.kernel, self.optimiser, self.noise = kernel, optimiser, noise
        self.mean = as_radial("mean", mean)
        self.radius = numbers("radius", radius, "at least 0")
        self.dimension = numbers("dimension", dimension, "positive or infinite")
        self.sites = sites
        self.validate()

    @property
    def spectrum(self) -> None:
        """None: functions are isotropic."""

    @property
    def algorithm(self) -> "_OnEntries":
        """The optimiser with the interface of an algorithm in R^d."""
        return _OnEntries(self.optimiser)

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.check_numbers(realised)
        if is_concrete(self) and self.radius.ndim == 0:
            jet_at_start(self.kernel, self.radius**2 / 2)

    def about(self, horizon: Horizon) -> Mapping[str, str]:
        """No remarks: a result of this system needs no further explanation."""
        return {}

    def trajectory(
        self, evaluations: int, save: Callable[[OrderParameters], PyTree[Array]]
    ) -> PyTree[Array]:
        """The limit after each step, stacked, by the process of `hdjax.landscapes.effective`.

        Args:
            evaluations: the number of observations; the steps are 0, ..., evaluations - 1.
            save: a function of the order parameters, whose values are kept.
        """
        parts = self.kernel, self.mean, self.noise, self.optimiser, self.radius
        return effective.trajectory(MeanField(*parts, self.sites), evaluations, save)


class _OnEntries(eqx.Module):
    """A component-wise optimiser with the interface of an `Algorithm`, on vectors of R^d alone."""

    optimiser: Optimiser

    def init(self, x: Float[Array, " d"]) -> PyTree:
        return self.optimiser.init(_unit(x) * x)

    def step(
        self,
        state: PyTree,
        k: Int[Array, ""],
        x: Float[Array, " d"],
        f: Float[Array, ""],
        g: Float[Array, " d"],
        dot: Callable,
    ) -> tuple[Float[Array, " d"], PyTree]:
        unit = _unit(x)
        ahead, state = self.optimiser.update(state, k, unit * x, unit * g)
        return ahead / unit, state


def _unit(x: Float[Array, " d"]) -> Float[Array, ""]:
    """The number d^(1/2), by which entries of a vector of norm O(1) are scaled to be O(1)."""
    return jnp.sqrt(jnp.asarray(x.shape[0], x.dtype))
