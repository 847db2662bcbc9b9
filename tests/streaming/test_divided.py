"""One run on several devices; `tests/engine/test_devices.py` compares eight with one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import hdjax as hd
from hdjax import random
from hdjax.streaming import _kernel, divided

LAW = hd.streaming.GaussianStart()


def simulator(d=7):
    loss = hd.streaming.losses.LeastSquares()
    system = hd.streaming.OnePassSGD(loss, hd.spectra.identity(d), 0.5, LAW, LAW)
    return divided.DividedSimulator(hd.streaming.Direct(dtype="float64").simulator(system), 1)


def test_columns_are_split_by_the_pairs_of_their_normals():
    own = simulator()
    state = own.init(jax.random.key(0))
    assert state.moving.shape == (2, 4, 1)
    whole, joined = own.inner.init(jax.random.key(0)), own._joined(state)
    np.testing.assert_array_equal(joined.moving, whole.moving)
    np.testing.assert_array_equal(joined.frozen, whole.frozen)
    np.testing.assert_array_equal(state.moving[:, 0], whole.moving[jnp.array([0, 4])])
    # The second coordinate of the last pair does not exist.
    assert state.moving[1, 3] == 0


def test_columns_alone_are_divided():
    shardings = simulator().sharding(simulator().init(jax.random.key(0)))
    assert shardings.moving.spec == shardings.frozen.spec == P(None, "features")
    assert {x.spec for x in jax.tree.leaves(shardings.side)} <= {P()}


def test_devices_together_draw_what_one_draws():
    """Two samples a step in d = 7, whose 4 pairs three devices divide as 2, 2 and 2."""
    key, whole = jax.random.key(1), 4
    expected = random.normal_pairs(key, 5, 3, 2 * whole).reshape(3, 2, whole)
    for first in (0, 2):
        share = _kernel.Share(jnp.asarray(first), 7, "features")
        found = random.normal_pairs(key, 5, 3, share.numbers(2, batch_size=2))
        np.testing.assert_array_equal(found.reshape(3, 2, 2), expected[:, :, first : first + 2])


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match=r"devices: 64; allowed: at most 1"):
        divided.DividedSimulator(simulator().inner, 64)


def test_what_steps_one_at_a_time_is_refused():
    method = hd.streaming.Direct(data=hd.streaming.data.Rademacher(), devices=2)
    with pytest.raises(ValueError, match=r"devices: 2; allowed with data, .*: 1"):
        method.simulator(simulator().inner.system)
