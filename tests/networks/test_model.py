"""Trainings as systems: sweeps over an optimiser's numbers, samples, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import hdjax as hd
from hdjax import networks
from tests.networks.problems import Scaled, X, Y, small_network, training


@pytest.mark.slow
def test_the_numbers_of_an_optimiser_are_swept_in_one_program():
    result = hd.sweep(
        lambda rate: training(Partial(optax.sgd, rate), batch=8),
        {"rate": [0.0, 0.1, 0.5]},
        ts=[0, 5],
        key=jax.random.key(0),
        runs=3,
        start=None,
    )
    assert result.tree.attrs["programs"] == 1
    assert (result.mean["distance"].sel(rate=0.0) == 0).all()
    means = result.mean["cost"].sel(time=5).values
    assert means[0] > means[1] > means[2]
    spread = networks.relative_spread(result)
    np.testing.assert_allclose(spread[1, 1], result.runs["cost"][1, :, 1].std(ddof=1) / means[1])
    reached = networks.relative_spread(result, level=(means[1] + means[2]) / 2)
    np.testing.assert_array_equal(np.isnan(reached), [True, True, False])
    np.testing.assert_array_equal(reached[2], spread[2, 1])
    with pytest.raises(ValueError, match="statistic: 'risk'; allowed: batch_cost, cost"):
        networks.relative_spread(result, "risk")


def test_a_network_has_no_limit_of_its_own():
    with pytest.raises(hd.NoLimitError, match="none is known of a network's training"):
        hd.compare(training(optax.sgd(0.1)), [0, 1], key=jax.random.key(0), runs=1)


def test_realised_starts_are_refused(fitted):
    with pytest.raises(ValueError, match="start: 'realised'"):
        hd.compare(fitted, [0, 1], key=jax.random.key(0), runs=1, start="realised")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": X[:5]}, ValueError, r"inputs, targets: \[5, 20\] samples"),
        ({"batch": 21}, ValueError, "batch: 21; allowed: None or 1 to 20"),
        ({"optimiser": 0.1}, TypeError, "optimiser: 0.1"),
        ({"network": 3}, TypeError, "network: 3"),
        ({"network": Scaled(jax.random.key(0))}, TypeError, "network, loss: .* fails .* of a key"),
        ({"network": lambda key: Scaled}, TypeError, "network, loss: .* fails"),
        ({"inputs": X[:, :3]}, TypeError, "network, loss: .* fails"),
        ({"inputs": X.at[3, 1].set(jnp.nan)}, ValueError, "inputs: nan or inf; allowed: finite"),
        ({"targets": Y + 1}, ValueError, "targets: classes from 1 to 3; allowed: 0 to 2"),
        ({"loss": lambda network, x, y: network(x)}, ValueError, "loss: .* a floating scalar"),
        ({"theory": "kernel"}, TypeError, "theory: 'kernel'"),
    ],
)
def test_wrong_systems(change, error, message):
    arguments = {"network": Scaled, "loss": networks.cross_entropy, "inputs": X, "targets": Y}
    with pytest.raises(error, match=message):
        networks.Training(**(arguments | {"optimiser": optax.sgd(0.1)} | change))


def test_nested_lists_are_samples():
    lists = [[1.0, 2.0], [3.0, 4.0]], [1, 2]
    arrays = [np.asarray(x) for x in lists]
    costs = [
        hd.simulate(
            hd.networks.Training(small_network, hd.networks.cross_entropy, *data, optax.sgd(0.1)),
            range(3),
            key=jax.random.key(0),
            runs=2,
        )
        .runs["cost"]
        .values
        for data in (lists, arrays)
    ]
    np.testing.assert_array_equal(*costs)
    with pytest.raises(ValueError, match=r"inputs: .* allowed: lists of equal lengths"):
        hd.networks.Training(
            small_network, hd.networks.cross_entropy, [[1.0, 2.0], [3.0]], [1, 2], optax.sgd(0.1)
        )
