"""What users give as the start of one-pass SGD, and the law of all columns that follows from it.

Users describe the student columns X, the teacher columns X* and the means of a mixture by arrays,
by `GaussianStart` or by `GramStart`.  `joint_columns` makes of them the joint law of the columns
W = [X | X* | means] (`columns.py`): W = F T_F + Z T_Z, with given columns F and random columns Z,
or a law with given Gram blocks.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hdjax import precise
from hdjax.checks import Checked, is_concrete
from hdjax.registry import Count, OneOrMoreNonNegative, OneOrMoreReal, Size, Values, register
from hdjax.spectra import Spectrum
from hdjax.streaming.columns import Columns, GramColumns, LinearColumns
from hdjax.streaming.projections import Layout, Memory


@register("streaming.columns", "gaussian")
class GaussianStart(Checked):
    """Independent Gaussian columns `scale` N(0, I/d), of squared norm scale^2 + O(d^-1/2).

    A student column with `overlap` rho is X = rho X* + sqrt(scale^2 - rho^2) N(0, I/d).  For a
    teacher column X* of norm 1 its inner product with X* is rho, and its norm is `scale`, up to
    O(d^-1/2).

    Args:
        scale: norm of the columns, a number or (columns,) numbers, at least 0.
        overlap: overlap of the j-th student column with the j-th teacher column, a number or
            (columns,) numbers; 0 for columns that are not students.
        columns: number of columns; None: that of `scale` or `overlap`, or 1 if both are numbers.

    Raises:
        ValueError: a negative scale, or an overlap larger in size than the scale.

    Example:
        >>> start = GaussianStart(overlap=0.2)
    """

    scale: Float[Array, " columns"]
    overlap: Float[Array, " columns"]
    columns: int = eqx.field(static=True)

    def __init__(
        self,
        scale: OneOrMoreNonNegative = 1.0,
        overlap: OneOrMoreReal = 0.0,
        columns: Size | None = None,
    ):
        scale, overlap = jnp.asarray(scale), jnp.asarray(overlap)
        count = max([1, *scale.shape, *overlap.shape]) if columns is None else columns
        if is_concrete(scale, overlap):
            s, o = np.asarray(scale), np.asarray(overlap)
            if not np.all(np.abs(o) <= s):
                raise ValueError(f"overlap: {o}; allowed: at most scale = {s} in size")
        dtype = jnp.result_type(float)
        self.scale = jnp.broadcast_to(scale, (count,)).astype(dtype)
        self.overlap = jnp.broadcast_to(overlap, (count,)).astype(dtype)
        self.columns = count


class GramStart(Checked):
    """A start that prescribes only the Gram blocks of the columns [memories | X | X*].

    In simulations the orientation of the columns within each eigenspace is uniformly random.

    Args:
        blocks: (g, q, q) Gram blocks V_i = W^T P_i W of W = [memories | X | X*], one for each group
            of the spectrum, symmetric and positive semidefinite.
        students: number m of student columns; None: as many as teacher columns.
        memories: number of memories of the optimiser, each with m columns, that the blocks
            contain.  0: memories start as they do with any other start, at zero or, if they are
            iterates, at X.

    Raises:
        ValueError: blocks of another shape, not finite, not symmetric or indefinite; `students` is
            None and the columns besides the memories are not twice a number of students.
        TypeError: complex blocks, or numbers of columns that are no integers.

    Example:
        >>> start = GramStart(jnp.array([[[0.6, 0.15], [0.15, 0.9]]]), students=1)
        >>> moving = jnp.array([[[0.1, 0.0, 0.0], [0.0, 0.6, 0.15], [0.0, 0.15, 0.9]]])
        >>> with_velocity = GramStart(moving, students=1, memories=1)
    """

    blocks: Float[Array, "g q q"]
    students: int = eqx.field(static=True)
    memories: int = eqx.field(static=True)

    def __init__(self, blocks: Values, students: Size | None = None, memories: Count = 0):
        for name, value in (("students", students), ("memories", memories)):
            if not (isinstance(value, int | np.integer) or (value is None and name == "students")):
                raise TypeError(f"{name}: {value!r}; allowed: an integer")
        if np.iscomplexobj(blocks):
            raise TypeError("blocks: complex; allowed: real Gram matrices")
        self.blocks = jnp.asarray(blocks, jnp.result_type(float))
        shape = self.blocks.shape
        if len(shape) != 3 or shape[1] != shape[2] or not self.blocks.size:
            raise ValueError(f"blocks: shape {shape}; allowed: (groups, q, q)")
        check_blocks(self.blocks)
        width = self.blocks.shape[1]
        if students is None and width % (memories + 2):
            raise ValueError(
                f"students: None, with blocks of width {width}; allowed: the number of student "
                "columns, or blocks with as many teacher columns as student columns"
            )
        self.students = width // (memories + 2) if students is None else students
        self.memories = memories
        most = width // (memories + 1)
        if not 1 <= self.students <= most:
            raise ValueError(f"students: {students}; allowed: 1 to {most}, by the blocks' width")


def check_blocks(blocks: Float[Array, "g q q"]) -> None:
    """Raise ValueError unless concrete `blocks` are finite, symmetric, positive semidefinite."""
    if not is_concrete(blocks):
        return
    values = np.asarray(blocks)
    if not np.isfinite(values).all():
        raise ValueError("blocks: NaN or infinite entries; allowed: finite Gram matrices")
    size = np.abs(values).max(initial=0.0)
    slack = 100 * np.finfo(values.dtype).eps * max(size, np.finfo(values.dtype).tiny)
    if np.abs(values - values.transpose(0, 2, 1)).max(initial=0.0) > slack:
        raise ValueError("blocks: not symmetric; allowed: symmetric Gram matrices")
    lowest = np.linalg.eigvalsh(values).min(initial=0.0)
    if lowest < -slack:
        raise ValueError(
            f"blocks: indefinite, lowest eigenvalue {lowest:.3g}; allowed: positive semidefinite"
        )


def joint_columns(
    start: Any,
    target: Any,
    means: Any,
    components: int,
    spectrum: Spectrum,
    memory: tuple[Memory, ...],
) -> Columns:
    """The joint law of student columns, teacher columns and the means of a mixture's components.

    It contains the columns of the optimiser's `memory` if a `GramStart` gives them.

    Raises:
        ValueError: a target or means given beside a `GramStart`, or Gram blocks that do not fit
            the spectrum; a wrong number of means; and the errors of `linear_columns`.
        TypeError: a `GramStart` as target or means.
    """
    if isinstance(start, GramStart):
        g, q = start.blocks.shape[:2]
        if target is not None or means is not None:
            raise ValueError(
                "target, mixture.means: given together with a GramStart; allowed: None (the blocks "
                "of a GramStart contain the students and the teachers)"
            )
        if g != spectrum.eigenvalues.shape[-1]:
            raise ValueError(
                f"start: {g} Gram blocks; allowed: {spectrum.eigenvalues.shape[-1]}, one for each "
                "group of the spectrum"
            )
        if start.memories not in (0, len(memory)):
            raise ValueError(
                f"start: Gram blocks with {start.memories} memories; allowed: 0, or the "
                f"{len(memory)} memories of the optimiser"
            )
        teachers = q - start.students * (1 + start.memories)
        layout = Layout(start.students, teachers, memory=memory if start.memories else ())
        return GramColumns(gram=start.blocks, layout=layout)
    for name, value in (("target", target), ("mixture.means", means)):
        if isinstance(value, GramStart):
            raise TypeError(f"{name}: GramStart; allowed: GaussianStart, an array or None")
    columns, layout = linear_columns(start, target, means, spectrum)
    if layout.means not in (0, components):
        raise ValueError(
            f"mixture.means: {layout.means} columns; allowed: {components}, one a component"
        )
    return columns


def linear_columns(
    start: Any, target: Any, means: Any, spectrum: Spectrum
) -> tuple[LinearColumns, Layout]:
    """The joint law and the layout of columns [start | target | means].

    Each of the three is an array (d, columns) or (d,), a `GaussianStart` or None.

    Raises:
        ValueError: shapes that disagree, entries that are not finite, an overlap without a target.
    """
    parts: list[Any] = [
        _part(name, value, spectrum)
        for name, value in (("start", start), ("target", target), ("means", means))
    ]
    counts = [0 if part is None else _count(part) for part in parts]
    students, teachers, classes = counts
    layout = Layout(students, teachers, classes)
    if layout.students == 0:
        raise ValueError("start: None; allowed: GaussianStart, GramStart or an array (d, m)")
    if isinstance(start, GaussianStart):
        _check_overlap(start, layout)
    given = [part for part in parts if isinstance(part, jax.Array)]
    laws = tuple(_count(part) if isinstance(part, jax.Array) else part for part in parts)
    mix_given, mix_random = _mixes(laws, layout)
    columns = LinearColumns(
        given=jnp.concatenate(given, axis=1) if given else None,
        mix_given=mix_given,
        mix_random=mix_random,
        layout=layout,
    )
    return columns, layout


# The jit compiles one program; without it each operation would be a program of its own.
@eqx.filter_jit
def _mixes(laws: tuple[Any, ...], layout: Layout) -> tuple[Array, Array]:
    """The matrices T_F and T_Z; a law is a number of given columns, a `GaussianStart` or None."""
    fixed = sum(law for law in laws if isinstance(law, int))
    offset = {True: 0, False: fixed}
    mix = jnp.zeros((layout.width, layout.width), jnp.result_type(float))
    column = 0
    for i, law in enumerate(laws):
        if law is None:
            continue
        is_given = isinstance(law, int)
        count = law if is_given else law.columns
        size = jnp.ones(count) if is_given else law.scale
        if i == 0 and not is_given:
            size = jnp.sqrt(law.scale**2 - law.overlap**2)
        index = jnp.arange(count)
        mix = mix.at[offset[is_given] + index, column + index].set(size)
        offset[is_given] += count
        column += count
    m, start = layout.students, laws[0]
    if isinstance(start, GaussianStart) and m == layout.teachers:
        # To each student column `overlap` times the teacher column of the same index is added.
        mix = mix.at[:, :m].add(start.overlap[None] * mix[:, m : 2 * m])
    return mix[:fixed], mix[fixed:]


def _check_overlap(start: GaussianStart, layout: Layout) -> None:
    m, s = layout.students, layout.teachers
    if m != s and is_concrete(start.overlap) and np.any(np.asarray(start.overlap) != 0):
        raise ValueError(
            f"overlap: {np.asarray(start.overlap)}; allowed with {m} student and {s} teacher "
            "columns: 0 (each student overlaps with its own teacher column)"
        )


def _count(part: Any) -> int:
    return part.shape[1] if isinstance(part, jax.Array) else part.columns


def _part(name: str, value: Any, spectrum: Spectrum) -> Any:
    if value is None or isinstance(value, GaussianStart):
        return value
    array = jnp.asarray(value, jnp.result_type(float))
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[0] != spectrum.size:
        raise ValueError(
            f"{name}: shape {array.shape}; allowed: (d, columns) with d = {spectrum.size} of the "
            "spectrum"
        )
    if is_concrete(array) and not np.isfinite(np.asarray(array)).all():
        raise ValueError(f"{name}: NaN or infinite entries; allowed: finite numbers")
    if spectrum.basis is not None:
        array = precise.dot(spectrum.basis.T, array)
    return array
