"""The hinge loss: moments in closed form, flipped labels, SGD written in NumPy."""

from typing import ClassVar

import jax
import numpy as np
import pytest

import hdjax as hd
from hdjax.streaming import GaussianStart
from hdjax.streaming.losses import FunctionLoss, Hinge, UniformNoise
from tests.streaming.losses.closed_forms import ClosedForms, Reference, assert_flips
from tests.streaming.models import B, flipped_by_draw, isotropic


class TestClosedForms(ClosedForms):
    cases: ClassVar = {
        "hinge": Reference(
            Hinge(), 0.8601127487, (0.3089571852, -0.6702237057), 0.8140141122, 5e-2, hard=True
        )
    }


def test_flipped_labels_in_closed_form():
    assert_flips(Hinge(flip=0.2), B)


@pytest.mark.slow
def test_flipped_labels_against_sgd_in_numpy():
    d, rate, runs, t = 100, 0.4, 60, 4
    eigenvalues = np.repeat([4.0, 2.0, 1.0, 0.5, 0.25], d // 5)
    eigenvalues *= d / eigenvalues.sum()
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(2, runs, d)) / np.sqrt(d)
    for _ in range(t * d):
        a = rng.normal(size=(runs, d)) * np.sqrt(eigenvalues)
        label = np.sign((a * target).sum(1)) * np.where(rng.random(runs) < 0.1, -1, 1)
        active = label * (a * x).sum(1) < 1
        x += rate / d * (active * label)[:, None] * a
    distance = ((x - target) ** 2).sum(1)
    spectrum = hd.spectra.explicit(eigenvalues[:: d // 5], [d // 5] * 5)
    for loss in (Hinge(flip=0.1), FunctionLoss(flipped_by_draw, noise=UniformNoise())):
        made = hd.streaming.OnePassSGD(loss, spectrum, rate, GaussianStart(), GaussianStart())
        result = hd.compare(
            made,
            [0.0, t],
            key=jax.random.key(0),
            runs=60,
            statistics=["distance"],
            fluctuations=False,
            progress=False,
        )
        for values in (distance, np.asarray(result.runs["distance"])[:, -1]):
            error = values.std() / np.sqrt(runs)
            # Means differ from the limit by order 1/d, besides.
            assert abs(values.mean() - float(result.limit["distance"][-1])) < 4 * error + 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Hinge(flip=1.5),
            r"flip: 1\.5; allowed: a finite number, at least 0, at most 1; or None",
        ),
        (lambda: Hinge(flip="a"), "flip: 'a'; allowed: a finite number"),
        (lambda: isotropic(Hinge(), target=False), "allowed with Hinge: 1 and 1"),
    ],
)
def test_refusals(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
