"""Experiments on disk while they run, so that a process that was killed loses at most a chunk.

The directory of a checkpoint holds `experiment.json` (the name of the experiment, how it is divided
into chunks, and the versions of the packages), a file for each finished chunk, and `running.npz`,
the state of the chunk that is being computed, after some segment of time.  A process that finds the
directory of its own experiment goes on from there.  Every file appears complete or not at all, and
NumPy's archives carry checksums: a damaged chunk is computed again.

The files are plain NumPy archives.  A library for checkpoints of sharded training states would add
nothing here: the arrays of a chunk are small, and one process writes them.
"""

import contextlib
import io
import json
import os
import time
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from hdjax import hosts, random
from hdjax.checks import checked
from hdjax.engine.chunks import ChunkSize
from hdjax.engine.collected import Chunk, Piece
from hdjax.engine.ensemble import Curves
from hdjax.engine.identity import LIBRARIES
from hdjax.engine.moments import Moments, Streamed
from hdjax.engine.result import precision, versions
from hdjax.registry import Positive
from hdjax.store import write

_EXPERIMENT, _RUNNING, _LOCK = "experiment.json", "running.npz", "lock"


@checked
class Checkpoint:
    """Where an experiment is kept while it runs, and how often a chunk that is running is saved.

    A finished chunk is always saved.

    Args:
        directory: the directory, which is made if necessary.
        every: seconds between two saves of the chunk that is running.

    Raises:
        ValueError, TypeError: naming the argument, its value and what is allowed.

    Example:
        >>> Checkpoint("results/long", every=60).every
        60.0
    """

    def __init__(self, directory: str | os.PathLike, every: Positive = 300.0):
        self.directory, self.every = Path(directory), float(every)

    def part(self, name: str) -> "Checkpoint":
        """The checkpoint of a part of the experiment, such as one program of a sweep."""
        return Checkpoint(self.directory / name, self.every)


# The argument `checkpoint` of a user.
Kept = str | os.PathLike | Checkpoint


def as_checkpoint(kept: Kept | None) -> Checkpoint | None:
    """The checkpoint that a user asks for; None for none."""
    return kept if kept is None or isinstance(kept, Checkpoint) else Checkpoint(kept)


class Journal:
    """An open checkpoint, which this experiment alone may write.

    Of several processes the first one reads and writes, and the others know what it has read.

    Attributes:
        size: the size of a chunk, as the first process of this experiment chose it; None before.
    """

    def __init__(self, checkpoint: Checkpoint, own: dict[str, Any], size: ChunkSize | None):
        self._directory, self._every = checkpoint.directory, checkpoint.every
        self._own, self._saved, self.size = own, time.monotonic(), size
        self._warned = False

    def choose(self, size: ChunkSize) -> None:
        """Choose the size of a chunk, for this process and for those that go on from here."""
        self.size = size
        hosts.by_first(lambda: _write_experiment(self._directory, self._own, size))

    def load(self, point: int, run: int) -> tuple[Chunk, int] | None:
        """A finished chunk by its first point and run, and its number of runs; None if missing."""
        arrays = self._read(_chunk_file(point, run))
        if arrays is None:
            return None
        try:
            return _to_chunk(arrays), int(arrays["runs"])
        except (KeyError, TypeError) as error:
            self._warn_of_damage(_chunk_file(point, run), error)
            return None

    def save(self, point: int, run: int, chunk: Chunk, runs: int) -> None:
        """Save a finished chunk, in place of the state of the chunk that was running."""
        arrays = {"runs": np.array(runs), **_to_arrays(chunk)}
        if hosts.is_first() and self._write(_chunk_file(point, run), arrays):
            with contextlib.suppress(OSError):
                (self._directory / _RUNNING).unlink(missing_ok=True)
        self._saved = time.monotonic()

    def load_running(self, place: tuple[int, ...], blank: PyTree) -> tuple[PyTree, int] | None:
        """The state of the chunk that was running, and the position of its next stop.

        Args:
            place: the first point, the first run, the number of runs of the chunk, and that of
                runs side by side, which depends on the number of devices.
            blank: a state of the same structure.

        Returns:
            None if there is no such state.
        """
        arrays = self._read(_RUNNING)
        if arrays is None or arrays.get("place", np.zeros(0)).tolist() != list(place):
            return None
        leaves, structure = jax.tree.flatten(blank)
        loaded = [_from_bytes(arrays[str(i)], leaf) for i, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, loaded), int(arrays["position"])

    def save_running(
        self, place: tuple[int, ...], running: PyTree, position: int, now: bool = False
    ) -> None:
        """Save the state of the chunk that is running, if it is time to, or `now`."""
        if now or hosts.shared(time.monotonic() - self._saved >= self._every):
            leaves = {str(i): _to_bytes(leaf) for i, leaf in enumerate(jax.tree.leaves(running))}
            meta = {"place": np.array(place), "position": np.array(position)}
            if hosts.is_first():
                self._write(_RUNNING, leaves | meta)
            self._saved = time.monotonic()

    def _read(self, name: str) -> dict[str, np.ndarray] | None:
        return hosts.by_first(lambda: self._read_file(name))

    def _read_file(self, name: str) -> dict[str, np.ndarray] | None:
        file = self._directory / name
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {unquote(key): archive[key] for key in archive.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            self._warn_of_damage(name, error)
            return None

    def _warn_of_damage(self, name: str, error: Exception) -> None:
        file = str(self._directory / name)
        warnings.warn(
            f"checkpoint: {file!r} is damaged ({error!r}); it is computed again", stacklevel=4
        )

    def _write(self, name: str, arrays: Mapping[str, np.ndarray]) -> bool:
        """Write an archive, and return whether there was room for it."""
        content = io.BytesIO()
        named: Any = {quote(key, safe=""): value for key, value in arrays.items()}
        np.savez(content, **named)
        try:
            write(self._directory / name, content.getbuffer())
            return True
        except OSError as error:
            # The numbers are still in memory, and one word is enough.
            if not self._warned:
                warnings.warn(f"checkpoint: not written ({error})", stacklevel=2)
            self._warned = True
            return False


@contextlib.contextmanager
def opened(checkpoint: Checkpoint, names: Mapping[str, str]) -> Iterator[Journal]:
    """Open the checkpoint of an experiment, or begin it.

    Args:
        checkpoint: the checkpoint.
        names: the name (`hdjax.engine.identity`) of each part of the experiment.

    Raises:
        ValueError: the directory holds another experiment or other files, or the experiment of
            other versions; nothing in it is changed.
        OSError: the path is no directory, another process writes into the directory, or it cannot
            be written.
    """
    own = {"experiment": dict(names), "versions": _versions()}
    with contextlib.ExitStack() as lock:
        size = hosts.by_first(lambda: _begin(checkpoint.directory, own, lock))
        yield Journal(checkpoint, own, size)


def _begin(directory: Path, own: dict[str, Any], lock: contextlib.ExitStack) -> ChunkSize | None:
    """Lock the directory of a checkpoint, and read or write what experiment it is of."""
    _refuse_others(directory)
    directory.mkdir(parents=True, exist_ok=True)
    lock.enter_context(locked(directory))
    for left in directory.glob(".*.part"):
        left.unlink(missing_ok=True)
    if (file := directory / _EXPERIMENT).exists():
        return _same(directory, _found(file), own)
    _write_experiment(directory, own, None)
    return None


def _write_experiment(directory: Path, own: dict[str, Any], size: ChunkSize | None) -> None:
    content = own | {"chunk": size and size._asdict()}
    write(directory / _EXPERIMENT, json.dumps(content, indent=1).encode())


def _refuse_others(directory: Path) -> None:
    """Raise an error if a path is no directory, or has files and no checkpoint."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise NotADirectoryError(f"checkpoint: {str(directory)!r} is a file; allowed: a directory")
    names = {path.name for path in directory.iterdir()}
    foreign = sorted(name for name in names if name != _LOCK and not name.endswith(".part"))
    if foreign and _EXPERIMENT not in names:
        raise ValueError(
            f"checkpoint: {str(directory)!r} holds {foreign[0]!r} and no checkpoint; allowed: a "
            "new or empty directory, or that of the same experiment"
        )


def _found(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
        if {"experiment", "versions", "chunk"} <= set(found):
            return found
    except (ValueError, TypeError):
        pass
    raise ValueError(
        f"checkpoint: {str(file)!r} is damaged; allowed: the directory of the same experiment, or "
        "a new one"
    )


def _same(directory: Path, found: dict[str, Any], own: dict[str, Any]) -> ChunkSize | None:
    """The size of the chunks of a checkpoint, if it was chosen.

    The checkpoint must be of this experiment.

    Raises:
        ValueError: it is of another experiment, or of other versions.
    """
    for part, rule in (("experiment", "the same experiment"), ("versions", "the same versions")):
        there, here = found[part], own[part]
        different = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
        if part == "versions":
            different = [f"{key} ({there.get(key)}, now {here.get(key)})" for key in different]
        if different:
            raise ValueError(
                f"checkpoint: {str(directory)!r} was begun by an experiment that differs in "
                f"{', '.join(different)}; allowed: {rule}, or a new directory"
            )
    return found["chunk"] and ChunkSize(**found["chunk"])


def _versions() -> dict[str, str]:
    """What decides on the numbers beside the experiment itself."""
    return versions(sorted(LIBRARIES)) | {"precision": precision()}


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory; the system releases it when the process ends in any way."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        yield
        return
    with open(directory / _LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"checkpoint: another process writes into {str(directory)!r}; allowed: one at a "
                "time"
            ) from None
        yield


def _chunk_file(point: int, run: int) -> str:
    return f"chunk-{point}-{run}.npz"


def _to_bytes(leaf: Any) -> np.ndarray:
    """A leaf of any dtype, a random key included, as bytes."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.frombuffer(hosts.gather(leaf).tobytes(), np.uint8)


def _from_bytes(content: np.ndarray, like: Any) -> Any:
    """The leaf whose bytes are `content`, in the shape and dtype of `like`."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(like)
        found = np.frombuffer(content.tobytes(), data.dtype).reshape(data.shape)
        return random.restored(found, like)
    return np.frombuffer(content.tobytes(), like.dtype).reshape(like.shape)


def _to_arrays(chunk: Chunk) -> dict[str, np.ndarray]:
    """The arrays of a chunk by their path in it."""
    return dict(_flat((), chunk))


def _flat(path: tuple[str, ...], tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    if tree is None:
        return
    if isinstance(tree, np.ndarray):
        yield "/".join(quote(name, safe="") for name in path), tree
        return
    fields = tree._asdict() if isinstance(tree, Chunk | Piece) else tree
    fields = vars(fields) if isinstance(fields, eqx.Module) else fields
    for name, part in fields.items():
        yield from _flat((*path, name), part)


def _to_chunk(arrays: Mapping[str, np.ndarray]) -> Chunk:
    """The chunk whose arrays by path are given: the inverse of `_to_arrays`."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *names, last = map(unquote, path.split("/"))
        node = tree
        for name in names:
            node = node.setdefault(name, {})
        node[last] = array
    piece, streamed = tree["piece"], tree["streamed"]
    return Chunk(
        Piece(
            _curves(piece["runs"]),
            _curves(piece["limit"]) if "limit" in piece else None,
            piece.get("sup_error", {}),
            piece.get("probes", {}),
        ),
        Streamed(
            _moments(streamed.get("values", {})),
            _moments(streamed.get("sup_error", {})),
            Moments(**streamed["alive"]),
        ),
    )


def _curves(tree: Mapping[str, Any]) -> Curves:
    whole: Any = {"paths": {}} | dict(tree)
    return Curves(**whole)


def _moments(tree: Mapping[str, Any]) -> dict[str, Moments]:
    return {name: Moments(**parts) for name, parts in tree.items()}
