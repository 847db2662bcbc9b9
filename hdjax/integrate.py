"""The integration of ordinary differential equations, with one set of rules for all of them.

Every ODE of the package is integrated by an `Integrator`: the limit of a system, its predicted
spread and its bias.  The options that a user sets hold for all three.  Each equation has its own
defaults for the options that the user does not set: a solver, a relative tolerance, and the size of
the state, by which the absolute tolerance is scaled.
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
from hdjax.checks import Checked
from hdjax.initial_value import InitialValueProblem, differentiable_path
from hdjax.limits import Limit
from hdjax.registry import In, PositiveFloat, Size, register

for _kind, _solver in (
    ("tsit5", diffrax.Tsit5),
    ("dopri8", diffrax.Dopri8),
    ("kvaerno5", diffrax.Kvaerno5),
):
    # The parameters of the solvers belong to the internals of diffrax, and are no keys of a config.
    register("solver", _kind, without=tuple(inspect.signature(_solver).parameters))(_solver)

# The default atol is this times rtol times the size of the state: entries that matter are rarely
# smaller than a thousandth of that size.
_ABSOLUTE = 1e-3
# A solution that cannot go on, because its rate is not finite, say, must stop: under vmap the other
# solutions wait for it.  Its steps may shrink to the duration times eps^_LEAST, which is below any
# first step that is needed.
_LEAST = 1.5
# The first step as a share of the duration: so short that any equation accepts it, and it grows.
_FIRST = 1e-6
# Tolerances that accept every step, for steps of a fixed length.
_LOOSE = 1e9
# Solvers that err by up to a hundred tolerances between the ends of their long steps.  Their steps
# end at the times that are recorded.
_COARSE = (diffrax.Dopri8, diffrax.AbstractImplicitSolver)
_TSIT5 = diffrax.Tsit5()
_REVERSE = diffrax.RecursiveCheckpointAdjoint()


@register("integrator", "")
class Integrator(Checked):
    """Solver, tolerances and number of steps with which the equations of a system are integrated.

    The object is callable, and then integrates an equation (see `__call__`); users pass it to a
    system as `integrator=`.

    Args:
        solver: a solver of diffrax: `diffrax.Tsit5()`, `diffrax.Dopri8()` (high accuracy),
            `diffrax.Kvaerno5()` (stiff equations), or `hdjax.streaming.ExponentialMidpoint()` (the
            limit of one-pass SGD on any spectrum); None: the default solver of each equation.
        rtol: relative tolerance of a step; None: the default of each equation, such as 1e-5 for the
            limit of one-pass SGD and 1e-3 for its predicted spread.
        atol: absolute tolerance of a step; None: rtol times a thousandth of the size of the state.
        steps: a fixed number of equal steps instead of tolerances.
        max_steps: number of steps after which the solver gives up.
        adjoint: how diffrax differentiates the solution; None: for reverse mode
            (`diffrax.RecursiveCheckpointAdjoint()`); `diffrax.ForwardMode()`: for forward mode.

    Raises:
        ValueError: tolerances or numbers of steps that are not positive.

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
        self.solver, self.rtol, self.atol, self.max_steps = solver, rtol, atol, max_steps
        self.steps = None if steps is None else jnp.asarray(steps, jnp.result_type(float))
        self.adjoint = adjoint

    def __call__(
        self,
        rate: Callable[[Any, Any, Any], Any],
        state: PyTree[Array],
        ts: Float[Array, " times"],
        save: Callable[[Any], PyTree[Array]],
        *,
        reverse: bool = True,
        **options: Any,
    ) -> Limit:
        """Integrate dy/dt = rate(t, y, args) from y(begin) = `state`, and record save(y) at `ts`.

        Args:
            rate: the right-hand side, a function of (t, y, args).
            state: the initial value, a pytree of arrays.
            ts: (times,) increasing times.
            save: maps the state to the arrays that are recorded.
            reverse: whether JAX can differentiate the result in reverse mode; otherwise it can in
                forward mode.  An `adjoint` that the user has set decides instead of it.
            **options: further options of `problem`; `rtol` is required.

        Returns:
            save(y) along a leading axis of times, NaN at times that were not reached, and a code.
        """
        problem, save = self.problem(rate, state, ts[-1], **options), eqx.filter_jit(save)
        if problem.stops is None and not problem.equal and isinstance(problem.solver, _COARSE):
            problem = eqx.tree_at(lambda p: p.stops, problem, ts, is_leaf=lambda leaf: leaf is None)
        implicit = isinstance(problem.solver, diffrax.AbstractImplicitSolver)
        if implicit or self.adjoint is not None:
            saveat = diffrax.SaveAt(ts=ts, fn=lambda t, y, args: save(y))
            return Limit.of(problem.solve(saveat, self.adjoint or _REVERSE))
        if not reverse:
            return problem.path(ts, save)
        save = eqx.filter_closure_convert(save, state)
        return differentiable_path((problem.converted(), ts, save), _REVERSE)

    def problem(
        self,
        rate: Callable[[Any, Any, Any], Any],
        state: PyTree[Array],
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
    ) -> InitialValueProblem:
        """The initial value problem dy/dt = rate(t, y, args) with this integrator's choices.

        Args:
            rate: the right-hand side, a function of (t, y, args).
            state: the initial value, a pytree of arrays.
            end: the last time.
            rtol: the relative tolerance of this equation, where the user has set none.
            solver: the solver of this equation, where the user has set none.
            size: the size of the state, by which the default absolute tolerance is scaled.
            norm: the norm in which the error of a step is measured.
            begin: the first time.
            alive: whether a state is still a result; the solution ends, as diverged, where it is
                False.
            args: passed to `rate` and to the solver.
            stops: times at which steps must end, such as the record times of a solver that does
                not interpolate.
            most: an upper bound on the number of steps, besides `max_steps`.
            only_solver: the only solver that can integrate this equation; it replaces the user's.
        """
        begin = jnp.asarray(begin, end.dtype)
        span = end - begin
        rtol = rtol if self.rtol is None else self.rtol
        atol = _ABSOLUTE * rtol * size if self.atol is None else self.atol
        first, longest = _FIRST * span, None
        if self.steps is not None:
            # Steps that must end at `stops` are shorter than the fixed length where they have to.
            first = longest = span / self.steps
            rtol = atol = _LOOSE
        own = solver if self.solver is None else self.solver
        return InitialValueProblem(
            # Under jit the function is traced once, and not each time that a loop is traced.
            rate=eqx.filter_jit(rate),
            state=state,
            begin=begin,
            end=end,
            args=args,
            solver=own if only_solver is None else only_solver,
            alive=alive,
            norm=norm,
            rtol=rtol,
            atol=atol,
            first=first,
            longest=longest,
            smallest=span * jnp.finfo(end.dtype).eps ** _LEAST,
            stops=stops,
            equal=self.steps is not None and stops is None,
            most=self.max_steps if most is None else min(most, self.max_steps),
        )
