"""The contract: what is abstract, what is final, and what a system that lacks a theory says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax.clocks import Steps
from hdjax.system import Watching


class Counting(hd.Simulator):
    """Counts its ticks."""

    system: "Counter"

    @property
    def clock(self):
        return Steps(self.system.unit)

    def init(self, key):
        return jnp.zeros((), int)

    def advance(self, state, k0, k1, key):
        return state + (k1 - k0)

    def summary(self, state):
        return state.astype(float)


class Plainly(hd.Method):
    """Runs it."""

    def simulator(self, system, horizon):
        return Counting(system)


class Other(hd.Method):
    """A method of another system."""

    def simulator(self, system, horizon):
        raise NotImplementedError


class Counter(hd.PlainSystem, hd.WithoutLimit, hd.WithoutFluctuations):
    """A system without any theory."""

    family = "counter"
    time_label = "t"
    methods = (Plainly,)
    no_limit = "it only counts"
    no_fluctuations = "nothing is random"
    unit: float = 4.0

    def start(self):
        return jnp.zeros(())

    def statistics(self, summary):
        return {"counted": summary}

    def validate(self, *, compared=False, realised=False):
        pass


class Doubling(Watching):
    """Reports twice what it watches."""

    inner: Counting

    @property
    def clock(self):
        return self.inner.clock

    def summary(self, state):
        return 2 * self.inner.summary(state.run)


def test_a_method_is_one_of_the_systems_or_refused():
    assert isinstance(Counter().simulator(), Counting)
    assert isinstance(Counter().simulator(Plainly()), Counting)
    for wrong in (Other(), Plainly, "direct"):
        with pytest.raises(TypeError, match=r"allowed with Counter: Plainly\(...\) or None"):
            Counter().simulator(wrong)


def test_a_system_without_theory_says_why():
    ts = jnp.arange(2.0)
    with pytest.raises(hd.NoLimitError, match="Counter has no limit: it only counts"):
        Counter().limit(ts)
    with pytest.raises(hd.NoFluctuationsError, match="no fluctuations: nothing is random"):
        Counter().fluctuations(ts, lambda summary: {"counted": summary})
    with pytest.raises(hd.NoMeanCorrectionError, match="beyond the limit: nothing is random"):
        Counter().mean_correction(ts, lambda summary: {"counted": summary})
    with pytest.raises(hd.NoLimitError, match="it only counts"):
        hd.compare(Counter(), [0.0, 1.0], key=jax.random.key(0), runs=2, progress=False)


def test_a_watching_simulator_runs_the_one_it_watches():
    watching, key = Doubling(inner=Counter().simulator()), jax.random.key(0)
    zero, end = jnp.asarray(0), jnp.asarray(watching.clock.ticks(np.array([2.5]))[0])
    state = watching.advance(watching.init(key), zero, end, key)
    assert float(watching.summary(state)) == 20.0
    assert int(state.tick) == 10


def kinds(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from kinds(sub)


@pytest.mark.parametrize("contract", [hd.System, hd.Method], ids=lambda kind: kind.__name__)
def test_no_implemented_method_is_overridden(contract):
    for name in ("curvature", "landscapes", "multiindex", "multipass", "networks", "streaming"):
        dir(getattr(hd, name))
    ours = [kind for kind in kinds(contract) if kind.__module__.startswith("hdjax.")]
    assert len(ours) > 10
    for kind in ours:
        for name, own in vars(kind).items():
            if name.startswith("_") or not callable(own):
                continue
            above = [vars(base)[name] for base in kind.__mro__[1:] if name in vars(base)]
            implemented = [x for x in above if not getattr(x, "__isabstractmethod__", False)]
            assert not implemented, f"{kind.__name__}.{name}"
