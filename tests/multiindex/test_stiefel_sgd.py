"""One-pass SGD on the Stiefel manifold follows its limit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import gaussian
from hdjax.multiindex import StiefelSGD, links
from hdjax.multiindex.flows import Planted, Profiled
from tests.multiindex.problems import B


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StiefelSGD(B, 10, -0.1), "learning_rate"),
        (lambda: StiefelSGD(B, 10, 0.1, noise=-0.1), "noise"),
        (lambda: StiefelSGD(B, 10, 0.1, projection="polar"), "projection"),
        (lambda: StiefelSGD(B, 10, 0.1, projection="embedded", reuse=0.1), "reuse"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    for make, message in (
        (lambda: StiefelSGD(B, 10, 0.1, Profiled(0.1)), "student"),
        (lambda: StiefelSGD(B, 10, 0.1).simulator("direct"), "method"),
    ):
        with pytest.raises(TypeError, match=message):
            make()
