"""What the chunks of an experiment returned, joined on the host."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from hdjax.engine.ensemble import Curves, Ensemble, Theory
from hdjax.engine.moments import Streamed, merge
from hdjax.engine.plan import Values

# Runs whose curves are kept with keep="summary": enough for quantiles and faint lines.
KEPT_RUNS = 1024


class Piece(NamedTuple):
    """The kept runs of a chunk, as NumPy arrays with leading axes (points, runs).

    Attributes:
        runs: the curves of the runs.
        limit: the curves of their limits, if each run has its own; otherwise None.
        sup_error: as in `Ensemble`.
        probes: as in `Ensemble`.
    """

    runs: Curves
    limit: Curves | None
    sup_error: Values
    probes: Values

    def first(self, runs: int) -> "Piece":
        """The first runs of the chunk."""
        return jax.tree.map(lambda x: x[:, :runs], self)


class Chunk(NamedTuple):
    """A finished chunk.

    Attributes:
        piece: its runs.
        streamed: the moments over its runs, with a leading axis of points.
    """

    piece: Piece
    streamed: Streamed


class Row(NamedTuple):
    """The chunks at some points of a sweep, joined one after the other.

    Attributes:
        theory: what the theory says at these points, as NumPy arrays with a leading axis.
        keep: as for `compare`.
        runs: number of runs so far.
        kept_runs: number of runs whose curves are kept so far.
        pieces: the kept curves of each chunk.
        streamed: the moments so far; None without runs.
    """

    theory: Theory
    keep: str
    runs: int = 0
    kept_runs: int = 0
    pieces: tuple[Piece, ...] = ()
    streamed: Any = None

    @property
    def points(self) -> int:
        """Number of points."""
        return jax.tree.leaves((self.theory, self.streamed))[0].shape[0]

    def kept(self, runs: int) -> int:
        """How many of the next `runs` runs are kept."""
        if self.keep == "runs":
            return runs
        return max(0, min(runs, KEPT_RUNS - self.kept_runs))

    def add(self, chunk: Chunk, runs: int) -> "Row":
        """The row with a further chunk of `runs` runs."""
        kept = self.kept(runs)
        row = self._replace(runs=self.runs + runs)
        if kept or not self.pieces:
            pieces = (*self.pieces, chunk.piece.first(kept))
            row = row._replace(pieces=pieces, kept_runs=self.kept_runs + kept)
        first = self.streamed is None
        return row._replace(
            streamed=chunk.streamed if first else merge(self.streamed, chunk.streamed)
        )

    def join(self) -> Ensemble:
        """All points and kept runs of the row as one `Ensemble`."""
        theory = self.theory
        if not self.pieces:
            return Ensemble(None, theory.limit, {}, theory.predicted_mean, theory.predicted_std, {})
        whole = jax.tree.map(lambda *xs: np.concatenate(xs, axis=1), *self.pieces)
        return Ensemble(
            whole.runs,
            theory.limit if whole.limit is None else whole.limit,
            whole.sup_error,
            theory.predicted_mean,
            theory.predicted_std,
            whole.probes,
        )


class Collected(NamedTuple):
    """The arrays that the chunks returned, on the host, with a leading axis of points.

    Attributes:
        kept: an `Ensemble` of NumPy arrays (points, kept runs, ...); from the law of the start its
            `limit` is (points, ...).  After an interrupt it holds the first `points` points only.
        streamed: a `Streamed`, or None without runs.
        points: number of finished points.
        runs: number of runs at each of these points.
        interrupted: whether an interrupt left fewer points or runs than were asked for.
        seconds: {"compile", "simulate", "limit"}, the time of compilation, of the runs and of the
            theory, with the limits of the runs if each run has its own.
        memory: {"simulate", "limit"}, the bytes that these programs take on each device.
    """

    kept: Any
    streamed: Any
    points: int
    runs: int
    interrupted: bool
    seconds: dict[str, float]
    memory: dict[str, int]


def collect(
    rows: list[Row], interrupted: bool, seconds: dict[str, float], memory: dict[str, int]
) -> Collected:
    """Join rows that have equally many runs."""

    def concatenate(trees: list[PyTree]) -> PyTree:
        return jax.tree.map(lambda *xs: np.concatenate(xs, axis=0), *trees)

    kept = concatenate([row.join() for row in rows])
    streamed = None
    if rows[0].streamed is not None:
        streamed = concatenate([row.streamed for row in rows])
    points = sum(row.points for row in rows)
    return Collected(kept, streamed, points, rows[0].runs, interrupted, seconds, memory)
