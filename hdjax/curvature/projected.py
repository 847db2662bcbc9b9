"""SGD whose gradient is projected on the top space of each column's own block, or off it.

    X_c <- X_c - gamma/d P_c (a g_c + beta X_c)

P_c is the projection on the space of the `rank` largest eigenvalues of column c's empirical block,
or on its complement.  The space is computed anew every `refresh` steps, on fresh samples.  If
training happens in the outliers' space ("Spectral alignment of SGD", arXiv 2310.03010), SGD in the
top space keeps its progress, and SGD in the complement does not.  `ProjectedSGD` is a method of
`Alignment`: it has no limit of its own, and is compared with the limit of plain SGD.
"""

from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hdjax import precise, random
from hdjax.clocks import Clock
from hdjax.curvature.matrices import empirical
from hdjax.curvature.solvers import top_space
from hdjax.curvature.weights import Kind, check_kind
from hdjax.random import Stream
from hdjax.registry import OneOf, Size, register
from hdjax.schedules import Schedule
from hdjax.streaming import Direct, OnePassSGD
from hdjax.streaming.optimisers import SGD, StateRate
from hdjax.streaming.samples import draw_samples
from hdjax.system import Method, Simulator


def _projected(matrix: Kind = "hessian", **options: Any) -> "ProjectedSGD":
    """SGD with gradients projected on the top spaces of the columns' blocks, or off them.

    Args:
        matrix: the matrix whose blocks are meant, "hessian" or "gradient".
        **options: of `ProjectedSGD`.
    """
    return ProjectedSGD(kind=matrix, **options)


@register("curvature.method", "projected", _projected, without=("kind",))
class ProjectedSGD(Method):
    """A method for mixtures: plain SGD with its gradient projected on top spaces, or off them.

    Args:
        space: the space that the gradient is projected on, "top" or "complement".
        rank: dimensions of each column's top space.
        kind: the matrix of the blocks, "hessian" or "gradient".
        refresh: the number of steps after which the spaces are computed anew.
        samples: the number of fresh samples for each computation.

    Raises:
        ValueError: the space or the kind is another one, or a number is below 1.

    Example:
        >>> method = ProjectedSGD("top", rank=3, refresh=50, samples=800)
    """

    space: Annotated[str, OneOf("top", "complement")] = eqx.field(static=True, default="top")
    rank: Size = eqx.field(static=True, default=3)
    kind: Kind = eqx.field(static=True, default="hessian")
    refresh: Size = eqx.field(static=True, default=50)
    samples: Size = eqx.field(static=True, default=1000)

    def __check_init__(self) -> None:
        check_kind(self.kind)
        if self.space not in ("top", "complement"):
            raise ValueError(f"space: {self.space!r}; allowed: 'top', 'complement'")
        for name in ("rank", "refresh", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}; allowed: at least 1")

    def simulator(self, system: OnePassSGD, horizon: None = None) -> "ProjectedSimulator":
        """The simulator of `system`.

        Raises:
            ValueError: the optimiser is not plain SGD, or the rate follows the state.
        """
        rate = system.learning_rate
        if not isinstance(system.optimiser, SGD) or isinstance(rate, StateRate):
            raise ValueError(
                f"optimiser, learning_rate: {type(system.optimiser).__name__}, "
                f"{type(system.learning_rate).__name__}; allowed: plain SGD and a schedule"
            )
        return ProjectedSimulator(system, self, rate, Direct().simulator(system))


class ProjectedState(eqx.Module):
    """The state of a direct run, and an orthonormal basis of each column's top space."""

    run: Any
    bases: Float[Array, "m d r"]

    @property
    def moving(self) -> Float[Array, "d m"]:
        """The columns X."""
        return self.run.moving

    @property
    def frozen(self) -> Float[Array, "d f"]:
        """The columns [X* | means]."""
        return self.run.frozen

    @property
    def side(self) -> Any:
        """The side state of the run, with the side parameters."""
        return self.run.side


class ProjectedSimulator(Simulator):
    """One realisation of projected SGD, at steps k = t d."""

    system: OnePassSGD
    method: ProjectedSGD
    rate: Schedule
    inner: Simulator

    @property
    def clock(self) -> Clock:
        """The clock of SGD."""
        return self.inner.clock

    def init(self, key: Key[Array, ""]) -> ProjectedState:
        run = self.inner.init(key)
        d, m = run.moving.shape
        return ProjectedState(run, jnp.zeros((m, d, self.method.rank), run.moving.dtype))

    def advance(
        self, state: ProjectedState, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> ProjectedState:
        def step(tick: Int[Array, ""], state: ProjectedState) -> ProjectedState:
            # Spaces are computed at fixed ticks, whatever interval is asked for.
            bases = jax.lax.cond(
                tick % self.method.refresh == 0,
                lambda: self._spaces(state, tick, key),
                lambda: state.bases,
            )
            return self._step(ProjectedState(state.run, bases), tick, key)

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state: ProjectedState) -> Any:
        return self.inner.summary(state.run)

    def side_by_side(self) -> int | None:
        # Runs side by side would compute their spaces at every step (vmap of a conditional).
        return 1

    def _spaces(
        self, state: ProjectedState, tick: Int[Array, ""], key: Key[Array, ""]
    ) -> Float[Array, "m d r"]:
        """Orthonormal bases of the columns' top spaces at the state."""
        own = random.at(random.stream(key, Stream.SPACES), tick)
        solver = random.stream(own, Stream.SOLVER)
        moving, frozen = state.moving, state.frozen
        samples = draw_samples(self.system, own, 0, self.method.samples, frozen, moving.dtype)
        matrix = empirical(self.system, samples, moving, frozen, state.side.theta, self.method.kind)
        start = jnp.concatenate([moving, frozen], axis=1)
        found = [
            top_space(
                matrix.restrict([c]).product,
                start,
                self.method.rank,
                random.at(solver, c),
                tolerance=1e-3,
                cycles=4,
            )
            for c in range(moving.shape[1])
        ]
        return jnp.stack([top.vectors for top in found])

    def _step(
        self, state: ProjectedState, tick: Int[Array, ""], key: Key[Array, ""]
    ) -> ProjectedState:
        """The state after one step of projected SGD."""
        system, run = self.system, state.run
        dtype, d = run.moving.dtype, system.spectrum.dimension
        samples = draw_samples(system, key, tick, 1, run.frozen, dtype)
        row, nothing = samples.rows[0], jnp.zeros(0, dtype)
        loss, theta = system.loss, run.side.theta
        gradient, slope = loss.gradient(
            precise.dot(run.moving.T, row), nothing, samples.component[0], samples.noise[0], theta
        )
        ridge, rate = system.ridge.astype(dtype), self.rate(tick.astype(d.dtype) / d).astype(dtype)
        size = rate / d.astype(dtype)
        whole = row[:, None] * gradient[None].astype(dtype) + ridge * run.moving
        inside = precise.einsum("mdr,mer,em->dm", state.bases, state.bases, whole)
        kept = inside if self.method.space == "top" else whole - inside
        theta = jax.tree.map(
            lambda leaf, g: leaf - size * (g.astype(dtype) + ridge * leaf), theta, slope
        )
        run = eqx.tree_at(lambda run: run.moving, run, run.moving - size * kept)
        if theta is not None:
            run = eqx.tree_at(lambda run: run.side.theta, run, theta)
        return ProjectedState(run, state.bases)
