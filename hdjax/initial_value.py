"""Initial value problems dy/dt = rate(t, y), and the two loops that integrate them.

Both loops take the steps of a solver of diffrax, of the sizes that a controller of diffrax chooses,
and interpolate as this solver does.  They differ in what surrounds the steps:

* `path` records the solution at given times.  Its loop is written here, and it is traced in less
  than half the time of `diffrax.diffeqsolve`, which serves many more purposes.  It has no implicit
  solvers, and JAX differentiates it in forward mode.
* `solve` is `diffrax.diffeqsolve`, with its choice of what is saved and of how it is
  differentiated.

`differentiable_path` is `path` with the derivatives of `solve` in reverse mode.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from hdjax.codes import Code
from hdjax.limits import Limit, code_of, masked

Save = Callable[[Any], PyTree[Array]]


class March(NamedTuple):
    """The solution up to a time.

    Attributes:
        last: the time at which the last step began.
        t: the time at which it ended.
        to: the time at which the next step shall end.
        state: the state at time t.
        memory: what the solver keeps from step to step.
        control: what the controller keeps from step to step.
        dense: what the interpolation within the last step needs.
        steps: the number of attempted steps.
        code: a `hdjax.codes.Code`, as an integer array.
    """

    last: Any
    t: Any
    to: Any
    state: PyTree[Array]
    memory: Any
    control: Any
    dense: Any
    steps: Int[Array, ""]
    code: Int[Array, ""]


class InitialValueProblem(eqx.Module):
    """An ordinary differential equation, its start, and how it is integrated.

    Attributes:
        rate: the right-hand side, a function of (t, y, args).
        state: the state y at the time `begin`, a pytree of arrays.
        begin: the first time.
        end: the last time.
        args: what the rate and the solver get as their argument `args`.
        solver: the solver.
        alive: from a state to whether the solution goes on.
        norm: the norm in which the error of a step is measured.
        rtol: the relative tolerance of a step.
        atol: the absolute tolerance of a step.
        first: the length of the first step.
        longest: the greatest length of a step; None if there is no bound.
        smallest: the length of a step below which the solver gives up.
        stops: times at which steps end; None if there are none.
        equal: whether all steps have the length `first`, whatever their errors are.
        most: the number of steps after which the solver gives up.
    """

    rate: Callable[[Any, Any, Any], Any]
    state: PyTree[Array]
    begin: Float[Array, ""]
    end: Float[Array, ""]
    args: Any
    solver: diffrax.AbstractSolver
    alive: Callable[[Any], Array]
    norm: Callable[[Any], Array]
    rtol: Any
    atol: Any
    first: Float[Array, ""]
    longest: Float[Array, ""] | None
    smallest: Float[Array, ""]
    stops: Float[Array, " stops"] | None
    equal: bool = eqx.field(static=True)
    most: int = eqx.field(static=True)

    @property
    def controller(self) -> diffrax.AbstractStepSizeController:
        """What chooses the lengths of the steps."""
        if self.equal:
            return diffrax.ConstantStepSize()
        controller: Any = diffrax.PIDController(
            self.rtol,
            self.atol,
            dtmin=self.smallest,
            dtmax=self.longest,
            force_dtmin=False,
            norm=self.norm,
        )
        if self.stops is None:
            return controller
        return diffrax.ClipStepSizeController(controller, step_ts=self.stops)

    def converted(self) -> "InitialValueProblem":
        """The same problem, whose functions hold the arrays on which they depend as leaves."""
        state, convert = self.state, eqx.filter_closure_convert
        functions = (
            convert(self.rate, self.begin, state, self.args),
            convert(self.alive, state),
            convert(self.norm, state),
        )
        return eqx.tree_at(lambda p: (p.rate, p.alive, p.norm), self, functions)

    def solve(self, saveat: diffrax.SaveAt, adjoint: diffrax.AbstractAdjoint) -> diffrax.Solution:
        """The solution of diffrax, whose `result` says how it ended.

        Args:
            saveat: what is saved.
            adjoint: how JAX differentiates the solution.
        """
        return diffrax.diffeqsolve(
            diffrax.ODETerm(self.rate),
            self.solver,
            t0=self.begin,
            t1=self.end,
            dt0=self.first,
            y0=self.state,
            args=self.args,
            saveat=saveat,
            stepsize_controller=self.controller,
            max_steps=self.most,
            adjoint=adjoint,
            event=diffrax.Event(lambda t, y, args, **_: ~self.alive(y)),
            throw=False,
        )

    def path(self, ts: Float[Array, " times"], save: Save) -> Limit:
        """The values of `save(y)` at the times `ts`, which end at `end`.

        Args:
            ts: (times,) increasing times.
            save: maps a state to the arrays that are recorded.
        """
        problem = eqx.tree_at(lambda problem: problem.solver, self, _plain(self.solver))

        def record(march: March, t: Float[Array, ""]) -> tuple[March, tuple[PyTree, Array]]:
            def missing(march: March) -> Bool[Array, ""]:
                # A state at `begin` is recorded after the first step too, by its interpolation.
                before = (march.t < t) | (march.steps == 0)
                return before & (march.steps < self.most) & (march.code == Code.FINE)

            march = jax.lax.while_loop(missing, lambda march: problem._step(march), march)
            reached = (march.t >= t) & (march.steps > 0) & (march.code == Code.FINE)
            within = problem.solver.interpolation_cls(t0=march.last, t1=march.t, **march.dense)
            return march, (save(within.evaluate(t)), reached)

        march, (values, reached) = jax.lax.scan(record, problem._begin(), ts)
        exhausted = (march.code == Code.FINE) & ~reached[-1]
        code = jnp.where(exhausted, _code(Code.STEPS_EXHAUSTED), march.code)
        return Limit(masked(values, reached), reached, code)

    def _begin(self) -> March:
        """The solution before its first step."""
        term, solver, start = diffrax.ODETerm(self.rate), self.solver, self.state
        order = solver.error_order(term)
        to, control = self.controller.init(
            term, self.begin, self.end, start, self.first, self.args, solver.func, order
        )
        memory = solver.init(term, self.begin, to, start, self.args)
        _, _, dense, _, _ = eqx.filter_eval_shape(
            solver.step, term, self.begin, to, start, self.args, memory, False
        )
        return March(
            last=self.begin,
            t=self.begin,
            to=jnp.minimum(to, self.end),
            state=start,
            memory=memory,
            control=jax.tree.map(jnp.asarray, control),
            dense=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), dense),
            steps=jnp.zeros((), jnp.int32),
            code=jnp.where(self.alive(start), _code(Code.FINE), _code(Code.DIVERGED)),
        )

    def _step(self, march: March) -> March:
        """The solution after one more step, or with a shorter step to come if it is rejected."""
        term, t, to, old = diffrax.ODETerm(self.rate), march.t, march.to, march.state
        state, error, dense, memory, result = self.solver.step(
            term, t, to, old, self.args, march.memory, False
        )
        # A state at which the rate has no value has an error without a value.
        error = jax.tree.map(lambda x: jnp.where(jnp.isnan(x), jnp.inf, x), error)
        order: Any = self.solver.error_order(term)
        kept, end, then, _, control, controlled = self.controller.adapt_step_size(
            t, to, old, state, self.args, error, order, march.control
        )
        failed = jnp.where(kept, code_of(result), _code(Code.FINE))
        code = jnp.where(failed == Code.FINE, code_of(controlled), failed)
        dead = kept & ~self.alive(state)
        news = t, state, memory, dense
        olds = march.last, old, march.memory, march.dense
        last, state, memory, dense = jax.tree.map(lambda a, b: jnp.where(kept, a, b), news, olds)
        return March(
            last=last,
            t=end,
            to=jnp.minimum(then, self.end),
            state=state,
            memory=memory,
            control=control,
            dense=dense,
            steps=march.steps + 1,
            code=jnp.where(dead, _code(Code.DIVERGED), code),
        )


def _plain(solver: diffrax.AbstractSolver) -> diffrax.AbstractSolver:
    """The solver with the stages of a step in a plain scan, as diffrax has it in forward mode."""
    if not isinstance(solver, diffrax.AbstractRungeKutta):
        return solver
    return eqx.tree_at(lambda s: s.scan_kind, solver, "lax", is_leaf=lambda leaf: leaf is None)


def _code(code: Code) -> Int[Array, ""]:
    return jnp.asarray(code, jnp.int32)


@eqx.filter_custom_vjp
def differentiable_path(
    question: tuple[InitialValueProblem, Float[Array, " times"], Save],
    adjoint: diffrax.AbstractAdjoint,
) -> Limit:
    """What `path` returns for (problem, ts, save), with the derivatives of `solve`.

    Args:
        question: the problem, the times, and what is recorded; its functions hold the arrays on
            which they depend (`equinox.filter_closure_convert`).
        adjoint: how `solve` is differentiated.
    """
    del adjoint
    problem, ts, save = question
    return problem.path(ts, save)


@differentiable_path.def_fwd
def _forwards(perturbed: Any, question: Any, adjoint: diffrax.AbstractAdjoint) -> Any:
    del perturbed

    def solved(question: Any) -> Limit:
        problem, ts, save = question
        saveat = diffrax.SaveAt(ts=ts, fn=lambda t, y, args: save(y))
        return Limit.of(problem.solve(saveat, adjoint))

    found, pullback = eqx.filter_vjp(solved, question)
    return found, (pullback, eqx.filter(found, eqx.is_inexact_array))


@differentiable_path.def_bwd
def _backwards(residuals: Any, grads: Any, perturbed: Any, question: Any, adjoint: Any) -> Any:
    del perturbed, question, adjoint
    pullback, found = residuals

    def whole(value: Array, grad: Array | None) -> Array:
        # Equinox passes no derivative with respect to values that are not used.
        return jnp.zeros_like(value) if grad is None else grad

    return pullback(jax.tree.map(whole, found, grads))[0]
