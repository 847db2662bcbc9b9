"""Risk, H and C: reference values, generic path against closed forms, Stein's identity."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.gaussian import Trapezoid
from hdjax.streaming import moments
from hdjax.streaming.limit import block_path
from hdjax.streaming.moments import quadrature_moments
from hdjax.streaming.projections import Projections

B = np.array([[0.8, 0.3], [0.3, 1.1]])
# frame of W' = [X - X* | X*]: B = A^T B' A.
CENTRE = np.array([[1.0, 0.0], [1.0, 1.0]])

REFERENCE = {
    "least_squares": (hd.streaming.losses.LeastSquares(sigma=0.5), 0.775, (1.0, -1.0), 1.55),
    "soft": (
        hd.streaming.losses.Logistic("soft"),
        0.7240000872,
        (0.2132045456, -0.2035791499),
        0.0571366021,
    ),
    "sampled": (
        hd.streaming.losses.Logistic("sampled"),
        0.7240000872,
        (0.2132045456, -0.2035791499),
        0.2607157519,
    ),
    "hard": (
        hd.streaming.losses.Logistic("hard"),
        0.6709608703,
        (0.2132045456, -0.3803765396),
        0.2379172453,
    ),
    "phase_retrieval": (hd.streaming.losses.PhaseRetrieval(), 3.43, (5.2, -2.4), 93.12),
    "lipschitz": (
        hd.streaming.losses.LipschitzPhaseRetrieval(),
        0.6439806377,
        (0.5853999233, -0.4144643366),
        2.5759225507,
    ),
    "huber": (
        hd.streaming.losses.Huber(0.7, sigma=(0.3, 3.0), probabilities=(0.8, 0.2)),
        0.6735394583,
        (0.3923786530, -0.3923786530),
        0.3590872085,
    ),
    "absolute": (
        hd.streaming.losses.AbsoluteError(sigma=(0.3, 3.0), probabilities=(0.8, 0.2)),
        1.2646935864,
        (0.5911278082, -0.5911278082),
        1.0,
    ),
    "hinge": (
        hd.streaming.losses.Hinge(),
        0.8601127487,
        (0.3089571852, -0.6702237057),
        0.8140141122,
    ),
    "relu": (
        hd.streaming.losses.ReLUUnit(sigma=0.3),
        0.2879975797,
        (0.3231749904, -0.3018080421),
        0.3660315086,
    ),
}


def centred(gram=B):
    inverse = np.linalg.inv(CENTRE)
    return Projections(jnp.asarray(inverse.T @ gram @ inverse), jnp.asarray(CENTRE), 1)


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("frame", ["natural", "centred"])
def test_reference_values(name, frame):
    loss, risk, h, c = REFERENCE[name]
    law = Projections.natural(jnp.asarray(B), 1) if frame == "natural" else centred()
    found = moments(loss, law, 0, None)
    natural = np.linalg.solve(np.asarray(law.frame), np.asarray(found.stein))
    np.testing.assert_allclose(found.risk, risk, rtol=2e-9)
    np.testing.assert_allclose(natural[:, 0], h, rtol=2e-9)
    np.testing.assert_allclose(found.noise[0, 0], c, rtol=2e-9)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("least_squares", 1e-9),
        ("soft", 1e-9),
        ("sampled", 2e-2),
        ("hard", 2e-2),
        ("phase_retrieval", 1e-9),
        ("lipschitz", 2e-2),
        ("huber", 2e-3),
        ("absolute", 2e-3),
        ("hinge", 5e-2),
        ("relu", 2e-2),
    ],
)
@pytest.mark.parametrize("frame", ["natural", "centred"])
def test_generic_path_agrees(name, tolerance, frame):
    # Non-smooth losses: a tensor rule meets the jump at a random place of its grid.
    loss = REFERENCE[name][0]
    law = Projections.natural(jnp.asarray(B), 1) if frame == "natural" else centred()
    closed, generic = moments(loss, law, 0, None), quadrature_moments(loss, law, 0, None)
    np.testing.assert_allclose(generic.risk, closed.risk, rtol=tolerance)
    np.testing.assert_allclose(generic.stein, closed.stein, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(generic.noise, closed.noise, rtol=tolerance)


def cauchy(x, teacher, component, noise, theta):
    return jnp.log1p((x[0] - teacher[0]) ** 2)


def quantile(x, teacher, component, noise, theta):
    error = x[0] - teacher[0] - noise[0]
    return jnp.maximum(0.7 * error, -0.3 * error)


def log_cosh(x, teacher, component, noise, theta):
    u = x[0] - jnp.tanh(teacher[0])
    return jnp.logaddexp(u, -u) - jnp.log(jnp.asarray(2.0, u.dtype))


USER = {
    "cauchy": hd.streaming.losses.FunctionLoss(cauchy),
    "quantile": hd.streaming.losses.FunctionLoss(
        quantile, noise=hd.streaming.losses.GaussianNoise(jnp.asarray(0.6)), smooth=False
    ),
    "log_cosh": hd.streaming.losses.FunctionLoss(log_cosh),
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", [*(REFERENCE[n][0] for n in REFERENCE), *USER.values()])
def test_derivative_of_risk_is_b_h(loss):
    """d/dh R((I + hE)^T B (I + hE)) at 0 with E = e_a e_1^T is (B H)_{a1} (math, section 3)."""
    found = moments(loss, Projections.natural(jnp.asarray(B), 1), 0, None)

    def risk(step, a):
        matrix = jnp.eye(2).at[a, 0].add(step)
        return moments(loss, Projections.natural(matrix.T @ B @ matrix, 1), 0, None).risk

    expected = B @ np.asarray(found.stein)
    smooth = loss.smooth or not isinstance(loss, hd.streaming.losses.FunctionLoss)
    for a in range(2):
        derivative = jax.jacfwd(risk)(0.0, a)
        np.testing.assert_allclose(
            derivative, expected[a, 0], rtol=1e-7 if smooth else 1e-2, atol=1e-8
        )


def test_quantile_loss_against_its_closed_form():
    # g = 0.7 - 1{u < 0} with u ~ N(0, s^2), s^2 = Q - 2M + P + sigma^2: E[u g] = s^2 h,
    # h = phi(0)/s, and C = E g^2 = (0.7^2 + 0.3^2)/2.
    found = moments(USER["quantile"], Projections.natural(jnp.asarray(B), 1), 0, None)
    s = np.sqrt(0.8 - 0.6 + 1.1 + 0.36)
    h = 1 / (np.sqrt(2 * np.pi) * s)
    np.testing.assert_allclose(found.stein[:, 0], [h, -h], rtol=1e-2)
    np.testing.assert_allclose(found.noise[0, 0], 0.29, rtol=1e-2)
    np.testing.assert_allclose(found.risk, s / np.sqrt(2 * np.pi), rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("gram", [np.ones((2, 2)), np.zeros((2, 2)), np.diag([0.0, 1.0])])
@pytest.mark.parametrize("loss", [*(REFERENCE[n][0] for n in REFERENCE), *USER.values()])
def test_singular_b_is_finite_with_gradient(gram, loss):
    by_sign = isinstance(loss, hd.streaming.losses.Hinge) or getattr(loss, "labels", None) == "hard"
    if by_sign and gram[1, 1] == 0:
        pytest.skip("P = 0: the label is not defined")

    def drift(gram):
        law = Projections.natural(gram, 1)
        found = moments(loss, law, 0, None)
        return jnp.sum(gram @ found.stein) + jnp.sum(found.noise) + found.risk

    value, gradient = jax.value_and_grad(drift)(jnp.asarray(gram))
    assert np.isfinite(value)
    if gram.any():
        assert np.isfinite(gradient).all()


def test_large_logits():
    """E s'(sqrt(Q) w) at Q = 900, where Gauss-Hermite fails, against adaptive quadrature."""
    from scipy.integrate import quad
    from scipy.special import expit

    found = moments(
        hd.streaming.losses.Logistic(),
        Projections.natural(jnp.diag(jnp.array([900.0, 1.0])), 1),
        0,
        None,
    )
    exact = quad(
        lambda w: expit(30 * w) * expit(-30 * w) * np.exp(-w * w / 2) / np.sqrt(2 * np.pi),
        -2,
        2,
        points=[0],
        epsabs=1e-13,
    )[0]
    np.testing.assert_allclose(found.stein[0, 0], exact, rtol=1e-8)


def softmax(x, teacher, component, noise, theta):
    return jax.nn.logsumexp(x) - x[component]


T1 = {
    "S": np.array([[0.8, -0.3, 0.1], [-0.4, 0.9, -0.2], [-0.1, -0.2, 0.5]]),
    "Q": np.array([[1.2, 0.1, -0.2], [0.1, 1.0, -0.3], [-0.2, -0.3, 0.9]]),
    "G": np.array([[1.0, 0.0, 0.5], [0.0, 1.44, 0.0], [0.5, 0.0, 1.25]]),
}


def mixture_field(
    loss, s, q, g, probabilities, eigenvalues, ridge, rate, theta=None, optimiser=None
):
    """A block field with students and means (natural frame) from Gram blocks alone."""
    optimiser = hd.streaming.optimisers.SGD() if optimiser is None else optimiser
    layout = hd.streaming.projections.Layout(s.shape[0], 0, s.shape[1], optimiser.memory)
    field = hd.streaming.field.BlockField(
        loss,
        hd.schedules.Constant(jnp.asarray(rate)),
        optimiser,
        jnp.asarray(ridge),
        jnp.asarray(probabilities),
        jnp.asarray(eigenvalues),
        jnp.ones(1),
        layout,
        1,
    )
    # Memories come first, and start at zero.
    blocks = jnp.pad(jnp.asarray(np.block([[q, s], [s.T, g]])), (layout.first, 0))[None]
    return field, (blocks, hd.streaming.limit.Side(theta))


def integrate(field, state, t):
    integrator = hd.Integrator(diffrax.Dopri8(), rtol=1e-9, atol=1e-11)
    alive = lambda y: jnp.isfinite(y[0]).all()  # noqa: E731
    ts = jnp.array([0.0, t])
    blocks, side = block_path(integrator, field, state, ts, lambda y: y, alive).values
    return np.asarray(blocks[-1].sum(0)), jax.tree.map(lambda x: np.asarray(x[-1]), side.theta)


@pytest.mark.slow
def test_softmax_mixture_reference():
    """Model S of the spectral-alignment note, T1: three classes, correlated means, lambda = 2."""
    loss = hd.streaming.losses.FunctionLoss(softmax, rule=Trapezoid(21, radius=6.0))
    field, state = mixture_field(
        loss, T1["S"], T1["Q"], T1["G"], [0.5, 0.3, 0.2], np.full((3, 1), 0.5), 0.1, 1.5
    )
    parts = field.component_moments(state)
    expected = [
        [-0.4554951533, 0.2017276653, 0.3135505119],
        [0.1928529640, -0.4329123117, 0.2407964463],
        [0.2626421892, 0.2311846464, -0.5543469582],
    ]
    np.testing.assert_allclose(np.asarray(parts.gradient).T, expected, atol=2e-7)
    loss_mean = float(jnp.dot(field.probabilities, parts.risk))
    np.testing.assert_allclose(loss_mean, 0.7281220496, atol=2e-7)
    gram, _ = integrate(field, state, 2.0)
    s_end = [
        [0.8259163, -0.3154691, 0.1449610],
        [-0.4424675, 0.8998193, -0.3123193],
        [-0.1612034, -0.2880230, 0.4636857],
    ]
    np.testing.assert_allclose(gram[:3, 3:], s_end, atol=2e-6)
    np.testing.assert_allclose(np.diag(gram)[:3], [1.2238373, 1.0502309, 0.7343232], atol=2e-6)


@pytest.mark.slow
def test_heavy_ball_reference():
    """Model S again, by heavy ball with c = 2 from no momentum."""
    field, state = mixture_field(
        hd.streaming.losses.FunctionLoss(softmax, rule=Trapezoid(15, radius=6.0)),
        *(T1[name] for name in "SQG"),
        [0.5, 0.3, 0.2],
        np.full((3, 1), 0.5),
        0.1,
        1.5,
        optimiser=hd.streaming.optimisers.HeavyBall(2.0),
    )
    gram, _ = integrate(field, state, 2.0)
    found = gram[3, 6], gram[5, 8], gram[3, 3], gram[3, 4]
    np.testing.assert_allclose(found, [0.8175157, 0.4791766, 1.1633323, -0.1263012], atol=2e-6)


@pytest.mark.slow
def test_adam_reference():
    """Model S once more, by Adam with second moments of .3 at the start."""
    optimiser = hd.streaming.optimisers.Adam(jnp.asarray(5.0), jnp.asarray(0.3))
    field, (blocks, _) = mixture_field(
        hd.streaming.losses.FunctionLoss(softmax, rule=Trapezoid(15, radius=6.0)),
        *(T1[name] for name in "SQG"),
        [0.5, 0.3, 0.2],
        np.full((3, 1), 0.5),
        0.1,
        0.5,
        optimiser=optimiser,
    )
    side = hd.streaming.limit.Side(None, None, optimiser.accumulator(1, 3))
    integrator = hd.Integrator(rtol=1e-8, atol=1e-10)
    alive = lambda y: jnp.isfinite(y[0]).all()  # noqa: E731
    ts, start = jnp.array([0.0, 2.0]), (blocks, side)
    blocks, side = block_path(integrator, field, start, ts, lambda y: y, alive).values
    found = [blocks[-1, 0, 0, 3], blocks[-1, 0, 0, 0], *side.accumulated[-1, 0]]
    expected = [0.8262907, 1.2429485, 0.0873905, 0.0575220, 0.0666508]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def xor(x, teacher, component, noise, theta):
    logit = jnp.dot(theta, jnp.tanh(x))
    label = jnp.where(component < 2, 1.0, 0.0).astype(x.dtype)
    return jnp.logaddexp(0.0, logit) - label * logit


@pytest.mark.slow
def test_xor_with_trained_second_layer_reference():
    """Model X of the spectral-alignment note, T2, tanh: side parameters theta = v are trained."""
    s = np.array([[0.9, -0.9, 0.2, -0.2], [-0.1, 0.1, 0.7, -0.7]])
    q = np.array([[1.3, 0.1], [0.1, 0.9]])
    g = np.kron(np.eye(2), np.array([[1.0, -1.0], [-1.0, 1.0]]))
    field, state = mixture_field(
        hd.streaming.losses.FunctionLoss(xor),
        s,
        q,
        g,
        np.full(4, 0.25),
        np.full((4, 1), 1 / 3),
        0.05,
        2.0,
        theta=jnp.array([0.8, -1.1]),
    )
    velocity = field.coefficients(jnp.zeros(()), state).side.theta
    np.testing.assert_allclose(velocity, [-0.2021722, 0.2478532], atol=1e-6)
    gram, theta = integrate(field, state, 2.0)
    np.testing.assert_allclose(theta, [0.5208724, -0.7389921], atol=1e-6)
    np.testing.assert_allclose(
        [gram[0, 2], gram[0, 4], gram[1, 4]], [0.6676627, 0.2690709, 0.4892030], atol=1e-6
    )
    np.testing.assert_allclose(
        [gram[0, 0], gram[0, 1], gram[1, 1]], [0.9119420, 0.1314171, 0.7206066], atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Projections.natural([[1.0, 2.0], [2.0, 1.0]], 1), "lowest eigenvalue -1"),
        (lambda: Projections.natural([[1.0, 0.5], [0.2, 1.0]], 1), "a symmetric matrix"),
        (lambda: Projections.natural([[1.0, np.nan], [np.nan, 1.0]], 1), "finite numbers"),
        (lambda: Projections.natural(jnp.ones(2), 1), r"covariance: shape \(2,\)"),
        (lambda: Projections.natural(jnp.eye(2), 3), "students: 3; allowed: 1 to 2"),
        (
            lambda: moments(
                hd.streaming.losses.LeastSquares(), Projections.natural(jnp.eye(3), 2), 0, None
            ),
            r"2 student and 1 teacher columns",
        ),
        (
            lambda: moments(
                hd.streaming.losses.MixtureSoftmax(3), Projections.natural(jnp.eye(2), 2), 0, None
            ),
            r"MixtureSoftmax\(3\): 3 and 0",
        ),
    ],
)
def test_laws_that_a_loss_does_not_take_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
