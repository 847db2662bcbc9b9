"""Direct SGD: against exact finite-d means, its limit at several d, and itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, GramStart, Mixture, OnePassSGD, losses

LAM, COUNTS = np.array([0.5, 2.0]), np.array([60, 40])


def exact_mean_risk(steps, gamma, sigma, batch):
    """E risk of least squares at finite d (math, section 9), from distances (.7, .3)."""
    lam = np.repeat(LAM, COUNTS)
    v = np.repeat([0.7 / 60, 0.3 / 40], COUNTS)
    g = gamma / 100
    for _ in range(steps):
        excess = (lam * v).sum() + sigma**2
        v = v * (1 - g * lam) ** 2 + g**2 / batch * (lam**2 * v + lam * excess)
    return ((lam * v).sum() + sigma**2) / 2


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("batch", [1, 3])
def test_exact_finite_dimensional_mean(batch):
    """Mean risk over 4000 runs against the exact recursion at d = 100: within 4 standard errors."""
    blocks = np.zeros((2, 2, 2))
    blocks[:, 0, 0] = [0.7, 0.3]
    model = OnePassSGD(
        losses.LeastSquares(sigma=0.5),
        hd.spectra.explicit(LAM, COUNTS),
        0.8,
        GramStart(blocks),
        batch_size=batch,
    )
    result = hd.simulate(
        model, [0.0, 1.0, 3.0], key=jax.random.key(0), runs=4000, statistics=["risk"]
    )
    if batch == 1:
        np.testing.assert_allclose(exact_mean_risk(300, 0.8, 0.5, 1), 0.2644918008, rtol=1e-9)
    for steps, index in ((100, 1), (300, 2)):
        exact = exact_mean_risk(steps, 0.8, 0.5, batch)
        error = float(result.std["risk"][index]) / np.sqrt(4000)
        assert abs(float(result.mean["risk"][index]) - exact) < 4 * error


def mixture(d, loss=None, **options):
    means = np.stack([np.ones(d), -np.ones(d)], axis=1) / np.sqrt(d)
    loss = losses.ComponentLogistic([1.0, 0.0]) if loss is None else loss
    return OnePassSGD(
        loss,
        hd.spectra.explicit([0.25], [d]),
        2.0,
        GaussianStart(scale=0.7),
        mixture=Mixture([0.3, 0.7], means),
        ridge=0.05,
        **options,
    )


def head(x, teacher, component, noise, theta):
    logit = theta["gain"] * jnp.tanh(x[0]) + theta["bias"]
    label = jnp.where(component == 0, 1.0, 0.0).astype(x.dtype)
    return jnp.logaddexp(0.0, logit) - label * logit


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["trained_head", "different_spectra"])
def test_mixtures_follow_their_limit(kind):
    """Two components, side parameters, commuting covariances: error at d = 100 and 1600."""

    def make(d):
        if kind == "trained_head":
            theta = {"gain": 1.0, "bias": -0.2}
            return mixture(d, losses.FunctionLoss(head), theta=theta)
        means = np.stack([np.ones(d), -np.ones(d)], axis=1) / np.sqrt(d)
        return OnePassSGD(
            losses.ComponentLogistic([1.0, 0.0]),
            hd.spectra.explicit([0.5, 1.5], [d // 2, d // 2]),
            2.0,
            GaussianStart(scale=0.7),
            mixture=Mixture([0.3, 0.7], means, eigenvalues=[[0.1, 0.9], [1.2, 0.3]]),
        )

    errors = []
    for d in (100, 1600):
        result = hd.compare(
            make(d),
            np.linspace(0, 3, 7),
            key=jax.random.key(d),
            runs=32,
            start="realised",
            statistics=["risk", "overlaps"],
            fluctuations=False,
        )
        errors.append([float(result.sup_error[s].median()) for s in ("risk", "overlaps")])
        gap = result.runs["risk"].values - result.limit["risk"].values
        bias = np.abs(gap.mean(0)) - 4 * gap.std(0) / np.sqrt(32)
        assert bias.max() < 3 / d
    ratio = np.array(errors[0]) / np.array(errors[1])
    assert np.all((ratio > 2.5) & (ratio < 6.5)), ratio


@pytest.mark.slow
def test_gram_start_has_its_blocks_exactly():
    """Also in groups with fewer coordinates than columns, whose blocks are of low rank."""
    vector = np.array([0.5, -0.2, 0.3])
    block = np.array([[0.6, 0.1, 0.2], [0.1, 0.9, 0.0], [0.2, 0.0, 0.4]])
    blocks = np.stack([block, np.outer(vector, vector), 2 * block])
    loss = losses.FunctionLoss(lambda x, t, c, n, theta: jnp.sum(x**2) * t[0] ** 2)
    spectrum = hd.spectra.explicit([0.5, 1.0, 2.0], [10, 1, 7])
    model = OnePassSGD(loss, spectrum, 0.1, GramStart(blocks, students=2))
    simulator = model.simulator(Direct("float64"))
    for seed in range(3):
        summary = simulator.summary(simulator.init(jax.random.key(seed)))
        np.testing.assert_allclose(summary.natural, blocks, atol=1e-12)


def test_dense_covariance_is_the_diagonal_problem():
    """Given arrays are rotated once: the same risk as in any other coordinates."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 30))
    covariance = root @ root.T / 30
    start, target = rng.normal(size=(2, 30)) / np.sqrt(30)
    spectrum = hd.spectra.from_covariance(covariance)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.3, start, target)
    gap = start - target
    risk = float(model.statistics(model.start())["risk"])
    np.testing.assert_allclose(risk, gap @ covariance @ gap / 2, rtol=1e-10)
    gradient = float(model.statistics(model.start())["gradient_norm"])
    np.testing.assert_allclose(gradient, np.sum((covariance @ gap) ** 2), rtol=1e-10)


def test_clock():
    model = mixture(100)
    simulator = model.simulator()
    ticks = simulator.clock.ticks(np.array([0.0, 0.29, 0.999, 1.0, 1e7]))
    np.testing.assert_array_equal(ticks, [0, 29, 99, 100, 10**9])
    assert ticks.dtype == np.int64
    np.testing.assert_allclose(simulator.clock.times(ticks)[:3], [0, 0.29, 0.99])


def test_clock_beyond_32_bits_needs_64_bit_integers():
    model = mixture(100)
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"less than 2\^31 ticks"):
        hd.make_plan(model, [3e7])


@pytest.mark.slow
def test_schedules_of_time_and_of_steps_agree():
    """An Optax schedule is a function of the step k = t d."""

    def run(rate):
        model = OnePassSGD(
            losses.LeastSquares(),
            hd.spectra.identity(64),
            rate,
            GaussianStart(),
            GaussianStart(),
        )
        result = hd.compare(
            model,
            [0.0, 1.0, 2.0],
            key=jax.random.key(0),
            runs=4,
            statistics=["risk"],
            fluctuations=False,
        )
        return result.runs["risk"].values, result.limit["risk"].values

    by_step = run(hd.schedules.from_optax(optax.cosine_decay_schedule(0.8, 128), 64))
    by_time = run(hd.schedules.Cosine(0.8, 2.0))
    constant = run(0.8)
    np.testing.assert_allclose(by_step[0], by_time[0], rtol=2e-4)
    np.testing.assert_allclose(by_step[1], by_time[1], rtol=1e-4)
    assert np.abs(by_time[1][-1] / constant[1][-1] - 1) > 0.1


@pytest.mark.slow
def test_symmetric_start_warns_and_realised_starts_serve():
    def model(overlap):
        return OnePassSGD(
            losses.PhaseRetrieval(),
            hd.spectra.identity(50),
            0.03,
            GaussianStart(overlap=overlap),
            GaussianStart(),
        )

    arguments = {"key": jax.random.key(0), "runs": 2, "statistics": ["risk"]}
    with pytest.warns(UserWarning, match="start='realised'"):
        hd.compare(model(0.0), [0.0, 0.1], fluctuations=False, **arguments)
    hd.compare(model(0.0), [0.0, 0.1], start="realised", fluctuations=False, **arguments)
    hd.compare(model(0.2), [0.0, 0.1], fluctuations=False, **arguments)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "rate", "overlap", "end"),
    [
        (losses.LeastSquares(sigma=0.3), 0.6, 0.0, 1.0),
        (losses.Logistic(), 3.0, 0.0, 1.0),
        (losses.PhaseRetrieval(), 0.03, 0.5, 1.0),
    ],
    ids=["least_squares", "logistic", "phase_retrieval"],
)
def test_error_falls_like_the_root_of_d(loss, rate, overlap, end):
    """Exponent of the median of sup_t |SGD - limit| over d = 64...4096 within [-.57, -.43]."""

    def make(d):
        start = GaussianStart(overlap=overlap)
        return OnePassSGD(loss, hd.spectra.power_law(d, 0.3), rate, start, GaussianStart())

    result = hd.scaling(
        make,
        [64, 512, 4096],
        np.linspace(0, end, 11),
        key=jax.random.key(6),
        runs=64,
        start="realised",
        statistics=["risk"],
    )
    assert -0.57 <= float(result.exponent["risk"]) <= -0.43


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate|value"),
        ({"learning_rate": np.nan}, "learning_rate|value"),
        ({"ridge": -1.0}, "ridge: -1"),
        ({"ridge": np.inf}, "ridge: inf"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"compression": 0}, "compression: 0"),
        ({"compression": 12}, "compression: 12; allowed: None, or a relative error"),
        ({"start": np.ones(7)}, r"start: shape \(7, 1\)"),
        ({"start": np.full(20, np.nan)}, "start: NaN"),
        ({"target": np.ones((20, 2))}, "1 student and 2 teacher"),
        (
            {"spectrum": hd.spectra.power_law(20, 0.5), "compression": 1e-30},
            "compression: 1e-30; allowed: an error that fewer nodes",
        ),
        ({"mixture": Mixture([0.5, 0.5], np.ones((20, 3)))}, "mixture.means: 3 columns"),
        (
            {"mixture": Mixture([0.5, 0.5], eigenvalues=[[1.0, 2.0]])},
            "mixture.eigenvalues: shape",
        ),
    ],
)
def test_wrong_systems(change, message):
    arguments = {
        "loss": losses.LeastSquares(),
        "spectrum": hd.spectra.identity(20),
        "learning_rate": 0.1,
        "start": GaussianStart(),
        "target": GaussianStart(),
    }
    with pytest.raises(ValueError, match=message):
        OnePassSGD(**(arguments | change))


def test_wrong_parts():
    with pytest.raises(ValueError, match="indefinite"):
        GramStart(np.array([[[1.0, 2.0], [2.0, 1.0]]]))
    with pytest.raises(ValueError, match="not symmetric"):
        GramStart(np.array([[[1.0, 0.5], [0.2, 1.0]]]))
    with pytest.raises(ValueError, match="NaN"):
        GramStart(np.full((1, 2, 2), np.nan))
    with pytest.raises(ValueError, match="scale"):
        GaussianStart(scale=-1.0)
    with pytest.raises(ValueError, match="overlap"):
        GaussianStart(overlap=1.5)
    with pytest.raises(ValueError, match="probabilities"):
        Mixture([0.5, 0.6])
    with pytest.raises(ValueError, match="sigma"):
        losses.LeastSquares(sigma=-1.0)
    with pytest.raises(ValueError, match="labels"):
        losses.Logistic("fuzzy")
    with pytest.raises(ValueError, match="dtype"):
        Direct("float16")
    with pytest.raises(ValueError, match="eigenvalues"):
        hd.spectra.explicit([1.0, -1.0], [3, 3])
    with pytest.raises(TypeError, match="spectrum"):
        OnePassSGD(losses.LeastSquares(), np.ones(3), 0.1, GaussianStart())
    with pytest.raises(TypeError, match="method"):
        mixture(20).simulator("direct")


def test_values_changed_behind_the_constructor_are_checked_at_the_engine():
    import equinox as eqx

    model = eqx.tree_at(lambda m: m.ridge, mixture(20), jnp.asarray(-1.0))
    with pytest.raises(ValueError, match="ridge: -1"):
        hd.simulate(model, [0.0], key=jax.random.key(0), runs=1)


@pytest.mark.slow
def test_compressed_spectrum_has_no_coordinates():
    spectrum = hd.spectra.power_law(200, 0.3).compress(6)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.3, GaussianStart(), GaussianStart())
    assert hd.limit(model, [0.0, 1.0]).limit["risk"][1] > 0
    with pytest.raises(ValueError, match="no coordinates"):
        hd.simulate(model, [0.0, 1.0], key=jax.random.key(0), runs=1)
