"""Compiled programs on disk: a config that was run once is not compiled again.

The command line switches on JAX's persistent compilation cache, in the user's cache directory.
JAX names a program by its code, its shapes, the version of XLA and its flags, but not by the
processor, and XLA compiles for the instructions that the processor has: on another one a program
might stop with an illegal instruction.  Programs are therefore kept apart by processor, so that
machines which share a home directory do not share programs.
"""

import hashlib
import platform
import shutil
from pathlib import Path

import jax
import platformdirs


def directory() -> Path:
    """Where the programs of all processors are.

    Example:
        >>> directory().name
        'programs'
    """
    return Path(platformdirs.user_cache_dir("hdjax", appauthor=False)) / "programs"


def enable() -> None:
    """Keep compiled programs on disk, unless JAX was told already where to keep them."""
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    jax.config.update("jax_compilation_cache_dir", str(directory() / processor()))
    # Small programs too: an experiment compiles tens of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def clear() -> int:
    """Remove all programs; returns how many bytes they took."""
    size = sum(file.stat().st_size for file in directory().rglob("*") if file.is_file())
    if directory().exists():
        shutil.rmtree(directory())
    return size


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """A name for the processor's instruction set: equal on machines that share programs.

    Args:
        cpuinfo: the kernel's list of processors; without it (macOS, Windows) the processor's name
            stands for its instructions.

    Example:
        >>> len(processor())
        16
    """
    instructions = [platform.machine(), platform.processor()]
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        # "flags" on x86, "Features" on ARM.
        known = ("model name", "flags", "Features", "CPU part")
        instructions += sorted({line for line in lines if line.startswith(known)})
    return hashlib.sha256("\n".join(instructions).encode()).hexdigest()[:16]
