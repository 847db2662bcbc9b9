"""The loop on the host that runs the pure programs of the engine chunk by chunk.

A chunk is a set of runs at some points of a sweep, and it is advanced in segments of time.  The
numbers that are drawn do not depend on this division, and the results only by the rounding of
merged moments.  With several devices the points and runs of a chunk are divided between them.  An
interrupt (Ctrl-C) keeps the chunks that are finished, and with a checkpoint also the one that is
running.

Several processes (`hdjax.hosts`) run the same loop, and agree after each program on what depends on
a clock, a file or a signal.

Two programs are compiled side by side: the theory (`predict`) and the runs (`advance`).
"""

import contextlib
import time
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from hdjax import hosts, random
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
from hdjax.engine.devices import Layout, layout_of, place
from hdjax.engine.ensemble import curves, sup_errors
from hdjax.engine.execution import Programs, wait_for
from hdjax.engine.experiment import Experiment
from hdjax.engine.memory import device_memory
from hdjax.engine.moments import moments_of
from hdjax.engine.parallel import (
    Points,
    advance_points,
    own_limits_of_points,
    predict_points,
    stacked,
    with_paths_of_points,
)
from hdjax.engine.progress import Progress
from hdjax.engine.runs import Running, blank, shapes
from hdjax.random import Stream

# Seconds that a segment should take: the progress moves, and a signal need not wait longer.
_SEGMENT = 1.0
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
    mesh: Mesh | None = None,
) -> "Iterator[Loop]":
    """Begin to compile the programs of an experiment, which `Loop.run` then runs.

    Args:
        experiment: what is run.
        chunk: as for `compare`.
        progress: where the steps and runs are counted.
        checkpoint: where finished chunks are kept, and found again.
        mesh: as for `compare`.

    Raises:
        ValueError: a single run does not fit into the memory of the device, or the kept curves do
            not fit into the memory of the host; the checkpoint is of another experiment; the
            processes run different experiments; or the mesh has other axes.
        OSError: another process writes the checkpoint, or its directory cannot be written.
    """
    systems, plans, key, runs, keep, _ = experiment
    one, size = None, ChunkSize(1, len(systems))

    def guessed(one: Running) -> ChunkSize:
        check_memory(systems[0], plans[0], one)
        return chunk_size(plans[0], one, runs=runs, points=len(systems), chunk=chunk, keep=keep)

    if hosts.several():
        hosts.check_same(experiment.names())
    if runs:
        one = shapes(systems[0], plans[0], key)
        size = hosts.by_first(partial(guessed, one))
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(hosts.held())
        journal = None
        if checkpoint is not None and runs:
            journal = stack.enter_context(opened(checkpoint, experiment.names()))
        found = journal and journal.size
        chosen, size = chunk is not None or found is not None, found or size
        work = experiment.steps * bytes_held(one)
        layout = layout_of(one, work=work, runs=size.runs, points=size.points, mesh=mesh)
        loop = Loop(experiment, one, size, chosen, journal, progress, layout, signals)
        loop.start(loop.points(0))
        yield loop


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
        layout: Layout,
        signals: hosts.Held,
    ):
        self.experiment, self.one = experiment, one
        # The size of a chunk is a guess, unless the user or a checkpoint has chosen it.
        self.size, self.chosen = size, chosen
        self.journal, self.progress = journal, progress
        self.layout, self.signals = layout, signals
        self.programs = Programs()
        # The number of stops of a segment, and of runs of a chunk; both may change on the way.
        self.stride, self.width = 1, size.runs
        ticks = [np.asarray(plan.ticks) for plan in experiment.plans]
        self.ticks, records = make_stops(np.stack(ticks))
        self.records = layout.place(jnp.asarray(records))

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

    def points(self, first: int) -> Points:
        """The points of a chunk, from the first one on."""
        systems, plans, key, _, _, shared = self.experiment
        points = range(first, first + self._lanes[0])
        chosen = [min(point, len(systems) - 1) for point in points]
        keys = [
            key if shared else random.at(random.stream(key, Stream.POINTS), point)
            for point in chosen
        ]
        ticks = [self.ticks[point].astype(plans[0].ticks.dtype) for point in chosen]
        own = stacked([systems[point] for point in chosen])
        own_plans = stacked([plans[point] for point in chosen])
        return Points(
            first,
            min(self.size.points, len(systems) - first),
            self.layout,
            own,
            own_plans,
            self.layout.place((own, own_plans, stacked(keys), stacked(ticks)), points=True),
        )

    def start(self, points: Points) -> None:
        """Begin to compile the programs, unless that was done for other points."""
        self.programs.start(predict_points, *self._question(points))
        if self.experiment.runs:
            running = self._blank()
            self.programs.start(advance_points, *self._segment(points, 0, running, 0, 0))
            if running.start is not None:
                self.programs.start(own_limits_of_points, *self._starts(points, running))

    def _rows(self, points: Points) -> Iterator[Row]:
        """The row of some points after each of its chunks."""
        runs, keep = self.experiment.runs, self.experiment.keep
        self.start(points)
        theory = self._call("limit", predict_points, *self._question(points))
        row = Row(points.fetch(theory), keep)
        if not runs:
            yield row
        while row.runs < runs:
            found = self.journal and self.journal.load(points.first, row.runs)
            try:
                chunk, width = found or self._chunk(points, row)
            except jax.errors.JaxRuntimeError as error:
                if _NO_MEMORY not in str(error) or self.width <= self.layout.shares[1]:
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

    def _chunk(self, points: Points, row: Row) -> tuple[Chunk, int]:
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

    def _advanced(self, points: Points, run: int) -> Running:
        """The runs of a chunk after their last stop.

        With a checkpoint, the first interrupt waits for the segment that is being computed, and
        saves it.
        """
        where = points.first, run, self.width, *self._lanes
        running, position = self._blank(), 0
        saved = self.journal and self.journal.load_running(where, running)
        if saved:
            running, position = saved
            running = place(running, self.layout.runs(running))
        done = self._ticks(points, position)
        self.progress.advance(self._width(run) * done, computed=False)
        segment = None
        try:
            while position < len(self.records):
                last = min(position + self.stride, len(self.records))
                arguments = self._segment(points, run, running, position, last)
                segment = self.programs.run("simulate", advance_points, *arguments)
                begin = time.perf_counter()
                running = hosts.together(partial(wait_for, segment))
                position, segment = last, None
                self._pace(hosts.slowest(time.perf_counter() - begin))
                ticks = self._ticks(points, position)
                self.progress.advance(self._width(run) * (ticks - done))
                done = ticks
                if self.journal is not None and position < len(self.records):
                    self.journal.save_running(where, running, position)
                self.signals.deliver()
        except KeyboardInterrupt:
            if self.journal is not None:
                if segment is not None:
                    with contextlib.suppress(jax.errors.JaxRuntimeError):
                        running, position = wait_for(segment), last
                if position:
                    self.journal.save_running(where, running, position, now=True)
            raise
        return running

    def _width(self, run: int) -> int:
        """The number of runs of the chunk that begins with a run."""
        return min(self.width, self.experiment.runs - run)

    def _call(self, kind: str, function: Any, *arguments: Any) -> Any:
        run = partial(self.programs.run, kind, function, *arguments)
        value = hosts.together(lambda: wait_for(run()))
        self.signals.deliver()
        return value

    def _pace(self, seconds: float) -> None:
        """Choose the number of stops of the next segment, from the seconds of the last one."""
        factor = min(4.0, _SEGMENT / max(seconds, 1e-9))
        # There are no more stops than these, however many chunks are fast.
        self.stride = max(1, int(min(self.stride * factor, len(self.records))))

    def _ticks(self, points: Points, stops: int) -> int:
        """The ticks of a number of stops, summed over the points."""
        own = self.ticks[points.first : points.first + points.count, :stops]
        return int(own[:, -1].sum()) if stops else 0

    def _segment(
        self, points: Points, run: int, running: Running, first: int, last: int
    ) -> tuple[Any, ...]:
        """The arguments of `advance_points`."""
        bounds = jnp.asarray(first, jnp.int32), jnp.asarray(last, jnp.int32)
        # There are as many runs for each device; some beyond the last one are computed in vain.
        ids = np.minimum(np.arange(run, run + self._lanes[1]), self.experiment.runs - 1)
        known = *points.placed, self.records, self.layout.place(ids, runs=True)
        return *known, running, *self.layout.place(bounds), self.layout

    def _question(self, points: Points) -> tuple[Any, ...]:
        """The arguments of `predict_points`."""
        divided = self.layout.shares[0] > 1
        known = points.placed[:2] if divided else (points.systems, points.plans)
        return *known, self.layout

    def _starts(self, points: Points, running: Running) -> tuple[Any, ...]:
        """The arguments of `own_limits_of_points`."""
        return *points.placed[:2], running.start, self.layout

    @property
    def _lanes(self) -> tuple[int, int]:
        """The number of points and of runs side by side, which the devices divide evenly."""
        points, runs = self.layout.shares
        return -(-self.size.points // points) * points, -(-self.width // runs) * runs

    def _blank(self) -> Running:
        """The runs of a chunk before they begin."""
        leading = self._lanes if self.layout.many else self._lanes[1:]
        zeros = blank(self.one, self.experiment.key, leading)
        return place(zeros, self.layout.runs(zeros))

    def _fit(self) -> None:
        """Fit the runs of a chunk to the memory, once the compiler has said what a chunk takes.

        Raises:
            ValueError: a single run does not fit.
        """
        device, devices = jax.local_devices()[0], len(self.layout.mesh.local_devices)
        # The devices of a CPU share its memory.
        shared = devices if device.platform == "cpu" else 1
        memory = hosts.shared(device_memory(device) // shared)
        if not self.chosen:
            self._resize(fitted(self.size, self._need(), memory, self.experiment.runs).runs)
        while self._need() > memory and self.width > self.layout.shares[1]:
            self._halve()
        check_need(self.experiment.systems[0], self.experiment.plans[0], self._need(), memory)
        if self.journal is not None and self.journal.size is None:
            self.journal.choose(self.size._replace(runs=self.width))

    def _need(self) -> int:
        """The bytes that the programs of a chunk take on each device; nothing is run."""
        self.start(self.points(0))
        return hosts.shared(max(map(self.programs.memory, _OF_RUNS)))

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
