"""The practical algorithm on n samples tends to the recursion of unlimited samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import FiniteSamples, links
from tests.multiindex.problems import A, B


def test_spread_columns_are_a_discrete_cosine_transform():
    """They are the columns 1, 2, ... of the orthonormal transform, whose first one is constant."""
    basis = scipy.fft.idct(np.eye(12), axis=0, norm="ortho")
    found = FiniteSamples(A, 12, 5).directions()
    np.testing.assert_allclose(found, basis[:, 1:3], atol=1e-14)


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
        (lambda: FiniteSamples(A, 10, 0), "samples"),
        (lambda: FiniteSamples(A, 10, 5, inputs="cauchy"), "inputs"),
        (lambda: FiniteSamples(A, 10, 5, target="here"), "target"),
        (lambda: FiniteSamples(A, 2, 5, target="spread"), "dimension"),
        (lambda: FiniteSamples(A, 10, 5, noise=-1.0), "noise"),
        (lambda: FiniteSamples(A, 10, 5, multiindex.readouts.HermiteRidge(1)), "degree"),
        (lambda: FiniteSamples(A, 10, 5, multiindex.readouts.Fixed(B)), "student"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_wrong_types():
    for make, message in (
        (lambda: FiniteSamples(A, 10, 5, "ridge"), "readout"),
        (lambda: FiniteSamples(A, 10, 5).simulator("direct"), "method"),
    ):
        with pytest.raises(TypeError, match=message):
            make()
