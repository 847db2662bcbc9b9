"""Component-wise optimisers: runs that follow their limit, and what is refused."""

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.landscapes import ComponentWise, Explicit, Previsible
from hdjax.landscapes.algorithms import HeavyBall
from hdjax.landscapes.kernels import SpinGlass, SquaredExponential
from hdjax.landscapes.optimisers import Adam, SignDescent

SE = SquaredExponential()
TIMES = np.arange(6.0)


@pytest.mark.slow
@pytest.mark.optimised
def test_runs_follow_the_limit():
    """With mini-batch noise at d = 400: within 4 s.e., a bias of order 1/d and the sites' error."""
    runs, d = 200, 400
    names = ["value", "gradient_norm", "norm", "gradient_overlap"]
    found = {}
    for optimiser in (Adam(0.3, beta2=0.9), SignDescent(0.3)):
        system = ComponentWise(
            SpinGlass([0, 0.5, 0.3]), optimiser, d, mean=[0, 1], noise=SpinGlass([0, 0.3])
        )
        result = found[type(optimiser)] = hd.compare(
            system, TIMES, key=jax.random.key(0), runs=runs, method=Explicit(), statistics=names
        )
        for name in names:
            bound = 4 * result.std[name].values / np.sqrt(runs) + 2 / d + 3e-3
            gap = np.abs(result.mean[name] - result.limit[name]).values
            assert np.all(gap < bound), (name, gap, bound)
        assert not hasattr(result, "predicted_std")
    # Each has a limit of its own.
    adam, sign = found.values()
    error = adam.std["value"][-1] / np.sqrt(runs)
    assert abs(adam.mean["value"][-1] - sign.limit["value"][-1]) > 5 * error


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ComponentWise(SE, HeavyBall(0.1, 0.1), 5), TypeError, "HeavyBall"),
        (lambda: ComponentWise("SE", Adam(0.1), 5), TypeError, "'SE'"),
        (lambda: ComponentWise(SE, Adam(0.1), 5, sites=0), ValueError, "sites: 0"),
        (lambda: ComponentWise(SE, Adam(0.1), 1.5), ValueError, r"dimension: 1\.5"),
        (
            lambda: ComponentWise(SE, Adam(0.1), 5).simulator(Previsible()),
            TypeError,
            "method: Previsible.* allowed with ComponentWise: Explicit",
        ),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
