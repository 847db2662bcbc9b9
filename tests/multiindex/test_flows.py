"""Reduced flows: reference values, the flow in R^d, limits of the ratio, starts."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import GradientFlow, flows, links
from hdjax.multiindex.flows import Joint, Planted, Profiled
from hdjax.multiindex.problem import OverlapSummary

A = links.from_coefficients({(1, 0): 0.8, (1, 1): 0.6, (0, 2): 0.5})
M = jnp.array([[0.2, 0.1], [-0.15, 0.25]])
RATES = {
    ("profiled", "embedded"): [[0.254698456, 0.021966240], [-0.175619680, 0.010270212]],
    ("profiled", "canonical"): [[0.254698456, 0.021966240], [-0.175619680, 0.010270212]],
    ("planted", "embedded"): [[1.391943617, 0.086513617], [0.301021396, 0.345304356]],
    ("planted", "canonical"): [[1.413314924, 0.050894772], [0.329516472, 0.359551894]],
}
PROFILED = {
    0.5: (0.200629277, -0.025124101, 0.079825802),
    1.0: (0.489536960, -0.023553749, 0.101050003),
    2.0: (0.934739764, 0.071712654, 0.336664689),
}


def gram(matrix):
    return np.einsum("...qr,...qs->...rs", matrix, matrix)


@pytest.mark.parametrize(("kind", "metric"), RATES)
def test_reference_velocities(kind, metric):
    student = Profiled() if kind == "profiled" else Planted()
    velocity, _ = flows.reduced_velocity(A, student, metric, (M, None))
    np.testing.assert_allclose(velocity, RATES[kind, metric], atol=1e-9)
    # The same from columns in R^d.
    target = jnp.eye(12, 2)
    w = multiindex.starts.lift(jax.random.key(3), M, target)
    np.testing.assert_allclose(w.T @ w, np.eye(2), atol=1e-14)
    full, _ = flows.full_velocity(A, student, metric, target, (w, None))
    np.testing.assert_allclose(full.T @ target, velocity, atol=1e-13)
    np.testing.assert_allclose(w.T @ full + full.T @ w, np.zeros((2, 2)), atol=1e-13)


def test_gradient_in_r_d_is_that_of_the_loss():
    """Along a retracted curve the loss falls at |W'|^2 (horizontal: the metric is Euclidean)."""
    target = jnp.eye(12, 2)
    w = multiindex.starts.lift(jax.random.key(3), M, target)

    def loss(t, velocity):
        columns, _ = jnp.linalg.qr(w + t * velocity)
        return Profiled().loss(A, flows.full_summary(columns, target, None))

    velocity, _ = flows.full_velocity(A, Profiled(), "horizontal", target, (w, None))
    slope = (loss(1e-5, velocity) - loss(-1e-5, velocity)) / 2e-5
    assert float(slope) == pytest.approx(-float((velocity**2).sum()), rel=1e-8)


@pytest.mark.parametrize("form", ["overlap", "odds"])
def test_reference_profiled_flow(form):
    ts = jnp.array(list(PROFILED))
    flow = GradientFlow(A, 100, start=M, form=form, integrator=hd.Integrator(rtol=1e-9))
    found = gram(flow.limit(ts).values.matrix)
    expected = np.array([[[a, b], [b, c]] for a, b, c in PROFILED.values()])
    np.testing.assert_allclose(found, expected, atol=2e-8)


@pytest.mark.slow
def test_reference_planted_and_joint_flows():
    planted = GradientFlow(A, 100, Planted(), start=M).limit(jnp.array([1.0])).values.matrix[0]
    expected = [[0.927178105, 0.106731079], [0.047101141, 0.850712136]]
    np.testing.assert_allclose(planted, expected, atol=1e-8)

    @jax.jit
    def loss(ratio):
        import equinox as eqx

        flow = eqx.tree_at(lambda f: f.student.ratio, joint, ratio)
        last = jax.tree.map(lambda x: x[0], flow.limit(jnp.array([1.5])).values)
        return flow.statistics(last)["loss"]

    joint = GradientFlow(A, 100, Joint(1.0), start=M)
    found = [float(loss(jnp.asarray(ratio))) for ratio in (1.0, 0.1, 0.01)]
    np.testing.assert_allclose(found, [0.862649, 0.715808, 0.691925], atol=1e-6)
    # A link that hardly moves from f* is planted.
    frozen = (
        GradientFlow(A, 100, Joint(1e9, start=A), start=M).limit(jnp.array([1.0])).values.matrix[0]
    )
    np.testing.assert_allclose(frozen, planted, atol=1e-7)


@pytest.mark.slow
def test_stiff_joint_flow_by_an_implicit_solver():
    integrator = hd.Integrator(diffrax.Kvaerno5(), rtol=1e-7)
    flow = GradientFlow(A, 100, Joint(1e-4), start=M, integrator=integrator)
    found = gram(flow.limit(jnp.array([1.0])).values.matrix)[0]
    assert found[0, 0] == pytest.approx(PROFILED[1.0][0], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("student", "directions", "metric"),
    [(Profiled(), 3, "embedded"), (Planted(), 2, "canonical"), (Joint(0.3), 2, "embedded")],
    ids=["profiled", "planted", "joint"],
)
def test_full_flow_in_r_d_is_the_reduced_one(student, directions, metric):
    flow = GradientFlow(
        A, 40, student, directions=directions, metric=metric, integrator=hd.Integrator(rtol=1e-10)
    )
    result = hd.compare(
        flow,
        [0.0, 1.0, 4.0, 12.0],
        key=jax.random.key(0),
        runs=3,
        start="realised",
        statistics=["loss", "cosines"],
        progress=False,
    )
    assert float(result.sup_error["loss"].max()) < 1e-8
    assert float(result.sup_error["cosines"].max()) < 1e-8
    # They did move.
    assert float(abs(result.runs["loss"][:, -1] - result.runs["loss"][:, 0]).min()) > 0.1


@pytest.mark.slow
def test_principal_angles_are_monotone_and_log_det_grows_by_the_trace():
    link = links.from_coefficients(
        {(1, 0, 0): 0.4, (1, 1, 0): 0.7, (0, 1, 1): 0.5, (1, 1, 1): 0.8, (0, 0, 3): -0.4}
    )
    start = multiindex.starts.haar_overlap(jax.random.key(5), jnp.asarray(30.0), 4, 3)
    flow = GradientFlow(link, 30, directions=4, start=start)
    path = flow.limit(jnp.linspace(0, 8, 81)).values
    cosines = np.linalg.eigvalsh(gram(path.matrix))
    assert np.diff(cosines, axis=0).min() > -1e-8
    assert cosines[-1].min() > 0.9
    # d log det Y / dt = 4 tr S, by Simpson's rule over the first half.
    slope = jax.jit(jax.vmap(lambda m: multiindex.averaging.energy_gradient(link, m)))
    traces = np.trace(slope(path.matrix[:41]), axis1=1, axis2=2)
    log_det = np.log(cosines[:41] / (1 - cosines[:41])).sum(axis=1)
    weights = np.array([1, *[4, 2] * 19, 4, 1]) * 0.1 / 3
    assert log_det[40] - log_det[0] == pytest.approx(4 * weights @ traces, rel=1e-5)
    # While G >= g I the smallest odds grow at least at the rate 4 lambda_min(S(g I)).
    smallest = cosines[:, 0]
    bound = np.diff(np.log(smallest / (1 - smallest))) / 0.1
    roots = jnp.sqrt(smallest[:-1])[:, None, None] * jnp.eye(3)[None]
    least = 4 * np.linalg.eigvalsh(slope(roots))[:, 0]
    assert (bound > least).all()
    assert least.min() > 0


def test_ridge_is_a_flow_of_a_shrunk_link():
    student = Profiled(ridge=jnp.array([0.0, 0.5, 0.2]))
    slope = student.slope(A, M, None)

    def objective(matrix):
        """The ridge objective minimised over the link, degree by degree, by its closed form."""
        averaged = multiindex.averaging.average(A, matrix)
        parts = [jnp.sum(averaged[k] ** 2) / (1 + rho) for k, rho in ((1, 0.5), (2, 0.2))]
        return -sum(parts)

    np.testing.assert_allclose(-jax.grad(objective)(M) / 2, slope, atol=1e-14)
    readout = student.readout(A, M, None)
    np.testing.assert_allclose(readout[1], multiindex.averaging.average(A, M)[1] / 1.5, atol=1e-15)


def test_single_index_times_against_the_exact_integral():
    """t(g0 -> g1) = int dx / (4 S) in x = logit g; for h_2 (1/g0 - 1/g1 + logit)/8."""
    g0, g1 = 1e-4, 0.5
    exact = (1 / g0 - 1 / g1 + np.log(g1 / (1 - g1)) - np.log(g0 / (1 - g0))) / 8
    flow = GradientFlow(links.hermite_polynomial(2), 10**4, start=[[np.sqrt(g0)]])
    matrix = flow.limit(jnp.array([exact])).values.matrix
    assert float(matrix[0, 0, 0]) ** 2 == pytest.approx(g1, abs=1e-5)


@pytest.mark.slow
def test_haar_law_by_moments():
    """E tr G = qr/d and E det G = prod (q - i)/(d - i) within four standard errors, at d = 7."""
    q, r, n = 3, 2, 20_000
    keys = jax.random.split(jax.random.key(0), n)
    d = jnp.asarray(7.0)
    m = jax.jit(jax.vmap(lambda key: multiindex.starts.haar_overlap(key, d, q, r)))(keys)
    g = gram(np.asarray(m))
    for values, mean in (
        (np.trace(g, axis1=1, axis2=2), q * r / 7),
        (np.linalg.det(g), q / 7 * (q - 1) / 6),
        (np.asarray(m)[:, 0, 1], 0.0),
        (np.asarray(m)[:, 0, 1] ** 2, 1 / 7),
        (np.asarray(m)[:, 2, 0] ** 4, 3 / (7 * 9)),
    ):
        assert abs(values.mean() - mean) < 4 * values.std() / np.sqrt(n)
    # The odds factor of the same draw has the same G.
    factor = jax.vmap(lambda key: multiindex.starts.haar_odds(key, d, q, r))(keys[:5])
    y = gram(np.asarray(factor))
    np.testing.assert_allclose(y @ np.linalg.inv(np.eye(2) + y), g[:5], atol=1e-12)


def test_small_dimensions_and_common_random_numbers():
    tight = GradientFlow(A, 3)  # d < q + r: one angle is exactly zero
    m = tight.problem.sample(jax.random.key(1))
    assert np.linalg.svd(m)[1].max() == pytest.approx(1, abs=1e-12)
    w = multiindex.starts.lift(jax.random.key(2), m, jnp.eye(3, 2))
    np.testing.assert_allclose(w.T @ w, np.eye(2), atol=1e-7)
    np.testing.assert_allclose(w.T @ jnp.eye(3, 2), m, atol=1e-12)
    key = jax.random.key(4)
    small, large = (
        multiindex.starts.haar_overlap(key, jnp.asarray(d), 2, 2) * d**0.5 for d in (1e6, 1e12)
    )
    np.testing.assert_allclose(small, large, rtol=5e-3)


def test_odds_are_the_inverse_of_overlaps():
    back = flows.from_odds(flows.to_odds(M))
    np.testing.assert_allclose(back.matrix, M, atol=1e-15)
    np.testing.assert_allclose(back.gap, np.eye(2) - M.T @ M, atol=1e-15)
    far = flows.from_odds(1e9 * jnp.eye(2))
    np.testing.assert_allclose(far.gap, 1e-18 * np.eye(2), rtol=1e-6)


@pytest.mark.slow
def test_single_precision_beside_double():
    """A method casts: the run is in 32 bits, its summary in those of the limit."""
    flow = GradientFlow(A, 10**4, Joint(0.5))
    method = multiindex.Reduced(hd.Integrator(rtol=1e-5), dtype="float32")
    simulator = flow.simulator(method)
    key = jax.random.key(0)
    state = simulator.init(key)
    assert {x.dtype for x in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    start, end = simulator.summary(state), jnp.asarray(simulator.clock.ticks(np.array([3.0]))[0])
    final = jax.jit(lambda s: simulator.summary(simulator.advance(s, 0 * end, end, key)))(state)
    limit = flow.limit(jnp.array([3.0]), start).values
    assert final.matrix.dtype == limit.matrix.dtype == jnp.float64
    np.testing.assert_allclose(final.matrix, limit.matrix[0], rtol=1e-3, atol=1e-5)
    assert abs(final.matrix - limit.matrix[0]).max() > 1e-9
    columns, _ = GradientFlow(A, 12).simulator(multiindex.FullFlow(dtype="float32")).init(key)
    assert columns.dtype == jnp.float32


@pytest.mark.slow
def test_gradient_of_the_limit():
    """The derivative of the final overlap in the start, against a difference."""

    def final(x):
        flow = GradientFlow(A, 100, start=M)
        return flow.limit(jnp.array([0.5]), OverlapSummary.of(M.at[0, 0].set(x))).values.matrix[
            0, 0, 0
        ]

    slope = jax.grad(final)(0.2)
    h = 1e-4
    assert float(slope) == pytest.approx(float(final(0.2 + h) - final(0.2 - h)) / (2 * h), abs=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientFlow(A, 1), "dimension"),
        (lambda: GradientFlow(A, 2, directions=3), "dimension"),
        (lambda: GradientFlow(A, jnp.asarray(3.0)), "dimension"),
        (lambda: GradientFlow(A, 10, directions=0), "directions"),
        (lambda: GradientFlow(A, 10, start=[0.1, 0.2]), "start"),
        (lambda: GradientFlow(A, 10, start=[[0.1]]), "start"),
        (lambda: GradientFlow(A, 10, start=1.1 * jnp.eye(2)), "largest squared cosine"),
        (lambda: GradientFlow(A, 10, metric="euclidean"), "metric"),
        (lambda: GradientFlow(A, 10, Planted(), directions=3), "student"),
        (lambda: GradientFlow(A, 10, Joint(1.0, links.sine())), "student"),
        (lambda: GradientFlow(A, 10, Profiled(ridge=jnp.ones(2))), "ridge"),
        (lambda: GradientFlow(A, 10, Planted(), form="odds"), "form"),
        (lambda: GradientFlow(links.from_coefficients({(0,): 1.0}), 10), "constant"),
        (lambda: GradientFlow(links.from_coefficients({(2,): 0.0}), 10), "constant"),
        (lambda: Joint(0.0), "ratio"),
        (lambda: Profiled(-1.0), "ridge"),
        (lambda: multiindex.Reduced(dtype="float16"), "dtype"),
        (lambda: GradientFlow(A, 10, form="angle"), "form"),
        (lambda: hd.Integrator(rtol=0.0), "rtol"),
        (lambda: GradientFlow(A, jnp.asarray(50.0)).simulator(), "dimension"),
        (
            lambda: GradientFlow(A, 10).simulator(multiindex.Anisotropic(np.ones(9))),
            "eigenvalues",
        ),
        (lambda: multiindex.Anisotropic(np.zeros(9)), "eigenvalues"),
    ],
)
def test_wrong_flows(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    with pytest.raises(TypeError, match="link"):
        GradientFlow(lambda z: z[0], 10)
    with pytest.raises(TypeError, match="student"):
        GradientFlow(A, 10, "planted")
    with pytest.raises(TypeError, match="method"):
        GradientFlow(A, 10).simulator("full")


def test_warnings_of_what_cannot_find_all_directions():
    with pytest.warns(UserWarning, match="bad local minima"):
        GradientFlow(A, 10, directions=1).validate()
    with pytest.warns(UserWarning, match="never learnt"):
        GradientFlow(A, 10, start=[[0.1, 0.0], [0.2, 0.0]]).validate()


def test_too_few_directions_have_bad_local_minima():
    """h_3 + .8 h_3 with q = 1: the profiled loss rests at .64 or 1.00, by the larger overlap."""
    link = links.from_coefficients({(3, 0): 1.0, (0, 3): 0.8})
    flow = GradientFlow(link, 20, directions=1)

    @jax.jit
    def end(matrix):
        last = jax.tree.map(
            lambda x: x[0], flow.limit(jnp.array([20.0]), OverlapSummary.of(matrix)).values
        )
        return flow.statistics(last)["loss"]

    for start, loss in (([[0.6, 0.3]], 0.64), ([[-0.3, 0.7]], 1.0)):
        assert float(end(jnp.array(start))) == pytest.approx(loss, abs=1e-8)


def test_irrelevant_directions_and_truncation_floor():
    """L reaches 0 while a squared cosine does not; a truncated link keeps its residual as floor."""
    link = links.from_coefficients({(1, 0): 1.0})
    flow = GradientFlow(link, 10, start=[[0.3, 0.0], [0.0, 0.2]])
    last = jax.tree.map(lambda x: x[0], flow.limit(jnp.array([12.0])).values)
    values = flow.statistics(last)
    assert float(values["loss"]) < 1e-8
    assert float(values["cosines"][-1]) < 0.05
    cut = links.sine(2.0, 3)
    loss = Profiled().loss(cut, OverlapSummary.of(jnp.eye(1)))
    assert float(loss) == pytest.approx(float(cut.residual), abs=1e-12)
    assert float(cut.residual) > 0.1


@pytest.mark.slow
def test_anisotropic_flow():
    """Preconditioned it is the isotropic reduced flow; the plain one is not, and keeps W^T W."""
    eigenvalues = np.linspace(0.5, 2.0, 24)
    flow = GradientFlow(A, 24, start=M, integrator=hd.Integrator(rtol=1e-10))
    link = flow.problem.link
    method = multiindex.Anisotropic(eigenvalues)
    simulator = flow.simulator(method)
    key, end = jax.random.key(0), jnp.asarray(simulator.clock.ticks(np.array([2.0]))[0])
    zero = jnp.zeros_like(end)
    start = simulator.init(key)
    np.testing.assert_allclose(simulator.summary(start).matrix, M, atol=1e-12)
    final = jax.jit(lambda s: simulator.summary(simulator.advance(s, zero, end, key)))(start)
    limit = flow.limit(jnp.array([2.0])).values
    np.testing.assert_allclose(gram(final.matrix), gram(limit.matrix)[0], atol=1e-9)

    plain = flow.simulator(multiindex.Anisotropic(eigenvalues, preconditioned=False))
    moved = jax.jit(lambda s: plain.advance(s, zero, end, key))(start)
    np.testing.assert_allclose(moved.T @ moved, start.T @ start, atol=1e-7)
    assert np.abs(gram(plain.summary(moved).matrix) - gram(limit.matrix)[0]).max() > 0.01

    # The gradient against differences of the loss |f~|^2 - E(G).
    scale, target = jnp.asarray(eigenvalues), plain.target

    def loss(w):
        matrix = multiindex.anisotropic.anisotropic_overlap(scale, w, target)
        return Profiled().loss(link, OverlapSummary.of(matrix))

    from hdjax.multiindex.anisotropic import gradient

    own = gradient(link, scale, start, target)
    direction = jax.random.normal(jax.random.key(9), start.shape)
    h = 1e-5
    slope = (loss(start + h * direction) - loss(start - h * direction)) / (2 * h)
    assert float((own * direction).sum()) == pytest.approx(float(slope), rel=1e-6)
