"""The inner loop of direct one-pass SGD, several steps at a time.

    X_{j+1} = rho_j X_j - gamma_j / (d b) sum_i a_ji g_ji^T,    rho_j = 1 - gamma_j tau / d,

with b samples a_ji = mean_c + K_c^{1/2} z a step and g_ji the loss's gradient at X_j^T a_ji. Over a
block of n steps, whose n b samples are the rows of A, the parameters stay in the span of X_0 and
those rows:

    X_j = pi_j X_0 - A^T C_j,    X_j^T a = pi_j S - C_j^T Gamma,    S = A X_0,  Gamma = A A^T.

So the sequential part runs on S and Gamma alone (n b rows instead of d coordinates), and R^d is met
in four matrix products a block. It is SGD step by step, to rounding.

Source: C. Paquette et al., "Hitting the High-D(imensional) Notes" (arXiv 2308.08977) for the
algorithm; the blocking is that of compact Householder products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import random

_START, _STEPS = 0, 1  # streams of a run's key

_dot = partial(lax.dot_general, precision=lax.Precision.HIGHEST)
_ROWS = (((1,), (1,)), ((), ()))  # A B^T
_COLUMNS = (((0,), (0,)), ((), ()))  # A^T B
MODE = "barrier"


def start_key(key):
    return random.stream(key, _START)


def block_size(d):
    return 8


def advance(
    X, theta, k0, k1, key, *, fixed, means, scale, probabilities, gradient, noise, learning_rate,
    ridge, steps, batch_size,
):
    d, m = X.shape
    key = random.stream(key, _STEPS)
    extra = noise.dim + (probabilities.shape[0] > 1)
    half = -(-(d + extra) // 2)
    kw = dict(fixed=fixed.T, means=means, scale=scale, probabilities=probabilities, gradient=gradient, noise=noise,
              learning_rate=learning_rate, ridge=ridge, batch_size=batch_size, lo=k0, hi=k1)

    def draw(tick):
        z = random.normal_pairs(key, tick, steps, batch_size * half, X.dtype)
        return z.reshape(steps * batch_size, half)

    def body(i, carry):
        tick = (i * steps).astype(k0.dtype)
        if MODE == "pipe":
            Xt, theta, z = carry
            Xt, theta = _block(Xt, theta, z, tick - steps, steps, **kw)
            return Xt, theta, draw(tick)
        Xt, theta = carry
        z = draw(tick)
        if MODE == "barrier":
            z = lax.optimization_barrier(z)
        if MODE == "cond":
            z = lax.cond(tick < k1, draw, lambda tick: jnp.zeros_like(z), tick)
        return _block(Xt, theta, z, tick, steps, **kw)

    first, last = k0 // steps, -(-k1 // steps)
    if MODE == "pipe":
        z = jnp.zeros((steps * batch_size, half), jnp.result_type(X.dtype, jnp.complex64))
        Xt, theta, _ = lax.fori_loop(first, last + 1, body, (X.T, theta, z))
    else:
        Xt, theta = lax.fori_loop(first, last, body, (X.T, theta))
    return Xt.T, theta


def _block(Xt, theta, z, tick, steps, *, fixed, means, scale, probabilities, gradient, noise, learning_rate, ridge, batch_size, lo, hi):
    (m, d), b = Xt.shape, batch_size
    half = z.shape[1]
    components = probabilities.shape[0]
    A = CAT(z, scale, d)
    tail = z.imag[:, d - half:]
    label = jax.vmap(noise)(tail[:, :noise.dim]).reshape(steps, b, -1)
    component = jnp.zeros((steps, b), jnp.int32)
    S = _dot(A, Xt, _ROWS).reshape(steps, b, m)
    T = _dot(A, fixed, _ROWS).reshape(steps, b, -1)
    gram = _dot(A, A, _ROWS).reshape(steps, b, steps, b)
    C, shrink, theta = SOLVE(S, T, gram, component, label, theta, tick, steps, gradient=gradient, learning_rate=learning_rate, ridge=ridge, d=d, lo=lo, hi=hi)
    return shrink * Xt - _dot(C.reshape(steps * b, m), A, _COLUMNS), theta

def cat0(z, scale, d):
    half = z.shape[1]
    return jnp.concatenate([z.real * scale[0, :half], z.imag[:, :d - half] * scale[0, half:]], 1)
def cat1(z, scale, d):
    return jnp.concatenate([z.real, z.imag], 1)[:, :d] * scale[0]
def cat2(z, scale, d):
    return lax.optimization_barrier(jnp.concatenate([z.real, z.imag], 1)[:, :d]) * scale[0]
CAT = cat0

def solve_right(S, T, gram, component, label, theta, tick, steps, *, gradient, learning_rate, ridge, d, lo, hi):
    b, m = S.shape[1:]
    def step(carry, j):
        S, C, shrink, theta = carry
        rate = learning_rate((tick + j).astype(S.dtype) / d) / d
        active = (tick + j >= lo) & (tick + j < hi)
        g, tg = jax.vmap(gradient, (0, 0, 0, 0, None))(S[j], T[j], component[j], label[j], theta)
        g = jnp.where(active, rate / b * g, 0)
        rho = jnp.where(active, 1 - rate * ridge, 1)
        S = rho * S - (gram[:, :, j, :, None] * g[None, None]).sum(2)
        C = (rho * C).at[j].set(g)
        theta = jax.tree.map(lambda t, g: jnp.where(active, rho * t - rate * g.mean(0), t), theta, tg)
        return (S, C, rho * shrink, theta), None
    carry = (S, jnp.zeros_like(S), jnp.ones((), S.dtype), theta)
    if UNROLL == "python":
        for j in range(steps): carry, _ = step(carry, j)
    else:
        carry, _ = lax.scan(step, carry, jnp.arange(steps, dtype=tick.dtype), unroll=min(UNROLL, steps))
    return carry[1:]

def solve_left(S, T, gram, component, label, theta, tick, steps, *, gradient, learning_rate, ridge, d, lo, hi):
    b, m = S.shape[1:]
    C, shrink = [], jnp.ones((), S.dtype)
    for j in range(steps):
        rate = learning_rate((tick + j).astype(S.dtype) / d) / d
        active = (tick + j >= lo) & (tick + j < hi)
        x = shrink * S[j]
        for l in range(j):
            x = x - (gram[j, :, l, :, None] * C[l][None]).sum(1)
        g, tg = jax.vmap(gradient, (0, 0, 0, 0, None))(x, T[j], component[j], label[j], theta)
        g = jnp.where(active, rate / b * g, 0)
        rho = jnp.where(active, 1 - rate * ridge, 1)
        C = [rho * c for c in C] + [g]
        shrink = rho * shrink
        theta = jax.tree.map(lambda t, g: jnp.where(active, rho * t - rate * g.mean(0), t), theta, tg)
    return jnp.stack(C), shrink, theta
SOLVE = solve_right
UNROLL = "python"
