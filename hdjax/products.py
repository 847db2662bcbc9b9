"""Products of arrays at the highest precision of the device.

On NVIDIA GPUs and on TPUs, JAX multiplies float32 matrices in TensorFloat-32 or bfloat16 unless a
product asks for more; statistics and limits would then be right to three digits.  These functions
are those of `jax.numpy`, and always ask.
"""

from functools import partial

import jax.numpy as jnp

dot = partial(jnp.dot, precision="highest")
vdot = partial(jnp.vdot, precision="highest")
matmul = partial(jnp.matmul, precision="highest")
tensordot = partial(jnp.tensordot, precision="highest")
einsum = partial(jnp.einsum, precision="highest")
multi_dot = partial(jnp.linalg.multi_dot, precision="highest")
