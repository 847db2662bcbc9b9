"""What the engine runs: systems of equal structure, with their plans, and the number of runs."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Array, Key

from hdjax.engine.identity import identity
from hdjax.engine.plan import Plan
from hdjax.system import System


class Experiment(NamedTuple):
    """What is run: systems of equal structure, and how.

    Attributes:
        systems: the systems at the points of a sweep, or a single one.
        plans: the plan of each system.
        key: the key of the experiment.
        runs: number of runs at each point; 0 for the limit alone.
        keep: as for `compare`.
        shared_keys: whether all points use the same keys, as for `sweep`.
    """

    systems: Sequence[System]
    plans: Sequence[Plan]
    key: Key[Array, ""]
    runs: int
    keep: str = "runs"
    shared_keys: bool = True

    @property
    def steps(self) -> int:
        """The number of steps of all runs at all points."""
        return sum(self.runs * int(plan.ticks[-1]) for plan in self.plans)

    def at(self, points: Sequence[int]) -> "Experiment":
        """The same experiment at some of the points."""
        systems, plans = self.systems, self.plans
        chosen = [systems[i] for i in points], [plans[i] for i in points]
        return self._replace(systems=chosen[0], plans=chosen[1])

    def names(self) -> dict[str, str]:
        """The names of the parts, by which a checkpoint knows its experiment."""
        return {name: identity(part) for name, part in self._asdict().items()}
