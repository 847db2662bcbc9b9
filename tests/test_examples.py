"""The examples in docstrings run, and give what they show."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd

MODULES = ["hdjax"] + [
    info.name
    for info in pkgutil.walk_packages(hd.__path__, "hdjax.")
    if info.name != "hdjax.__main__"
]


def make_system(d=32, learning_rate=0.5):
    return hd.streaming.OnePassSGD(
        loss=hd.streaming.losses.LeastSquares(),
        spectrum=hd.spectra.identity(d),
        learning_rate=learning_rate,
        start=hd.streaming.GaussianStart(),
        target=hd.streaming.GaussianStart(),
    )


def make_swept(learning_rate):
    return make_system(learning_rate=learning_rate)


def make_landscape():
    return hd.landscapes.GradientSpan(
        hd.landscapes.kernels.SquaredExponential(),
        hd.landscapes.algorithms.GradientDescent(0.5),
        dimension=10**6,
    )


# What an example may use without a word, beside the public names and its module's own.
AT_HAND = {
    "hd": hd,
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "system": make_system(),
    "make_system": make_system,
    "landscape": make_landscape(),
    "make_swept": make_swept,
}


# Those that compile for more than about three seconds.
SLOW = {
    f"hdjax.{name}"
    for name in (
        "engine.compare.compare",
        "forecast.prediction.predict",
        "forecast.tuning.tune",
        "engine.ensemble.ensemble",
        "engine.scaling.scaling",
        "engine.sweep.sweep",
        "streaming.model.OnePassSGD.mean_correction",
        "streaming.learning_rates.optimal_schedule",
        "streaming.steady_states.stability",
        "streaming.steady_states.steady_state",
        "landscapes.fluctuations.critical_dimension",
        "landscapes.fluctuations.expansion",
        "landscapes.fluctuations.halting_law",
        "multiindex.links.link.from_function",
        "networks.kernel_fit.fit_kernel",
        "curvature.blocks.predicted",
        "curvature.commuting.commuting_theory",
        "curvature.emergence.emergence_map",
        "curvature.full_theory.full_theory",
        "curvature.matrices.empirical",
        "curvature.train.training_loss",
    )
}


def examples():
    for name in MODULES:
        module = importlib.import_module(name)
        public = {name: getattr(hd, name) for name in hd.__all__}
        names = {**public, **vars(module), **AT_HAND}
        for test in doctest.DocTestFinder().find(module, globs=names):
            if any(not example.options.get(doctest.SKIP) for example in test.examples):
                marks = [pytest.mark.slow] if test.name in SLOW else []
                yield pytest.param(test, id=test.name, marks=marks)


EXAMPLES = list(examples())


def test_slow_examples_exist():
    assert {example.id for example in EXAMPLES} >= SLOW


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # As a reader runs them (Optax mixes dtypes and ranks).
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert runner.run(example, clear_globs=False).failed == 0
