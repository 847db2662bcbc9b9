"""What is run: its steps, some of its points, and its names in a checkpoint."""

import jax

import hdjax as hd
from hdjax.engine.experiment import Experiment
from tests.engine.problems import isotropic


def experiment(*rates, runs=3):
    systems = [isotropic(rate) for rate in rates]
    plans = [hd.make_plan(system, [0.0, 2.0], start=None) for system in systems]
    return Experiment(systems, plans, jax.random.key(0), runs)


def test_steps_are_those_of_all_runs_at_all_points():
    assert experiment(0.1, 0.2).steps == 2 * 3 * 2 * 8
    assert experiment(0.1, runs=0).steps == 0


def test_a_part_is_the_experiment_at_its_points():
    whole, part = experiment(0.1, 0.2, 0.3), experiment(0.3, 0.1)
    assert whole.at([2, 0]).names() == part.names()
    different = {name for name, own in whole.names().items() if own != part.names()[name]}
    assert different == {"systems", "plans"}
