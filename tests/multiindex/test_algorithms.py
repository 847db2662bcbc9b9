"""Descent, finite samples, one-pass SGD: recursions, limits, readouts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import gaussian, multiindex
from hdjax.multiindex import FiniteSamples, StiefelDescent, StiefelSGD, links
from hdjax.multiindex.descent import Adaptive
from hdjax.multiindex.flows import Planted, Profiled
from hdjax.multiindex.links import from_coefficients

A = from_coefficients({(1, 0): 0.8, (1, 1): 0.6, (0, 2): 0.5})
B = from_coefficients({(1,): 0.8, (2,): 0.6})
M = jnp.array([[0.2, 0.1], [-0.15, 0.25]])


def test_reference_descent_and_the_odds_recursion():
    matrix = StiefelDescent(A, 40, 0.05, start=M).limit(jnp.array([0.0, 20.0])).values.matrix[-1]
    g = np.asarray(matrix.T @ matrix)
    expected = [[0.476648011, -0.024345702], [-0.024345702, 0.098702260]]
    np.testing.assert_allclose(g, expected, atol=1e-9)
    # Y_+ = Phi Y Phi with Phi = I + 2 eta (I - 2 eta S G)^{-1} S.
    g0, s, eta = np.asarray(M.T @ M), np.asarray(multiindex.averaging.energy_gradient(A, M)), 0.05
    y0 = g0 @ np.linalg.inv(np.eye(2) - g0)
    phi = np.eye(2) + 2 * eta * np.linalg.solve(np.eye(2) - 2 * eta * s @ g0, s)
    one = StiefelDescent(A, 40, eta, start=M).limit(jnp.array([1.0])).values.matrix[0]
    g1 = np.asarray(one.T @ one)
    np.testing.assert_allclose(g1 @ np.linalg.inv(np.eye(2) - g1), phi @ y0 @ phi, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "retraction"), [(Profiled(), "polar"), (Planted(), "exponential")]
)
def test_descent_in_r_d_is_the_recursion(student, retraction):
    system = StiefelDescent(A, 40, 0.05, student, retraction=retraction)
    result = hd.compare(
        system,
        [0, 7, 60],
        key=jax.random.key(1),
        runs=2,
        start="realised",
        statistics=["overlaps"],
        progress=False,
    )
    assert float(result.sup_error["overlaps"].max()) < 1e-12
    assert float(abs(result.runs["overlaps"][:, -1] - result.runs["overlaps"][:, 0]).max()) > 0.1


def test_one_adaptive_step_of_the_population_finds_a_single_index():
    """2 eta S g = 1 sends W to W* at once, whatever the overlap."""
    system = StiefelDescent(links.hermite_polynomial(3), 10**4, Adaptive(0.5), start=[[0.01]])
    assert float(system.limit(jnp.array([1.0])).values.matrix[0, 0, 0]) == pytest.approx(
        1, abs=1e-6
    )


def test_geodesics_have_the_length_of_the_step():
    """At r = 1 the angle to W* falls by the norm of the step, 2 eta m S (1 - m^2)^{1/2}."""
    m, eta = 0.4, 0.07
    system = StiefelDescent(B, 40, eta, start=[[m]], retraction="exponential")
    after = float(system.limit(jnp.array([1.0])).values.matrix[0, 0, 0])
    s = float(multiindex.averaging.energy_gradient(B, jnp.array([[m]]))[0, 0])
    length = 2 * eta * m * s * np.sqrt(1 - m**2)
    assert np.arccos(m) - np.arccos(after) == pytest.approx(length, abs=1e-12)


@pytest.mark.slow
def test_what_predicts_no_fluctuations_says_why():
    flow = multiindex.GradientFlow(A, 40)
    for system, why in (
        (flow, "deterministic given its start"),
        (StiefelDescent(A, 40, 0.1), "deterministic given its start"),
        (FiniteSamples(A, 40, 100), "same n samples"),
    ):
        with pytest.raises(hd.NoFluctuationsError, match=why):
            system.fluctuations(jnp.array([1.0]), flow.statistics)
    # Of a Haar start of SGD: entries of variance 1/d.
    sgd, overlaps = StiefelSGD(A, 400, 0.1), lambda summary: {"overlaps": summary.matrix}
    spread = eqx.filter_jit(lambda system: system.fluctuations(jnp.array([0.0]), overlaps))(sgd)
    np.testing.assert_allclose(spread["overlaps"][0], np.full((2, 2), 1 / 20), rtol=1e-12)


@pytest.mark.slow
def test_sgd_reference_values():
    planted = StiefelSGD(B, 100, 0.15, start=[[0.2]])
    profiled = StiefelSGD(B, 100, 0.15, Profiled(), start=[[0.2]])
    m = jnp.array([[0.2]])
    noise = eqx.filter_jit(lambda system: system.noise_matrix(m)[0, 0])
    assert float(noise(planted)) == pytest.approx(22.749184, abs=1e-8)
    assert float(noise(profiled)) == pytest.approx(0.115786383, abs=1e-8)
    found = planted.limit(jnp.array([0.4, 0.8, 1.2, 1.6])).values.matrix[:, 0, 0]
    expected = [0.268413337, 0.333825032, 0.396020469, 0.454799530]
    np.testing.assert_allclose(found, expected, atol=2e-7)
    found = profiled.limit(jnp.array([0.8, 1.6, 4.0])).values.matrix[:, 0, 0]
    np.testing.assert_allclose(found, [0.233035597, 0.271386848, 0.424913874], atol=2e-7)


def test_drift_by_quadrature_is_that_of_the_tensors():
    """-E[g_u (z - M^T u)^T] is the horizontal velocity; label noise adds to V."""
    system = StiefelSGD(A, 100, 1.0, start=M)
    drift, noise = eqx.filter_jit(lambda system: system._moments(M))(system)
    velocity, _ = multiindex.flows.reduced_velocity(A, Planted(), "horizontal", (M, None))
    np.testing.assert_allclose(drift, velocity, atol=1e-12)
    noisy = StiefelSGD(A, 100, 1.0, noise=0.7, start=M)
    noisy = eqx.filter_jit(lambda system: system.noise_matrix(M))(noisy)
    cov = multiindex.averaging.gradient_covariance(A.tensors, 2)
    np.testing.assert_allclose(noisy - noise, 4 * 0.49 * cov, atol=1e-12)
    # An inner step of zero changes nothing.
    idle = StiefelSGD(A, 100, 1.0, reuse=0.0, noise=0.7, start=M, rule=gaussian.GaussHermite(4))
    moved = eqx.filter_jit(lambda system: system.velocity(M))(idle)
    np.testing.assert_allclose(moved, velocity - noisy @ M / 2, atol=1e-12)


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("projection", ["horizontal", "embedded"])
def test_sgd_follows_its_limit(projection):
    """Two bounded directions: means and spreads within four standard errors plus O(1/d)."""
    link = links.product(links.erf(5), links.sine(1.0, 5), degree=6)
    link = eqx.tree_at(lambda x: x.residual, link, jnp.zeros(()))
    start = jnp.array([[0.6, 0.1], [-0.2, 0.5]])
    rule = gaussian.GaussHermite(8)
    system = StiefelSGD(link, 150, 1.5, noise=0.5, projection=projection, start=start, rule=rule)
    result = hd.compare(
        system,
        [0.0, 2.0],
        key=jax.random.key(2),
        runs=200,
        statistics=["overlaps"],
        progress=False,
    )
    error = np.asarray(result.mean["overlaps"][-1] - result.limit["overlaps"][-1])
    spread = np.asarray(result.std["overlaps"][-1]) / np.sqrt(200)
    assert (abs(error) < 4 * spread + 1.5 / 150).all(), error
    ratio = np.asarray(result.std["overlaps"][-1]) / np.asarray(
        result.predicted_std["overlaps"][-1]
    )
    assert (abs(ratio - 1) < 4 / np.sqrt(2 * 200) + 1.5 / 150).all(), ratio
    flow, moved = eqx.filter_jit(lambda s: (s._moments(start)[0], s.velocity(start)))(system)
    assert np.abs(moved - 1.5 * flow).max() > 0.1


@pytest.mark.slow
@pytest.mark.optimised
def test_reuse_finds_what_one_use_does_not():
    """h_3 (information exponent 3, generative exponent 1) with n = 60 d samples, d = 200."""
    cosines = {}
    for reuse in (0.0, 0.2):
        system = StiefelSGD(
            links.hermite_polynomial(3),
            200,
            0.1,
            Planted(links.sine()),
            reuse=reuse,
            rule=gaussian.GaussHermite(16),
        )
        result = hd.compare(
            system,
            [0.0, 60.0],
            key=jax.random.key(0),
            runs=8,
            start="realised",
            fluctuations=False,
            statistics=["cosines"],
            progress=False,
        )
        cosines[reuse] = result.runs["cosines"].values[:, -1, 0], result.limit["cosines"][:, -1, 0]
    runs, limit = cosines[0.2]
    assert runs.min() > 0.5
    assert abs(runs.mean() - limit.mean()) < 0.1
    assert np.median(cosines[0.0][0]) < 0.2


READOUTS = {
    "hermite": multiindex.readouts.HermiteRidge(3),
    "kernel": multiindex.readouts.KernelRidge(0.4),
    "random": multiindex.readouts.RandomFeatures(8, 3),
    "network": multiindex.readouts.Network(16, updates=30),
}


@pytest.mark.parametrize("name", READOUTS)
def test_gradient_is_that_of_the_ridge_objective(name):
    """Envelope theorem: the partial gradient at the fit against differences of the fitted value."""
    readout = READOUTS[name]
    x = jax.random.normal(jax.random.key(0), (40, 6))
    y = jnp.tanh(x[:, 0]) + 0.1 * x[:, 1]
    w, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (6, 2)))
    kept = readout.initial(jax.random.key(2), 2)

    def fitted(w):
        with jax.numpy_dtype_promotion("standard"):  # Optax counts in int32
            return readout.fit(kept, x @ w, y)

    def partial(w, parameters):
        values = jax.vmap(lambda u: readout.predict(parameters, u))(x @ w)
        return jnp.mean((y - values) ** 2)

    parameters = jax.jit(fitted)(w)
    assert float(partial(w, parameters)) < 0.7 * float(jnp.mean(y**2))
    if name == "network":
        return  # trained, not minimised

    def objective(w):
        """min over the link of the mean squared error and the penalty."""
        if name == "kernel":
            weights, points = fitted(w)
            gram = jax.vmap(lambda a: jax.vmap(lambda b: readout._kernel(a, b))(points))(points)
            penalty = readout.ridge * weights @ gram @ weights
            values = gram @ weights
            return jnp.mean((y - values) ** 2) + penalty
        weights = fitted(w)[0] if name == "random" else fitted(w)
        return partial(w, fitted(w)) + readout.ridge * jnp.sum(weights[1:] ** 2)

    def at_fixed_link(w):
        # The kernel's points move with W: their feature map is held, not their coordinates.
        if name == "kernel":
            weights, points = parameters
            u = x @ w
            cross = jax.vmap(lambda a: jax.vmap(lambda b: readout._kernel(a, b))(points))(u)
            return jnp.mean((y - cross @ weights) ** 2)
        return partial(w, parameters)

    whole, own = (jax.jit(jax.grad(value))(w) for value in (objective, at_fixed_link))
    np.testing.assert_allclose(own, whole, atol=2e-6)


def test_mehler_kernel_is_its_series():
    kernel = multiindex.readouts.KernelRidge(0.3)
    u, v = jnp.array([0.4, -0.7]), jnp.array([1.1, 0.2])
    rows = multiindex.hermite.all_indices(2, 30)
    both = multiindex.hermite.products(u, rows) * multiindex.hermite.products(v, rows)
    series = jnp.sum(0.3 ** jnp.asarray(rows.sum(1), float) * both)
    assert float(kernel._kernel(u, v)) == pytest.approx(float(series), abs=1e-12)


@pytest.mark.slow
@pytest.mark.optimised
def test_samples_approach_the_recursion_like_their_inverse_root():
    """The distance to unlimited samples falls like n^-1/2: by 4 from n = 250 to 4000, within 2."""
    errors = []
    for n in (250, 4000):
        system = FiniteSamples(
            A, 12, n, multiindex.readouts.HermiteRidge(2), step=0.1, start=[[0.5, 0.1], [-0.2, 0.4]]
        )
        result = hd.compare(
            system,
            [0, 5, 10],
            key=jax.random.key(0),
            runs=12,
            statistics=["cosines"],
            progress=False,
        )
        errors.append(float(result.sup_error["cosines"].median()))
    assert 2 < errors[0] / errors[1] < 8
    assert errors[1] < 0.05


@pytest.mark.slow
def test_inputs_targets_and_fresh_samples():
    link = links.hermite_polynomial(2)
    options = dict(readout=multiindex.readouts.HermiteRidge(2), step=0.1, start=[[0.4]])
    system = FiniteSamples(link, 16, 4000, inputs="student", **options)
    for inputs, fourth in (("gaussian", 3.0), ("rademacher", 1.0), ("student", 3 + 6 / 5)):
        drawn = FiniteSamples(link, 16, 4000, inputs=inputs, **options)
        x, y = drawn.draw(jax.random.key(0), drawn.directions())
        assert float((x**2).mean()) == pytest.approx(1, abs=0.03)
        assert float((x**4).mean()) == pytest.approx(fourth, abs=0.3)
        np.testing.assert_allclose(y, jax.vmap(link)(x @ drawn.directions()), atol=1e-12)
    w = system.directions()
    assert float((w**4).sum()) == pytest.approx(1.5 / 16)
    axis = FiniteSamples(link, 16, 50, target="axis", inputs="rademacher", **options)
    assert float(axis.directions()[0, 0]) == 1
    # The square of a sign is constant: labels hold nothing.
    x, y = axis.draw(jax.random.key(0), axis.directions())
    assert float(jnp.ptp(y)) < 1e-12
    fresh = FiniteSamples(link, 16, 50, fresh=True, **options).simulator()
    key, two = jax.random.key(0), jnp.asarray(2)
    state = fresh.init(key)
    whole = fresh.advance(state, 0 * two, two, key)
    parts = fresh.advance(fresh.advance(state, 0 * two, two - 1, key), two - 1, two, key)
    np.testing.assert_array_equal(whole.w, parts.w)
    assert float(jnp.abs(whole.x - state.x).max()) > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StiefelDescent(A, 10, 0.0), "step"),
        (lambda: StiefelDescent(A, 10, 0.1, retraction="qr"), "retraction"),
        (lambda: Adaptive(-1.0), "factor"),
        (lambda: FiniteSamples(A, 10, 0), "samples"),
        (lambda: FiniteSamples(A, 10, 5, inputs="cauchy"), "inputs"),
        (lambda: FiniteSamples(A, 10, 5, target="here"), "target"),
        (lambda: FiniteSamples(A, 2, 5, target="spread"), "dimension"),
        (lambda: FiniteSamples(A, 10, 5, noise=-1.0), "noise"),
        (lambda: FiniteSamples(A, 10, 5, multiindex.readouts.HermiteRidge(1)), "degree"),
        (lambda: FiniteSamples(A, 10, 5, multiindex.readouts.Fixed(B)), "student"),
        (lambda: multiindex.readouts.HermiteRidge(0), "degree"),
        (lambda: multiindex.readouts.KernelRidge(1.5), "rho"),
        (lambda: multiindex.readouts.Network(updates=0), "updates"),
        (lambda: StiefelSGD(B, 10, -0.1), "learning_rate"),
        (lambda: StiefelSGD(B, 10, 0.1, noise=-0.1), "noise"),
        (lambda: StiefelSGD(B, 10, 0.1, projection="polar"), "projection"),
        (lambda: StiefelSGD(B, 10, 0.1, projection="embedded", reuse=0.1), "reuse"),
    ],
)
def test_wrong_algorithms(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    for make, message in (
        (lambda: StiefelDescent(A, 10, 0.1, multiindex.flows.Joint(1.0)), "student"),
        (lambda: FiniteSamples(A, 10, 5, "ridge"), "readout"),
        (lambda: StiefelSGD(B, 10, 0.1, Profiled(0.1)), "student"),
        (lambda: StiefelSGD(B, 10, 0.1).simulator("direct"), "method"),
        (lambda: StiefelDescent(A, 10, 0.1).simulator("direct"), "method"),
        (lambda: FiniteSamples(A, 10, 5).simulator("direct"), "method"),
    ):
        with pytest.raises(TypeError, match=message):
            make()
