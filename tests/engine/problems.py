"""Small systems for tests of the engine."""

from functools import partial

import jax
import numpy as np

import hdjax as hd
from hdjax.engine import drive

TIMES = [0.0, 0.25, 0.5, 1.0, 2.0]


# Predicted spreads have tests of their own, and take as long to compile as everything else.
compare = partial(hd.compare, fluctuations=False)


def least_squares(rate=0.7, sigma=0.5, d=40, exponent=0.3, **options):
    return hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(sigma=sigma),
        hd.spectra.power_law(d, exponent=exponent),
        rate,
        hd.streaming.GaussianStart(),
        hd.streaming.GaussianStart(),
        **options,
    )


def at_chunk(monkeypatch, call, action):
    """Call `action()` before the given chunk is computed."""
    compute, calls = drive.Loop._chunk, []

    def acted(*arguments):
        calls.append(1)
        if len(calls) == call:
            action()
        return compute(*arguments)

    monkeypatch.setattr(drive.Loop, "_chunk", acted)


def ctrl_c():
    raise KeyboardInterrupt


def interrupt(monkeypatch, call):
    """Ctrl-C before the given chunk is computed."""
    at_chunk(monkeypatch, call, ctrl_c)


OPTIONS = {"ts": [0.0, 1.0], "key": jax.random.key(0), "runs": 2}


def isotropic(rate=0.5, d=8, **ignored):
    """Least squares without noise; arguments that are no parameters make axes of a sweep."""
    law, loss = hd.streaming.GaussianStart(), hd.streaming.losses.LeastSquares()
    return hd.streaming.OnePassSGD(loss, hd.spectra.identity(d), rate, law, law)


def from_zero(rate=0.5, **options):
    """Least squares in d = 50 from X_0 = 0, where the cosine of student and teacher is 0/0."""
    return hd.streaming.OnePassSGD(
        hd.streaming.losses.LeastSquares(),
        hd.spectra.identity(50),
        rate,
        np.zeros(50),
        np.ones(50) / 50**0.5,
        **options,
    )
