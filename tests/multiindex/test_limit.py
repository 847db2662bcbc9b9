"""Flows are integrated as accurately from starts of order d^{-1/2} as from others."""

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np

import hdjax as hd
from hdjax.multiindex.limit import flow_path


@eqx.filter_jit
def path(integrator, d, ts, begin):
    """The path of y' = y (1 - y) from d^{-1/2} at the time `begin`."""
    rate, start = lambda y: y * (1 - y), 1 / jnp.sqrt(d)
    return flow_path(integrator, rate, start, ts, d, lambda y: y, begin=begin).values


def error(integrator, d, begin=0.0):
    """The largest relative error of the path, up to three halves of the time of its escape."""
    ts = begin + 0.5 * np.log(d) * np.array([0.0, 0.5, 1.0, 1.5])
    found = path(integrator, *(jnp.asarray(x) for x in (d, ts, begin)))
    exact = 1 / (1 + (d**0.5 - 1) * np.exp(begin - ts))
    return float(np.abs(found / exact - 1).max())


def test_escape_from_a_start_at_any_dimension():
    """The equation has a solution in closed form; the path begins at the time that is given."""
    assert error(hd.Integrator(), 1e2, 0.5) < 1e-6
    assert error(hd.Integrator(), 1e12, 0.5) < 1e-6


def test_tolerance_and_solver_of_the_user():
    own, coarse, other = (
        error(integrator, 1e4)
        for integrator in (
            hd.Integrator(),
            hd.Integrator(rtol=1e-3),
            hd.Integrator(diffrax.Tsit5(), rtol=1e-3),
        )
    )
    assert own < 1e-6 < min(coarse, other)
    assert max(coarse, other) < 0.02
    assert other != coarse
