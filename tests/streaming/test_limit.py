"""The block ODE: reference values, integrators, resolvent form, derivatives, float32."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import hdjax as hd
from hdjax.streaming import ExponentialMidpoint, GramStart, OnePassSGD, losses
from hdjax.streaming.limit import _doubled
from tests.streaming.models import GRAM

BLOCK = np.array([[0.6, 0.15], [0.15, 0.9]])
SPECTRUM = dict(eigenvalues=[0.5, 2.0], multiplicities=[60, 40])
TIMES = jnp.array([0.5, 1.0, 3.0])
FINE = hd.Integrator(diffrax.Dopri8(), rtol=1e-10, atol=1e-12)
# math, section 14: risk and squared distance at t = .5, 1, 3.
REFERENCE = {
    "least_squares": (
        losses.LeastSquares(sigma=0.5),
        0.8,
        (0.520876217, 0.403379654, 0.265476623),
        (0.832058222, 0.624314990, 0.296240481),
    ),
    "logistic": (
        losses.Logistic(),
        3.0,
        (0.675049777, 0.646566941, 0.612564801),
        (0.797647516, 0.564374879, 0.179552570),
    ),
    "phase_retrieval": (
        losses.PhaseRetrieval(),
        0.03,
        (2.704956313, 2.615464635, 2.289497742),
        (1.141584443, 1.089359794, 0.889994138),
    ),
    "lipschitz": (
        losses.LipschitzPhaseRetrieval(),
        0.25,
        (0.593031072, 0.581411710, 0.468645175),
        (1.163690022, 1.115841947, 0.829607254),
    ),
    "huber": (
        losses.Huber(0.7, sigma=(0.3, 3.0), probabilities=(0.8, 0.2)),
        0.9,
        (0.596010725, 0.537766846, 0.437725784),
        (0.940530286, 0.752423975, 0.371921366),
    ),
    "hinge": (
        losses.Hinge(),
        0.7,
        (0.746223250, 0.634255974, 0.438420111),
        (0.982429847, 0.855214655, 0.736505322),
    ),
    "relu": (
        losses.ReLUUnit(sigma=0.3),
        1.1,
        (0.245601034, 0.214329715, 0.144473358),
        (1.022688277, 0.879866181, 0.521424416),
    ),
}
# The same with two students and two teachers.
PAIRS = {
    "least_squares": (
        losses.LeastSquares(sigma=0.5, columns=2),
        0.6,
        (0.902027862, 0.700188008, 0.460304958),
        (1.377328445, 1.042417590, 0.487664589),
    ),
    "erf_committee": (
        losses.ErfCommittee([0.7, 1.2], [1.0, -0.5], sigma=0.2),
        0.7,
        (0.358401050, 0.273588451, 0.133807509),
        (1.996476468, 2.062474565, 2.319402825),
    ),
}


def system(loss, rate, integrator=FINE, block=BLOCK, **options):
    spectrum = hd.spectra.explicit(**SPECTRUM)
    start = GramStart(np.asarray(spectrum.weights)[:, None, None] * block, len(block) // 2)
    return OnePassSGD(loss, spectrum, rate, start, integrator=integrator, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_curves(name):
    loss, rate, risk, distance = REFERENCE[name]
    model = system(loss, rate)
    found = model.limit(TIMES, save=model.statistics).values
    np.testing.assert_allclose(found["risk"], risk, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(found["distance"], distance, rtol=1e-8, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_two_columns(name):
    loss, rate, risk, distance = PAIRS[name]
    model = system(loss, rate, block=GRAM)
    found = model.limit(TIMES, save=model.statistics).values
    np.testing.assert_allclose(found["risk"], risk, rtol=1e-8)
    np.testing.assert_allclose(found["distance"], distance, rtol=1e-8)


def test_ridge_and_batches():
    model = system(losses.Logistic(), 2.0, ridge=0.3, batch_size=4)
    risk = model.limit(jnp.array([2.0]), save=lambda s: model.statistics(s)["risk"]).values
    np.testing.assert_allclose(risk, 0.630187941, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ridge"),
    [("least_squares", 0.4), ("logistic", 0.0), ("phase_retrieval", 0.4), ("lipschitz", 0.0)],
)
def test_exponential_midpoint_is_of_order_two(name, ridge):
    loss, rate, *_ = REFERENCE[name]

    @jax.jit
    def risk(model):
        return model.limit(TIMES[-1:], save=lambda s: model.statistics(s)["risk"]).values[0]

    def error(steps):
        integrator = hd.Integrator(ExponentialMidpoint(), steps=steps)
        return abs(float(risk(system(loss, rate, integrator, ridge=ridge))) - exact)

    exact = float(risk(system(loss, rate, FINE, ridge=ridge)))
    errors = [error(steps) for steps in (16, 32, 64)]
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.all((ratios > 3.3) & (ratios < 4.7)), (errors, ratios)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", [ExponentialMidpoint(), diffrax.Tsit5(), diffrax.Dopri8(), diffrax.Kvaerno5()]
)
def test_solvers_agree_to_tolerance(solver):
    loss, rate, risk, _ = REFERENCE["logistic"]
    model = system(loss, rate, hd.Integrator(solver, rtol=1e-6, atol=1e-9))
    found = model.limit(TIMES, save=lambda s: model.statistics(s)["risk"]).values
    np.testing.assert_allclose(found, risk, rtol=2e-5)


@pytest.mark.slow
def test_stiff_power_law_keeps_blocks_semidefinite():
    """lambda_max about 860: 20 exponential steps where an explicit solver needs thousands."""
    spectrum = hd.spectra.power_law(2000, exponent=1.2)
    assert float(spectrum.eigenvalues.max()) > 300
    law = hd.streaming.GaussianStart()

    def path(steps):
        integrator = hd.Integrator(ExponentialMidpoint(), steps=steps)
        loss = losses.LeastSquares(sigma=0.1)
        model = OnePassSGD(loss, spectrum, 0.5, law, law, integrator=integrator)
        both = lambda s: (s.blocks, model.statistics(s)["risk"])  # noqa: E731
        return model.limit(jnp.array([0.5, 4.0]), save=both).values

    blocks, coarse = path(40)
    lowest = np.linalg.eigvalsh(np.asarray(blocks)).min()
    assert lowest > -1e-12
    _, exact = path(1000)
    np.testing.assert_allclose(coarse[1], exact[1], rtol=2e-3)


@pytest.mark.slow
def test_float32_reaches_tiny_risks():
    """Noiseless least squares in centred coordinates: no stall at the rounding of |X*|^2."""
    with jax.enable_x64(False):
        model = OnePassSGD(
            losses.LeastSquares(),
            hd.spectra.explicit([0.5, 1.5], [50, 50]),
            0.8,
            hd.streaming.GaussianStart(),
            hd.streaming.GaussianStart(),
            integrator=hd.Integrator(ExponentialMidpoint(), rtol=1e-4, atol=1e-30),
        )
        risk = model.limit(jnp.array([60.0]), save=lambda s: model.statistics(s)["risk"]).values
    assert risk.dtype == jnp.float32
    assert 0 < float(risk[0]) < 1e-9


@pytest.mark.slow
def test_resolvent_form():
    """The contour form of the ODE (section 2.4) gives the same blocks as the block form."""
    loss, rate, *_ = REFERENCE["logistic"]
    model = system(loss, rate)
    # Ellipse flattened to .3: nodes with Re z < 0 have growing modes that cancel analytically only.
    nodes = 64
    angle = 2 * np.pi * (np.arange(nodes) + 0.5) / nodes
    centre, half = 1.25, 1.25 * 0.75
    z = jnp.asarray(centre + half * (np.cos(angle) + 0.3j * np.sin(angle)))
    dz = jnp.asarray(half * (-np.sin(angle) + 0.3j * np.cos(angle)) / (1j * nodes))
    spectrum = model.spectrum
    blocks = model.start().blocks
    inverse = 1 / (z[:, None] - spectrum.eigenvalues[None].astype(complex))
    start = jnp.einsum("zg,gab->zab", inverse, blocks.astype(complex))
    trace = inverse @ (spectrum.weights * spectrum.eigenvalues).astype(complex)

    def contour_velocity(t, s, args):
        gram = jnp.einsum("z,zab->ab", dz, s)
        b = jnp.einsum("z,zab->ab", dz * z, s).real
        law = hd.streaming.projections.Projections(b, jnp.asarray(model.layout.frame), 1)
        found = hd.streaming.moments(model.loss, law, 0, None)  # in the frame
        h = found.stein.astype(complex)
        moved = jnp.einsum("zab,bm->zam", z[:, None, None] * s - gram[None], h)
        change = jnp.zeros_like(s).at[:, :, :1].add(-rate * moved)
        change = change + change.transpose(0, 2, 1)
        return change.at[:, :1, :1].add(
            rate**2 * trace[:, None, None] * found.noise.astype(complex)[None]
        )

    # diffrax advises against complex states: carry real and imaginary parts.
    def real_velocity(t, y, args):
        v = contour_velocity(t, jax.lax.complex(*y), args)
        return v.real, v.imag

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(real_velocity),
        diffrax.Dopri8(),
        0.0,
        3.0,
        None,
        (start.real, start.imag),
        saveat=diffrax.SaveAt(ts=TIMES),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-11),
    )
    s = jax.lax.complex(*solution.ys)
    expected = model.limit(TIMES, save=lambda summary: summary.blocks).values
    statistic = jnp.einsum("zg,tgab->tzab", inverse, expected.astype(complex))
    np.testing.assert_allclose(s, statistic, atol=1e-7)


@pytest.mark.slow
def test_gradient_through_the_limit_both_modes():
    def risk(rate, adjoint):
        integrator = hd.Integrator(rtol=1e-9, atol=1e-11, adjoint=adjoint)
        model = system(losses.LeastSquares(sigma=0.5), rate, integrator)
        return model.limit(jnp.array([1.0]), save=lambda s: model.statistics(s)["risk"]).values[0]

    reverse = diffrax.RecursiveCheckpointAdjoint()
    by_reverse = jax.grad(lambda r: risk(r, reverse))(0.8)
    by_forward = jax.jacfwd(lambda r: risk(r, diffrax.ForwardMode()))(0.8)
    step = 1e-5
    finite = (risk(0.8 + step, reverse) - risk(0.8 - step, reverse)) / (2 * step)
    np.testing.assert_allclose(by_reverse, finite, rtol=1e-5)
    np.testing.assert_allclose(by_forward, finite, rtol=1e-5)


@pytest.mark.slow
def test_tolerances_see_groups_of_tiny_weight():
    """One of 1000 eigenvalues is 380 times the mean, and much of the risk is its own."""
    law, ts = hd.streaming.GaussianStart(), jnp.array([8.0])

    def risk(integrator):
        loss, spectrum = (
            losses.LeastSquares(sigma=0.2),
            hd.spectra.power_law(1000, 1.5),
        )
        model = OnePassSGD(loss, spectrum, 0.4, law, law, integrator=integrator)
        return model.limit(ts, save=lambda s: model.statistics(s)["risk"]).values

    exact = risk(hd.Integrator(rtol=1e-9))
    np.testing.assert_allclose(risk(hd.Integrator()), exact, rtol=2e-6)
    np.testing.assert_allclose(
        risk(hd.Integrator(ExponentialMidpoint(), rtol=1e-6)), exact, rtol=1e-4
    )


def test_flows_of_drifts_that_are_not_symmetric():
    rng = np.random.default_rng(0)
    own = 30 * rng.standard_normal((3, 3)) + 60 * np.eye(3)
    factor, h = rng.standard_normal((3, 3)), 0.7
    noise = factor @ factor.T
    decay, integral, sheared = _doubled(*(jnp.asarray(x)[None] for x in (own, noise)), jnp.array(h))
    np.testing.assert_allclose(decay[0], expm(-h * own), atol=1e-10)
    np.testing.assert_allclose(integral[0] @ own, np.eye(3) - expm(-h * own), atol=1e-9)
    # Lyapunov's equation of the stationary noise, up to what has decayed.
    left = own.T @ np.asarray(sheared[0]) + np.asarray(sheared[0]) @ own
    right = noise - expm(-h * own).T @ noise @ expm(-h * own)
    np.testing.assert_allclose(left, right, atol=1e-8)
