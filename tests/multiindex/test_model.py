"""The limit of gradient flow has reference values, exact times and a derivative."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import GradientFlow, links
from hdjax.multiindex.flows import Joint, Planted, Profiled
from hdjax.multiindex.problem import OverlapSummary
from tests.multiindex.problems import A, M, gram

PROFILED = {
    0.5: (0.200629277, -0.025124101, 0.079825802),
    1.0: (0.489536960, -0.023553749, 0.101050003),
    2.0: (0.934739764, 0.071712654, 0.336664689),
}


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


def test_single_index_times_against_the_exact_integral():
    """t(g0 -> g1) = int dx / (4 S) in x = logit g; for h_2 (1/g0 - 1/g1 + logit)/8."""
    g0, g1 = 1e-4, 0.5
    exact = (1 / g0 - 1 / g1 + np.log(g1 / (1 - g1)) - np.log(g0 / (1 - g0))) / 8
    flow = GradientFlow(links.hermite_polynomial(2), 10**4, start=[[np.sqrt(g0)]])
    matrix = flow.limit(jnp.array([exact])).values.matrix
    assert float(matrix[0, 0, 0]) ** 2 == pytest.approx(g1, abs=1e-5)


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


def test_too_few_directions_have_bad_local_minima():
    """h_3 + .8 h_3 with q = 1: the profiled loss rests at .64 or 1.00, by the larger overlap."""
    link = links.from_coefficients({(3, 0): 1.0, (0, 3): 0.8})
    flow = GradientFlow(link, 20, directions=1)

    @jax.jit
    def end(matrix):
        ts = jnp.linspace(0, 20, 21)
        last = flow.limit(ts, OverlapSummary.of(matrix)).at(-1)
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientFlow(A, 10, metric="euclidean"), "metric"),
        (lambda: GradientFlow(A, 10, Planted(), form="odds"), "form"),
        (lambda: GradientFlow(A, 10, form="angle"), "form"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    with pytest.raises(TypeError, match="student"):
        GradientFlow(A, 10, "planted")
    with pytest.raises(TypeError, match="method"):
        GradientFlow(A, 10).simulator("full")
