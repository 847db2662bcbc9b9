"""The engine on streaming systems: chunks, keys, summaries, paths, divergence, traces."""

import signal
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.codes import Code
from hdjax.engine import drive
from hdjax.engine.ensemble import ensemble

TIMES = [0.0, 0.25, 0.5, 1.0, 2.0]
# Predicted spreads have tests of their own, and take as long to compile as everything else.
compare = partial(hd.compare, fluctuations=False)


def least_squares(rate=0.7, sigma=0.5, d=40, exponent=0.3, **options):
    return hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(sigma=sigma),
        hd.spectra.power_law(d, exponent=exponent),
        rate,
        hd.streaming.GaussianStart(),
        hd.streaming.GaussianStart(),
        **options,
    )


@pytest.fixture
def key():
    return jax.random.key(7)


@pytest.mark.slow
def test_comparison_holds_everything(key):
    result = compare(
        least_squares(),
        TIMES,
        key=key,
        runs=12,
        paths={"half": hd.paths.hitting_time("risk", 0.7), "end": hd.paths.value_at("risk", 2.0)},
        probes={"norm": lambda simulator, state, key: jnp.linalg.norm(state.moving)},
    )
    assert result.runs["risk"].dims == ("run", "time")
    assert result.runs["overlaps"].shape == (12, 5, 2, 2)
    np.testing.assert_allclose(result.runs["time"], TIMES)
    runs = result.runs["risk"].values
    np.testing.assert_allclose(result.mean["risk"], runs.mean(0), rtol=1e-12)
    np.testing.assert_allclose(result.std["risk"], runs.std(0, ddof=1), rtol=1e-10)
    np.testing.assert_allclose(result.quantile["risk"].sel(quantile=0.5), np.median(runs, axis=0))
    gap = np.abs(runs - result.limit["risk"].values).max(axis=1)
    np.testing.assert_allclose(result.sup_error["risk"], gap, rtol=1e-12)
    np.testing.assert_allclose(result.paths["end"], runs[:, -1])
    assert np.isfinite(result.paths_limit["half"])
    assert result.probes["norm"].shape == (12, 5)
    assert set(result.codes["alive"].values) == {12}
    assert np.isnan(result.codes["since"]).all()
    assert "12 runs" in repr(result)


@pytest.mark.slow
def test_limit_is_evaluated_where_runs_are_recorded(key):
    # d = 7: t = 0.5 is step 3, that is t = 3/7.
    options = {"runs": 2, "statistics": ["risk"], "fluctuations": False}
    result = compare(least_squares(d=7), [0.0, 0.5], key=key, **options)
    np.testing.assert_array_equal(result.times, [0, 0.5])
    np.testing.assert_allclose(result.runs["recorded_time"], [0, 3 / 7])
    at = hd.limit(least_squares(d=7), [0.0, 3 / 7], statistics=["risk"]).limit["risk"]
    np.testing.assert_allclose(result.limit["risk"], at, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["law", "realised"])
def test_chunks_draw_the_same_numbers(key, start):
    options = {"key": key, "runs": 7, "start": start, "statistics": ["risk"]}
    options["fluctuations"] = False
    whole = compare(least_squares(), TIMES, **options)
    chunked = compare(least_squares(), TIMES, **options, chunk=3)
    again = compare(least_squares(), TIMES, **options, chunk=3)
    np.testing.assert_allclose(whole.runs["risk"], chunked.runs["risk"], rtol=2e-5)
    np.testing.assert_allclose(whole.std["risk"], chunked.std["risk"], rtol=1e-4)
    np.testing.assert_array_equal(chunked.runs["risk"], again.runs["risk"])
    np.testing.assert_array_equal(chunked.std["risk"], again.std["risk"])


@pytest.mark.slow
def test_records_do_not_change_the_run(key):
    few = hd.simulate(least_squares(), [2.0], key=key, runs=3)
    many = hd.simulate(least_squares(), np.linspace(0, 2, 30), key=key, runs=3)
    np.testing.assert_allclose(few.runs["risk"][:, -1], many.runs["risk"][:, -1], rtol=2e-5)


@pytest.mark.slow
def test_summary_streams_moments(key):
    """More runs than are kept: moments cover all of them, quantiles the first 1024."""
    system, ts = least_squares(d=8), [0.0, 1.0]
    full = compare(system, ts, key=key, runs=1500, statistics=["risk"])
    streamed = compare(system, ts, key=key, runs=1500, statistics=["risk"], keep="summary")
    assert streamed.runs.sizes["run"] == 1024
    assert "1024" in streamed.tree.attrs["note"]
    assert streamed.tree.attrs["runs"] == 1500
    np.testing.assert_allclose(streamed.mean["risk"], full.mean["risk"], rtol=1e-12)
    np.testing.assert_allclose(streamed.std["risk"], full.std["risk"], rtol=1e-12)
    error = full.sup_error["risk"].values
    np.testing.assert_allclose(streamed.sup_error_mean["risk"], error.mean(), rtol=1e-10)
    np.testing.assert_allclose(streamed.sup_error_std["risk"], error.std(ddof=1), rtol=1e-10)


@pytest.mark.slow
def test_realised_starts_have_their_own_limits(key):
    system = least_squares(d=200)
    law, own = (
        compare(system, TIMES, key=key, runs=16, start=start, fluctuations=False)
        for start in ("law", "realised")
    )
    assert own.limit["risk"].dims == ("run", "time")
    np.testing.assert_allclose(own.limit["risk"][:, 0], own.runs["risk"][:, 0], rtol=1e-5)
    assert own.sup_error["risk"].median() < 0.8 * law.sup_error["risk"].median()


@pytest.mark.slow
def test_statistics_of_the_user_on_both_sides(key):
    def curvature(system, summary):
        return summary.moment(jnp.square)[0, 1]

    names = {"risk": None, "curvature": curvature}
    options = {"runs": 8, "statistics": names, "fluctuations": False}
    result = compare(least_squares(d=400), TIMES, key=key, **options)
    assert result.statistics == ["risk", "curvature"]
    assert float(result.sup_error["curvature"].median()) < 0.3
    spread = float(result.std["curvature"][-1])
    gap = abs(float(result.mean["curvature"][-1] - result.limit["curvature"][-1]))
    assert gap < 5 * spread


@pytest.mark.slow
def test_divergence_is_marked_and_left_out(key):
    """gamma far above 2/kappa: the run diverges, says when, and its curve is blank after."""
    ts, statistics = np.linspace(0, 4, 17), ["risk"]
    options = {"runs": 4, "statistics": statistics, "fluctuations": False}
    result = compare(least_squares(rate=8.0), ts, key=key, **options)
    at = result.codes["since"].values
    assert np.isfinite(at).all()
    assert np.all((at > 0) & (at < 4))
    assert (result.codes["code"] == Code.DIVERGED).all()
    assert result.codes["limit_code"] == Code.DIVERGED
    assert np.isfinite(result.codes["limit_since"])
    risk = result.runs["risk"].values
    times = result.times
    for run in range(4):
        np.testing.assert_array_equal(np.isnan(risk[run]), times >= at[run])
    assert result.codes["alive"][-1] == 0
    assert np.isnan(result.mean["risk"][-1])
    assert "diverged" in repr(result)
    with pytest.raises(FloatingPointError, match="not finite from t"):
        hd.limit(least_squares(rate=8.0), ts, statistics=statistics)


class Mortal(hd.streaming.OnePassSGD):
    """SGD whose runs end where the squared norm of the student is above 1."""

    def alive(self, summary):
        return summary.overlaps[0, 0] <= 1


def test_mixed_divergence_keeps_the_good_runs_in_the_moments(key):
    system = Mortal(
        hd.streaming.losses.LeastSquares(),
        hd.spectra.power_law(40, exponent=0.3),
        0.7,
        hd.streaming.GaussianStart(),
        hd.streaming.GaussianStart(),
    )
    result = hd.simulate(system, [0.0], key=key, runs=40)
    bad = np.isfinite(result.codes["since"].values)
    whole = hd.simulate(least_squares(sigma=0.0), [0.0], key=key, runs=40)
    np.testing.assert_array_equal(bad, whole.runs["overlaps"].values[:, 0, 0, 0] > 1)
    assert 0 < bad.sum() < 40
    assert int(result.codes["alive"][0]) == int(result.count["risk"][0]) == 40 - bad.sum()
    np.testing.assert_allclose(result.mean["risk"][0], whole.runs["risk"].values[~bad, 0].mean())


@pytest.mark.slow
def test_sweep_over_numbers_traces_once(key):
    traces = []

    def spy(system, summary):
        traces.append(1)
        return summary.overlaps[0, 0]

    def make(learning_rate, sigma, exponent):
        return least_squares(learning_rate, sigma, exponent=exponent)

    def run(rates, sigmas, exponents):
        traces.clear()
        grid = {"learning_rate": rates, "sigma": sigmas, "exponent": exponents}
        result = hd.sweep(make, grid, [0.0, 1.0], key=key, runs=3, statistics={"spy": spy})
        return result, len(traces)

    _, first = run([0.3, 0.5], [0.1, 0.2], [0.0001, 0.5])
    result, second = run([0.4, 0.6], [0.3, 0.4], [0.2, 0.9])
    assert result.tree.attrs["programs"] == 1
    # The second sweep of equal shape compiles nothing: only shapes are looked at again.
    assert second <= first // 2
    point = compare(make(0.6, 0.3, 0.9), [0.0, 1.0], key=key, runs=3, statistics={"spy": spy})
    swept = result.runs["spy"].sel(learning_rate=0.6, sigma=0.3, exponent=0.9)
    np.testing.assert_allclose(swept, point.runs["spy"], rtol=2e-5)


@pytest.mark.slow
def test_sweep_loops_only_over_what_changes_shapes(key):
    result = hd.sweep(
        lambda d, rate: least_squares(rate, d=d),
        {"d": [16, 32], "rate": [0.2, 0.4, 0.6]},
        [0.0, 1.0],
        key=key,
        runs=2,
        statistics=["risk"],
    )
    assert result.tree.attrs["programs"] == 2
    assert "spectrum" in result.tree.attrs["reasons"]
    assert result.runs["risk"].dims == ("d", "rate", "run", "time")
    limits = result.limit["risk"].isel(time=-1)
    assert (limits.diff("rate") < 0).all()


@pytest.mark.slow
def test_scaling_has_the_exponent_of_the_theory(key):
    result = hd.scaling(
        lambda d: least_squares(d=d, exponent=0.0001),
        [32, 512],
        np.linspace(0, 1, 6),
        key=key,
        runs=48,
        statistics=["risk"],
    )
    slope = float(result.exponent["risk"])
    low, high = result.exponent_interval["risk"].values
    assert low < slope < high
    assert abs(slope + 0.5) < 0.15


@pytest.mark.slow
def test_array_level_is_pure(key):
    """ensemble under the caller's own jit and vmap, and grad through its limit."""
    plan = hd.make_plan(least_squares(), TIMES, statistics=["risk"])

    def run(rate):
        return ensemble(least_squares(rate), plan, key, jnp.arange(3))

    one = jax.jit(run)(0.5)
    stacked = jax.jit(jax.vmap(run))(jnp.array([0.5, 0.7]))
    np.testing.assert_allclose(stacked.runs.values["risk"][0], one.runs.values["risk"], rtol=2e-5)
    mapped = jax.jit(
        lambda rate: ensemble(least_squares(rate), plan, key, jnp.arange(3), batch_size=2)
    )(0.5)
    np.testing.assert_allclose(mapped.runs.values["risk"], one.runs.values["risk"], rtol=2e-5)
    only_limit = hd.make_plan(least_squares(), TIMES, statistics=["risk"], runs=False)

    @jax.jit
    def final(rate):
        out = ensemble(least_squares(rate), only_limit, key, jnp.arange(1))
        return out.limit.values["risk"][-1]

    slope = jax.grad(final)(0.7)
    step = 1e-4
    finite = (final(0.7 + step) - final(0.7 - step)) / (2 * step)
    np.testing.assert_allclose(slope, finite, rtol=1e-4)


@pytest.mark.slow
def test_forward_mode_through_a_simulation(key):
    plan = hd.make_plan(least_squares(), [1.0], statistics=["risk"], start=None)
    method = hd.streaming.Direct(dtype="float64")
    plan = hd.make_plan(least_squares(), [1.0], statistics=["risk"], start=None, method=method)

    @jax.jit
    def risk(rate):
        return ensemble(least_squares(rate), plan, key, jnp.arange(2)).runs.values["risk"][:, -1]

    slope = jax.jacfwd(risk)(0.5)
    finite = (risk(0.5 + 1e-5) - risk(0.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(slope, finite, rtol=1e-5)


def interrupt(monkeypatch, call):
    """Ctrl-C at the given call of a program."""
    execute, calls = drive._execute, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return execute(*arguments)

    monkeypatch.setattr(drive, "_execute", interrupted)


@pytest.mark.slow
def test_an_interrupted_sweep_keeps_its_finished_points(key, monkeypatch):
    def run(**options):
        return hd.sweep(
            lambda d, rate: least_squares(rate, d=d),
            {"d": [8, 16], "rate": [0.2, 0.4]},
            [0.0, 1.0],
            key=key,
            runs=2,
            start=None,
            statistics=["risk"],
            chunk=2,  # both points of a d, whatever the number of cores
            **options,
        )

    interrupt(monkeypatch, call=2)
    result = run()
    assert result.tree.attrs["interrupted"] == 1
    assert result.tree.attrs["points"] == 2
    assert np.isfinite(result.runs["risk"].sel(d=8)).all()
    assert np.isnan(result.runs["risk"].sel(d=16)).all()
    assert (result.codes["alive"].sel(d=16) == 0).all()
    assert (result.codes["code"].sel(d=8) == Code.FINE).all()
    assert (result.codes["code"].sel(d=16) == Code.NOT_RUN).all()
    assert "d   rate" in repr(result)
    interrupt(monkeypatch, call=1)
    with pytest.raises(KeyboardInterrupt):
        run()


def test_an_interrupt_does_not_wait_for_what_is_computed():
    never = threading.Event()
    threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            drive._wait_for(lambda: never.wait(60))
        assert not never.is_set()
    finally:
        never.set()


def test_an_interrupt_while_a_chunk_is_added_leaves_it_out(key, monkeypatch):
    merge, calls = drive._merge, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return merge(*arguments)

    monkeypatch.setattr(drive, "_merge", interrupted)
    options = {"key": key, "runs": 6, "chunk": 2, "statistics": ["risk"]}
    result = hd.simulate(least_squares(), [0.0, 1.0], **options)
    assert (result.tree.attrs["runs"], result.tree.attrs["interrupted"]) == (4, 1)
    np.testing.assert_array_equal(result.codes["alive"], 4)
    np.testing.assert_allclose(result.mean["risk"], result.runs["risk"].mean("run"))
    assert result.runs.sizes["run"] == 4


def test_curves_that_the_host_cannot_keep_are_refused(key):
    with pytest.raises(ValueError, match=r"runs: the curves of 10{12} at 2 times need .*summary"):
        hd.simulate(least_squares(), [0.0, 1.0], key=key, runs=10**12)


@pytest.mark.slow
def test_an_interrupted_scaling_keeps_its_finished_dimensions(key, monkeypatch):
    interrupt(monkeypatch, call=3)
    result = hd.scaling(
        lambda d: least_squares(d=d), [8, 16, 32], [0.0, 1.0], key=key, runs=2, statistics=["risk"]
    )
    assert result.tree.attrs["interrupted"] == 1
    np.testing.assert_array_equal(result.sup_error["dimension"], [8, 16])
    assert "exponent" in repr(result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": [0.0, -1.0]}, "ts:"),
        ({"ts": [1.0, 0.5]}, "ts:"),
        ({"ts": []}, "ts:"),
        ({"ts": [0.0, np.nan]}, "ts:"),
        ({"runs": 0}, "runs:"),
        ({"keep": "all"}, "keep:"),
        ({"chunk": 0}, "chunk:"),
        ({"statistics": ["rsik"]}, "statistics: 'rsik'"),
        ({"start": "real"}, "start:"),
    ],
)
def test_wrong_arguments(key, change, message):
    arguments = {"ts": TIMES, "key": key, "runs": 2} | change
    with pytest.raises(ValueError, match=message):
        compare(least_squares(), **arguments)


def test_a_run_that_does_not_fit(key):
    """d = 10^12 is fine for the limit, and refused by a method that holds every coordinate."""
    law = hd.streaming.GaussianStart()
    loss, spectrum = hd.streaming.losses.LeastSquares(), hd.spectra.identity(10**12)
    system = hd.streaming.OnePassSGD(loss, spectrum, 0.5, law, law)
    with pytest.raises(ValueError, match=r"needs .* GiB for a run"):
        hd.simulate(system, [1e-11], key=key, runs=1)


def test_wrong_key():
    with pytest.raises(TypeError, match="key:"):
        compare(least_squares(), TIMES, key=jax.random.PRNGKey(0), runs=2)


def test_points_are_stacked_by_their_numbers():
    """A solver's number of steps is an integer of the program, a rate an array."""
    points = [{"steps": 7, "rate": rate, "curve": np.ones(2) * rate} for rate in (0.5, 1.0)]
    stacked = drive._stack(points)
    assert stacked["steps"] == 7
    assert isinstance(stacked["steps"], int)
    np.testing.assert_allclose(stacked["rate"], [0.5, 1.0])
    assert stacked["curve"].shape == (2, 2)
