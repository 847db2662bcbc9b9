"""The file that a benchmark leaves: tables of rows, with the versions and the machine.

A row is a dictionary.  Its floating-point numbers are measurements, and all other values say what
was measured; `compare.py` pairs the rows of two files by the latter.
"""

import json
import os
import platform

import jax

from hdjax.engine.result import provenance


def head():
    """Print on what the benchmark runs."""
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {jax.device_count()} device(s)")


def write(path, benchmark, **tables):
    """Write the tables of a benchmark as JSON; no path, no file."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            machine = {"cores": os.cpu_count(), "machine": platform.machine()}
            content = {"benchmark": benchmark, **provenance(), **machine, "tables": tables}
            json.dump(content, file, indent=1)
