"""Direct one-pass SGD against what one would write by hand, and against its own random numbers.

Contenders, in float32, on the same number of normals (runs x steps x d):

* hdjax: `hd.ensemble` with the method `Direct`, one record at the end;
* numpy: a loop over the steps, `Generator.standard_normal` and two vector products;
* scan:  `jax.lax.scan` over the steps with `jax.random.normal`, vmapped over the runs;
* bare:  hdjax's generator alone, its numbers reduced to one sum a run. It is compiled in several
  shapes, and the fastest counts.

They take turns, and the median over the turns counts. On a shared machine trust the ratios, not the
rates; a GPU has no NumPy column to be compared with.

    python benchmarks/one_pass.py --dims 1024 4096 --runs 1 64 --json one_pass.json
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import report
from jax import lax

import hdjax as hd
from hdjax import random

RATE = 0.5
LOSSES = {
    "least_squares": hd.streaming.losses.LeastSquares(),
    "logistic": hd.streaming.losses.Logistic(),
}


def slope(loss, x, target):
    """The loss's derivative in the student projection, for the loops written by hand."""
    if loss == "least_squares":
        return x - target
    return 1 / (1 + np.exp(-x)) - 1 / (1 + np.exp(-target))


def hdjax_program(loss, d, runs, steps):
    """SGD as hdjax runs it."""
    system = hd.streaming.OnePassSGD(
        loss=LOSSES[loss],
        spectrum=hd.spectra.identity(d),
        learning_rate=RATE,
        start=hd.streaming.GaussianStart(),
        target=hd.streaming.GaussianStart(),
    )
    plan = hd.make_plan(system, [steps / d], start=None)
    program = jax.jit(hd.ensemble)
    arguments = system, plan, jax.random.key(0), jnp.arange(runs)
    return lambda: program(*arguments)


def numpy_program(loss, d, runs, steps):
    """One step after the other in NumPy, all runs at once."""

    def program():
        rng = np.random.default_rng(0)
        x, target = rng.standard_normal((2, runs, d), np.float32) / np.float32(np.sqrt(d))
        for _ in range(steps):
            a = rng.standard_normal((runs, d), np.float32)
            g = slope(loss, np.vecdot(a, x), np.vecdot(a, target))
            x -= np.float32(RATE / d) * g[:, None] * a
        return x

    return program


def scan_program(loss, d, runs, steps):
    """The scan that one writes first."""

    def run(key):
        start, keys = jax.random.split(key)
        x, target = jax.random.normal(start, (2, d)) / jnp.sqrt(d)

        def step(x, key):
            a = jax.random.normal(key, (d,))
            u, v = jnp.dot(a, x), jnp.dot(a, target)
            g = u - v if loss == "least_squares" else jax.nn.sigmoid(u) - jax.nn.sigmoid(v)
            return x - RATE / d * g * a, None

        return lax.scan(step, x, jax.random.split(keys, steps))[0]

    program, keys = jax.jit(jax.vmap(run)), jax.random.split(jax.random.key(0), runs)
    return lambda: program(keys)


def bare_program(d, runs, steps, rows, layout):
    """The generator alone: `rows` steps at a time, runs side by side or one after the other."""

    def run(key):
        def block(i, total):
            z = random.normal_pairs(key, i * rows, rows, d // 2)
            return total + (z.real + z.imag).sum()

        return lax.fori_loop(0, steps // rows, block, jnp.zeros(()))

    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(runs))
    program = jax.jit(lambda keys: layout(run, keys))
    return lambda: program(keys)


def contenders(loss, d, runs, steps, slow):
    """Programs by name; `bare` several times."""
    programs = {"hdjax": hdjax_program(loss, d, runs, steps)}
    if slow:
        programs["numpy"] = numpy_program(loss, d, runs, steps)
        programs["scan"] = scan_program(loss, d, runs, steps)
    side_by_side = lambda run, keys: jax.vmap(run)(keys)  # noqa: E731
    in_turn = lambda run, keys: lax.map(run, keys)  # noqa: E731
    for name, layout in (("side by side", side_by_side), ("in turn", in_turn)):
        for rows in (1, 16):
            if rows <= steps and (runs > 1 or layout is in_turn):
                programs[f"bare, {rows} rows {name}"] = bare_program(d, runs, steps, rows, layout)
    return programs


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


def row(loss, d, runs, normals, repeats, slow):
    """One line of the table: millions of normals a second, and ratios."""
    # Not too few: the start is drawn too, by `jax.random.normal`.
    steps = max(512, normals // (runs * d) // 16 * 16)
    seconds = measure(contenders(loss, d, runs, steps, slow), repeats)
    rates = {name: runs * steps * d / s / 1e6 for name, s in seconds.items()}
    bare = max(rate for name, rate in rates.items() if name.startswith("bare"))
    measured = {name: rates[name] for name in ("hdjax", "numpy", "scan") if name in rates}
    result = {"loss": loss, "d": d, "runs": runs, "steps": steps, **measured, "bare": bare}
    ratios = {"of_bare": rates["hdjax"] / bare}
    if slow:
        ratios |= {f"over_{name}": rates["hdjax"] / rates[name] for name in ("numpy", "scan")}
    return result | ratios


def main():
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of direct one-pass SGD.")
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--normals", type=int, default=2**25, help="normals drawn in a timing")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="leave out NumPy and the naive scan")
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    report.head()
    print("millions of normals per second, and the ratios of hdjax to the others")
    header = "loss              d  runs |  hdjax  numpy   scan   bare | /numpy  /scan  /bare"
    print(header + "\n" + "-" * len(header))
    rows = []
    for loss in options.losses:
        for runs in options.runs:
            for d in options.dims:
                line = row(loss, d, runs, options.normals, options.repeats, not options.fast)
                rows.append(line)
                nan = float("nan")
                print(
                    f"{loss:13} {d:5} {runs:5} | {line['hdjax']:6.0f} "
                    f"{line.get('numpy', nan):6.0f} {line.get('scan', nan):6.0f} "
                    f"{line['bare']:6.0f} | {line.get('over_numpy', nan):6.2f} "
                    f"{line.get('over_scan', nan):6.2f} {line['of_bare']:6.2f}",
                    flush=True,
                )
    report.write(options.json, "one_pass", rows=rows)


if __name__ == "__main__":
    main()
