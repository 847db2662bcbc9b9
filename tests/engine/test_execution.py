"""Programs that are compiled side by side, and interrupts while they run."""

import signal
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.engine.execution import Programs, in_thread, wait_for


def test_an_interrupt_does_not_wait_for_what_is_computed():
    never = threading.Event()
    threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            wait_for(in_thread(lambda: never.wait(60)))
        assert not never.is_set()
    finally:
        never.set()


def test_a_program_is_compiled_once_and_its_seconds_are_kept():
    traced = []

    @jax.jit
    def twice(x):
        traced.append(1)
        return 2 * x

    programs = Programs()
    programs.start(twice, jnp.ones(3))
    for value in (1.0, 2.0):
        found = wait_for(programs.run("simulate", twice, jnp.full(3, value)))
        np.testing.assert_allclose(found, 2 * value)
    assert len(traced) == 1
    assert programs.seconds["compile"] > 0
    assert programs.seconds["simulate"] > 0
    assert programs.seconds["limit"] == 0


def test_other_shapes_need_the_programs_to_be_forgotten():
    programs, double = Programs(), jax.jit(lambda x: 2 * x)
    wait_for(programs.run("simulate", double, jnp.ones(3)))
    with pytest.raises(TypeError):
        wait_for(programs.run("simulate", double, jnp.ones(4)))
    programs.forget(double)
    assert wait_for(programs.run("simulate", double, jnp.ones(4))).shape == (4,)


def test_the_memory_of_a_program_is_known_before_it_is_run():
    """Two matrices of 8 MB come and go, and their product is between."""
    programs, a = Programs(), np.ones((1000, 1000))
    product = eqx.filter_jit(lambda a: jnp.sort(a @ a))
    assert programs.memory(product) == 0
    programs.start(product, a)
    assert 2 * a.nbytes <= programs.memory(product) <= 4 * a.nbytes
