"""Direct simulation of one run of SGD whose coordinates several devices divide.

A device draws its coordinates of each sample, holds the same rows of all columns, and knows of the
other devices only the projections and the Gram matrix of a block of steps, which are summed over
the devices (`hdjax.streaming._kernel`).  Draws are functions of a counter, so that the run is the
one of a single device, up to the rounding of sums.

The normals of a pair belong to the coordinates i and h + i, with h = ceil(d/2).  Columns are
therefore kept as arrays (2, h', ...) whose axis of pairs is divided, and filled with zeros to a
multiple h' >= h of the number of devices.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from hdjax.clocks import Clock
from hdjax.streaming import _kernel
from hdjax.streaming.columns import coordinates
from hdjax.streaming.field import GramSummary
from hdjax.streaming.optimisers.state_rates import StateRate
from hdjax.system import Simulator

_FEATURES = "features"


class DividedSimulator(Simulator):
    """The simulator of one run of direct SGD on several devices.

    Its state is that of `inner`, with columns (2, h', columns).

    Attributes:
        inner: the `DirectSimulator` of a single device.
        devices: number of devices.
    """

    inner: Any
    devices: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.devices > jax.device_count():
            raise ValueError(
                f"devices: {self.devices}; allowed: at most {jax.device_count()}, those that there "
                "are"
            )
        if isinstance(self.inner.system.learning_rate, StateRate):
            raise ValueError(
                f"devices: {self.devices} with a learning rate that follows the state; allowed: 1, "
                "or a schedule"
            )

    @property
    def clock(self) -> Clock:
        """The clock that counts steps, d of them in a unit of time."""
        return self.inner.clock

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        return Mesh(np.array(jax.devices()[: self.devices]), (_FEATURES,))

    def init(self, key: Key[Array, ""]) -> Any:
        state = self.inner.init(key)
        return _with_columns(state, self._split(state.moving), self._split(state.frozen))

    def advance(
        self, state: Any, k0: Int[Array, ""], k1: Int[Array, ""], key: Key[Array, ""]
    ) -> Any:
        pairs = state.moving.shape[1] // self.devices

        def share(state: Any, scale: Float[Array, "2 pairs c"], k0: Any, k1: Any, key: Any) -> Any:
            arrays = state.moving, state.frozen, scale
            moving, frozen, scale = (x.reshape(-1, x.shape[-1]) for x in arrays)
            first = lax.axis_index(_FEATURES) * pairs
            own = _kernel.Share(first, self._d, _FEATURES)
            state = _with_columns(state, moving, frozen)
            state = self.inner.descend(state, k0, k1, key, scale.T, own)
            moving, frozen = (x.reshape(2, pairs, -1) for x in (state.moving, state.frozen))
            return _with_columns(state, moving, frozen)

        specs, everywhere = self._specs(state), PartitionSpec()
        return jax.shard_map(
            share,
            mesh=self.mesh,
            in_specs=(specs, PartitionSpec(None, _FEATURES), everywhere, everywhere, everywhere),
            out_specs=specs,
            check_vma=False,
        )(state, self._split(self.inner.scale().T), k0, k1, key)

    def summary(self, state: Any) -> GramSummary:
        return self.inner.summary(self._joined(state))

    def iterate(self, state: Any) -> Float[Array, "d m"]:
        """The student columns X of a run, in the coordinates in which K is given."""
        return self.inner.iterate(self._joined(state))

    def sharding(self, state: Any) -> Any:
        """The columns are divided; the variables beside them are on all devices."""
        return jax.tree.map(lambda spec: NamedSharding(self.mesh, spec), self._specs(state))

    def side_by_side(self) -> int:
        return 1

    @property
    def _d(self) -> int:
        return coordinates(self.inner.system.spectrum)

    def _specs(self, state: Any) -> Any:
        """How the arrays of a state are divided."""
        divided = PartitionSpec(None, _FEATURES)
        return _with_columns(jax.tree.map(lambda _: PartitionSpec(), state), divided, divided)

    def _split(self, columns: Float[Array, "d c"]) -> Float[Array, "2 pairs c"]:
        half = -(-self._d // 2)
        pairs = -(-half // self.devices) * self.devices
        parts = columns[:half], columns[half:]
        return jnp.stack([jnp.pad(x, ((0, pairs - len(x)), (0, 0))) for x in parts])

    def _joined(self, state: Any) -> Any:
        """The state that a single device would have."""
        half = -(-self._d // 2)
        moving, frozen = (
            jnp.concatenate([x[0, :half], x[1, : self._d - half]])
            for x in (state.moving, state.frozen)
        )
        return _with_columns(state, moving, frozen)


def _with_columns(state: Any, moving: Any, frozen: Any) -> Any:
    return eqx.tree_at(lambda state: (state.moving, state.frozen), state, (moving, frozen))
