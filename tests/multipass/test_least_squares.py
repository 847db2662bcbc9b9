"""What all systems of the family share: their start, their statistics, and their data."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.multipass import MomentumSGD, MultiPassSGD, Spectral
from hdjax.multipass.least_squares import modes_of, required
from hdjax.multipass.modes import svd_modes
from tests.multipass.problems import plain_reference, reference


def test_the_start_and_the_names_of_statistics():
    """Statistics of a start are those of X_0; of modes and problem, what both know."""
    problem = reference()
    system = MultiPassSGD(problem, 0.5)
    assert system.statistics_of == ("loss", "q", "own", "rows")
    expected = problem.values(problem.start)
    for name, value in system.start().items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12)
    few = MultiPassSGD(plain_reference(), 0.5, modes=system.modes)
    assert few.statistics_of == tuple(few.start()) == ("loss",)
    alone = MultiPassSGD(None, 0.5, modes=system.modes)
    assert alone.statistics_of == system.statistics_of


def test_modes_are_given_or_those_of_the_problem():
    problem = plain_reference()
    modes = svd_modes(problem)[0]
    assert modes_of(None, modes) is modes
    np.testing.assert_array_equal(modes_of(problem, None).eigenvalues, modes.eigenvalues)
    assert required(problem) is problem


def test_a_law_alone_is_not_simulated():
    modes = hd.multipass.modes.law_modes(hd.multipass.laws.MarchenkoPastur(0.5), 100)
    system = MultiPassSGD(None, 1.0, modes=modes, solver=Spectral())
    with pytest.raises(ValueError, match=r"problem: None.*allowed"):
        hd.simulate(system, [0.0, 1.0], key=jax.random.key(0), runs=1)
    assert hd.limit(system, [0.0, 1.0]).limit["loss"][1] < 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: MultiPassSGD(None, 0.5), "problem, modes: None"),
        (lambda p: MultiPassSGD(p, -0.5), "learning_rate: -0.5"),
        (lambda p: MultiPassSGD(p, 0.5, ridge=-1.0), "ridge: -1.0"),
        (lambda p: MomentumSGD(p, np.inf, batch_fraction=0.5), "learning_rate: inf"),
        (lambda p: MomentumSGD(p, 0.5, batch_fraction=0.5, ridge=-1.0), "ridge: -1.0"),
    ],
)
def test_wrong_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(plain_reference())
