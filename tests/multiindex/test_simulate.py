"""Gradient flow in R^d and from drawn overlaps is the reduced flow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import multiindex
from hdjax.multiindex import GradientFlow
from hdjax.multiindex.flows import Joint, Planted, Profiled
from tests.multiindex.problems import A, gram


def test_both_methods_start_at_the_same_overlap():
    """In R^d the columns are orthonormal; W* is the first coordinate vectors."""
    flow, key = GradientFlow(A, 12, directions=3), jax.random.key(2)
    columns, _ = flow.simulator(multiindex.FullFlow()).init(key)
    matrix, _ = flow.simulator(multiindex.Reduced()).init(key)
    np.testing.assert_allclose(gram(columns), np.eye(3), atol=1e-14)
    np.testing.assert_allclose(columns[:2].T, matrix, atol=1e-14)


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiindex.FullFlow(dtype="float16"), "dtype"),
        (lambda: multiindex.Reduced(dtype="float16"), "dtype"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
