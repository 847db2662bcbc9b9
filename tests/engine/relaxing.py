"""A family that compiles within a tenth of a second, for tests in processes of their own."""

import equinox as eqx
import jax
import jax.numpy as jnp

import hdjax as hd
from hdjax.clocks import Steps


class Relaxing(hd.Simulator):
    """x <- x - a x/d + N(0, 1/d), the mean of d noisy relaxations."""

    rate: jax.Array
    d: int = eqx.field(static=True)

    @property
    def clock(self):
        return Steps(self.d)

    def init(self, key):
        start = hd.random.stream(key, hd.random.Stream.START)
        return 1 + jax.random.normal(start, dtype=self.rate.dtype) / self.d**0.5

    def advance(self, state, k0, k1, key):
        def step(k, x):
            own = hd.random.at(hd.random.stream(key, hd.random.Stream.STEPS), k)
            return x - self.rate / self.d * x + jax.random.normal(own, (), x.dtype) / self.d

        return jax.lax.fori_loop(k0, k1, step, state)

    def summary(self, state):
        return state


class Plain(hd.Method):
    def simulator(self, system, horizon):
        return Relaxing(system.rate, system.d)


class Relaxation(hd.PlainSystem, hd.WithoutFluctuations):
    family = "relaxation"
    time_label = "t = k/d"
    methods = (Plain,)
    no_fluctuations = "an exercise"
    rate: jax.Array
    d: int = eqx.field(static=True)

    def start(self):
        return jnp.ones((), self.rate.dtype)

    def validate(self, *, compared=False, realised=False):
        pass

    def limit(self, ts, start=None, horizon=None, save=lambda summary: summary):
        start = self.start() if start is None else start
        return hd.Limit.whole(jax.vmap(lambda t: save(start * jnp.exp(-self.rate * t)))(ts), ts)

    def statistics(self, summary):
        return {"mean": summary}


def relaxation(rate=1.0, d=30):
    return Relaxation(jnp.asarray(rate, float), d)
