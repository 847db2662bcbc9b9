"""The options of the command line that say on which devices and processes an experiment runs."""

import contextlib
import os
from typing import Annotated, NamedTuple

import jax
import typer
from jax.sharding import Mesh

from hdjax import hosts
from hdjax.engine.devices import parse_mesh

Cores = Annotated[
    int | None,
    typer.Option(
        min=1, envvar="HDJAX_CORES", help="Cores of the CPU for long simulations. Default: all."
    ),
]
MeshText = Annotated[
    str | None,
    typer.Option(
        "--mesh", metavar="AXES", help="Devices, such as runs=4,points=2. Default: all, as it fits."
    ),
]
Coordinator = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where process 0 of several listens."),
]
Processes = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes. Default: what the launcher says, or 1."),
]
ProcessId = Annotated[
    int | None, typer.Option(min=0, help="The number of this process, from 0 on.")
]


class Devices(NamedTuple):
    """The devices and processes of an experiment, as they were asked for; None: not.

    Attributes:
        cores: the number of cores of a CPU.
        mesh: the text of a mesh.
        coordinator: where process 0 listens.
        processes: number of processes.
        process_id: the number of this process.
    """

    cores: int | None
    mesh: str | None
    coordinator: str | None
    processes: int | None
    process_id: int | None

    def connect(self) -> Mesh | None:
        """Make devices of cores, connect the processes, and return the mesh that was asked for.

        Raises:
            ValueError: the processes cannot be connected, there are no devices of the kind that was
                asked for, or the text describes no mesh of them.
        """
        _use_cores(self.cores)
        hosts.connect(*self[2:])
        _check_devices()
        return None if self.mesh is None else parse_mesh(self.mesh)


def _use_cores(cores: int | None) -> None:
    """Make a device of each core that JAX may use on a CPU, before JAX finds its devices.

    Args:
        cores: their number; None: all cores of the process, unless a variable of JAX or XLA says
            how many devices a CPU has.
    """
    if cores is None:
        flags = os.environ.get("XLA_FLAGS", "")
        if "xla_force_host_platform_device_count" in flags or "JAX_NUM_CPU_DEVICES" in os.environ:
            return
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Where JAX has found its devices already, in a session of Python, there is nothing to choose.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", cores or 1)


def _check_devices() -> None:
    """Raise ValueError if JAX finds no device of the kind that was asked for."""
    try:
        jax.devices()
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise ValueError(f"JAX_PLATFORMS: {asked!r}: {error}") from None
