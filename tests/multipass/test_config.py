"""Configs of the family: what is written is what is built."""

from pathlib import Path

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax import config, multipass
from hdjax.config import ConfigError, Experiment
from hdjax.config.tables import slot
from hdjax.schema import read

GAUSSIAN = {"kind": "gaussian", "ratio": 0.5, "noise": 0.5, "seed": 3}


def built(directory=".", **tables):
    base = {"dimension": 20, "problem": GAUSSIAN, "learning_rate": 0.5}
    values = {name: value for name, value in (base | tables).items() if value is not None}
    return read(slot("multipass", "system"), values, directory).build()


def assert_same(system, other):
    leaves, structure = jax.tree.flatten(system)
    others, other_structure = jax.tree.flatten(other)
    assert structure == other_structure
    for a, b in zip(leaves, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_system_is_the_call_that_it_stands_for():
    problem = multipass.gaussian_problem(40, 20, key=jax.random.key(3), noise=0.5)
    assert_same(built(), multipass.MultiPassSGD(problem, 0.5))
    own = built(
        algorithm={"kind": "sgd", "ridge": 0.1},
        solver={"kind": "block_ode", "integrator": {"rtol": 1e-4}},
    )
    solver = multipass.BlockODE(hd.Integrator(rtol=1e-4))
    assert_same(own, multipass.MultiPassSGD(problem, 0.5, ridge=0.1, solver=solver))
    momentum = {"kind": "momentum", "batch_fraction": 0.25, "momentum": 0.3}
    assert_same(
        built(algorithm=momentum),
        multipass.MomentumSGD(problem, 0.5, batch_fraction=0.25, momentum=0.3),
    )
    schedule = {"kind": "cosine", "initial": 1.0, "horizon": 20.0}
    own = built(algorithm=momentum | {"ridge": 0.1}, learning_rate=schedule, solver="recursion")
    cosine = hd.schedules.Cosine(initial=1.0, horizon=20.0)
    options = {"batch_fraction": 0.25, "momentum": 0.3, "ridge": 0.1}
    assert_same(own, multipass.MomentumSGD(problem, cosine, **options))
    assert_same(
        built(algorithm=momentum, solver="squaring"),
        multipass.MomentumSGD(
            problem, 0.5, batch_fraction=0.25, momentum=0.3, solver=multipass.Squaring()
        ),
    )


def test_rates_by_the_spectrum():
    system = built(learning_rate={"kind": "stable", "factor": 0.5})
    most = multipass.analysis.max_learning_rate(system.modes)
    np.testing.assert_allclose(system.learning_rate(0.0), most / 2)
    for kind, choose in (
        ("best", multipass.rates.best_momentum),
        ("near_optimal", multipass.rates.near_optimal),
    ):
        algorithm = {"kind": "momentum", "batch_fraction": 0.25, "momentum": kind}
        system = built(algorithm=algorithm, learning_rate=None)
        gamma, delta, _ = choose(system.modes, 0.25)
        np.testing.assert_allclose([system.learning_rate.value, system.momentum], [gamma, delta])


@pytest.mark.slow
def test_spectra():
    law = built(spectrum="law")
    assert law.modes.eigenvalues.shape == (800,)
    assert set(law.start()) == {"loss", "risk"}
    spread = GAUSSIAN | {"covariance": {"kind": "uniform", "low": 0.2, "high": 1.8}}
    law = built(spectrum={"kind": "law", "points": 30}, problem=spread)
    assert set(law.start()) == {"loss"}
    empirical = built(problem=spread)
    most = [multipass.analysis.max_learning_rate(system.modes) for system in (law, empirical)]
    np.testing.assert_allclose(most[0], most[1], rtol=0.2)
    assert set(built(spectrum="lanczos").start()) == {"loss"}


def test_arrays(tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((6, 3))
    np.save(tmp_path / "a.npy", matrix)
    table = {"kind": "arrays", "matrix": "a.npy", "labels": [1.0] * 6, "scale": True}
    table |= {"test_matrix": matrix[:2].tolist(), "test_labels": [0.0, 1.0]}
    system = built(tmp_path, dimension=None, problem=table)
    np.testing.assert_allclose(system.problem.trace, 1)
    assert set(system.start()) == {"loss", "test"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"problem": {"kind": "gaussian"}}, "samples and ratio"),
        ({"dimension": None}, "dimension: missing"),
        ({"learning_rate": None}, "learning_rate: missing"),
        ({"problem": {"kind": "gausian"}}, "did you mean 'gaussian'"),
        ({"problem": GAUSSIAN | {"nose": 1.0}}, "did you mean 'noise'"),
        (
            {"problem": {"kind": "random_features", "samples": 50}, "spectrum": "law"},
            "no limiting law",
        ),
        (
            {"algorithm": {"kind": "momentum", "batch_fraction": 0.25, "momentum": "best"}},
            "learning_rate: given; allowed with momentum 'best'",
        ),
        (
            {"algorithm": {"kind": "momentum", "batch_fraction": 0.25}, "solver": "spectral"},
            "a recursion",
        ),
        (
            {
                "algorithm": {"kind": "momentum", "batch_fraction": 0.25, "ridge": 0.1},
                "solver": "squaring",
            },
            "with a schedule or a ridge",
        ),
        ({"algorithm": {"kind": "momentum", "batch_fraction": 0.33}}, "a batch of 13.2"),
        ({"problem": {"kind": "arrays", "matrix": [[1.0]], "labels": [1.0]}}, "dimension: 20"),
        (
            {"problem": {"kind": "random_features", "samples": 5, "data": {"kind": "npz"}}},
            "missing",
        ),
    ],
)
def test_mistakes_are_told(tables, message):
    with pytest.raises((ValueError, TypeError), match=message):
        built(**tables)


def test_an_experiment_of_the_family():
    raw = {
        "family": "multipass",
        "system": {
            "dimension": 20,
            "problem": GAUSSIAN,
            "learning_rate": 0.5,
            "solver": "spectral",
        },
        "run": {"times": [0.0, 1.0], "runs": 2, "fluctuations": False},
    }
    result = Experiment.of(raw).run(progress=False)
    assert set(result.runs["loss"].dims) == {"run", "time"}
    with pytest.raises(ConfigError, match=r"run\.method"):
        Experiment.of(raw | {"run": raw["run"] | {"method": "gram_sampler"}})


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.slow
def test_the_config_of_cifar_runs_on_a_file_of_its_layout(tmp_path, images):
    """The shipped config beside a small synthetic archive, with fewer samples."""
    arrays = {"X": np.tile(images[0], (4, 1, 1, 1)), "Y": np.tile(images[1], 4)}
    np.savez(tmp_path / "cifar5m_part0.npz", **arrays)
    shipped = CONFIGS / "data" / "cifar5m_car_plane.toml"
    (tmp_path / "car_plane.toml").write_text(shipped.read_text())
    with pytest.raises(config.ConfigError, match="no file"):
        config.load(shipped)
    changes = ["system.dimension=20", "system.problem.samples=60", "system.problem.test=30"]
    experiment = config.load(tmp_path / "car_plane.toml", [*changes, "run.runs=2"])
    result = experiment.run(progress=False)
    assert result.limit["test"][-1] < result.limit["test"][0]
