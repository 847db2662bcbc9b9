"""What a step of one-pass SGD costs by each method, and what accuracy of its limit costs.

* run-steps a second of `Direct` and of `GramSampler` (float32 up to d = 10^5, float64 beyond) for
  least squares on one eigenvalue, one column, against d and the number of runs.  A call advances
  from tick 0 with a traced number of steps; compilation is not in it.  `Direct` is left out where
  its states alone hold more than 10^7 numbers;
* work and precision of the solvers of the limit: error of the risk of logistic regression at t = 4
  against seconds a call, over tolerances, on a mild spectrum (uniform) and a stiff one (power law).

    python benchmarks/samplers.py --dims 1000 1000000000 --runs 1024 --json samplers.json
"""

import argparse
import itertools
import time

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import report

import hdjax as hd

LAW = hd.streaming.GaussianStart
METHODS = {"direct": hd.streaming.Direct(), "gram sampler": hd.streaming.GramSampler()}
SOLVERS = {
    "exponential midpoint": hd.streaming.ExponentialMidpoint(),
    "Tsit5": diffrax.Tsit5(),
    "Dopri8": diffrax.Dopri8(),
    "Kvaerno5": diffrax.Kvaerno5(),
}
SPECTRA = {
    "uniform": lambda: hd.spectra.uniform(64, 0.0, 2.0),
    "power law": lambda: hd.spectra.power_law(64, exponent=1.0),
}


def timed(program, *arguments):
    """Seconds of one call, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(program(*arguments))
    return time.perf_counter() - start, result


def simulation_row(name, d, runs, seconds, repeats):
    """Run-steps a second."""
    system = hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(), hd.spectra.identity(d), 0.5, LAW(), LAW()
    )
    simulator = system.simulator(METHODS[name])

    @jax.jit
    def program(steps):
        def one(run):
            key = jax.random.fold_in(jax.random.key(0), run)
            state = simulator.advance(simulator.init(key), jnp.zeros_like(steps), steps, key)
            return simulator.summary(state).blocks

        batch = simulator.side_by_side()
        if batch is None:
            return jax.vmap(one)(jnp.arange(runs))
        return jax.lax.map(one, jnp.arange(runs), batch_size=batch if batch > 1 else None)

    first = 64
    timed(program, jnp.asarray(first))
    # As many steps as take the seconds asked for.
    guess, _ = timed(program, jnp.asarray(first))
    steps = max(first, int(first * seconds / guess))
    spent = float(np.median([timed(program, jnp.asarray(steps))[0] for _ in range(repeats)]))
    return {"method": name, "d": d, "runs": runs, "rate": runs * steps / spent}


def solver_rows(kind, repeats):
    """Seconds and error of each solver at each tolerance."""

    def program(integrator):
        system = hd.streaming.OnePassSGD(
            hd.streaming.losses.Logistic(), SPECTRA[kind](), 2.0, LAW(scale=2.0), LAW(),
            integrator=integrator,
        )  # fmt: skip
        risk = eqx.filter_jit(
            lambda system: (
                system.limit(
                    jnp.array([4.0]), save=lambda summary: system.statistics(summary)["risk"]
                ).values
            )
        )
        return risk, system

    fine, system = program(hd.Integrator(diffrax.Dopri8(), rtol=1e-11, atol=1e-13))
    exact = float(fine(system)[0])
    for (name, solver), rtol in itertools.product(SOLVERS.items(), (1e-3, 1e-5, 1e-7)):
        integrator = hd.Integrator(solver, rtol=rtol, atol=rtol / 1000)
        risk, system = program(integrator)
        timed(risk, system)
        calls = [timed(risk, system) for _ in range(repeats)]
        seconds = float(np.median([call[0] for call in calls]))
        error = abs(float(calls[0][1][0]) - exact)
        yield {"spectrum": kind, "solver": name, "rtol": rtol, "seconds": seconds, "error": error}


def main():
    """Print the two tables, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of simulation methods and solvers.")
    parser.add_argument("--dims", type=int, nargs="+", default=[1000, 100_000, 10**6, 10**9])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a timed call")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    print("method                 d   runs   run-steps/s")
    simulations, solvers = [], []
    for name, d, runs in itertools.product(METHODS, options.dims, options.runs):
        if name == "direct" and d * runs > 10**7:
            continue
        simulations.append(row := simulation_row(name, d, runs, options.seconds, options.repeats))
        print(f"{name:12} {d:12} {runs:6} {row['rate']:13.3g}", flush=True)
    print("spectrum   solver                 rtol        s       error")
    for kind in SPECTRA:
        for row in solver_rows(kind, options.repeats):
            solvers.append(row)
            print(
                f"{kind:10} {row['solver']:21} {row['rtol']:5.0e} {row['seconds']:8.4f} "
                f"{row['error']:11.2e}",
                flush=True,
            )
    report.write(options.json, "samplers", simulations=simulations, solvers=solvers)


if __name__ == "__main__":
    main()
