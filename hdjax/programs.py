"""Compiled programs on disk: a config that was run once is not compiled again.

The command line switches on JAX's persistent compilation cache, in the user's cache directory.
JAX names a program by its code, its shapes, the version of XLA and its flags, but not by the
processor.  XLA compiles for the instructions of the processor, and on a processor without them the
program would stop with an illegal instruction.  Each kind of processor therefore has a directory of
its own, so that machines which share a home directory do not share programs.
"""

import hashlib
import platform
import shutil
from pathlib import Path

import jax
import platformdirs


def directory() -> Path:
    """The directory that holds the programs of all processors.

    Example:
        >>> directory().name
        'programs'
    """
    return Path(platformdirs.user_cache_dir("hdjax", appauthor=False)) / "programs"


def enable() -> None:
    """Switch on JAX's compilation cache in `directory()`, unless a cache directory is already set.

    The cache directory of JAX may be set by the variable JAX_COMPILATION_CACHE_DIR.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    jax.config.update("jax_compilation_cache_dir", str(directory() / processor()))
    # Small programs are kept too, because an experiment compiles tens of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def clear() -> int:
    """Remove the programs of all processors, and return the number of bytes that they took."""
    size = sum(file.stat().st_size for file in directory().rglob("*") if file.is_file())
    if directory().exists():
        shutil.rmtree(directory())
    return size


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """A name for the processor's instruction set, equal on machines that may share programs.

    Args:
        cpuinfo: the kernel's list of processors; where there is none (macOS, Windows), the name of
            the processor stands for its instructions.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> len(processor())
        16
    """
    instructions = [platform.machine(), platform.processor()]
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        # The instructions are listed as "flags" on x86 and as "Features" on ARM.
        known = ("model name", "flags", "Features", "CPU part")
        instructions += sorted({line for line in lines if line.startswith(known)})
    return hashlib.sha256("\n".join(instructions).encode()).hexdigest()[:16]
