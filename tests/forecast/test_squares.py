"""Least squares with several columns of targets."""

import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.forecast import squares
from hdjax.forecast.preparation import prepare
from hdjax.forecast.tables import as_table

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((200, 30))
DATA = prepare(as_table(RNG.standard_normal((50, 8)), np.arange(50) % 3))


def test_one_decomposition_serves_all_columns():
    problems, modes = squares.problems(DATA)
    for c, (problem, own) in enumerate(zip(problems, modes, strict=True)):
        test = hd.multipass.SampleRisk(DATA.test, DATA.test_targets[:, c])
        alone = hd.multipass.Problem(DATA.train, DATA.train_targets[:, c], None, {"test": test})
        ts = jnp.array([0.0, 1.0, 5.0])
        expected = hd.multipass.MultiPassSGD(alone, 0.5).limit(ts).values
        found = hd.multipass.MultiPassSGD(problem, 0.5, modes=own).limit(ts).values
        for name in ("loss", "test"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_batches_and_momentum_make_another_system():
    (problem, *_), (modes, *_) = squares.problems(DATA)
    plain = squares.system(problem, modes, 0.5)
    assert isinstance(plain, hd.multipass.MultiPassSGD)
    other = squares.system(problem, modes, 0.5, batch=4, momentum=0.3)
    assert isinstance(other, hd.multipass.MomentumSGD)
    assert other.batch_size == 4


def test_one_limit_is_the_sum_over_columns():
    problems, modes = squares.problems(DATA)
    ts = jnp.array([0.0, 1.0, 5.0])
    parts = [
        hd.multipass.MultiPassSGD(problem, 0.5, modes=own, ridge=0.5).limit(ts).values
        for problem, own in zip(problems, modes, strict=True)
    ]
    whole = hd.multipass.MultiPassSGD(None, 0.5, modes=squares.combined(modes), ridge=0.5)
    for name, found in whole.limit(ts).values.items():
        np.testing.assert_allclose(found, sum(part[name] for part in parts), rtol=1e-5)


@pytest.mark.slow
def test_a_large_problem_takes_no_decomposition(monkeypatch):
    labels = ROWS @ np.linspace(-1, 1, 30) + 2 * RNG.standard_normal(200)
    data = prepare(as_table(ROWS, labels))
    exact = squares.problems(data)[1][0]
    monkeypatch.setattr(squares, "_MOST", 0)
    (problem,), (large,) = squares.problems(data)
    assert large.delocalisation is None
    ts = jnp.array([0.0, 1.0, 5.0])
    expected = hd.multipass.MultiPassSGD(problem, 0.5, modes=exact).limit(ts).values
    found = hd.multipass.MultiPassSGD(problem, 0.5, modes=large).limit(ts).values
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=0.03)
    np.testing.assert_allclose(found["test"], expected["test"], rtol=0.1)
    with pytest.raises(ValueError, match="labels: 2 columns at this size"):
        squares.combined([large, large])
