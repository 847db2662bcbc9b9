"""What multi-index flows cost, in float64.

* saddle to saddle: many starts at d = 10^12 with two directions, until both are learnt;
* the reduced flow of many starts to t = 10;
* the flow in R^d against the reduced flow from the same starts, with the largest difference.

Compilation is counted apart.

    python benchmarks/multiindex.py --starts 1000 --json multiindex.json
"""

import argparse

import jax
import numpy as np
import report

import hdjax as hd

SADDLES = {
    "h1 + h2": {(1, 0): 0.8, (0, 2): 0.6},
    "h2 + h3": {(2, 0): 0.8, (0, 3): 0.6},
    "z1 z2": {(1, 1): 1.0},
}


def seconds(result):
    """Seconds of compilation and of the run."""
    spent = result.tree.attrs["seconds"]
    return {"compile": spent["compile"], "run": spent["simulate"]}


def saddle_row(name, starts):
    """Escape times at d = 10^12."""
    link = hd.multiindex.links.from_coefficients(SADDLES[name])
    system = hd.multiindex.SaddleToSaddle(link, 1e12)
    result = hd.simulate(
        system, [34.0], key=jax.random.key(0), runs=starts, statistics=["escapes"], progress=False
    )
    medians = np.median(result.runs["escapes"].values[:, -1], axis=0).tolist()
    return {"target": name, "starts": starts, "log10_times": medians} | seconds(result)


def flow_row(starts):
    """The reduced flow to t = 10."""
    link = hd.multiindex.links.from_coefficients({(1, 0): 0.8, (1, 1): 0.6, (0, 2): 0.5})
    system = hd.multiindex.GradientFlow(link, 10**4)
    result = hd.simulate(
        system,
        [10.0],
        key=jax.random.key(0),
        runs=starts,
        method=hd.multiindex.Reduced(),
        statistics=["loss"],
        progress=False,
    )
    return {"starts": starts, "loss": float(result.mean["loss"][-1])} | seconds(result)


def full_row(d, runs):
    """The flow in R^d beside the reduced one."""
    link = hd.multiindex.links.from_coefficients({(1, 0): 0.8, (1, 1): 0.6, (0, 2): 0.5})
    system = hd.multiindex.GradientFlow(link, d)
    result = hd.compare(
        system,
        [0.0, 10.0],
        key=jax.random.key(0),
        runs=runs,
        start="realised",
        statistics=["cosines"],
        progress=False,
    )
    error = float(result.sup_error["cosines"].max())
    return {"d": d, "runs": runs, "error": error} | seconds(result)


def main():
    """Print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of multi-index flows.")
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--dims", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    print(f"saddle to saddle, {options.starts} starts at d = 10^12")
    print("target   compile s   run s   log10 of the median escape times")
    saddles = []
    for name in SADDLES:
        saddles.append(row := saddle_row(name, options.starts))
        times = ", ".join(f"{time:.3f}" for time in row["log10_times"])
        print(f"{name:8} {row['compile']:9.2f} {row['run']:7.2f}   {times}", flush=True)
    flow = flow_row(options.starts)
    print(f"reduced flow to t = 10, {options.starts} starts: {flow['run']:.3f} s", flush=True)
    print("flow in R^d and reduced, 8 runs to t = 10\n    d   run s   largest difference")
    full = []
    for d in options.dims:
        full.append(row := full_row(d, 8))
        print(f"{d:6} {row['run']:7.2f} {row['error']:14.1e}", flush=True)
    report.write(options.json, "multiindex", saddles=saddles, flow=[flow], full=full)


if __name__ == "__main__":
    main()
