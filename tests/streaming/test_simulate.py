"""Direct SGD: its exact mean at finite d, its clock, what it cannot simulate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import Direct, GaussianStart, OnePassSGD, losses
from tests.streaming.models import exact_mean_risk, least_squares, two_means


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("batch", [1, 3])
def test_exact_finite_dimensional_mean(batch):
    """Mean risk over 4000 runs against the exact recursion at d = 100: within 4 standard errors."""
    model = least_squares(100, batch_size=batch)
    result = hd.simulate(
        model, [0.0, 1.0, 3.0], key=jax.random.key(0), runs=4000, statistics=["risk"]
    )
    if batch == 1:
        np.testing.assert_allclose(exact_mean_risk(100, 300, 1), 0.2644918008, rtol=1e-9)
    for steps, index in ((100, 1), (300, 2)):
        exact = exact_mean_risk(100, steps, batch)
        error = float(result.std["risk"][index]) / np.sqrt(4000)
        assert abs(float(result.mean["risk"][index]) - exact) < 4 * error


def test_clock():
    model = two_means(100)
    simulator = model.simulator()
    ticks = simulator.clock.ticks(np.array([0.0, 0.29, 0.999, 1.0, 1e7]))
    np.testing.assert_array_equal(ticks, [0, 29, 99, 100, 10**9])
    assert ticks.dtype == np.int64
    np.testing.assert_allclose(simulator.clock.times(ticks)[:3], [0, 0.29, 0.99])


def test_clock_beyond_32_bits_needs_64_bit_integers():
    model = two_means(100)
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"less than 2\^31 ticks"):
        hd.make_plan(model, [3e7])


def test_summaries_are_gram_matrices_of_the_columns():
    """Of the columns as they are drawn, summed over each group of equal eigenvalues."""
    spectrum = hd.spectra.explicit([0.5, 2.0], [5, 3])
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.3, GaussianStart(), GaussianStart())
    simulator = model.simulator(Direct("float64"))
    state = simulator.init(jax.random.key(1))
    columns = np.concatenate([state.moving, state.frozen], axis=1)
    found = simulator.summary(state)
    for group, rows in enumerate((columns[:5], columns[5:])):
        np.testing.assert_allclose(found.natural[group], rows.T @ rows, rtol=1e-12)
    np.testing.assert_allclose(
        found.moment(jnp.square), columns.T @ np.diag([0.25] * 5 + [4.0] * 3) @ columns, rtol=1e-12
    )


@pytest.mark.slow
def test_compressed_spectrum_has_no_coordinates():
    spectrum = hd.spectra.power_law(200, 0.3).compress(6)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.3, GaussianStart(), GaussianStart())
    assert hd.limit(model, [0.0, 1.0]).limit["risk"][1] > 0
    with pytest.raises(ValueError, match="no coordinates"):
        hd.simulate(model, [0.0, 1.0], key=jax.random.key(0), runs=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Direct("float16"), "dtype"),
        (lambda: Direct(block=0), "block: 0; allowed: an integer, at least 1; or None"),
        (
            lambda: Direct(block=8, data=hd.streaming.data.Rademacher()),
            "block: 8; allowed with data: None",
        ),
        (
            lambda: least_squares(20, optimiser=hd.streaming.optimisers.SignSGD()).simulator(
                Direct(block=8)
            ),
            "block: 8; allowed with SignSGD: None",
        ),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
