"""The memory that a device offers, from which `hdjax.engine.drive` derives the size of a chunk.

On a CPU it is the least of four numbers: the memory that the machine has available, the memory that
the limits of the process's control groups leave (containers, systemd, Slurm), the memory that Slurm
granted to the job, and the limit of the address space of the process.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

# For each version of control groups: the mount points of the memory controller, the files with the
# limits, and the file with the usage.
_VERSIONS = (
    (("sys/fs/cgroup", "sys/fs/cgroup/unified"), ("memory.max", "memory.high"), "memory.current"),
    (("sys/fs/cgroup/memory",), ("memory.limit_in_bytes",), "memory.usage_in_bytes"),
)
# The part of the usage that the kernel gives back when it is needed (cached files).
_CACHED = ("total_inactive_file", "inactive_file")
# The variables that say what Slurm grants on a node: memory in MiB, and the count by which it is
# multiplied, if any.
_SLURM = (
    ("SLURM_MEM_PER_NODE", None),
    ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
    ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
)


def device_memory(device: Any) -> int:
    """The number of bytes that a device offers: its own limit, or `host_memory` for a CPU.

    Example:
        >>> device_memory(jax.devices()[0]) > 0
        True
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return host_memory()


def host_memory(root: str | Path = "/", environment: Mapping[str, str] | None = None) -> int:
    """The number of bytes that this process can still allocate on the host, at least 0.

    Args:
        root: the folder in place of the root of the file system, for tests.
        environment: the environment variables; None: those of the process.

    Example:
        >>> granted = {"SLURM_MEM_PER_NODE": "100"}  # less than the interpreter has taken
        >>> host_memory(environment=granted) <= 100 * 2**20
        True
    """
    environment = os.environ if environment is None else environment
    taken = psutil.Process().memory_info()
    available = [psutil.virtual_memory().available, *_groups(Path(root))]
    available += [granted - taken.rss for granted in _slurm(environment)]
    if hasattr(psutil, "RLIMIT_AS"):  # Linux and FreeBSD
        soft, _ = psutil.Process().rlimit(psutil.RLIMIT_AS)
        if soft != psutil.RLIM_INFINITY:
            available.append(soft - taken.vms)
    return max(0, min(available))


def _groups(root: Path) -> Iterator[int]:
    """The bytes that the limits of this process's control groups, and of their parents, leave."""
    lines = _text(root / "proc/self/cgroup").splitlines()
    groups = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for version, (mounts, limits, usage) in zip(("", "memory"), _VERSIONS, strict=True):
        for path in (path for _, controllers, path in groups if version in controllers.split(",")):
            for mount in mounts:
                # A container may see the path of the host but its own mount, so that some of these
                # folders do not exist and are skipped.
                own = root / mount / path.strip("/")
                for folder in (own, *own.parents[: len(Path(path.strip("/")).parts)]):
                    yield from _left(folder, limits, usage)


def _left(folder: Path, limits: tuple[str, ...], usage: str) -> Iterator[int]:
    stat = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines())
    cached = next((int(stat[name]) for name in _CACHED if name in stat), 0)
    used = _text(folder / usage).strip()
    for limit in (_text(folder / name).strip() for name in limits):
        # The file says "max", or does not exist, where there is no limit.
        if limit.isdigit() and used.isdigit():
            yield int(limit) - int(used) + cached


def _slurm(environment: Mapping[str, str]) -> Iterator[int]:
    for memory, count in _SLURM:
        size = environment.get(memory, "")
        times = "1" if count is None else environment.get(count, "")
        # The size 0 stands for all the memory of the node.
        if size.isdigit() and times.isdigit() and int(size):
            yield int(size) * int(times) * 2**20


def _text(path: Path) -> str:
    """The content of a small file; empty if the file cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
