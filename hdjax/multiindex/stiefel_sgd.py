"""One-pass SGD on the Stiefel manifold, and its limit with the noise of the samples.

    W <- polar(W - gamma/d g_proj),   g = 2 (F(W^T x) - y) x grad F(W^T x)^T,
    y = f*(W*^T x) + sigma zeta,

with a fresh sample at each step, g projected horizontally (g - W W^T g) or on the tangent space of
the embedded manifold (g - W sym(W^T g)).  With t = k/d, as d grows,

    dM/dt = gamma M'_flow - gamma^2/2 V M,
    V = 4 E[((F(u) - f*(z))^2 + sigma^2) grad F(u) grad F(u)^T],   u = M z + (I - M M^T)^{1/2} xi,

M'_flow the velocity of the gradient flow in that metric (`flows.py`): gamma -> 0 at fixed gamma t
is the flow.  Compare with bounded links (erf, sin): for cubic ones |grad F|^2 has heavy tails, and
finite-d corrections are large.

With `reuse` rho each sample is used twice: the gradient is taken at W - rho/d g, where the sample's
projections are u' = u - rho g_u with g_u = 2 (F(u) - y) grad F(u), and the limit is

    dM/dt = -gamma E[g_u' (z - M^T u)^T] - gamma^2/2 E[g_u' g_u'^T] M,

which leaves M = 0 wherever the generative exponent is 1, whatever the information exponent is.
Sources: arXiv 2310.19793 for the flow; Saad and Solla (1995) for the noise term; Arnaboldi et al.,
"Repetita Iuvant" (arXiv 2405.15459) for reuse.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import gaussian, random
from hdjax.multiindex.averaging import average
from hdjax.multiindex.descent import check_positive, polar
from hdjax.multiindex.flows import Planted, Profiled, Student, full_summary, reduced_velocity
from hdjax.multiindex.fluctuations import fluctuations
from hdjax.multiindex.limit import Integrator
from hdjax.multiindex.links import Link
from hdjax.multiindex.problem import LABELS, Overlap, Problem
from hdjax.multiindex.small import product
from hdjax.multiindex.starts import lift
from hdjax.multiindex.tensors import evaluate
from hdjax.random import Stream
from hdjax.registry import In, NonNegative, OneOf, Positive, Real, register
from hdjax.system import Simulator, System, is_concrete, steps_at

PROJECTIONS = ("horizontal", "embedded")


@register("multiindex.algorithm", "sgd")
class StiefelSGD(System):
    """One-pass SGD on the Stiefel manifold and its deterministic equivalent.

    Args:
        link: f*, a `Link`; labels are its exact values.
        dimension: d.
        learning_rate: gamma = O(1); the step that is applied is gamma/d.
        student: `Planted()` (the default) or `Profiled()`, which is given the best link.
        noise: sigma, standard deviation of the label noise.
        projection: "horizontal" or "embedded".
        reuse: rho, the inner step with which each sample is used twice ("horizontal" alone); None:
            once.
        directions: q; None: r.
        start: M at the start (q, r); None: Haar.
        rule: of the expectation V, in r + q variables; None: Gauss-Hermite, exact for polynomials.
        integrator: how the limit is integrated.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> import hdjax as hd
        >>> sgd = hd.multiindex.StiefelSGD(hd.multiindex.erf(), 200, 0.3, start=[[0.3]])
        >>> hd.limit(sgd, ts=[0.0, 1.0]).limit("overlaps").shape
        (2, 1, 1)
    """

    family: ClassVar[str] = "multiindex"
    time_label: ClassVar[str] = "t = k/d"
    labels: ClassVar[Mapping[str, str]] = LABELS

    problem: Problem
    learning_rate: Float[Array, ""]
    noise: Float[Array, ""]
    student: Student
    reuse: Float[Array, ""] | None
    integrator: Integrator
    projection: str = eqx.field(static=True)
    rule: gaussian.Rule = eqx.field(static=True)

    def __init__(
        self,
        link: Link,
        dimension: Any,
        learning_rate: Positive,
        student: Annotated[Student, In("multiindex.student")] | None = None,
        *,
        noise: NonNegative = 0.0,
        projection: Annotated[str, OneOf(*PROJECTIONS)] = "horizontal",
        reuse: Real | None = None,
        directions: int | None = None,
        start: Any = None,
        rule: gaussian.Rule | None = None,
        integrator: Annotated[Integrator, In("multiindex.integrator")] | None = None,
    ):
        dtype = jnp.result_type(float)
        self.problem = Problem(link, dimension, directions, start)
        self.learning_rate = jnp.asarray(learning_rate, dtype)
        self.noise = jnp.asarray(noise, dtype)
        self.student = Planted() if student is None else student
        if not isinstance(self.student, Planted) and not (
            isinstance(self.student, Profiled) and self.student.ridge is None
        ):
            raise TypeError(f"student: {student!r}; allowed: Planted() or Profiled()")
        self.student.check(link, self.problem.directions)
        if projection not in PROJECTIONS:
            raise ValueError(f"projection: {projection!r}; allowed: {', '.join(PROJECTIONS)}")
        if reuse is not None and projection != "horizontal":
            raise ValueError(
                f"reuse: {reuse} with {projection!r}; allowed: projection 'horizontal'"
            )
        self.projection = projection
        self.reuse = None if reuse is None else jnp.asarray(reuse, dtype)
        self.rule = self._default_rule() if rule is None else rule
        self.integrator = Integrator(rtol=1e-6) if integrator is None else integrator
        if self.integrator.form == "odds":
            raise ValueError("integrator.form: 'odds'; allowed with SGD: 'overlap'")
        self._check()

    def validate(self, *, compared: bool = False, realised: bool = False) -> None:
        self.problem.check()
        self.problem.warn(profiled=False)
        self._check()

    def simulator(self, method: Any = None, horizon: Any = None) -> Simulator:
        """SGD in R^d."""
        if method is not None:
            raise TypeError(f"method: {method!r}; allowed with StiefelSGD: None")
        self.problem.coordinates()
        return SGDSimulator(self)

    def start(self) -> Overlap:
        return Overlap.of(self.problem.start())

    def statistics(self, summary: Overlap) -> dict[str, Array]:
        return self.problem.statistics(summary, self.student.loss(self.problem.link, summary))

    def link_at(
        self, matrix: Float[Array, "q r"]
    ) -> Callable[[Float[Array, " q"]], Float[Array, ""]]:
        """The student's link F at overlap M, as a function of u."""
        if isinstance(self.student, Profiled):
            tensors = average(self.problem.link, matrix)
            return lambda u: evaluate(tensors, u)
        own: Any = self.student
        return self.problem.link if own.link is None else own.link

    def pull(
        self, matrix: Float[Array, "q r"], u: Float[Array, " q"], label: Float[Array, ""]
    ) -> Float[Array, " q"]:
        """The gradient of one sample's loss in its projections, at its last use."""
        link = jax.value_and_grad(self.link_at(matrix))
        value, slope = link(u)
        pull = 2 * (value - label) * slope
        if self.reuse is None:
            return pull
        value, slope = link(u - self.reuse * pull)
        return 2 * (value - label) * slope

    def noise_matrix(self, matrix: Float[Array, "q r"]) -> Float[Array, "q q"]:
        """V, the covariance of the gradient in the projections."""
        return self._moments(matrix)[1]

    def velocity(self, matrix: Float[Array, "q r"]) -> Float[Array, "q r"]:
        """The velocity dM/dt of the limit."""
        drift, noise = self._moments(matrix)
        if self.reuse is None:
            drift, _ = reduced_velocity(
                self.problem.link, self.student, self.projection, (matrix, None)
            )
        return self.learning_rate * (drift - self.learning_rate / 2 * product(noise, matrix))

    def sample(
        self, matrix: Float[Array, "q r"], normals: Float[Array, " n"], noise: Any
    ) -> tuple[Float[Array, " q"], Float[Array, " q"], Float[Array, " r"]]:
        """The pull of one sample, and its projections u and z, from r + q standard normals.

        Args:
            matrix: M.
            normals: z, and u's part that is independent of it.
            noise: of the label, in units of sigma.
        """
        q, r = matrix.shape
        # Any square root serves: the rest of u is isotropic.
        root = gaussian.factor(jnp.eye(q, dtype=matrix.dtype) - product(matrix, matrix.T))
        z, rest = normals[:r], normals[r : r + q]
        u = jnp.sum(matrix * z[None], axis=1) + jnp.sum(root * rest[None], axis=1)
        return self.pull(matrix, u, self.problem.link(z) + self.noise * noise), u, z

    def _moments(self, matrix: Float[Array, "q r"]) -> tuple[Array, Array]:
        """-E[g_u (z - M^T u)^T] and E[g_u g_u^T]."""
        q, r = matrix.shape
        # A second use is not linear in the label.
        noisy = self.reuse is not None

        def one(normals: Float[Array, " n"]) -> tuple[Array, Array]:
            pull, u, z = self.sample(matrix, normals, normals[-1] if noisy else 0.0)
            extra = jnp.zeros((q, q), matrix.dtype)
            if not noisy:
                slope = jax.grad(self.link_at(matrix))(u)
                extra = 4 * self.noise**2 * slope[:, None] * slope[None, :]
            outside = z - jnp.sum(matrix * u[:, None], axis=0)
            return -pull[:, None] * outside[None, :], pull[:, None] * pull[None, :] + extra

        return gaussian.expectation(one, r + q + noisy, self.rule, matrix.dtype)

    @eqx.filter_jit
    def limit(
        self,
        ts: Float[Array, " times"],
        start: Overlap | None = None,
        save: Callable[[Overlap], PyTree[Array]] = lambda summary: summary,
    ) -> PyTree[Array]:
        """The ODE of M at `ts`, in units of d steps."""
        matrix = self.problem.start() if start is None else start.matrix
        zero = jnp.zeros((), ts.dtype)
        return self.integrator(
            self.velocity,
            matrix,
            zero,
            ts,
            self.problem.dimension,
            lambda y: save(Overlap.of(y)),
        )

    def fluctuations(
        self,
        ts: Float[Array, " times"],
        statistics: Callable[[Overlap], dict[str, Array]],
        start: Overlap | None = None,
    ) -> dict[str, Array]:
        """Predicted standard deviations by the linear-noise equation (`fluctuations.py`)."""
        return fluctuations(self, ts, statistics, start)

    @property
    def polynomial(self) -> bool:
        """Whether a step is a polynomial of the normals."""
        return self.reuse is None and all(link.function is None for link in self._links())

    def _links(self) -> list[Link]:
        own = [self.student.link] if isinstance(self.student, Planted) else []
        return [self.problem.link, *(link for link in own if link is not None)]

    def _default_rule(self) -> gaussian.Rule:
        if self.polynomial:
            return gaussian.GaussHermite(2 * max(link.degree for link in self._links()))
        few = self.problem.directions + self.problem.link.variables <= 2
        return gaussian.GaussHermite(32 if few else 12)

    def _check(self) -> None:
        check_positive("learning_rate", self.learning_rate)
        if is_concrete(self.noise) and not 0 <= float(self.noise) < np.inf:
            raise ValueError(f"noise: {float(self.noise)}; allowed: finite and at least 0")


class SGDSimulator(Simulator):
    """One realisation; the clock is the step k, t = k/d; W* are the first r coordinates."""

    system: StiefelSGD

    @property
    def target(self) -> Float[Array, "d r"]:
        """W*."""
        return self.system.problem.target

    def init(self, key: Key[Array, ""]) -> Float[Array, "d q"]:
        return lift(key, self.system.problem.sample(key), self.target)

    def advance(
        self,
        state: Float[Array, "d q"],
        k0: Int[Array, ""],
        k1: Int[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "d q"]:
        system, problem = self.system, self.system.problem
        d, r = state.shape[0], problem.link.variables
        draws = random.stream(key, Stream.STEPS)

        def step(k: Array, w: Array) -> Array:
            normals = random.normals(draws, k, 1, d + 1, w.dtype)[0]
            x = normals[:d]
            label = problem.link(x[:r]) + system.noise * normals[d]
            u = jnp.dot(x, w, precision="highest")
            pull = system.pull(w[:r].T, u, label)
            if system.projection == "horizontal":
                gradient = (x - jnp.dot(w, u, precision="highest"))[:, None] * pull[None, :]
            else:
                inner = u[:, None] * pull[None, :]
                inside = jnp.dot(w, (inner + inner.T) / 2, precision="highest")
                gradient = x[:, None] * pull[None, :] - inside
            return polar(w - system.learning_rate / d * gradient)

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state: Float[Array, "d q"]) -> Overlap:
        return full_summary(state, self.target, None)

    def ticks(self, ts: Float[np.ndarray, " times"]) -> Int[np.ndarray, " times"]:
        """K = floor(t d), where t d within rounding of an integer is that integer."""
        return steps_at(ts, float(self.system.problem.coordinates()))

    def times(self, ticks: Int[np.ndarray, " times"]) -> Float[np.ndarray, " times"]:
        """T = k/d."""
        return np.asarray(ticks, np.float64) / self.system.problem.coordinates()

    def bytes_per_run(self) -> int:
        return 8 * 6 * self.system.problem.coordinates() * (self.system.problem.directions + 1)
