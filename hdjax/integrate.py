"""How differential equations are integrated: one call of diffrax, with one set of defaults.

Every equation of the package goes through `Integrator`.  What a user sets there holds for all that
is integrated for a system: its limit, its predicted spread, its bias.  What is not set is the
equation's own choice: a solver, a relative tolerance, and the size of the state, by which the
absolute tolerance is measured.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import diffrax
import equinox as eqx
import jax.numpy as jnp
import optimistix
from jaxtyping import Array, Float, PyTree

from hdjax.arrays import all_finite
from hdjax.checks import check_arguments
from hdjax.limits import Limit
from hdjax.registry import In, PositiveFloat, Size, register

for _kind, _solver in (
    ("tsit5", diffrax.Tsit5),
    ("dopri8", diffrax.Dopri8),
    ("kvaerno5", diffrax.Kvaerno5),
):
    register("solver", _kind, without=tuple(inspect.signature(_solver).parameters))(_solver)

# The absolute tolerance over the relative one, in units of the state's size: entries that matter
# are rarely below a thousandth of it.
_ABSOLUTE = 1e-3
# A lane that cannot go on, since its rate is not finite, say, must stop: others wait for it under
# vmap. Its steps may shrink to the duration times eps^_LEAST, below any first step that is needed.
_LEAST = 1.5
# A first step that is short enough to grow from, as a share of the whole time.
_FIRST = 1e-6
# Tolerances of steps whose length is fixed.
_LOOSE = 1e9
_TSIT5 = diffrax.Tsit5()


@register("integrator", "")
class Integrator(eqx.Module):
    """Solver, tolerances and the number of steps, for every equation of a system.

    Args:
        solver: a solver of diffrax: `diffrax.Tsit5()`, `diffrax.Dopri8()` (high accuracy),
            `diffrax.Kvaerno5()` (stiff equations), or `hdjax.streaming.ExponentialMidpoint()` (the
            limit of one-pass SGD on any spectrum); None: what the equation takes by itself.
        rtol: relative tolerance of a step; None: the equation's own, such as 1e-5 for the limit of
            one-pass SGD and 1e-3 for its predicted spread.
        atol: absolute tolerance of a step; None: a thousandth of rtol, times the size of the state.
        steps: a fixed number of equal steps instead of tolerances.
        max_steps: steps after which the solver gives up.
        adjoint: diffrax's; None: what serves reverse mode; `diffrax.ForwardMode()` forward mode.

    Raises:
        ValueError: tolerances or numbers that are not positive.

    Example:
        >>> import diffrax
        >>> integrator = hd.Integrator(diffrax.Dopri8(), rtol=1e-9, atol=1e-12)
    """

    # Static: solvers hold Python numbers, which a sweep would stack.
    solver: diffrax.AbstractSolver | None = eqx.field(static=True)
    rtol: float | None = eqx.field(static=True)
    atol: float | None = eqx.field(static=True)
    steps: Float[Array, ""] | None
    max_steps: int = eqx.field(static=True)
    adjoint: diffrax.AbstractAdjoint | None = eqx.field(static=True)

    def __init__(
        self,
        solver: Annotated[diffrax.AbstractSolver, In("solver")] | None = None,
        *,
        rtol: PositiveFloat | None = None,
        atol: PositiveFloat | None = None,
        steps: Size | None = None,
        max_steps: Size = 16**4,
        adjoint: diffrax.AbstractAdjoint | None = None,
    ):
        check_arguments(Integrator, rtol=rtol, atol=atol, steps=steps, max_steps=max_steps)
        self.solver, self.rtol, self.atol, self.max_steps = solver, rtol, atol, max_steps
        self.steps = None if steps is None else jnp.asarray(steps, jnp.result_type(float))
        self.adjoint = adjoint

    def __call__(
        self,
        rate: Callable[[Any, Any, Any], Any],
        state: PyTree[Array],
        ts: Float[Array, " times"],
        save: Callable[[Any], PyTree[Array]],
        **options: Any,
    ) -> Limit:
        """`save(state)` at `ts` of dy/dt = rate(t, y, args), y = `state` at the start.

        Args:
            rate: the right-hand side.
            state: where it starts.
            ts: (times,) increasing.
            save: what to keep of the state.
            **options: as for `solve`.
        """
        # Jitted, it is traced once instead of at each of diffrax's looks at its loop.
        record = eqx.filter_jit(save)
        saveat = diffrax.SaveAt(ts=ts, fn=lambda t, y, args: record(y))
        return Limit.of(self.solve(rate, state, saveat, ts[-1], **options))

    def solve(
        self,
        rate: Callable[[Any, Any, Any], Any],
        state: PyTree[Array],
        saveat: diffrax.SaveAt,
        end: Float[Array, ""],
        *,
        rtol: float,
        solver: diffrax.AbstractSolver = _TSIT5,
        size: Any = 1.0,
        norm: Callable[[Any], Array] = optimistix.rms_norm,
        begin: Any = 0.0,
        alive: Callable[[Any], Array] = all_finite,
        args: Any = None,
        stops: Float[Array, " stops"] | None = None,
        most: int | None = None,
        only_solver: diffrax.AbstractSolver | None = None,
        only_adjoint: diffrax.AbstractAdjoint | None = None,
    ) -> diffrax.Solution:
        """The same up to the time `end`, as diffrax's solution.

        Args:
            rate: the right-hand side.
            state: where it starts.
            saveat: what diffrax saves.
            end: the last time.
            rtol: the equation's own choice.
            solver: the equation's own choice.
            size: of the state, by which an absolute tolerance that is not given is measured.
            norm: of a step's error.
            begin: the first time.
            alive: whether a state is still a result; where it fails the solution has diverged.
            args: handed to `rate` and to the solver.
            stops: times at which steps end, such as the records of a solver without an
                interpolation of its own.
            most: steps at most, beside `max_steps`.
            only_solver: the one solver that the equation takes, whatever is set.
            only_adjoint: the one adjoint that the equation takes.
        """
        begin = jnp.asarray(begin, end.dtype)
        span = end - begin
        rtol = rtol if self.rtol is None else self.rtol
        atol = _ABSOLUTE * rtol * size if self.atol is None else self.atol
        # To find a first step costs evaluations, which a solver that ends at `stops` does not need.
        dt0 = None if stops is None else _FIRST * span
        longest = None
        if self.steps is not None:
            # Steps that end at `stops` are of the fixed length at most.
            dt0 = longest = span / self.steps
            rtol = atol = _LOOSE
        smallest = span * jnp.finfo(end.dtype).eps ** _LEAST
        controller: Any = diffrax.PIDController(
            rtol, atol, dtmin=smallest, dtmax=longest, force_dtmin=False, norm=norm
        )
        if stops is not None:
            controller = diffrax.ClipStepSizeController(controller, step_ts=stops)
        elif self.steps is not None:
            controller = diffrax.ConstantStepSize()
        own = solver if self.solver is None else self.solver
        adjoint = diffrax.RecursiveCheckpointAdjoint() if self.adjoint is None else self.adjoint
        return diffrax.diffeqsolve(
            # Jitted, it is traced once instead of at each of diffrax's looks at its loop.
            diffrax.ODETerm(eqx.filter_jit(rate)),
            own if only_solver is None else only_solver,
            t0=begin,
            t1=end,
            dt0=dt0,
            y0=state,
            args=args,
            saveat=saveat,
            stepsize_controller=controller,
            max_steps=self.max_steps if most is None else min(most, self.max_steps),
            adjoint=adjoint if only_adjoint is None else only_adjoint,
            event=diffrax.Event(lambda t, y, args, **_: ~alive(y)),
            throw=False,
        )
