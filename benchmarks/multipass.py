"""Multi-pass SGD against the loops that one would write by hand, and the cost of its limits.

Simulation, in float32, the same number of steps for each contender:

* hdjax: `hd.ensemble` with the method `Direct`, one record at the end;
* loop:  a NumPy loop over the steps of one run after the other;
* batch: a NumPy loop over the steps, all runs at once.

They take turns, and the median over the turns counts. On a shared machine trust the ratios. The
limits are those of n = d at 1000 times, after compilation: the spectrum is decomposed before.

    python benchmarks/multipass.py --sizes 500 2000 --runs 1 16 --json multipass.json
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import report

import hdjax as hd

RATE, EPOCHS = 0.5, 10
SOLVERS = {"block_ode": hd.multipass.BlockODE(), "spectral": hd.multipass.Spectral()}


def make_problem(n, d):
    """A Gaussian problem."""
    return hd.multipass.gaussian_problem(n, d, key=jax.random.key(0), noise=0.5)


def contenders(n, d, runs):
    """Programs by name."""
    problem = make_problem(n, d)
    system = hd.multipass.MultiPassSGD(problem, RATE)
    plan = hd.make_plan(system, [EPOCHS], start=None, statistics=["loss"])
    program = jax.jit(hd.ensemble)
    arguments = system, plan, jax.random.key(0), jnp.arange(runs)
    matrix, labels = (np.asarray(x, np.float32) for x in (problem.matrix, problem.labels))
    rate = np.float32(RATE)

    def loop():
        rng = np.random.default_rng(0)
        for _ in range(runs):
            x = np.zeros(d, np.float32)
            for i in rng.integers(n, size=EPOCHS * n):
                row = matrix[i]
                x -= rate * (row @ x - labels[i]) * row
        return x

    def batch():
        rng = np.random.default_rng(0)
        x = np.zeros((runs, d), np.float32)
        for chosen in rng.integers(n, size=(EPOCHS * n, runs)):
            rows = matrix[chosen]
            x -= (rate * (np.vecdot(rows, x) - labels[chosen]))[:, None] * rows
        return x

    return {"hdjax": lambda: program(*arguments), "loop": loop, "batch": batch}


def measure(programs, repeats):
    """Median seconds of each program, taking turns; the first turn compiles."""
    seconds = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def limit_program(n, name):
    """The loss at 1000 times, n = d."""
    system = hd.multipass.MultiPassSGD(make_problem(n, n), RATE, solver=SOLVERS[name])
    ts = jnp.linspace(0.0, 20.0, 1000)
    program = eqx.filter_jit(
        lambda system: system.limit(ts, save=lambda values: values["loss"]).values
    )
    return lambda: program(system)


def main():
    """Print the two tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of multi-pass SGD and its limit.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000], help="n; d = n/2")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--limits", type=int, nargs="*", default=[500, 2000], help="n = d")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    rows, limits = [], []
    print("microseconds a step and run\n    n     d  runs |  hdjax    loop   batch | /loop  /batch")
    for n in options.sizes:
        for runs in options.runs:
            seconds = measure(contenders(n, n // 2, runs), options.repeats)
            own = {name: s / (EPOCHS * n * runs) * 1e6 for name, s in seconds.items()}
            ratios = [own[name] / own["hdjax"] for name in ("loop", "batch")]
            rows.append({"n": n, "d": n // 2, "runs": runs, **own})
            print(
                f"{n:5} {n // 2:5} {runs:5} | {own['hdjax']:6.2f} {own['loop']:7.2f} "
                f"{own['batch']:7.2f} | {ratios[0]:5.1f} {ratios[1]:7.1f}",
                flush=True,
            )
    print("seconds of the limit at 1000 times\nn = d  " + "  ".join(SOLVERS))
    for n in options.limits:
        seconds = measure({name: limit_program(n, name) for name in SOLVERS}, options.repeats)
        limits.append({"n": n, **seconds})
        print(f"{n:5}  " + "  ".join(f"{seconds[name]:{len(name)}.3f}" for name in SOLVERS))
    report.write(options.json, "multipass", runs=rows, limits=limits)


if __name__ == "__main__":
    main()
