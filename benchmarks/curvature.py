"""What looking at curvature costs.

* a product with the empirical Hessian of all parameters (`empirical`), against its two matrix
  products alone: the samples with the vectors, and back; float32, the ratio in one run;
* an emergence map of 20 x 20 values of (snr, n/d), calls after the first, float64;
* the top space of a class block whose samples are drawn again in every product (`StreamedMatrix`):
  seconds, normals drawn in a second, residuals, the process's largest memory, and eigenvalues
  beside the theory's, which has ten outliers.  Each of the Lanczos steps draws all samples: at
  d = 10^5 and n = 2 d that is 2 10^10 normals a step.

    python benchmarks/curvature.py --dim 2000 --json curvature.json
    python benchmarks/curvature.py --streamed-dim 100000 --chunk 128
"""

import argparse
import resource
import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from hdjax import curvature, streaming


def median_seconds(program, *arguments, repeats=7):
    jax.block_until_ready(program(*arguments))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def mixture(d, classes=3, snr=4.0, **options):
    return streaming.mixtures.mixture_softmax(
        d, classes, snr=snr, learning_rate=1.0, ridge=0.01, **options
    )


def products(d, alpha, width):
    """Seconds of a product with `width` vectors, and of the two matrix products in it."""
    system = mixture(d)
    state = system.simulator().init(jax.random.key(0))
    samples = streaming.samples.draw_samples(system, jax.random.key(1), 0, alpha * d, state.frozen)
    matrix = curvature.empirical(system, samples, state.moving, state.frozen, None)
    vectors = jax.random.normal(jax.random.key(2), (matrix.size, width), jnp.float32)
    wide = vectors.reshape(d, -1)
    product = eqx.filter_jit(lambda matrix, v: matrix.product(v))

    @jax.jit
    def bare(rows, wide):
        inner = jnp.dot(rows, wide, precision="highest")
        return jnp.dot(rows.T, inner, precision="highest")

    own = median_seconds(product, matrix, vectors)
    return own, median_seconds(bare, samples.rows, wide)


def emergence():
    """Seconds of a map of 20 x 20 points at one time."""
    system = mixture(400)
    alphas, snrs = jnp.geomspace(0.5, 20, 20), jnp.geomspace(0.5, 30, 20)

    def program():
        return curvature.emergence_map(
            system, 0, "hessian", alphas=alphas, snrs=snrs, ts=jnp.array([0.0, 3.0])
        )

    return median_seconds(program, repeats=3)


def streamed(d, n, rank, chunk, steps):
    """Seconds of a top space without stored samples, what was found, and what theory has."""
    # As many outliers as classes, each with a value of its own.
    weights = np.linspace(1, 2, rank)
    system = mixture(d, rank, snr=100.0, probabilities=weights / weights.sum())
    simulator = system.simulator()
    state = simulator.init(jax.random.key(0))
    matrix = curvature.matrices.StreamedMatrix(
        system,
        jax.random.key(1),
        state.moving,
        state.frozen,
        None,
        chunk=chunk,
        chunks=n // chunk,
        indices=[0],
    )

    @eqx.filter_jit
    def program(matrix):
        columns = jnp.concatenate([matrix.moving, matrix.frozen], axis=1)
        return curvature.top_space(
            matrix.product, columns, rank, jax.random.key(2), steps=steps, cycles=1
        )

    compiled = program.lower(matrix).compile()
    start = time.perf_counter()
    found = jax.block_until_ready(compiled(matrix))
    seconds = time.perf_counter() - start
    theory = curvature.block_theory(system, simulator.summary(state), 0, "hessian", n / d)
    return seconds, found, theory.spectrum()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dim", type=int, default=2000)
    parser.add_argument("--alpha", type=int, default=4)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--streamed-dim", type=int, default=10_000)
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--streamed-samples", type=int, help="default: 2 d")
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--json")
    options = parser.parse_args()

    own, bare = products(options.dim, options.alpha, options.width)
    print(f"product at d = {options.dim}, n = {options.alpha} d, {options.width} vectors:")
    print(f"  {own:.4f} s, its two matrix products {bare:.4f} s: {bare / own:.0%} of their speed")
    # A streamed matrix is a float32 run; the map wants the limit's float64.
    d, steps = options.streamed_dim, options.steps
    n = options.streamed_samples or 2 * d
    seconds, found, spectrum = streamed(d, n, options.rank, options.chunk, steps)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    stored, rate = 4 * n * d / 2**30, steps * n * d / seconds / 1e6
    print(f"top {options.rank} of a block at d = {d}, n = {n}, samples drawn again {steps} times:")
    print(f"  {seconds:.1f} s, {rate:.0f} million normals a second,")
    print(f"  {memory:.2f} GiB at most (the samples alone: {stored:.2f} GiB)")
    residual = float((found.residuals / found.values[0]).max())
    print(f"  residuals: at most {residual:.1e} of the largest eigenvalue")
    count = int(spectrum.count)
    print(f"  outliers in theory: {count}; eigenvalues found and predicted, in 1e-3:")
    for name, values in (("found", found.values), ("theory", spectrum.values[: options.rank])):
        print(f"  {name:>8}", " ".join(f"{1e3 * value:7.3f}" for value in values.tolist()))
    jax.config.update("jax_enable_x64", True)
    mapped = emergence()
    print(f"emergence map of 20 x 20 points at two times: {mapped:.2f} s")
    sizes = {"d": d, "n": n, "rank": options.rank, "steps": steps}
    report.write(
        options.json,
        "curvature",
        product=[{"d": options.dim, "seconds": own, "matrix_products": bare}],
        streamed=[{**sizes, "seconds": seconds, "gibibytes": memory, "residual": residual}],
        emergence_map=[{"points": 400, "seconds": mapped}],
    )


if __name__ == "__main__":
    main()
