"""Every test runs in 64 bits, with silent promotions of rank and dtype forbidden."""

import gc
import os
import signal
from contextlib import nullcontext
from pathlib import Path

import jax
import matplotlib as mpl
import pytest

from tests.optimised import optimised

if jax.__version_info__ < (0, 11):
    # XLA has two ways to make kernels there, and users get the one that compiles twice as long.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_use_fusion_emitters=false"

jax.config.update("jax_enable_x64", True)
# Programs of tests are not those of users.
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# Most tests compile longer than they run, and so does the collection of tests.
jax.config.update("jax_disable_most_optimizations", True)
# One device in every process of tests: the command line, run within one, would make several.
jax.devices()
mpl.use("Agg")
# A process that was started in the background ignores Ctrl-C, which tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Tracing makes many small objects, hardly any of them garbage: look for it less often.
gc.freeze()
gc.set_threshold(200_000, 50, 50)


# Linux gives a process 65530 memory maps, of which each compiled program takes several; 10 000 of
# them belong to some 4 GB of programs.
MAPS, MOST_MAPS = Path("/proc/self/maps"), 10_000


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Programs are forgotten when their memory maps run short, and shared by modules until then."""
    yield
    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def compile_quickly(request):
    """Most tests compile for longer than they run; those that simulate much are optimised."""
    marked = request.node.get_closest_marker("optimised")
    with optimised() if marked else nullcontext():
        yield
