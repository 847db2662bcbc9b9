"""Functions of arrays and pytrees against their formulas, also where these cancel."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from hdjax.arrays import all_finite, cast, decay_share, jacobians, whole_steps
from hdjax.clocks import Steps


def test_all_finite_and_cast_look_at_floating_arrays_alone():
    tree = {"a": jnp.ones(2), "n": jnp.arange(3), "text": "x"}
    assert bool(all_finite(tree))
    assert not bool(all_finite(tree | {"b": jnp.array([1.0, jnp.nan])}))
    found = cast(tree, "float32")
    assert found["a"].dtype == jnp.float32
    assert found["n"].dtype == tree["n"].dtype
    assert found["text"] == "x"
    assert cast(tree, None) is tree


def test_the_mean_of_a_decay_is_exact_on_all_scales():
    x = np.concatenate([[0.0], np.geomspace(1e-300, 1e3, 200), -np.geomspace(1e-300, 30, 50)])
    np.testing.assert_allclose(decay_share(jnp.asarray(x)), scipy.special.exprel(-x), rtol=1e-14)
    slope = jax.grad(decay_share)(jnp.asarray(2.0))
    np.testing.assert_allclose(slope, (3 * np.exp(-2) - 1) / 4, rtol=1e-12)
    assert float(jax.grad(decay_share)(jnp.asarray(0.0))) == -0.5


def test_a_statistic_without_a_derivative_takes_none_away():
    def statistics(state):
        x, y = state["x"], state["y"]
        return {"norm": jnp.sqrt((x**2).sum()), "both": y * x, "sum": x.sum() + y**2}

    state = {"x": jnp.zeros(2), "y": jnp.asarray(3.0)}
    found = jacobians(statistics, state)
    assert np.isnan(found["norm"]["x"]).all()
    np.testing.assert_array_equal(found["both"]["x"], 3 * np.eye(2))
    np.testing.assert_array_equal(found["both"]["y"], [0, 0])
    np.testing.assert_array_equal(found["sum"]["x"], [1, 1])
    assert float(found["sum"]["y"]) == 6


def test_whole_steps_are_those_of_a_clock_of_steps():
    ts = np.array([0.0, 0.3, 1.5, 2.9999999999999996, 3.0, 1e9 + 0.5, 2.0**40 + 0.25])
    np.testing.assert_array_equal(whole_steps(jnp.asarray(ts)), Steps(1).ticks(ts))
    small = jnp.asarray([0.5, 2.9999998, 7.0], jnp.float32)
    assert whole_steps(small).tolist() == [0, 3, 7]
