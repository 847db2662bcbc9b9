"""What an accelerator makes of hdjax, on whatever device JAX finds.

* sgd:      direct one-pass SGD in float32, in millions of normals a second; as a share of hdjax's
            generator alone; and the bytes of the normals as a share of a copy's bandwidth;
* large:    64 runs at d = 16384 until t = 4, first call and later calls;
* loops:    the same steps with a traced and with a static number of steps;
* sampler:  the exact samplers on Gram blocks and on landscapes, with 10^5 runs;
* rounding: summaries of the same states in float32 and in float64.

Programs are compiled before they are timed.  `--small` runs small sizes, also on a CPU, which says
whether the script works and nothing about speed.

    python benchmarks/accelerator.py --json accelerator.json
"""

import argparse
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import report
from one_pass import bare_program, hdjax_program

import hdjax as hd
from hdjax.streaming import GramSampler, OnePassSGD, losses

LAW = hd.streaming.GaussianStart
TABLES = ["sgd", "large", "loops", "samplers", "rounding"]


def seconds(program, repeats):
    """The seconds of the first call, which compiles, and the median over further calls."""
    spent = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(program())
        spent.append(time.perf_counter() - start)
    return spent[0], float(np.median(spent[1:]))


def one_pass(d):
    """Least squares on one eigenvalue."""
    return OnePassSGD(losses.LeastSquares(), hd.spectra.identity(d), 0.5, LAW(), LAW())


def simulated(system, ts, runs, method=None):
    """A program that simulates runs, without a limit."""
    plan = hd.make_plan(system, ts, method=method, start=None)
    program = jax.jit(hd.ensemble)
    arguments = system, plan, jax.random.key(0), jnp.arange(runs)
    return lambda: program(*arguments)


def copy_bandwidth(size, repeats):
    """Bytes a second that are read and written by adding 1 to an array of `size` bytes."""
    x = jnp.zeros(size // 4, jnp.float32)
    program = jax.jit(lambda x: x + 1)
    return 2 * size / seconds(lambda: program(x), repeats)[1]


def sgd_rows(dims, runs, normals, repeats):
    """Direct SGD against the generator and a copy; as many normals in each row."""
    bandwidth = copy_bandwidth(4 * normals, repeats)
    for d, count in itertools.product(dims, runs):
        steps = max(16, normals // (count * d) // 16 * 16)
        drawn = steps * count * d
        layouts = {"side by side": lambda run, keys: jax.vmap(run)(keys), "in turn": jax.lax.map}
        bare = min(
            seconds(bare_program(d, count, steps, 16, layout), repeats)[1]
            for layout in layouts.values()
        )
        spent = seconds(hdjax_program("least_squares", d, count, steps), repeats)[1]
        yield {
            "d": d,
            "runs": count,
            "steps": steps,
            "rate": drawn / spent / 1e6,
            "of_bare": bare / spent,
            "of_copy": 4 * drawn / spent / bandwidth,
        }


def large_rows(d, runs, repeats):
    """Direct SGD until t = 4."""
    first, later = seconds(simulated(one_pass(d), [4.0], runs), repeats)
    yield {"d": d, "runs": runs, "first": first, "later": later}


def loop_rows(d, runs, steps, repeats):
    """Direct SGD with a number of steps that the compiler knows, and with one that it does not."""
    simulator = one_pass(d).simulator()

    def program(steps):
        def one(run):
            key = jax.random.fold_in(jax.random.key(0), run)
            zero = jnp.zeros((), int)
            return simulator.summary(simulator.advance(simulator.init(key), zero, steps, key))

        return jax.vmap(one)(jnp.arange(runs))

    traced, number = jax.jit(program), jnp.asarray(steps)
    static = jax.jit(lambda: program(jnp.asarray(steps)))
    known, unknown = (seconds(f, repeats)[1] for f in (static, lambda: traced(number)))
    yield {"d": d, "runs": runs, "steps": steps, "static": known, "traced": unknown}


def sampler_rows(runs, repeats):
    """The exact samplers, with float64 numbers."""
    span = hd.landscapes.GradientSpan(
        hd.landscapes.kernels.SquaredExponential(),
        hd.landscapes.algorithms.GradientDescent(0.1),
        10**6,
    )
    programs = {
        "Gram blocks": simulated(one_pass(10**9), [1e-7], runs, GramSampler("float64")),
        "landscape": simulated(span, np.arange(8.0), runs),
    }
    for name, program in programs.items():
        first, later = seconds(program, repeats)
        yield {"sampler": name, "runs": runs, "first": first, "later": later}


def rounding_rows(d, runs):
    """The largest relative difference between summaries in float32 and float64 of the same states.

    The states are those of runs in float32 after d steps.
    """
    with jax.enable_x64(False):
        simulator, bounds = one_pass(d).simulator(), (jnp.asarray(0), jnp.asarray(d))
        keys = jax.vmap(jax.random.key)(jnp.arange(runs))
        run = jax.vmap(lambda key: simulator.advance(simulator.init(key), *bounds, key))
        states = jax.jit(run)(keys)
    summaries = []
    for wide in (False, True):
        with jax.enable_x64(wide):
            found = jax.jit(jax.vmap(one_pass(d).simulator().summary))(states)
            summaries.append(np.asarray(found.blocks, np.float64))
    narrow, exact = summaries
    yield {"d": d, "runs": runs, "difference": float(np.max(np.abs(narrow / exact - 1)))}


def show(title, rows):
    """Print the rows of a table as they come, and return them."""
    print(title)
    kept = []
    for row in rows:
        told = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        print("  " + "  ".join(told), flush=True)
        kept.append(row)
    return kept


def main():
    """Print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark for accelerators.")
    parser.add_argument("--small", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    small, repeats = options.small, options.repeats
    dims = [16] if small else [256, 1024, 4096, 16384, 65536]
    counts = [2] if small else [1, 16, 256, 4096]
    d, runs = (32, 2) if small else (16384, 64)
    tables = {
        "sgd": lambda: sgd_rows(dims, counts, 2**10 if small else 2**30, repeats),
        "large": lambda: large_rows(d, runs, repeats),
        "loops": lambda: loop_rows(dims[0], runs, 64 if small else 4096, repeats),
        "samplers": lambda: sampler_rows(2 if small else 10**5, repeats),
        "rounding": lambda: rounding_rows(d, runs),
    }
    report.head()
    rows = {name: show(name, tables[name]()) for name in options.tables}
    report.write(options.json, "accelerator", **rows)


if __name__ == "__main__":
    main()
