"""Strong and weak scaling over devices: runs on a mesh, and one run that is divided.

* strong: the same work on 1, 2, 4, ... devices; the efficiency is t_1 / (n t_n).
* weak: work that grows with the devices; the efficiency is t_1 / t_n.

The work is direct one-pass SGD in float32, `--runs` runs (a device) at `--dim`, and one run at
`--wide` coordinates (a device).  Compilation does not count.  `--imitate 8` makes eight devices of
a CPU, which share its cores: beyond their number no efficiency can be expected, and the table says
so.

    python benchmarks/devices.py --imitate 8 --json devices.json
"""

import argparse
import os

import jax
import numpy as np
import report
from jax.sharding import Mesh

import hdjax as hd


def seconds(d, runs, steps, repeats, *, mesh=None, method=None):
    """The least seconds of a simulation, without compilation."""
    law, loss = hd.streaming.GaussianStart(), hd.streaming.losses.LeastSquares()
    system = hd.streaming.OnePassSGD(loss, hd.spectra.identity(d), 0.5, law, law)
    options = {"key": jax.random.key(0), "runs": runs, "mesh": mesh, "method": method}
    options |= {"statistics": ["risk"], "chunk": runs, "progress": False}
    found = [hd.simulate(system, [0.0, steps / d], **options) for _ in range(repeats)]
    return min(result.tree.attrs["seconds"]["simulate"] for result in found)


def on_a_mesh(count, options, weak):
    """Runs on a mesh of some devices."""
    mesh = Mesh(np.array(jax.devices()[:count]), ("runs",))
    runs = options.runs * (count if weak else 1)
    return seconds(options.dim, runs, options.steps, options.repeats, mesh=mesh)


def divided(count, options, weak):
    """One run whose coordinates some devices divide."""
    d = options.wide * (count if weak else 1)
    method = hd.streaming.Direct(devices=count)
    mesh = Mesh(np.array(jax.devices()[:1]), ("runs",)) if count == 1 else None
    return seconds(d, 1, options.wide_steps, options.repeats, mesh=mesh, method=method)


def table(measure, options, weak):
    """Rows for 1, 2, 4, ... devices."""
    rows, count = [], 1
    while count <= jax.device_count():
        took = measure(count, options, weak)
        base = rows[0]["seconds"] if rows else took
        efficiency = base / took / (1 if weak else count)
        rows.append({"devices": count, "seconds": took, "efficiency": efficiency})
        count *= 2
    return rows


def main():
    """Print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of several devices.")
    parser.add_argument("--imitate", type=int, help="number of devices that a CPU imitates")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4096)
    parser.add_argument("--wide", type=int, default=2**20)
    parser.add_argument("--wide-steps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    # Before JAX finds its devices; on a CPU without the option there is one for each core.
    jax.config.update("jax_num_cpu_devices", options.imitate or os.cpu_count())
    report.head()
    tables = {}
    for name, measure in (("runs", on_a_mesh), ("features", divided)):
        for kind in ("strong", "weak"):
            tables[f"{name}_{kind}"] = rows = table(measure, options, kind == "weak")
            print(f"\n{name}, {kind} scaling\ndevices  seconds  efficiency")
            for row in rows:
                shared = jax.default_backend() == "cpu" and row["devices"] > os.cpu_count()
                note = "  (more devices than cores)" if shared else ""
                print(
                    f"{row['devices']:7}  {row['seconds']:7.3f}  {row['efficiency']:10.2f}{note}",
                    flush=True,
                )
    report.write(options.json, "devices", **tables)


if __name__ == "__main__":
    main()
