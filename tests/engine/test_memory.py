"""The memory that chunks are made for: the least of all limits that a process has."""

import os
import subprocess
import sys
import types
from pathlib import Path

import psutil
import pytest

from hdjax.engine.memory import device_memory, host_memory

GIB = 2**30


@pytest.fixture(autouse=True)
def large_machine(monkeypatch):
    """The machine has more than any limit below."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=2**50))


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def offered(root, **environment):
    return host_memory(root, environment)


def test_without_limits_it_is_what_the_machine_has_available(tmp_path):
    assert offered(tmp_path) == 2**50
    free = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}
    assert offered(write(tmp_path, free | {"sys/fs/cgroup/a/memory.current": "5\n"})) == 2**50


def test_a_second_version_group_offers_what_it_has_left_with_its_cached_files(tmp_path):
    group = "sys/fs/cgroup/system.slice/job.scope"
    files = {
        "proc/self/cgroup": "0::/system.slice/job.scope\n",
        f"{group}/memory.max": f"{4 * GIB}\n",
        f"{group}/memory.high": "max\n",
        f"{group}/memory.current": f"{3 * GIB}\n",
        f"{group}/memory.stat": f"anon 5\ninactive_file {GIB}\n",
    }
    assert offered(write(tmp_path, files)) == 2 * GIB
    # A group above it counts too, and so does the limit from which it is slowed down.
    above = {
        "sys/fs/cgroup/system.slice/memory.max": "max\n",
        "sys/fs/cgroup/system.slice/memory.high": f"{8 * GIB}\n",
        "sys/fs/cgroup/system.slice/memory.current": f"{7 * GIB}\n",
    }
    assert offered(write(tmp_path, above)) == GIB


def test_a_first_version_container_sees_its_limit_at_the_top(tmp_path):
    mount = "sys/fs/cgroup/memory"
    files = {
        # The path is the host's; the container's mount does not have it.
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/docker/a\n",
        f"{mount}/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{mount}/memory.usage_in_bytes": f"{GIB}\n",
        f"{mount}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 2}\n",
    }
    assert offered(write(tmp_path, files)) == 3 * GIB // 2


def test_a_group_that_is_full_offers_nothing(tmp_path):
    group = {"memory.max": "10\n", "memory.current": "20\n"}
    files = {f"sys/fs/cgroup/{name}": text for name, text in group.items()}
    assert offered(write(tmp_path, files | {"proc/self/cgroup": "0::/\n"})) == 0


def test_slurm_grants_less_what_was_taken(tmp_path, monkeypatch):
    taken = types.SimpleNamespace(rss=GIB, vms=2 * GIB)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: taken)
    assert offered(tmp_path, SLURM_MEM_PER_NODE="4096") == 3 * GIB
    assert offered(tmp_path, SLURM_MEM_PER_CPU="2048", SLURM_CPUS_ON_NODE="4") == 7 * GIB
    assert offered(tmp_path, SLURM_MEM_PER_NODE="0", SLURM_MEM_PER_CPU="2048") == 2**50


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="no such limit on this system")
def test_the_address_space_may_be_limited(tmp_path, monkeypatch):
    taken = types.SimpleNamespace(rss=GIB, vms=2 * GIB)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda self: taken)
    monkeypatch.setattr(psutil.Process, "rlimit", lambda self, which: (5 * GIB, -1))
    assert offered(tmp_path) == 3 * GIB


def test_an_accelerator_says_itself_what_it_has():
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 7})
    assert device_memory(device) == 7
    host = types.SimpleNamespace(memory_stats=lambda: None)
    assert 0 < device_memory(host) <= 2**50


SCRIPT = """
import gc, re
import jax
jax.config.update("jax_enable_x64", True)
import hdjax as hd
from hdjax.engine import drive
from hdjax import multiindex, streaming

def held(kind):
    return 1024 * int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1])

def told(self, need=drive.Loop._need):
    global estimate, before
    estimate = need(self)
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = held("VmRSS")
    return estimate

drive.Loop._need = told
law, loss = streaming.GaussianStart(), streaming.losses.LeastSquares()
link = multiindex.links.from_coefficients({(1,): 0.8, (2,): 0.6})
for system, t in (
    (streaming.OnePassSGD(loss, hd.spectra.identity(10**6), 0.3, law, law), 2e-6),
    (multiindex.FiniteSamples(link, 2000, 1000, noise=0.1), 0.01),
):
    hd.simulate(system, [0.0, t], key=jax.random.key(0), runs=4)
    print(estimate, held("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak is Linux's")
def test_the_compiler_says_what_a_chunk_takes():
    """The estimate before a run is within a factor of two of the peak that the process reaches."""
    command = [sys.executable, "-c", SCRIPT]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    rows = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert len(rows) == 2
    for estimate, measured in rows:
        assert estimate > 100 * 2**20
        assert 0.5 < measured / estimate < 2
