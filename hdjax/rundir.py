"""The directory of a run of the command line: what was asked, a log, checkpoints, and results.

    result.nc ...  the files of a result (`hdjax.store`)
    run.json       what gave this result: the config with all its changes, the versions of packages,
                   the device
    log.txt        a line for each time that the run began, went on, was interrupted or ended
    checkpoint/    until the run has ended: its own run.json, the finished chunks, and the state of
                   the one that is running

The same command again, or `hdjax resume`, goes on with a run that did not end.  One process at a
time may write into the directory.
"""

import contextlib
import datetime
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hdjax import hosts, store
from hdjax.engine.checkpoint import locked
from hdjax.engine.result import provenance

_RECORD, _LOG, _CHECKPOINT = "run.json", "log.txt", "checkpoint"
_ASKED = ("config", "directory", "kind")


class RunDirectory:
    """An open directory of a run; of several processes, the first one alone writes into it.

    Attributes:
        path: the directory.
        replaces: whether results that it holds may be replaced.
    """

    def __init__(self, path: Path, replaces: bool):
        self.path, self.replaces = path, replaces

    @property
    def checkpoint(self) -> Path:
        """The directory of the checkpoints."""
        return self.path / _CHECKPOINT / "chunks"

    def log(self, event: str) -> None:
        """Add a line to the log; a log that cannot be written is no error."""
        if not hosts.is_first():
            return
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with contextlib.suppress(OSError), open(self.path / _LOG, "a") as file:
            file.write(f"{now} {event}\n")

    def sign(self) -> None:
        """Record what gave the result, which has been written."""
        store.write(self.path / _RECORD, (self.path / _CHECKPOINT / _RECORD).read_bytes())

    def end(self) -> None:
        """Remove the checkpoints, because the results are written."""
        if hosts.is_first():
            shutil.rmtree(self.path / _CHECKPOINT, ignore_errors=True)


@contextlib.contextmanager
def opened(path: str | Path, asked: dict[str, Any], force: bool = False) -> Iterator[RunDirectory]:
    """Open the directory of a run, which is made if necessary, for this process alone.

    Args:
        path: the directory.
        asked: what is run: the tables of the config ("config"), the directory of its array files
            ("directory") and the kind of experiment ("kind").
        force: whether to begin anew, and to replace what the directory holds.

    Raises:
        FileExistsError: the directory holds a result, or the unfinished run of something else, and
            `force` is False.
        OSError: another process writes into the directory, or it cannot be written.

    Example:
        >>> asked = {"config": {}, "directory": ".", "kind": "compare"}
        >>> with opened("results/mine", asked) as directory:
        ...     directory.log("begins")
        ...     read("results/mine")["kind"]
        'compare'
    """
    with contextlib.ExitStack() as lock:
        directory = hosts.by_first(lambda: _begin(Path(path), asked, force, lock))
        try:
            yield directory
        finally:
            if not directory.checkpoint.exists():
                # Nothing was computed that could be gone on with.
                directory.end()


def _begin(
    path: Path, asked: dict[str, Any], force: bool, lock: contextlib.ExitStack
) -> RunDirectory:
    """Lock the directory of a run, and record what is run."""
    asked = json.loads(json.dumps(asked, default=str))
    begun = _asked(path / _CHECKPOINT)
    if begun is not None and begun != asked and not force:
        raise FileExistsError(
            f"directory: {str(path)!r} holds an unfinished run of another config; allowed: another "
            "directory, or force (--force)"
        )
    goes_on = begun is not None and not force
    store.prepare(path, force or goes_on)
    (path / _CHECKPOINT).mkdir(exist_ok=True)
    lock.enter_context(locked(path / _CHECKPOINT))
    directory = RunDirectory(path, force or goes_on)
    if not goes_on:
        shutil.rmtree(directory.checkpoint, ignore_errors=True)
    directory.log("goes on" if goes_on else "begins")
    record = json.dumps({**asked, **provenance()}, indent=1)
    store.write(path / _CHECKPOINT / _RECORD, record.encode())
    return directory


def read(path: str | Path) -> dict[str, Any]:
    """What is run in a directory: "config", "directory" and "kind".

    Raises:
        FileNotFoundError: the directory holds no run.
        ValueError: its record is damaged.
    """
    folder = Path(path) / _CHECKPOINT if unfinished(path) else Path(path)
    file = folder / _RECORD
    if not file.is_file():
        raise FileNotFoundError(
            f"directory: {str(path)!r} has no {_RECORD}; allowed: the directory of a hdjax run"
        )
    asked = _asked(folder)
    if asked is None:
        raise ValueError(f"directory: {str(file)!r} is damaged; allowed: what hdjax run wrote")
    return asked


def unfinished(path: str | Path) -> bool:
    """Whether a directory holds a run that did not end."""
    return (Path(path) / _CHECKPOINT / _RECORD).is_file()


def _asked(folder: Path) -> dict[str, Any] | None:
    """What the record in a folder says; None if there is none, or if it is damaged."""
    try:
        found = json.loads((folder / _RECORD).read_text())
        return {name: found[name] for name in _ASKED}
    except (OSError, ValueError, KeyError, TypeError):
        return None
