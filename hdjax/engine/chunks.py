"""How an experiment is divided: the size of its chunks, and the stops of its runs."""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from hdjax.engine.collected import KEPT_RUNS
from hdjax.engine.memory import device_memory, host_memory
from hdjax.engine.plan import Plan
from hdjax.engine.runs import Running
from hdjax.system import System

# The largest number of runs side by side: more would gain nothing and hide the progress.
_MOST_RUNS = {"cpu": 1024, "other": 16384}
# The share of the device's memory that a chunk may take.
_SHARE = 0.25
# A long run pauses at this many ticks or more, if they are not closer than `_CLOSEST`.
_PAUSES, _CLOSEST = 256, 4096


class ChunkSize(NamedTuple):
    """The number of runs and of points of a sweep in a chunk."""

    runs: int
    points: int


def check_memory(system: System, plan: Plan) -> None:
    """Check that a run fits into the memory of the device, if runs are simulated.

    Raises:
        ValueError: it does not.
    """
    if not plan.runs:
        return
    simulator = system.simulator(plan.method, plan.horizon)
    need, memory = simulator.bytes_per_run(), device_memory(jax.devices()[0])
    if need > memory:
        raise ValueError(
            f"method: {type(simulator).__name__} needs {need / 2**30:.3g} GiB for a run; allowed: "
            f"what the device has, {memory / 2**30:.3g} GiB"
        )


def chunk_size(
    system: System,
    plan: Plan,
    one: Running,
    *,
    runs: int,
    points: int,
    chunk: int | None,
    keep: str,
) -> ChunkSize:
    """The size of a chunk, as large as memory allows.

    Args:
        system: the system at one of the points.
        plan: its plan.
        one: the shapes of a single run.
        runs: number of runs at each point.
        points: number of points.
        chunk: as for `compare`.
        keep: as for `compare`.

    Raises:
        ValueError: the kept curves do not fit into the memory of the host.
    """
    curves = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(one.values))
    kept = points * (runs if keep == "runs" else min(runs, KEPT_RUNS))
    if kept * curves > (host := host_memory()):
        raise ValueError(
            f"runs: the curves of {kept} at {len(plan.ticks)} times need "
            f"{kept * curves / 2**30:.3g} GiB; allowed: what the host has, {host / 2**30:.3g} GiB "
            "(or keep='summary')"
        )
    if chunk is not None:
        return ChunkSize(min(runs, chunk), points)
    need = system.simulator(plan.method, plan.horizon).bytes_per_run() + 3 * curves
    if plan.start == "realised":
        # The integration of a limit for each run holds some copies of the summary.
        need += 16 * sum(x.nbytes for x in jax.tree.leaves(system.start()))
    device = jax.devices()[0]
    most = _MOST_RUNS["cpu" if device.platform == "cpu" else "other"]
    lanes = max(1, min(most, int(_SHARE * device_memory(device) / need)))
    # Chunks have equal sizes, so that the last one does not need another compilation.
    width = -(-runs // -(-runs // min(runs, lanes)))
    return ChunkSize(width, max(1, min(points, lanes // width)))


def make_stops(
    ticks: Int[np.ndarray, "points records"],
) -> tuple[Int[np.ndarray, "points stops"], Int[np.ndarray, " stops"]]:
    """The ticks at which runs pause, so that a long run can be saved inside.

    All points have equally many stops: the records, and others that divide long intervals between
    them.

    Args:
        ticks: (points, records) the ticks of the records.

    Returns:
        (points, stops) the ticks, and (stops,) the position of the record at each stop, or -1.

    Example:
        >>> make_stops(np.array([[0, 100]]))
        (array([[  0, 100]]), array([0, 1]))
    """
    lengths = np.diff(ticks, axis=1, prepend=0)
    closest = np.maximum(_CLOSEST, ticks[:, -1:] // _PAUSES)
    pieces = np.maximum(-(-lengths // closest), 1).max(axis=0)
    record = np.repeat(np.arange(len(pieces)), pieces)
    piece = np.arange(len(record)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + 1
    before = (ticks - lengths)[:, record]
    stops = before + lengths[:, record] * piece // pieces[record]
    return stops, np.where(piece == pieces[record], record, -1)
