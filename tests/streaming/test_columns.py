"""The joint law of the columns: its Gram blocks, and draws of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import (
    Direct,
    GaussianStart,
    GramSampler,
    GramStart,
    OnePassSGD,
    losses,
)
from hdjax.streaming.columns import group_gram


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


@pytest.mark.slow
def test_gram_blocks_with_a_memory_are_those_of_the_draws():
    """Direct columns and factors [average | X | X*] have the blocks that were given."""
    root = np.random.default_rng(2).normal(size=(2, 4, 3))
    blocks = root.mT @ root
    average = hd.streaming.optimisers.Averaging(1.0)
    model = OnePassSGD(
        losses.LeastSquares(),
        hd.spectra.explicit([0.5, 2.0], [8, 6]),
        0.1,
        GramStart(blocks, memories=1),
        optimiser=average,
    )
    np.testing.assert_allclose(model.start().with_memories, blocks, atol=1e-12)
    for method in (Direct("float64"), GramSampler("float64")):
        simulator = model.simulator(method)
        summary = simulator.summary(simulator.init(jax.random.key(1)))
        np.testing.assert_allclose(summary.with_memories, blocks, atol=1e-11)


@pytest.mark.parametrize("counts", [[2, 1, 4], [7], [1] * 7])
def test_gram_blocks_are_sums_over_their_groups(counts):
    columns = np.random.default_rng(0).normal(size=(7, 3))
    found = group_gram(
        jnp.asarray(columns), hd.spectra.explicit(1.0 + np.arange(len(counts)), counts)
    )
    ends = np.cumsum(counts)
    for block, rows in zip(found, np.split(columns, ends[:-1]), strict=True):
        np.testing.assert_allclose(block, rows.T @ rows, rtol=1e-12)


def test_draws_of_factors_and_of_columns_have_the_mean_of_the_law():
    """R^T R and W^T P W over 1500 draws, also where a group has fewer coordinates than columns."""
    spectrum = hd.spectra.explicit([0.5, 2.0], [7, 2])
    target = np.cos(np.arange(9.0))
    start = GaussianStart(1.5, overlap=0.5)
    model = OnePassSGD(losses.LeastSquares(), spectrum, 0.1, start, target)
    columns, keys = model.columns, jax.random.split(jax.random.key(0), 1500)

    @jax.jit
    @jax.vmap
    def both(key):
        factor = columns.sample_factor(key, spectrum)
        return factor.mT @ factor, group_gram(columns.sample(key, spectrum), spectrum)

    for draws in map(np.asarray, both(keys)):
        error = draws.std(0) / np.sqrt(len(draws))
        assert np.all(np.abs(draws.mean(0) - model.start().natural) <= 4.5 * error + 1e-12)


@pytest.mark.parametrize("counts", [[2_000_003], [1_500_000, 3, 500_000]], ids=["one", "three"])
def test_gram_blocks_of_many_float32_coordinates_are_right(counts):
    columns = np.random.default_rng(0).standard_normal((sum(counts), 2), np.float32)
    spectrum = hd.spectra.explicit(np.arange(1.0, 1 + len(counts)), counts)
    found = np.asarray(group_gram(jnp.asarray(columns), spectrum), np.float64)
    ends = np.cumsum(counts)
    parts = np.split(columns.astype(np.float64), ends[:-1])
    exact = np.stack([part.T @ part for part in parts])
    sizes = np.sqrt(np.einsum("gaa,gbb->gab", exact, exact))
    assert np.abs((found - exact) / sizes).max() < 2e-6
