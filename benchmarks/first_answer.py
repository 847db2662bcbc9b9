"""How long a user waits for the first answer: import, compilation, running, drawing, saving.

* imports, each in a process of its own: JAX and diffrax, then hdjax, then a family;
* `hdjax run CONFIG` from the shell, with an empty cache of compiled programs and with a full one;
* the phases of `hd.ensemble` for the same config in one process.

    python benchmarks/first_answer.py --configs least_squares phase_retrieval --json first.json
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import report

import hdjax as hd
from hdjax import config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
IMPORTS = {
    "jax and diffrax": "import jax, diffrax",
    "hdjax, its engine and streaming": "import hdjax; hdjax.compare; hdjax.streaming",
    "the command line": "import hdjax.cli",
}
TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def import_row(what, repeats):
    """Median seconds of an import in a new process."""
    command = [sys.executable, "-c", TIMED.format(IMPORTS[what])]
    seconds = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return {"import": what, "seconds": statistics.median(seconds)}


def shell_rows(name):
    """`hdjax run` twice, with one new cache of programs."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        for cache in ("empty", "full"):
            out = Path(folder) / cache
            command = ["-m", "hdjax", "run", str(CONFIGS / f"{name}.toml"), "--out", str(out)]
            start = time.perf_counter()
            done = subprocess.run([sys.executable, *command], env=environment, capture_output=True)
            seconds = time.perf_counter() - start
            if done.returncode not in (0, 1):
                sys.exit(done.stderr.decode())
            parts = json.loads((out / "summary.json").read_text())["seconds"]
            parts = {part: value for part, value in parts.items() if value is not None}
            yield {"config": name, "cache": cache, "shell": seconds, **parts}


def phase_row(name):
    """The phases of a comparison in this process; sweeps and scalings have none."""
    marks = [("begin", time.perf_counter())]

    def mark(phase):
        marks.append((phase, time.perf_counter()))

    experiment = config.load(CONFIGS / f"{name}.toml", ["run.runs=8"])
    system = experiment.system()
    mark("load")
    plan = hd.make_plan(system, experiment.times, start=experiment.config.run.start)
    mark("plan")
    arguments = plan, jax.random.key(0), jnp.arange(8)
    traced = jax.jit(lambda *arrays: hd.ensemble(system, *arrays)).trace(*arguments)
    mark("trace")
    lowered = traced.lower()
    mark("lower")
    compiled = lowered.compile()
    mark("compile")
    jax.block_until_ready(compiled(*arguments))
    mark("run")
    result = experiment.run(progress=False)
    mark("whole comparison")
    figure: Any = result.plot()
    mark("draw")
    with tempfile.TemporaryDirectory() as folder:
        result.save(folder)
        figure.savefig(Path(folder) / "figure.png")
    mark("save")
    seconds = {phase: now - before for (_, before), (phase, now) in itertools.pairwise(marks)}
    return {"config": name, **seconds}


def main():
    """Print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of the first answer.")
    parser.add_argument("--configs", nargs="*", default=["least_squares"])
    parser.add_argument("--repeats", type=int, default=3, help="of imports")
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    imports = [import_row(what, options.repeats) for what in IMPORTS]
    for row in imports:
        print(f"import {row['import']:34} {row['seconds']:6.2f} s", flush=True)
    shell, phases = [], []
    for name in options.configs:
        for row in shell_rows(name):
            shell.append(row)
            parts = ", ".join(
                f"{part} {row[part]:.2f}"
                for part in row
                if part in ("compile", "simulate", "limit")
            )
            print(
                f"hdjax run {name}, {row['cache']} cache: {row['shell']:6.2f} s ({parts})",
                flush=True,
            )
        phases.append(row := phase_row(name))
        print(
            f"{name}: "
            + ", ".join(f"{part} {s:.2f}" for part, s in row.items() if part != "config")
        )
    report.write(options.json, "first_answer", imports=imports, shell=shell, phases=phases)


if __name__ == "__main__":
    main()
