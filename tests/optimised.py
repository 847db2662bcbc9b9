"""Optimised programs: most tests compile quickly instead, because they compile longer than run."""

from contextlib import contextmanager

import jax


@contextmanager
def optimised():
    """Programs that are compiled within have the optimisations that users have.

    It is worth its time for simulations of many runs; limits and error bars compile longer by it.
    """
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
