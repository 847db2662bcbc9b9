"""Several processes: real ones over loopback, and the environments of launchers."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from jax._src.clusters import ClusterEnv

import hdjax as hd
from hdjax import hosts
from tests.engine.relaxing import relaxation

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "howto" / "several-devices.md").read_text()
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[003-004]", "SLURM_LOCALID": "0"}
SLURM |= {"SLURM_NTASKS": "8", "SLURM_PROCID": "5"}
OPEN_MPI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911"}
OPEN_MPI |= {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5"}
OPEN_MPI |= {"OMPI_COMM_WORLD_LOCAL_RANK": "1"}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}


def test_one_process_is_alone():
    assert not hosts.several()
    assert hosts.is_first()
    assert hosts.shared(3) == hosts.together(lambda: 3) == hosts.by_first(lambda: 3) == 3
    assert hosts.slowest(0.5) == 0.5
    hosts.check_same({"a": "b"})
    hosts.disconnect()
    with pytest.raises(ValueError, match="mine"):
        hosts.together(lambda: int("mine"))
    found = hosts.gather({"a": jax.numpy.arange(2), "b": np.ones(1)})
    assert all(isinstance(array, np.ndarray) for array in found.values())


@pytest.fixture
def two(monkeypatch):
    """This process believes that it is the first of two, of which it hears nothing."""
    monkeypatch.setattr(hosts, "several", lambda: True)
    monkeypatch.setattr(hosts, "_largest", lambda number: number)
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGUSR1, before)


def test_signals_wait_until_all_processes_are_at_one_place(two):
    with hosts.held() as outer, hosts.held() as inner:
        assert inner is outer
        inner.deliver()
        signal.raise_signal(signal.SIGUSR1)
        assert two == []
        inner.deliver()
        assert two == [signal.SIGUSR1]


def test_a_second_signal_does_not_wait(two):
    with hosts.held():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert two == [signal.SIGUSR1]
    signal.raise_signal(signal.SIGUSR1)
    assert len(two) == 2


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, None),
        (SLURM, "Slurm"),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, None),  # sbatch without srun
        (OPEN_MPI, "Open MPI"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (KUBERNETES, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ],
)
def test_launchers_are_known_by_their_variables(environment, launcher):
    assert hosts._launcher(environment | {"JAX_PLATFORMS": "cpu"}) == launcher


def kubernetes(monkeypatch):
    """A client that knows the job and the service of the page."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

    def value(key, after=""):
        return re.search(rf"^ *{key}: (\S+)", text[text.index(after) :], re.MULTILINE)[1]

    name = value("name", after="kind: Job")
    assert value("job-name") == name
    assert value("completionMode") == "Indexed"
    assert value("completions") == value("parallelism")
    assert value("subdomain") == value("name", after="kind: Service")
    new = types.SimpleNamespace
    spec = new(subdomain=value("subdomain"))
    owner = new(controller=True, kind="Job")
    labels = {"job-name": name}
    pod = new(metadata=new(name="pod", labels=labels, owner_references=[owner]), spec=spec)
    job = new(
        metadata=new(name=name, labels=labels), spec=new(parallelism=int(value("parallelism")))
    )
    core = new(list_namespaced_pod=lambda **_: new(items=[pod]))
    client = new(
        CoreV1Api=lambda: core,
        BatchV1Api=lambda: new(read_namespaced_job=lambda **_: job),
        exceptions=new(ApiException=OSError),
    )
    package = types.ModuleType("kubernetes")
    package.client, package.config = client, new(load_incluster_config=lambda: None)
    monkeypatch.setitem(sys.modules, "kubernetes", package)
    cluster = next(one for one in ClusterEnv._cluster_types if one.__name__ == "K8sCluster")
    monkeypatch.setattr(cluster, "_namespace", lambda: "default")
    monkeypatch.setattr(cluster, "_pod", lambda: pod)
    monkeypatch.setattr(socket, "gethostbyname", lambda host: "10.0.0.2")


@pytest.mark.parametrize(
    ("environment", "coordinator", "processes", "own"),
    [
        (SLURM, "node003:61447", 8, 5),
        (OPEN_MPI, "10.96.0.1:62624", 8, 5),
        (KUBERNETES, "hdjax-0.hdjax:55527", 4, 3),
    ],
    ids=["Slurm", "Open MPI", "Kubernetes"],
)
def test_what_launchers_say_reaches_jax(monkeypatch, environment, coordinator, processes, own):
    """JAX reads the environment, because it is given nothing else."""
    if environment is KUBERNETES:
        kubernetes(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    found = []

    def initialize(coordinator, processes, process_id, **options):
        known = coordinator, processes, process_id, None
        found.extend(ClusterEnv.auto_detect_unset_distributed_params(*known, None, 1))
        raise RuntimeError("seen")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match=r"process_id: None, None, None \(.*\): seen Allowed"):
        hosts.connect()
    assert found[:3] == [coordinator, processes, own]


def test_a_process_that_shall_be_alone_is_not_connected(monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    hosts.connect(processes=1)
    assert not jax.distributed.is_initialized()


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def environment(**variables):
    found = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), **variables}
    return {name: value for name, value in found.items() if name != "XLA_FLAGS"}


def own_process(index, port, folder):
    """One of four processes; the last one dies while the others wait for it."""
    hosts._DEAD = 5
    hd.connect(f"localhost:{port}", 4, index)
    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((4,), ("runs",))
    options = {"key": jax.random.key(5), "runs": 6, "mesh": mesh, "checkpoint": f"{folder}/kept"}
    result = hd.compare(relaxation(), [0.0, 0.5, 1.0], **options, chunk=4, start="realised")
    result.save(f"{folder}/result")
    np.save(f"{folder}/{index}.npy", result.runs["mean"].values)
    if index == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    hd.simulate(relaxation(), [0.0, 1.0], key=jax.random.key(0), runs=4, mesh=mesh)


@pytest.mark.slow
def test_four_processes_compute_what_one_computes_and_end_together(tmp_path):
    port = free_port()
    script = "from tests.test_hosts import own_process; own_process({}, {}, {!r})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script.format(i, port, str(tmp_path))],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(4)
    ]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes[3] == -signal.SIGKILL, errors[3]
    for code, told in zip(codes[:3], errors, strict=False):
        assert code != 0
        assert "another process of this experiment has ended" in told or "task died" in told
    expected = hd.compare(
        relaxation(), [0.0, 0.5, 1.0], key=jax.random.key(5), runs=6, start="realised"
    )
    found = [np.load(tmp_path / f"{i}.npy") for i in range(4)]
    for other in found:
        np.testing.assert_array_equal(other, found[0])
        np.testing.assert_allclose(other, expected.runs["mean"], rtol=1e-12)
    saved = hd.load(tmp_path / "result")
    np.testing.assert_array_equal(saved.runs["mean"], found[0])
    assert [path.name for path in tmp_path.glob("**/result.nc")] == ["result.nc"]


CONFIG = """
family = "streaming"
[system]
dimension = 400
loss = "least_squares"
learning_rate = 0.3
target = {}
[run]
times = [0.0, 1.0, 150.0]
runs = 8
statistics = ["risk"]
limit = false
"""
# Two tasks of a step, to which signals are passed on.
SRUN = """#!{python}
import os, signal, subprocess, sys
slurm = {{"SLURM_JOB_ID": "{job}", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}}
tasks = [
    subprocess.Popen(
        sys.argv[1:], env=os.environ | slurm | {{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)}}
    )
    for i in range(2)
]
signal.signal(signal.SIGUSR1, lambda *_: tasks[1].send_signal(signal.SIGUSR1))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.mark.slow
def test_the_job_of_slurm_goes_on_where_it_was_stopped(tmp_path):
    """The script of the page, with a signal for one of its processes, and once more."""
    scripts = re.findall(r"^```bash\n(#!/bin/bash\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (job,) = [script for script in scripts if "#SBATCH" in script]
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "sweep.toml").write_text(CONFIG)
    (tmp_path / "job.sh").write_text(job)
    folder = tmp_path / "bin"
    folder.mkdir()
    programs = {
        "srun": SRUN.format(python=sys.executable, job=free_port() % 2**12),
        "scontrol": f"#!/bin/bash\necho $@ > {tmp_path}/requeued\n",
        "hdjax": f'#!/bin/bash\nexec {sys.executable} -m hdjax "$@" --cores 1 --json '
        "--mesh runs=2\n",
    }
    for name, content in programs.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    variables = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    variables["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def begin():
        return subprocess.Popen(
            [shutil.which("bash"), "job.sh"],
            cwd=tmp_path,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first = begin()
    assert '"remaining": 8' in first.stdout.readline()
    first.send_signal(signal.SIGUSR1)
    _, errors = first.communicate(timeout=100)
    assert (first.returncode, errors.count("interrupted")) == (75, 1)
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "7"]
    second = begin()
    _, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors

    out = tmp_path / "results" / "sweep"
    log = [line.split()[1:] for line in (out / "log.txt").read_text().splitlines()]
    assert log == [["begins"], ["interrupted"], ["goes", "on"], ["ends"]]
    law, loss = hd.streaming.GaussianStart(), hd.streaming.losses.LeastSquares()
    system = hd.streaming.OnePassSGD(loss, hd.spectra.identity(400), 0.3, law, law)
    alone = hd.simulate(system, [0.0, 1.0], key=jax.random.key(0), runs=8, statistics=["risk"])
    found = hd.load(out).runs["risk"].values[:, :2]
    np.testing.assert_allclose(found, alone.runs["risk"], rtol=1e-4)


@pytest.mark.slow
def test_the_script_for_submitit_runs_every_point(tmp_path, monkeypatch, capsys):
    """Its jobs run at once, in this process."""

    class Executor:
        def __init__(self, folder):
            self.folder = folder

        def update_parameters(self, **parameters):
            assert parameters["timeout_min"] > 0

        def map_array(self, function, values):
            return [types.SimpleNamespace(result=lambda v=value: function(v)) for value in values]

    submitit = types.ModuleType("submitit")
    submitit.AutoExecutor = Executor
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    monkeypatch.chdir(tmp_path)
    (script,) = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(script, "several-devices.md", "exec"), {"__name__": "__main__"})
    assert "{'dimension': 2, 'time': 2}" in capsys.readouterr().out
