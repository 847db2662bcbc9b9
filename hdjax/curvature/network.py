"""Hessian and gradient covariance of any network on any data, as products by autodiff.

    H = 1/n sum_l D^2 f_l,      G = 1/n sum_l (D f_l)(D f_l)^T

for the per-sample losses f_l(parameters).  H V is a forward derivative of the gradient.  G V takes
the n directional derivatives of the losses and pulls them back.  `top_space` and `spectral_measure`
need no more than these products.  With them users ask the questions of "Spectral alignment of SGD"
(arXiv 2310.03010) of their own networks, as `hdjax.networks.LayerAlignment` does.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from hdjax.annotations import told
from hdjax.checks import Checked
from hdjax.curvature.weights import Kind, check_kind
from hdjax.datasets import as_arrays
from hdjax.registry import Size


class NetworkMatrix(Checked):
    """The Hessian or gradient covariance of a network's loss, in all parameters or a part of them.

    Args:
        loss: `loss(network, x, y) -> scalar`, of one sample.
        network: any pytree, such as an Equinox module; its floating arrays are parameters.
        inputs: (n, ...) samples: an array, nested lists of numbers, or a pytree of these.
        targets: (n, ...) the samples' targets, in the same forms.
        kind: "hessian" or "gradient".
        where: the block, as a function from the network to one part of it or a tuple of parts
            (`lambda network: network.layers[0]`); None: all parameters.
        chunk: the number of samples at a time, a divisor of n; None: n.

    Raises:
        ValueError: the kind is another one, the numbers of inputs and targets differ, or the chunk
            does not divide n.

    Example:
        >>> network = eqx.nn.Linear(3, "scalar", key=jax.random.key(0))
        >>> matrix = NetworkMatrix(
        ...     lambda network, x, y: (network(x) - y) ** 2, network, jnp.ones((8, 3)), jnp.ones(8)
        ... )
        >>> matrix.product(jnp.ones((matrix.size, 1))).round(3).ravel().tolist()
        [8.0, 8.0, 8.0, 8.0]
    """

    network: PyTree
    inputs: PyTree[Array]
    targets: PyTree[Array]
    loss: Callable = eqx.field(static=True)
    kind: Kind = eqx.field(static=True)
    where: Callable | None = eqx.field(static=True)
    chunk: int = eqx.field(static=True)

    def __init__(
        self,
        loss: Callable,
        network: PyTree,
        inputs: PyTree,
        targets: PyTree,
        kind: Kind = "hessian",
        *,
        where: Callable | None = None,
        chunk: Size | None = None,
    ):
        check_kind(kind)
        inputs, targets = as_arrays("inputs", inputs), as_arrays("targets", targets)
        leaves = jax.tree.leaves((inputs, targets))
        counts = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
        if len(counts) != 1 or counts == {0}:
            raise ValueError(f"inputs, targets: {sorted(counts)} samples; allowed: as many of each")
        (n,) = counts
        size: int = n if chunk is None else chunk
        if size < 1 or n % size:
            raise ValueError(f"chunk: {chunk} with {n} samples; allowed: a divisor of {n}, or None")
        if not any(map(eqx.is_array, jax.tree.leaves(network))):
            raise TypeError(f"network: {told(network)}; allowed: a pytree with arrays")
        self.loss, self.network, self.inputs, self.targets = loss, network, inputs, targets
        self.kind, self.where, self.chunk = kind, where, size

    @property
    def parameters(self) -> Float[Array, " size"]:
        """The parameters of the block, in the order of the matrix's rows."""
        return self._ravel()[0]

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.parameters.shape[0]

    def product(self, vectors: Float[Array, "size k"]) -> Float[Array, "size k"]:
        """The product A V."""
        n = jax.tree.leaves(self.targets)[0].shape[0]
        chunks = jax.tree.map(
            lambda leaf: leaf.reshape(-1, self.chunk, *leaf.shape[1:]),
            (self.inputs, self.targets),
        )
        flat = self.parameters

        def add(total: Array, batch: Any) -> tuple[Array, None]:
            def one(v: Float[Array, " size"]) -> Float[Array, " size"]:
                def losses(flat: Array) -> Array:
                    return self._losses(flat, *batch)

                if self.kind == "hessian":
                    gradient = jax.grad(lambda flat: losses(flat).sum())
                    return jax.jvp(gradient, (flat,), (v,))[1]
                _, rates = jax.jvp(losses, (flat,), (v,))
                return jax.vjp(losses, flat)[1](rates)[0]

            return total + jax.vmap(one, in_axes=1, out_axes=1)(vectors), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(vectors), chunks)
        return total / n

    def dense(self) -> Float[Array, "size size"]:
        """The matrix as an array, for small networks."""
        return self.product(jnp.eye(self.size, dtype=self.parameters.dtype))

    def _ravel(self) -> tuple[Array, Callable, PyTree]:
        """The block's parameters as a vector, its inverse, and the rest of the block."""
        part = self.network if self.where is None else self.where(self.network)
        arrays, rest = eqx.partition(part, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(arrays)
        return flat, unravel, rest

    def _losses(self, flat: Array, inputs: PyTree[Array], targets: PyTree[Array]) -> Array:
        """The losses of samples at given parameters of the block."""
        _, unravel, rest = self._ravel()
        part = eqx.combine(unravel(flat), rest)
        network = part if self.where is None else eqx.tree_at(self.where, self.network, part)
        return jax.vmap(self.loss, in_axes=(None, 0, 0))(network, inputs, targets)
