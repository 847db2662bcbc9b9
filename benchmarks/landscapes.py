"""What the limit and the exact sampler of a gradient span algorithm cost.

* seconds of the limit after compilation, for gradient descent on a squared exponential kernel;
* milliseconds a run of the sampler at several d (they should agree), and the rate of a batched
  skinny float64 product, measured between them: the share is that of a sampler which is such
  products with all it has seen, 2/3 n^6 operations for n observations, at that rate (this one needs
  fewer, as it never forms what the histories of directions explain);
* the sampler against conditioning on all d + 1 components, where that fits.

    python benchmarks/landscapes.py --evaluations 20 --runs 1000 --json landscapes.json
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import report

import hdjax as hd

KERNEL = hd.landscapes.kernels.SquaredExponential()
ALGORITHM = hd.landscapes.algorithms.GradientDescent(0.5)


def seconds(program, *arguments, repeats=3):
    """Median seconds of a call, after one that compiles."""
    jax.block_until_ready(program(*arguments))
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def limit_seconds(steps):
    """Seconds of the limit over so many steps."""
    system = hd.landscapes.GradientSpan(KERNEL, ALGORITHM, jnp.inf)
    horizon = system.horizon(np.array([float(steps)]))

    @jax.jit
    def program(system):
        times = jnp.arange(steps + 1.0)
        return system.limit(times, save=lambda order: order.value, horizon=horizon).values

    return seconds(program, system)


def sampler(method, evaluations, d=None):
    """A program of (system, runs) that returns the last values."""
    last = np.array([evaluations - 1.0])

    @jax.jit
    def program(system, ids):
        simulator = system.simulator(method, horizon)

        def one(run):
            key = jax.random.fold_in(jax.random.key(0), run)
            zero = jnp.zeros((), int)
            state = simulator.advance(simulator.init(key), zero, zero + evaluations - 1, key)
            return simulator.summary(state).value

        batch = simulator.side_by_side()
        if batch is None:
            return jax.vmap(one)(ids)
        batch = max(size for size in range(1, batch + 1) if ids.size % size == 0)
        return jax.lax.map(one, ids, batch_size=batch if batch > 1 else None)

    horizon = hd.landscapes.GradientSpan(KERNEL, ALGORITHM, d or 1).horizon(last, method)
    return program


def product_rate(evaluations, batch=64):
    """Operations a second of the product that a step of the sampler consists of."""
    rows, columns = evaluations * (evaluations + 3) // 2, evaluations + 2
    factor = jax.random.normal(jax.random.key(0), (batch, rows, rows))
    skinny = jax.random.normal(jax.random.key(1), (batch, rows, columns))
    spent = seconds(jax.jit(jnp.matmul), factor, skinny, repeats=9)
    return 2 * batch * rows**2 * columns / spent


def main():
    """Print the three tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of gradient span algorithms.")
    parser.add_argument("--steps", type=int, default=1000, help="of the limit")
    parser.add_argument("--evaluations", type=int, default=20, help="of the sampler")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--dims", type=int, nargs="+", default=[10**3, 10**9])
    parser.add_argument("--ambient", type=int, nargs="*", default=[100, 300])
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    limit = {"steps": options.steps, "seconds": limit_seconds(options.steps)}
    print(f"limit, {options.steps} steps: {limit['seconds']:.3g} s")

    n, ids = options.evaluations, jnp.arange(options.runs)
    program = sampler(hd.landscapes.Previsible(), n)
    samplers, ambient = [], []
    for d in options.dims:
        system = hd.landscapes.GradientSpan(KERNEL, ALGORITHM, d)
        # The machine's speed changes; so before and after.
        before = product_rate(n)
        spent = seconds(program, system, ids) / options.runs
        rate = (before + product_rate(n)) / 2
        share = 2 / 3 * n**6 / spent / rate
        samplers.append({"d": d, "product": rate, "seconds": spent, "share": share})
        print(
            f"sampler, {n} observations, d = {d:.0e}: {1e3 * spent:.3g} ms a run, "
            f"{share:.0%} of a product's {rate / 1e9:.3g} Gflop/s"
        )

    short = 4
    quick = sampler(hd.landscapes.Previsible(), short)
    for d in options.ambient:
        system = hd.landscapes.GradientSpan(KERNEL, ALGORITHM, d)
        slow = seconds(sampler(hd.landscapes.Ambient(), short, d), system, jnp.arange(2), repeats=1)
        ratio = slow / 2 / (seconds(quick, system, ids) / options.runs)
        ambient.append({"d": d, "times slower": ratio})
        print(f"conditioning on {d} + 1 components, {short} observations: {ratio:.3g} times slower")
    report.write(options.json, "landscapes", limit=[limit], samplers=samplers, ambient=ambient)


if __name__ == "__main__":
    main()
