"""Samples, and networks that are trained on them."""

import equinox as eqx
import jax
import jax.numpy as jnp

import hdjax as hd
from hdjax import networks

X = jax.random.normal(jax.random.key(0), (20, 4))
Y = jax.random.randint(jax.random.key(1), (20,), 0, 3)


class Scaled(eqx.Module):
    """A user's network: parameters, an array that is not trained, a function, a string."""

    inner: eqx.nn.MLP
    shift: jax.Array
    name: str

    def __init__(self, key):
        self.inner = eqx.nn.MLP(4, 3, 6, 1, activation=jnp.tanh, key=key)
        self.shift, self.name = jnp.arange(3), "mine"

    def __call__(self, x):
        return self.inner(x) + self.shift


def training(optimiser, **options):
    return networks.Training(Scaled, networks.cross_entropy, X, Y, optimiser, **options)


def small_network(key):
    return hd.networks.MLP(2, [4], 3, key=key)


def network(key):
    return networks.MLP(4, [8], 3, jnp.tanh, key=key)
