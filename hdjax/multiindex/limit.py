"""How flows are integrated, reduced or in R^d.

Overlaps start at order d^{-1/2}: the absolute tolerance has to be far below it, or the escape is
noise.
"""

from collections.abc import Callable
from typing import Annotated, Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from hdjax.registry import OneOf, PositiveFloat, Size, register
from hdjax.system import check_arguments, reached_only

FORMS = ("overlap", "odds")


# The solvers that a config knows by name.
_SOLVERS = {"tsit5": diffrax.Tsit5, "dopri8": diffrax.Dopri8, "kvaerno5": diffrax.Kvaerno5}


def _integrator(
    solver: Annotated[str, OneOf(*_SOLVERS)] = "dopri8", **options: Any
) -> "Integrator":
    return Integrator(_SOLVERS[solver](), **options)


@register("multiindex.integrator", "", _integrator)
class Integrator(eqx.Module):
    """How flows are integrated.

    Args:
        solver: a diffrax solver; `diffrax.Dopri8()` unless given, `diffrax.Kvaerno5()` for a
            `Joint` flow of small ratio (stiff).
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step; None: rtol/1000 times d^{-1/2}.
        form: "overlap" integrates M; "odds" (profiled flow alone) integrates R with R' = 2 R S,
            which keeps the distance to recovery accurate, and M up to a rotation of W.
        max_steps: steps after which the solver gives up.
        adjoint: diffrax's; the default serves reverse mode, `diffrax.ForwardMode()` forward mode.

    Raises:
        ValueError: another form, tolerances that are not positive.

    Example:
        >>> import diffrax
        >>> integrator = Integrator(diffrax.Tsit5(), rtol=1e-6)
    """

    # Static: solvers hold Python numbers, which a sweep would stack.
    solver: diffrax.AbstractSolver = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    atol: float | None = eqx.field(static=True)
    form: str = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    adjoint: diffrax.AbstractAdjoint = eqx.field(static=True)

    def __init__(
        self,
        solver: diffrax.AbstractSolver | None = None,
        *,
        rtol: PositiveFloat = 1e-8,
        atol: PositiveFloat | None = None,
        form: Annotated[str, OneOf(*FORMS)] = "overlap",
        max_steps: Size = 16**4,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        check_arguments(Integrator, rtol=rtol, atol=atol, form=form, max_steps=max_steps)
        self.solver = diffrax.Dopri8() if solver is None else solver
        self.rtol, self.atol, self.form, self.max_steps = rtol, atol, form, max_steps
        self.adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint

    def __call__(
        self,
        rate: Callable[[Any], Any],
        state: Any,
        t0: Float[Array, ""],
        ts: Float[Array, " times"],
        dimension: Float[Array, ""],
        save: Callable[[Any], PyTree[Array]],
    ) -> PyTree[Array]:
        """`save(state)` at `ts` from `state` at `t0`; NaN where the solver gave up."""
        end = ts[-1]
        atol = 1e-3 * self.rtol / jnp.sqrt(dimension) if self.atol is None else self.atol
        # A lane that cannot go on must stop: others wait for it under vmap.
        smallest = (end - t0) * jnp.finfo(ts.dtype).eps ** 0.8
        # Jitted, both are traced once instead of at each of diffrax's looks at its loop.
        velocity, record = eqx.filter_jit(lambda t, y, args: rate(y)), eqx.filter_jit(save)
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            self.solver,
            t0=t0,
            t1=end,
            dt0=None,
            y0=state,
            saveat=diffrax.SaveAt(ts=ts, fn=lambda t, y, args: record(y)),
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=atol, dtmin=smallest),
            max_steps=self.max_steps,
            adjoint=self.adjoint,
            event=diffrax.Event(lambda t, y, args, **_: ~_finite(y)),
            throw=False,
        )
        return reached_only(solution.ts, solution.ys, diffrax.is_event(solution.result))


def _finite(state: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]).all()
