"""The loop on the host that runs the pure programs of the engine chunk by chunk.

A chunk is a set of runs at some points of a sweep, and it is advanced in segments of time.  The
numbers that are drawn do not depend on this division, and the results only by the rounding of
merged moments.  With several devices the runs of a chunk are spread over them; on a CPU only if
there is much to compute.  An interrupt (Ctrl-C) keeps the chunks that are finished, and with a
checkpoint also the one that is running.

Two programs are compiled side by side: the theory (`predict`) and the runs (`advance`).
"""

import contextlib
import time
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key, PyTree

from hdjax import random
from hdjax.codes import Code
from hdjax.engine.checkpoint import Checkpoint, Journal, opened
from hdjax.engine.chunks import (
    ChunkSize,
    bytes_held,
    check_memory,
    check_need,
    chunk_size,
    fitted,
    make_stops,
)
from hdjax.engine.collected import Chunk, Collected, Piece, Row, collect
from hdjax.engine.ensemble import curves, sup_errors
from hdjax.engine.execution import Programs, wait_for
from hdjax.engine.experiment import Experiment
from hdjax.engine.memory import device_memory
from hdjax.engine.moments import moments_of
from hdjax.engine.parallel import (
    advance_points,
    own_limits_of_points,
    predict_points,
    spread,
    stacked,
    with_paths_of_points,
)
from hdjax.engine.plan import Plan
from hdjax.engine.progress import Progress
from hdjax.engine.runs import Running, blank, shapes
from hdjax.random import Stream
from hdjax.system import System

# Seconds that a segment should take: the progress moves, and a signal need not wait longer.
_SEGMENT = 1.0
# Bytes of states times steps, from which on a simulation is spread over the cores of a CPU.  Below
# it the program for several devices, which compiles some tenths of a second longer, saves nothing.
_SPREAD = 1e9
# What XLA says when a device has not enough memory.
_NO_MEMORY = "RESOURCE_EXHAUSTED"
# The programs that are compiled for a number of runs.
_OF_RUNS = (advance_points, own_limits_of_points)


@contextlib.contextmanager
def prepared(
    experiment: Experiment,
    *,
    chunk: int | None = None,
    progress: Progress,
    checkpoint: Checkpoint | None = None,
) -> "Iterator[Loop]":
    """Begin to compile the programs of an experiment, which `Loop.run` then runs.

    Args:
        experiment: what is run.
        chunk: as for `compare`.
        progress: where the steps and runs are counted.
        checkpoint: where finished chunks are kept, and found again.

    Raises:
        ValueError: a single run does not fit into the memory of the device, or the kept curves do
            not fit into the memory of the host; or the checkpoint is of another experiment.
        OSError: another process writes the checkpoint, or its directory cannot be written.
    """
    systems, plans, key, runs, keep, _ = experiment
    one, size = None, ChunkSize(1, len(systems))
    if runs:
        one = shapes(systems[0], plans[0], key)
        check_memory(systems[0], plans[0], one)
        size = chunk_size(plans[0], one, runs=runs, points=len(systems), chunk=chunk, keep=keep)
    with contextlib.ExitStack() as stack:
        journal = None
        if checkpoint is not None and runs:
            journal = stack.enter_context(opened(checkpoint, experiment.names()))
        found = journal and journal.size
        chosen = chunk is not None or found is not None
        loop = Loop(experiment, one, found or size, chosen, journal, progress)
        loop.start(loop.points(0))
        yield loop


def _mesh(experiment: Experiment, one: Any) -> Mesh:
    """The devices over which the runs are spread."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu" and experiment.steps * bytes_held(one) < _SPREAD:
        devices = devices[:1]
    return Mesh(np.array(devices), ("runs",))


class _Points(NamedTuple):
    """Some points of a sweep, stacked if there are several in a chunk.

    Attributes:
        first: the position of the first point.
        count: number of points; the stacked ones may repeat the last of them.
        many: whether the systems, plans and keys have a leading axis.
        systems: the systems.
        plans: their plans.
        keys: their keys.
        ticks: the ticks of their stops.
    """

    first: int
    count: int
    many: bool
    systems: System
    plans: Plan
    keys: Key[Array, "..."]
    ticks: Int[Array, "*points stops"]

    def fetch(self, tree: PyTree) -> PyTree:
        """Results of a program as NumPy arrays with a leading axis of `count` points."""

        def fetched(x: Any) -> np.ndarray:
            array = np.asarray(x)
            # Neither archives nor NetCDF files hold numbers of 16 bits such as bfloat16.
            array = array.astype(np.float32) if array.dtype.kind == "V" else array
            return (array if self.many else array[None])[: self.count]

        return jax.tree.map(fetched, tree)


class Loop:
    """The loop over the points and the chunks of an experiment."""

    def __init__(
        self,
        experiment: Experiment,
        one: Any,
        size: ChunkSize,
        chosen: bool,
        journal: Journal | None,
        progress: Progress,
    ):
        self.experiment, self.one = experiment, one
        # The size of a chunk is a guess, unless the user or a checkpoint has chosen it.
        self.size, self.chosen = size, chosen
        self.journal, self.progress = journal, progress
        self.mesh = _mesh(experiment, one)
        self.programs = Programs()
        # The number of stops of a segment, and of runs of a chunk; both may change on the way.
        self.stride, self.width = 1, size.runs
        ticks = [np.asarray(plan.ticks) for plan in experiment.plans]
        self.ticks, records = make_stops(np.stack(ticks))
        self.records = jnp.asarray(records)

    def run(self) -> Collected:
        """All points, or those that an interrupt left."""
        rows: dict[int, Row] = {}
        interrupted = False
        runs, points = self.experiment.runs, len(self.experiment.systems)
        try:
            if runs:
                self._fit()
            for first in range(0, points, self.size.points):
                for row in self._rows(self.points(first)):
                    # One assignment adds a chunk: an interrupt keeps all of it or nothing.
                    rows[first] = row
        except KeyboardInterrupt:
            # Finished points are kept; if there are none, the finished runs of the first points.
            begun = [row for row in rows.values() if row.runs]
            whole = [row for row in begun if row.runs == runs] or begun[:1]
            if not whole:
                raise
            rows, interrupted = dict(enumerate(whole)), True
        memory = {
            "simulate": self.programs.memory(advance_points),
            "limit": max(map(self.programs.memory, (predict_points, own_limits_of_points))),
        }
        return collect(list(rows.values()), interrupted, self.programs.seconds, memory)

    def points(self, first: int) -> _Points:
        """The points of a chunk, from the first one on."""
        systems, plans, key, _, _, shared = self.experiment
        points = range(first, first + self.size.points)
        chosen = [min(point, len(systems) - 1) for point in points]
        keys = [
            key if shared else random.at(random.stream(key, Stream.POINTS), point)
            for point in chosen
        ]
        return _Points(
            first,
            min(len(chosen), len(systems) - first),
            len(chosen) > 1,
            stacked([systems[point] for point in chosen]),
            stacked([plans[point] for point in chosen]),
            stacked(keys),
            stacked([self.ticks[point].astype(plans[0].ticks.dtype) for point in chosen]),
        )

    def start(self, points: _Points) -> None:
        """Begin to compile the programs, unless that was done for other points."""
        self.programs.start(predict_points, points.systems, points.plans, points.many)
        if self.experiment.runs:
            running = self._blank()
            self.programs.start(advance_points, *self._segment(points, 0, running, 0, 0))
            if running.start is not None:
                self.programs.start(own_limits_of_points, *self._starts(points, running))

    def _rows(self, points: _Points) -> Iterator[Row]:
        """The row of some points after each of its chunks."""
        runs, keep = self.experiment.runs, self.experiment.keep
        self.start(points)
        question = points.systems, points.plans, points.many
        row = Row(points.fetch(self._call("limit", predict_points, *question)), keep)
        if not runs:
            yield row
        while row.runs < runs:
            found = self.journal and self.journal.load(points.first, row.runs)
            try:
                chunk, width = found or self._chunk(points, row)
            except jax.errors.JaxRuntimeError as error:
                if _NO_MEMORY not in str(error) or self.width <= self.mesh.size:
                    raise
                self.progress.take_back()
                self._halve()
                continue
            if found:
                steps = width * self._ticks(points, len(self.records))
                self.progress.advance(steps, computed=False)
            self.progress.finish(width * points.count, computed=not found)
            row = row.add(chunk, width)
            yield row

    def _chunk(self, points: _Points, row: Row) -> tuple[Chunk, int]:
        """The next chunk of a row, and its number of runs."""
        running = self._advanced(points, row.runs)
        width = self._width(row.runs)
        values, alive, probes = points.fetch((running.values, running.alive, running.probes))
        values, alive, probes = jax.tree.map(lambda x: x[:, :width], (values, alive, probes))
        plan = self.experiment.plans[points.first]
        runs = curves(plan, values, alive, np.full(alive.shape[:2], Code.FINE, np.int32))
        if plan.paths:
            runs = jax.tree.map(np.asarray, with_paths_of_points(plan, runs))
        own, error = None, {}
        if plan.start == "realised":
            arguments = self._starts(points, running)
            own = points.fetch(self._call("limit", own_limits_of_points, *arguments))
            own = jax.tree.map(lambda x: x[:, :width], own)
            error = sup_errors(runs, own)
        elif row.theory.limit is not None:
            error = sup_errors(runs, jax.tree.map(lambda x: x[:, None], row.theory.limit))
        piece = Piece(runs, own, error, probes).first(row.kept(width))
        chunk = Chunk(piece, moments_of(runs, error))
        if self.journal is not None:
            self.journal.save(points.first, row.runs, chunk, width)
        return chunk, width

    def _advanced(self, points: _Points, run: int) -> Running:
        """The runs of a chunk after their last stop.

        With a checkpoint, the first interrupt waits for the segment that is being computed, and
        saves it.
        """
        place = points.first, run, self.width, self._lanes
        running, position = self._blank(), 0
        saved = self.journal and self.journal.load_running(place, running)
        if saved:
            running, position = saved
            running = spread(running, self.mesh, points.many)
        done = self._ticks(points, position)
        self.progress.advance(self._width(run) * done, computed=False)
        segment = None
        try:
            while position < len(self.records):
                last = min(position + self.stride, len(self.records))
                arguments = self._segment(points, run, running, position, last)
                segment = self.programs.run("simulate", advance_points, *arguments)
                begin = time.perf_counter()
                running, position, segment = wait_for(segment), last, None
                self._pace(time.perf_counter() - begin)
                ticks = self._ticks(points, position)
                self.progress.advance(self._width(run) * (ticks - done))
                done = ticks
                if self.journal is not None and position < len(self.records):
                    self.journal.save_running(place, running, position)
        except KeyboardInterrupt:
            if self.journal is not None:
                if segment is not None:
                    with contextlib.suppress(jax.errors.JaxRuntimeError):
                        running, position = wait_for(segment), last
                if position:
                    self.journal.save_running(place, running, position, now=True)
            raise
        return running

    def _width(self, run: int) -> int:
        """The number of runs of the chunk that begins with a run."""
        return min(self.width, self.experiment.runs - run)

    def _call(self, kind: str, function: Any, *arguments: Any) -> Any:
        return wait_for(self.programs.run(kind, function, *arguments))

    def _pace(self, seconds: float) -> None:
        """Choose the number of stops of the next segment, from the seconds of the last one."""
        factor = min(4.0, _SEGMENT / max(seconds, 1e-9))
        self.stride = max(1, int(self.stride * factor))

    def _ticks(self, points: _Points, stops: int) -> int:
        """The ticks of a number of stops, summed over the points."""
        own = self.ticks[points.first : points.first + points.count, :stops]
        return int(own[:, -1].sum()) if stops else 0

    def _segment(
        self, points: _Points, run: int, running: Running, first: int, last: int
    ) -> tuple[Any, ...]:
        """The arguments of `advance_points`."""
        ids = self._ids(run)
        bounds = jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32)
        known = points.systems, points.plans, points.keys, ids, running, points.ticks
        return *known, self.records, *bounds, self.mesh, points.many

    def _starts(self, points: _Points, running: Running) -> tuple[Any, ...]:
        """The arguments of `own_limits_of_points`."""
        return points.systems, points.plans, running.start, self.mesh, points.many

    def _ids(self, run: int) -> Array:
        """The numbers of the runs of a chunk, spread over the devices.

        There are as many for each device; some beyond the last run are computed in vain.
        """
        ids = np.minimum(np.arange(run, run + self._lanes), self.experiment.runs - 1)
        return spread(ids, self.mesh, many=False)

    @property
    def _lanes(self) -> int:
        return -(-self.width // self.mesh.size) * self.mesh.size

    def _blank(self) -> Running:
        """The runs of a chunk before they begin."""
        many = self.size.points > 1
        leading = (self.size.points, self._lanes) if many else (self._lanes,)
        zeros = blank(self.one, self.experiment.key, leading)
        return spread(zeros, self.mesh, many)

    def _fit(self) -> None:
        """Fit the runs of a chunk to the memory, once the compiler has said what a chunk takes.

        Raises:
            ValueError: a single run does not fit.
        """
        device = self.mesh.devices.flat[0]
        # The devices of a CPU share its memory.
        memory = device_memory(device) // (self.mesh.size if device.platform == "cpu" else 1)
        if not self.chosen:
            self._resize(fitted(self.size, self._need(), memory, self.experiment.runs).runs)
        while self._need() > memory and self.width > self.mesh.size:
            self._halve()
        check_need(self.experiment.systems[0], self.experiment.plans[0], self._need(), memory)
        if self.journal is not None and self.journal.size is None:
            self.journal.choose(self.size._replace(runs=self.width))

    def _need(self) -> int:
        """The bytes that the programs of a chunk take on each device; nothing is run."""
        self.start(self.points(0))
        return max(map(self.programs.memory, _OF_RUNS))

    def _resize(self, width: int) -> None:
        """Change the number of runs of a chunk."""
        if width != self.width:
            self.width = width
            self.programs.forget(*_OF_RUNS)

    def _halve(self) -> None:
        """Halve the number of runs of a chunk, with a warning."""
        self._resize(-(-self.width // 2))
        warnings.warn(
            f"chunk: the memory of the device ran out; from here on a chunk has {self.width} runs",
            stacklevel=2,
        )
