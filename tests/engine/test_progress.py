"""What is told of an experiment while it runs."""

import jax
import pytest

import hdjax as hd
from hdjax.engine.progress import Progress
from tests.engine.problems import OPTIONS, isotropic


def test_every_chunk_is_told_with_what_is_left(tmp_path):
    told = []
    options = OPTIONS | {"runs": 6, "chunk": 2, "progress": told.append}
    hd.simulate(isotropic(), **options, checkpoint=tmp_path)
    # A chunk that takes more than a second is told too.
    told[:] = [line for line in told if line["done"]]
    assert [(line["done"], line["remaining"]) for line in told] == [(2, 4), (4, 2), (6, 0)]
    assert [(line["steps"], line["steps_remaining"]) for line in told] == [
        (16, 32),
        (32, 16),
        (48, 0),
    ]
    assert all(line["steps_per_second"] > 0 and line["runs_per_second"] > 0 for line in told)
    assert told[-1]["seconds_left"] == 0
    # What a checkpoint held says nothing of the speed.
    told.clear()
    hd.simulate(isotropic(), **options, checkpoint=tmp_path)
    assert [line["done"] for line in told if line["done"]] == [2, 4, 6]
    assert all(line["steps_per_second"] is None for line in told)


@pytest.mark.slow
def test_a_sweep_counts_all_its_points():
    told, grid = [], {"d": [8, 16], "rate": [0.2, 0.4]}
    hd.sweep(isotropic, grid, [0.0, 1.0], key=jax.random.key(0), runs=3, progress=told.append)
    told = [line for line in told if line["done"]]
    assert {(line["done"], line["remaining"]) for line in told} == {(6, 6), (12, 0)}
    assert told[-1]["steps"] == 2 * 3 * (8 + 16)


def test_only_flags_and_functions_are_taken():
    with pytest.raises(TypeError, match="progress: 3; allowed: True, False; or a function"):
        hd.simulate(isotropic(), **OPTIONS, progress=3)


def test_steps_that_are_made_again_are_counted_once():
    told = []
    progress = Progress(told.append, 10, 5)
    progress.advance(6)
    progress.take_back()
    progress.advance(10)
    progress.finish(5)
    assert (told[-1]["steps"], told[-1]["steps_remaining"]) == (10, 0)
