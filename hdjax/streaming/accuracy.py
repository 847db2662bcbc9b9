"""Error estimates for the quadrature of a loss's expectations, computed on the host.

A system uses this module to choose the quadrature rule of its loss, and to check a rule that the
user chose.  A rule that is accurate for smooth losses may be inaccurate for a loss with a jump.
The error of the means that the limit needs (`hdjax.streaming.moments`) is estimated: the risk, the
mean gradients, E[z g^T] and E[g g^T], where r = L z are the projections and g is the gradient.  For
a loss that is declared smooth E[z g^T] is also taken by second derivatives.  The error of a mean
E q is divided by E|q|, and the largest quotient is the error of the rule.

The error is the disagreement of a rule with its references (`Rule.references`).  A rule on a grid
is also compared with quasi-Monte Carlo, since a coarser grid may miss the same jump.

The means are taken under the law of the start and, for data of mean zero, under a law of correlated
projections and under one near recovery.  `review` takes them under laws along the limit.
"""

import copy
import dataclasses
import functools
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from hdjax import precise
from hdjax.checks import is_concrete
from hdjax.gaussian import QMC, Rule, default_rule
from hdjax.spectra import Spectrum
from hdjax.streaming.columns import Columns
from hdjax.streaming.field import BlockField, law_of
from hdjax.streaming.limit import BlockState, flow
from hdjax.streaming.losses import ClosedFormLoss, Loss, MomentsLoss, Noise
from hdjax.streaming.projections import Layout, Projections

# The largest error of a mean E q, divided by E|q|, with which a rule is chosen here.
TOLERANCE = 7e-3
# The largest error with which a grid is chosen.  A grid converges exponentially for smooth losses;
# a loss with a larger error has a kink, for which quasi-Monte Carlo is cheaper.
_CONVERGED = 1e-4
# A rule that was not chosen here leads to a warning, or is refused, if its error is larger.
ALLOWED = 1e-2
# A loss has kinks if the two forms of E[z g^T] differ by more, relative to E|q|.
_DIFFERENT = 2e-2
# The rules that are tried in turn where the default rule has a larger error.
_FINER = (QMC(15), QMC(17), QMC(19))
_WITNESS = QMC(13)
# Nodes of one call: all rules share one compiled program.
_CHUNK = 2**13
# The correlation of the projections under the generic law; the distance |X - X*| of the law near
# recovery, in units of the columns' norm.
_CORRELATION, _NEAR = 0.5, 0.1
# The rule of the pilot limit, its number of steps, and the number of steps between checks.
_PILOT, _STEPS, _EVERY = QMC(11), 24, 4


class Case(NamedTuple):
    """A law of the projections under which a rule is checked, with the mixture component."""

    law: Projections
    component: int


class _Means(NamedTuple):
    """The flat vector of the means E q that the limit needs, and the vector of E|q|."""

    value: Float[Any, " q"]
    size: Float[Any, " q"]


def settled(system: Any) -> Loss:
    """The loss of a system with a rule that is accurate enough.

    A loss that has a rule, or closed forms, is returned as it is.

    Args:
        system: a `OnePassSGD`, possibly while its constructor runs.

    Raises:
        ValueError: no rule is accurate enough; a gradient is NaN where the loss is finite.
    """
    loss, theta = system.loss, system.theta
    if loss.rule is not None or not by_quadrature(system):
        return loss
    if not _measurable(system):
        # The error cannot be measured, so the rule is one that is accurate for jumps too.
        return loss if loss.smooth else with_rule(loss, _FINER[0])
    worst = np.inf
    with jax.ensure_compile_time_eval():
        cases = start_cases(system)
        default = _rule(loss, cases[0].law)
        worst = max(error(loss, case, theta, default) for case in cases)
        if worst <= (TOLERANCE if isinstance(default, QMC) else _CONVERGED):
            return loss
        for rule in _FINER:
            worst = max(error(loss, case, theta, rule) for case in cases)
            if worst <= TOLERANCE:
                return with_rule(loss, rule)
    raise ValueError(
        f"loss: an expectation is off by {worst:.2g} of its size with {_FINER[-1]}; allowed: "
        f"{TOLERANCE:.2g} at most, or a loss with a `rule`"
    )


def check(system: Any) -> None:
    """Check the rule of a system's loss, and whether a loss declared smooth is smooth.

    A warning is given if a rule that the user chose has an error above `ALLOWED`.

    Raises:
        ValueError: the default rule has an error above `ALLOWED`; the two forms of H differ; a
            gradient is NaN where the loss is finite.
    """
    loss, theta = system.loss, system.theta
    if not by_quadrature(system) or not _measurable(system):
        return
    with jax.ensure_compile_time_eval():
        cases = start_cases(system)
        for case in cases if loss.smooth else ():
            _check_smooth(loss, case, theta)
        worst = max(error(loss, case, theta) for case in cases)
    if worst > ALLOWED:
        message = _message(loss, worst, "at the start, or near it")
        if loss.rule is None:
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)


def review(system: Any, end: float) -> None:
    """Warn if the rule has an error above `ALLOWED` along the limit up to time `end`.

    The states along the limit are those of a pilot with few nodes and few exponential steps, since
    only a rough path is needed.
    """
    if not is_concrete(system) or not by_quadrature(system) or not _measurable(system):
        return
    field, state = system.field(), _start(system)
    pilot = eqx.tree_at(lambda f: f.loss, field, with_rule(field.loss, _PILOT))
    ts, dtype = end * np.linspace(0, 1, _STEPS + 1) ** 2, state[0].dtype
    for i, (t, later) in enumerate(itertools.pairwise(ts)):
        blocks, side = state = _step(pilot, np.asarray(t, dtype), np.asarray(later, dtype), state)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
            return
        if (i + 1) % _EVERY:
            continue
        cases = _cases(_laws(field, blocks))
        worst = max(error(system.loss, case, side.theta) for case in cases)
        if worst > ALLOWED:
            message = _message(system.loss, worst, f"along the limit, at t = {later:.3g}")
            warnings.warn(message, stacklevel=4)
            return


def start_error(system: Any) -> float:
    """The error of the rule of a system's loss under the laws of `start_cases`."""
    if not by_quadrature(system):
        return 0.0
    return max(error(system.loss, case, system.theta) for case in start_cases(system))


def by_quadrature(system: Any) -> bool:
    """Whether the moments of a system's loss come from quadrature, not from closed forms."""
    loss, layout, theta = system.loss, system.columns.layout, system.theta
    if isinstance(loss, ClosedFormLoss) and not layout.means:
        return False
    if not isinstance(loss, MomentsLoss):
        return True
    law = _likely(layout, np.ones(layout.seen), system.ridge.dtype)[0].law
    return eqx.filter_eval_shape(loss.moments, law, jnp.asarray(0), theta) is None


def _measurable(system: Any) -> bool:
    """Whether all numbers of a system's loss are concrete, also those its function closes over."""
    loss, theta, layout = system.loss, system.theta, system.columns.layout
    if not is_concrete(loss, theta):
        return False
    law, dtype = (
        _likely(layout, np.ones(layout.seen), system.ridge.dtype)[0].law,
        system.ridge.dtype,
    )
    noise = loss.noise.branches()[0][1]
    z, w = np.zeros((law.dim + noise.dim, _CHUNK), dtype), np.zeros(_CHUNK, dtype)
    with jax.ensure_compile_time_eval():
        return is_concrete(_sums(loss, law, 0, theta, noise, z, w))


def start_cases(system: Any) -> list[Case]:
    """The laws under which the rule of a system is checked at its start.

    There is the law of the start for each component and, for data of mean zero, a law of correlated
    projections and a law near recovery.
    """
    layout, dtype, spectrum = system.columns.layout, system.ridge.dtype, system.spectrum
    if not is_concrete(system.eigenvalues, system.columns, spectrum):
        return _likely(layout, np.ones(layout.seen), dtype)
    laws = _start_laws(system.columns, spectrum, system.eigenvalues)
    cases = _cases(laws)
    if layout.means:
        return cases
    variances = np.diagonal(np.asarray(cases[0].law.gram, np.float64))
    # Columns that are zero at the start do not stay zero: they get a typical variance.
    positive = variances > 0
    typical = variances[positive].mean() if positive.any() else 1.0
    return cases + _likely(layout, np.where(positive, variances, typical), dtype)


def _likely(layout: Layout, variances: Float[np.ndarray, " n"], dtype: Any) -> list[Case]:
    """A law of correlated projections of mean zero and, for m = s, a law near recovery."""
    n, m = layout.seen, layout.students
    generic = np.sqrt(np.outer(variances, variances)) * (
        _CORRELATION + (1 - _CORRELATION) * np.eye(n)
    )
    grams = [generic]
    if layout.centred:
        blend = np.eye(n)
        blend[:m, :m] *= _NEAR
        blend[m:, :m] = np.eye(m)
        grams.append(blend.T @ generic @ blend)
    first = layout.first
    frame = layout.frame[first : first + n, first : first + n]
    back = np.linalg.inv(frame)
    mean = jnp.zeros(n, dtype) if layout.means else None
    return [
        Case(
            Projections(jnp.asarray(back.T @ b @ back, dtype), jnp.asarray(frame, dtype), m, mean),
            0,
        )
        for b in grams
    ]


def _cases(laws: Projections) -> list[Case]:
    """The list of laws, one for each component, of laws stacked along a leading axis."""
    components = laws.covariance.shape[0]
    return [Case(jax.tree.map(lambda x, c=c: x[c], laws), c) for c in range(components)]


def error(loss: Loss, case: Case, theta: PyTree, rule: Rule | None = None) -> float:
    """The error of a rule: the largest error of a mean E q, divided by E|q|; inf for NaN.

    Args:
        loss: any loss.
        case: the law of the projections.
        theta: side parameters.
        rule: the rule; None: the rule of the loss, or the default rule.
    """
    rule = _rule(loss, case.law) if rule is None else rule
    return _error(_Question.of((loss, case, theta)), rule)


def _rule(loss: Loss, law: Projections) -> Rule:
    """The rule that `mean_over_samples` takes: the rule of the loss, or the default rule."""
    return loss.rule or default_rule(law.dim + loss.noise.branches()[0][1].dim)


@dataclasses.dataclass(frozen=True)
class _Question:
    """A pytree of concrete arrays as a hashable key of a cache (all points of a sweep share it)."""

    structure: Any
    leaves: tuple[tuple[bytes, str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, tree: Any) -> "_Question":
        leaves, structure = jax.tree.flatten(tree)
        arrays = [np.asarray(leaf) for leaf in leaves]
        return cls(structure, tuple((x.tobytes(), x.dtype.str, x.shape) for x in arrays))

    @property
    def tree(self) -> Any:
        """The pytree of arrays."""
        arrays = [np.frombuffer(data, kind).reshape(shape) for data, kind, shape in self.leaves]
        return jax.tree.unflatten(self.structure, [jnp.asarray(x) for x in arrays])


@functools.lru_cache(maxsize=256)
def _error(question: _Question, rule: Rule) -> float:
    loss, case, theta = question.tree
    own = _means(loss, case, theta, rule)
    others = [_means(loss, case, theta, other).value for other in rule.references()]
    with np.errstate(invalid="ignore"):
        off = rule.disagreement(np.stack([own.value, *others]))
        if not isinstance(rule, QMC):
            rules = (_WITNESS, *_WITNESS.references())
            values = np.stack([_means(loss, case, theta, other).value for other in rules])
            away = np.abs(own.value - values.mean(0))
            doubt = 3 * values.std(0, ddof=1) / np.sqrt(len(values))
            off = np.maximum(np.minimum(off, away + doubt), away - doubt)
        worst = np.max(off / np.where(own.size > 0, own.size, 1))
    return float(worst) if np.isfinite(worst) else np.inf


def _means(loss: Loss, case: Case, theta: PyTree, rule: Rule) -> _Means:
    parts = []
    for probability, noise in loss.noise.branches():
        for z, w in _chunks(rule, case.law.dim + noise.dim, case.law.covariance.dtype):
            means, broken, at = _sums(loss, case.law, case.component, theta, noise, z, w)
            parts.append((float(probability), means, broken, at))
    for _, _, broken, at in parts:
        if broken:
            x, teacher, label = (np.asarray(value).tolist() for value in at)
            raise ValueError(
                f"loss: its gradient is NaN where its value is finite, at x = {x}, teacher = "
                f"{teacher}, noise = {label}; allowed: a gradient that is a number (autodiff goes "
                "through both branches of jnp.where(c, f(x), 0): replace f(x) by "
                "f(jnp.where(c, x, 1)))"
            )
    columns = zip(*[(p * np.asarray(m, np.float64)) for p, m, _, _ in parts], strict=True)
    return _Means(*(np.sum(column, axis=0) for column in columns))


def _chunks(rule: Rule, dim: int, dtype: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of nodes (dim, N) and weights (N,) of a rule, all of the same size N."""
    z, w = rule.nodes(dim, dtype)
    missing = -len(w) % _CHUNK
    # Copies of a node, at which the loss can be evaluated, fill the last chunk with weight zero.
    z = np.concatenate([z, np.repeat(z[-1:], missing, axis=0)])
    w = np.concatenate([w, np.zeros(missing, w.dtype)])
    for first in range(0, len(w), _CHUNK):
        yield z[first : first + _CHUNK].T, w[first : first + _CHUNK]


@eqx.filter_jit
def _sums(
    loss: Loss,
    law: Projections,
    component: Any,
    theta: PyTree,
    noise: Noise,
    z: Float[Any, "v nodes"],
    w: Float[Any, " nodes"],
) -> tuple[Float[Array, "2 q"], Bool[Array, ""], tuple[Array, Array, Array]]:
    """The weighted sums of (q, |q|), whether a gradient is NaN, and the arguments where it is."""
    n, index = law.dim, jnp.asarray(component)

    def one(z: Float[Array, " v"]) -> Any:
        x, teacher = law.at(z[:n])
        label = noise(z[n:])

        def gradient(x: Array, teacher: Array) -> tuple[Array, PyTree]:
            return loss.gradient(x, teacher, index, label, theta)

        value = loss(x, teacher, index, label, theta)
        g, slope = gradient(x, teacher)
        parts = [value, jnp.outer(z[:n], g), g, jnp.outer(g, g), *jax.tree.leaves(slope)]
        if loss.smooth:
            bend = jax.jacfwd(lambda *r: gradient(*r)[0], argnums=(0, 1))(x, teacher)
            second = law.frame @ jnp.concatenate([block.T for block in bend])
            parts.append(law.factor.T @ second)
        nan = jnp.stack([jnp.isnan(leaf).any() for leaf in jax.tree.leaves((g, slope))]).any()
        flat = jnp.concatenate([jnp.ravel(part) for part in parts])
        return flat, nan & jnp.isfinite(value), (x, teacher, label)

    flat, broken, at = jax.vmap(one, in_axes=-1)(z)
    sums = jnp.stack([precise.dot(w, part) for part in (flat, jnp.abs(flat))])
    where = jnp.argmax(broken)
    return sums, broken.any(), jax.tree.map(lambda values: values[where], at)


def _check_smooth(loss: Loss, case: Case, theta: PyTree) -> None:
    """Raise ValueError if E[z g^T] by integration by parts and by second derivatives differ."""
    n, m = case.law.dim, case.law.students
    means = _means(loss, case, theta, _rule(loss, case.law))
    by_parts, size = means.value[1 : 1 + n * m], means.size[1 : 1 + n * m]
    second = means.value[-n * m :]
    difference = np.abs(by_parts - second)
    if np.any(difference > _DIFFERENT * size):
        worst = np.argmax(difference)
        raise ValueError(
            f"smooth: True, for a loss whose E[z g] is {by_parts[worst]:.4g} by integration by "
            f"parts and {second[worst]:.4g} by second derivatives; allowed for a loss whose "
            "derivative in x, the teacher or the noise jumps: False"
        )


def with_rule(loss: Loss, rule: Rule) -> Loss:
    """A copy of a loss with the rule `rule`."""
    # A rule belongs to the structure of the tree, where `eqx.tree_at` does not reach.
    loss = copy.copy(loss)
    object.__setattr__(loss, "rule", rule)
    return loss


def _message(loss: Loss, off: float, where: str) -> str:
    return (
        f"rule: {loss.rule}, with which an expectation is off by {off:.2g} of its size under the "
        f"law {where}; allowed: {ALLOWED:.2g} at most (for jumps, hdjax.gaussian.QMC(15))"
    )


# The jit compiles one program; without it each operation would be a program of its own.
@eqx.filter_jit
def _start_laws(
    columns: Columns, spectrum: Spectrum, eigenvalues: Float[Array, "c g"]
) -> Projections:
    blocks, layout = columns.blocks(spectrum), columns.layout
    return _stacked(layout, eigenvalues, blocks)


@eqx.filter_jit
def _laws(field: BlockField, blocks: Float[Array, "g q q"]) -> Projections:
    return _stacked(field.layout, field.eigenvalues, blocks)


def _stacked(
    layout: Layout, eigenvalues: Float[Array, "c g"], blocks: Float[Array, "g q q"]
) -> Projections:
    """The laws of all components along a leading axis."""
    return jax.vmap(lambda c: law_of(layout, eigenvalues, blocks, c))(
        jnp.arange(eigenvalues.shape[0])
    )


@eqx.filter_jit
def _start(system: Any) -> BlockState:
    return system.start().state


@eqx.filter_jit
def _step(
    field: BlockField, t: Float[Any, ""], later: Float[Any, ""], state: BlockState
) -> BlockState:
    return flow(field.coefficients(t, state), state, later - t)
