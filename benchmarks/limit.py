"""What the limit of one-pass SGD costs, and how long a comparison takes to compile, in float64.

* the risk of logistic regression at 21 times up to t = 10, with d distinct eigenvalues, as they are
  and compressed to an error of 1e-4, which is done with the system and not timed; for a mild
  spectrum with the default solver, and for a stiff one (a power law) with `ExponentialMidpoint`.
  Seconds are medians over calls after the first; the risk at the end shows the error;
* compiling `compare` (tracing, lowering and XLA) for least squares at d = 1000, of all statistics:
  with one limit for all runs, and with a limit for each run's start and predicted spreads.

    python benchmarks/limit.py --dims 1000 100000 --json limit.json
"""

import argparse
import itertools
import time

import equinox as eqx
import jax
import numpy as np
import report

import hdjax as hd

LAW = hd.streaming.GaussianStart
INTEGRATORS = {
    "uniform": hd.Integrator(),
    "power law": hd.Integrator(hd.streaming.ExponentialMidpoint(), rtol=1e-4, atol=1e-7),
}


def logistic(kind, d, compression):
    """The limit of the table's first part, as a jitted program and its argument."""
    mild = kind == "uniform"
    spectrum = hd.spectra.uniform(d, 0.0, 2.0) if mild else hd.spectra.power_law(d, exponent=0.5)
    system = hd.streaming.OnePassSGD(
        hd.streaming.losses.Logistic(),
        spectrum,
        learning_rate=3.0,
        start=LAW(scale=2.0),
        target=LAW(),
        compression=compression,
        integrator=INTEGRATORS[kind],
    )
    ts = jax.numpy.linspace(0, 10, 21)

    @eqx.filter_jit
    def program(system):
        def risk(summary):
            return system.statistics(summary)["risk"]

        return system.limit(ts, save=risk).values

    return program, system


def timed(program, *arguments):
    """Seconds of one call."""
    start = time.perf_counter()
    result = jax.block_until_ready(program(*arguments))
    return time.perf_counter() - start, result


def limit_row(kind, d, compression, repeats):
    """Seconds of the first call and of a later one, and the risk at the end."""
    program, system = logistic(kind, d, compression)
    nodes = system.start().blocks.shape[0]
    first, risk = timed(program, system)
    seconds = float(np.median([timed(program, system)[0] for _ in range(repeats)]))
    result = {"spectrum": kind, "d": d, "nodes": nodes, "risk": float(risk[-1])}
    return result | {"first": first, "seconds": seconds}


def compile_row(start, fluctuations):
    """Seconds that a first comparison compiles."""
    system = hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(sigma=0.5),
        hd.spectra.power_law(1000, exponent=0.3),
        learning_rate=0.7,
        start=LAW(),
        target=LAW(),
    )
    jax.clear_caches()
    result = hd.compare(
        system,
        np.linspace(0, 1, 21),
        key=jax.random.key(0),
        runs=8,
        start=start,
        fluctuations=fluctuations,
    )
    seconds = result.tree.attrs["seconds"]["compile"]
    return {"start": start, "fluctuations": fluctuations, "compile": seconds}


def main():
    """Print the two tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of limits and of compilation.")
    parser.add_argument("--dims", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    limits, compiled = [], []
    print("limit of logistic regression, t = 10")
    print("spectrum        d    nodes  first call      s    risk at the end")
    for kind, d, error in itertools.product(INTEGRATORS, options.dims, (None, 1e-4)):
        limits.append(row := limit_row(kind, d, error, options.repeats))
        print(
            f"{kind:9} {d:7} {row['nodes']:8} {row['first']:11.2f} {row['seconds']:6.3f} "
            f"{row['risk']:18.8f}",
            flush=True,
        )
    print("compiling compare at d = 1000\nstart     predicted spreads      s")
    for start, fluctuations in (("law", False), ("realised", True)):
        compiled.append(row := compile_row(start, fluctuations))
        print(f"{start:9} {fluctuations!s:17} {row['compile']:6.2f}", flush=True)
    report.write(options.json, "limit", limits=limits, compile=compiled)


if __name__ == "__main__":
    main()
