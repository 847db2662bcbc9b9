"""Faults of the platform that would make everything else wrong without a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.optimised
# What conftest.py sets otherwise.
AS_USERS = {"xla_cpu_use_fusion_emitters": True} if jax.__version_info__ < (0, 11) else {}


def compiled(function):
    return jax.jit(function, compiler_options=AS_USERS)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("function", ["tanh", "square"])
def test_vmapped_products_of_small_matrices(dtype, function):
    # jax 0.10.2 on CPU: 24576 wrong rows of 40960 in float64, 8192 in float32
    # (https://github.com/jax-ml/jax/issues/39103).
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((3, 3)).astype(dtype)
    rows = rng.standard_normal((40960, 3)).astype(dtype)
    apply = getattr(jnp, function)

    found = compiled(jax.vmap(lambda row: jnp.sum(apply(matrix @ row))))(rows)

    expected = getattr(np, function)(rows @ matrix.T).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e3 * np.finfo(dtype).eps)


def test_matrix_products_at_highest_precision_are_float32():
    # TensorFloat-32 would be off by 1e-3.
    a, b = np.random.default_rng(1).standard_normal((2, 256, 256)).astype(np.float32)
    found = compiled(lambda a, b: jnp.dot(a, b, precision="highest"))(a, b)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_typed_keys_fold_in_without_their_batch():
    # A run's draws must not depend on who shares its batch.
    key = jax.random.key(0)

    def draw(run):
        return jax.random.normal(jax.random.fold_in(key, run), (8,))

    together = compiled(jax.vmap(draw))(jnp.arange(64))
    np.testing.assert_array_equal(together[37], compiled(draw)(37))
