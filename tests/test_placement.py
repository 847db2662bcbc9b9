"""Options of the command line for devices and processes (see also `test_hosts.py`)."""

import jax
import pytest

from hdjax.placement import Devices

NOTHING = Devices(None, None, None, None, None)


def test_nothing_is_asked_for():
    assert NOTHING.connect() is None
    assert not jax.distributed.is_initialized()


def test_a_mesh_is_read():
    assert dict(NOTHING._replace(mesh="points=1,runs=1").connect().shape) == {
        "points": 1,
        "runs": 1,
    }


def test_a_wrong_mesh_is_refused():
    with pytest.raises(ValueError, match=r"mesh: 'runs=1000'; allowed: .* at most 1 devices"):
        NOTHING._replace(mesh="runs=1000").connect()


def test_processes_that_nobody_started_are_refused():
    with pytest.raises(ValueError, match=r"coordinator, processes, process_id: None, 4, None.*all"):
        NOTHING._replace(processes=4).connect()
