"""Products of arrays at the highest precision of the device.

On NVIDIA GPUs and on TPUs, JAX multiplies float32 matrices in TensorFloat-32 or bfloat16 unless the
call asks for more precision, and statistics and limits would then be right to three digits only.
The functions here are those of the same names in `jax.numpy`, called with `precision="highest"`.
"""

from functools import partial

import jax.numpy as jnp

dot = partial(jnp.dot, precision="highest")
vdot = partial(jnp.vdot, precision="highest")
matmul = partial(jnp.matmul, precision="highest")
tensordot = partial(jnp.tensordot, precision="highest")
einsum = partial(jnp.einsum, precision="highest")
multi_dot = partial(jnp.linalg.multi_dot, precision="highest")
