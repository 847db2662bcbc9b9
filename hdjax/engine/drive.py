"""The loop on the host that runs the pure program of `ensemble` chunk by chunk.

A chunk is a set of runs at some points of a sweep.  Its size follows from the memory of the device.
The numbers that are drawn do not depend on the size, and the results only by the rounding of merged
moments.  With several devices the runs of a chunk are spread over them.  An interrupt (Ctrl-C)
keeps the chunks that are finished, and does not wait for the chunk that is being computed.
"""

import concurrent.futures
import itertools
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int, Key, PyTree
from tqdm import tqdm

from hdjax import random
from hdjax.engine.ensemble import Curves, Ensemble, Numbers, Plan, Values, ensemble
from hdjax.engine.memory import device_memory, host_memory
from hdjax.random import Stream
from hdjax.system import System

# Runs whose curves are kept with keep="summary": enough for quantiles and faint lines.
KEPT_RUNS = 1024
# The largest number of runs side by side: more would gain nothing and hide the progress.
_MOST_RUNS = {"cpu": 1024, "other": 16384}
# The share of the device's memory that a chunk may take.
_SHARE = 0.25
# Seconds between two looks at whether an interrupt has come.
_LOOK = 0.2

T = TypeVar("T")


class Moments(eqx.Module):
    """Moments over the finite runs, for each entry of an array.

    Attributes:
        count: number of finite runs.
        mean: mean over these runs.
        squares: sum over these runs of the squared distance from the mean.
    """

    count: Numbers
    mean: Numbers
    squares: Numbers


class Streamed(eqx.Module):
    """Moments over all runs, which are merged from chunk to chunk.

    Attributes:
        values: the moments of each statistic, over time.
        sup_error: the moments of the sup error of each statistic, as a curve with a single time.
        alive: over time; its count is the number of runs that have not ended.
    """

    values: dict[str, Moments]
    sup_error: dict[str, Moments]
    alive: Moments


class Collected:
    """The arrays that the chunks returned, on the host, with a leading axis of points.

    Attributes:
        kept: an `Ensemble` of NumPy arrays (points, kept runs, ...); from the law of the start its
            `limit` is (points, ...).  After an interrupt it holds the first `points` points only.
        streamed: a `Streamed`, or None without runs.
        points: number of finished points.
        runs: number of runs at each of these points.
        interrupted: whether an interrupt left fewer points or runs than were asked for.
        seconds: {"compile", "simulate"}, the time of compilation and of execution.
    """

    def __init__(self) -> None:
        self.kept: Any = None
        self.streamed: Any = None
        self.points = self.runs = 0
        self.interrupted = False
        self.seconds = {"compile": 0.0, "simulate": 0.0}


def drive(
    systems: Sequence[System],
    plans: Sequence[Plan],
    key: Key[Array, ""],
    *,
    runs: int,
    keep: str = "runs",
    chunk: int | None = None,
    shared_keys: bool = True,
    progress: bool = True,
) -> Collected:
    """Run systems of equal structure, chunk by chunk, and collect the results.

    Args:
        systems: the systems at the points of a sweep, or a single one.
        plans: the plan of each system.
        key: the key of the experiment.
        runs: number of runs at each point; 0 for the limit alone.
        keep: as for `compare`.
        chunk: as for `compare`.
        shared_keys: whether all points use the same keys, as for `sweep`.
        progress: as for `compare`.

    Raises:
        ValueError: a single run does not fit into the memory of the device, or the kept curves do
            not fit into the memory of the host.
        KeyboardInterrupt: an interrupt came before the first chunk was finished.
    """
    points = len(systems)
    width, height = _chunk_shape(systems[0], plans[0], runs, points, chunk, keep)
    mesh = _mesh()
    width = -(-width // mesh.size) * mesh.size
    firsts = range(0, points, height), range(0, max(runs, 1), width)
    total = len(firsts[0]) * len(firsts[1])
    collected = Collected()
    rows: dict[int, _Row] = {}
    bar = tqdm(total=total, unit="chunk", disable=None if progress else True, leave=False)
    try:
        for point, run in itertools.product(*firsts):
            chosen = [min(p, points - 1) for p in range(point, point + height)]
            ids = np.arange(run, run + width)
            keys = [
                key if shared_keys else random.at(random.stream(key, Stream.POINTS), p)
                for p in chosen
            ]
            arguments = (
                _stack([systems[p] for p in chosen]),
                _stack([plans[p] for p in chosen]),
                _stack(keys),
                _place(np.minimum(ids, max(runs, 1) - 1), mesh),
                _place(ids < runs, mesh),
                mesh,
            )
            results, streamed = _execute(arguments, collected.seconds)
            # One assignment adds a chunk, so that an interrupt keeps it as a whole or not at all.
            row = rows.get(point, _Row(min(height, points - point), keep))
            rows[point] = row.add(results, streamed, min(width, runs - run))
            bar.update()
        kept = list(rows.values())
    except KeyboardInterrupt:
        # Finished points are kept; if there are none, the finished runs of the first points.
        every = list(rows.values())
        kept = [row for row in every if row.runs == runs] or [row for row in every[:1] if row.runs]
        if not kept:
            raise
        collected.interrupted = True
    finally:
        bar.close()
    _assemble(collected, kept)
    return collected


@eqx.filter_jit
def _program(
    systems: System,
    plans: Plan,
    keys: Key[Array, "*points"],
    run_ids: Int[Array, " runs"],
    mask: Bool[Array, " runs"],
    mesh: Mesh,
) -> tuple[Ensemble, Streamed | None]:
    def point(system: System, plan: Plan, key: Key[Array, ""]) -> Any:
        run = partial(ensemble, system, plan, key)
        if mesh.size > 1:
            # Every device advances its share of the runs, by the program of a single device.
            own: Any = PartitionSpec("runs")
            alike: Any = PartitionSpec()
            limit = own if plan.start == "realised" else alike
            specs = Ensemble(own, limit, own, alike, alike, own)
            run = jax.shard_map(run, mesh=mesh, in_specs=own, out_specs=specs, check_vma=False)
        result = run(run_ids)
        return result, None if result.runs is None else _stream(result.runs, result.sup_error, mask)

    arguments = systems, plans, keys
    if keys.ndim:
        return eqx.filter_vmap(point)(*arguments)
    return jax.tree.map(lambda x: x[None], point(*arguments))


def _stream(runs: Curves, sup_error: Values, mask: Bool[Array, " runs"]) -> Streamed:
    def moments(value: Array) -> Moments:
        good = mask.reshape(-1, *[1] * (value.ndim - 1)) & jnp.isfinite(value)
        count = good.sum(axis=0).astype(value.real.dtype)
        mean = jnp.where(good, value, 0).sum(axis=0) / jnp.maximum(count, 1).astype(value.dtype)
        squares = (jnp.where(good, jnp.abs(value - mean[None]), 0) ** 2).sum(axis=0)
        return Moments(count, mean, squares)

    return Streamed(
        {name: moments(value) for name, value in runs.values.items()},
        {name: moments(error[:, None]) for name, error in sup_error.items()},
        moments(jnp.where(runs.alive, 1.0, jnp.nan)),
    )


def _execute(arguments: tuple[Any, ...], seconds: dict[str, float]) -> Any:
    """Run the program, and add the times of compilation (cached by jit) and of execution."""
    begin = time.perf_counter()
    # Tracing happens in this thread, because another one would not have its settings, such as those
    # of `jax.enable_x64`.
    program = _wait_for(_program.lower(*arguments).compile)
    compiled = time.perf_counter()
    results = _wait_for(lambda: jax.block_until_ready(program(*arguments)))
    seconds["compile"] += compiled - begin
    seconds["simulate"] += time.perf_counter() - compiled
    return results


def _wait_for(work: Callable[[], T]) -> T:
    """The value of `work()`, computed in another thread.

    An interrupt during a call of XLA is delayed until the call ends.  A wait for a thread can be
    interrupted.
    """
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(work)
    pool.shutdown(wait=False)
    # The wait is repeated, because a signal that reaches another thread does not end it.
    while not concurrent.futures.wait([future], _LOOK).done:
        pass
    return future.result()


class _Row(NamedTuple):
    """The chunks of some points of a sweep, reduced one after the other.

    Attributes:
        points: number of points.
        keep: as for `compare`.
        runs: number of runs so far.
        kept_runs: number of runs whose curves are kept so far.
        pieces: the kept curves of each chunk.
        streamed: the moments so far, a `Streamed` or None.
    """

    points: int
    keep: str
    runs: int = 0
    kept_runs: int = 0
    pieces: tuple[Ensemble, ...] = ()
    streamed: Any = None

    def add(self, results: Ensemble, streamed: Streamed | None, runs: int) -> "_Row":
        kept = runs
        if self.keep == "summary":
            kept = max(0, min(runs, KEPT_RUNS - self.kept_runs))
        row = self._replace(runs=self.runs + runs)
        if kept or not self.pieces:
            pieces = (*self.pieces, self._cut(results, kept))
            row = row._replace(pieces=pieces, kept_runs=self.kept_runs + kept)
        if streamed is not None:
            part = jax.tree.map(lambda x: np.asarray(x[: self.points], _wide(x)), streamed)
            part = part if self.streamed is None else _merge(self.streamed, part)
            row = row._replace(streamed=part)
        return row

    def _cut(self, results: Ensemble, keep: int) -> Ensemble:
        def per_run(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda x: np.asarray(x[: self.points, :keep]), tree)

        def once(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda x: np.asarray(x[: self.points]), tree)

        own = results.limit is not None and results.limit.code.ndim == 2
        return Ensemble(
            per_run(results.runs),
            per_run(results.limit) if own else once(results.limit),
            per_run(results.sup_error),
            once(results.predicted_mean),
            once(results.predicted_std),
            per_run(results.probes),
        )

    def join(self) -> Ensemble:
        first = self.pieces[0]
        own = first.limit is not None and first.limit.code.ndim == 2

        def runs(get: Any) -> PyTree:
            parts = [get(piece) for piece in self.pieces]
            return jax.tree.map(lambda *xs: np.concatenate(xs, axis=1), *parts)

        return Ensemble(
            runs(lambda piece: piece.runs),
            runs(lambda piece: piece.limit) if own else first.limit,
            runs(lambda piece: piece.sup_error),
            first.predicted_mean,
            first.predicted_std,
            runs(lambda piece: piece.probes),
        )


def _merge(a: Streamed, b: Streamed) -> Streamed:
    """The moments over the runs of two chunks together."""
    return jax.tree.map(_union, a, b, is_leaf=lambda part: isinstance(part, Moments))


def _union(a: Moments, b: Moments) -> Moments:
    """The moments of the union of two samples, by the formula of Chan, Golub and LeVeque (1979)."""
    count = a.count + b.count
    share = b.count / np.maximum(count, 1)
    delta = b.mean - a.mean
    squares = a.squares + b.squares + np.abs(delta) ** 2 * a.count * share
    return Moments(count, a.mean + share * delta, squares)


def _assemble(collected: Collected, rows: list[_Row]) -> None:
    """Join the rows, which have equally many runs: all of them, unless there is a single row."""
    collected.points, collected.runs = sum(row.points for row in rows), rows[0].runs
    concatenate = lambda *xs: np.concatenate(xs, axis=0)  # noqa: E731
    collected.kept = jax.tree.map(concatenate, *[row.join() for row in rows])
    if rows[0].streamed is not None:
        collected.streamed = jax.tree.map(concatenate, *[row.streamed for row in rows])


def _stack(trees: Sequence[Any]) -> Any:
    """The trees stacked along a leading axis.

    A single tree gets no such axis: without it the program is twice as fast as a batch of one.
    """

    def stack(*leaves: Any) -> Any:
        # A Python integer (the number of steps of a solver, say) is static, a part of the program.
        if not isinstance(leaves[0], jax.Array | np.ndarray | np.generic | float):
            return leaves[0]
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        return jnp.stack(arrays) if len(arrays) > 1 else arrays[0]

    return jax.tree.map(stack, *trees)


def _wide(x: Array) -> Any:
    return np.complex128 if jnp.iscomplexobj(x) else np.float64


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("runs",))


def _place(values: np.ndarray, mesh: Mesh) -> Array:
    return jax.device_put(values, NamedSharding(mesh, PartitionSpec("runs")))


def _chunk_shape(
    system: System, plan: Plan, runs: int, points: int, chunk: int | None, keep: str
) -> tuple[int, int]:
    """The number of runs and the number of points of a chunk.

    Raises:
        ValueError: as for `drive`.
    """
    if not runs or not plan.runs:
        return 1, points
    device = jax.devices()[0]
    simulator = system.simulator(plan.method, plan.horizon)
    need, memory = simulator.bytes_per_run(), device_memory(device)
    if need > memory:
        raise ValueError(
            f"method: {type(simulator).__name__} needs {need / 2**30:.3g} GiB for a run; allowed: "
            f"what the device has, {memory / 2**30:.3g} GiB"
        )
    shapes = jax.eval_shape(lambda: plan.evaluate(system, system.start()))
    record = sum(8 * math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    kept = points * (runs if keep == "runs" else min(runs, KEPT_RUNS))
    curves, host = kept * len(plan.ticks) * record, host_memory()
    if curves > host:
        raise ValueError(
            f"runs: the curves of {kept} at {len(plan.ticks)} times need {curves / 2**30:.3g} GiB; "
            f"allowed: what the host has, {host / 2**30:.3g} GiB (or keep='summary')"
        )
    most = _MOST_RUNS["cpu" if device.platform == "cpu" else "other"]
    if chunk is not None:
        lanes = chunk
    else:
        # The integration of a limit for each run holds some copies of the summary.
        held = 0
        if plan.start == "realised":
            held = 16 * sum(x.nbytes for x in jax.tree.leaves(system.start()))
        need += 3 * len(plan.ticks) * record + held
        lanes = max(1, min(most, int(_SHARE * memory / need)))
    # Chunks have equal sizes, so that the last one does not need another compilation.
    pieces = -(-runs // min(runs, lanes))
    width = -(-runs // pieces)
    return width, max(1, min(points, lanes // width if chunk is None else points))
