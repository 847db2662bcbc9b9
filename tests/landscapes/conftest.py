"""The problems of the reference values, computed once in independent NumPy code, d = infinity."""

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.landscapes import GradientSpan
from hdjax.landscapes.algorithms import (
    BarzilaiBorwein,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    Nesterov,
    SphereDescent,
)
from hdjax.landscapes.kernels import (
    Amplitude,
    Matern32,
    Matern52,
    RationalQuadratic,
    SpinGlass,
    SquaredExponential,
)
from hdjax.landscapes.rates import Clipped, RandomFunctionDescent

SE = SquaredExponential


def make_problem(kernel, algorithm, mean=0.0, radius=1.0, dimension=jnp.inf, **options):
    return GradientSpan(
        kernel, algorithm, dimension, mean=np.asarray(mean), radius=radius, **options
    )


# name: (system, values, squared gradient norms)
REFERENCE = {
    "GD on SE": (
        lambda: make_problem(SE(), GradientDescent(0.5)),
        [0, -0.441248451, -0.728844841, -0.919015229, -1.053787017, -1.15461714, -1.233168514],
        [1, 0.659274657, 0.425004586, 0.29523106, 0.217727091, 0.167835733, 0.133768827],
    ),
    "RFD on SE": (
        lambda: make_problem(SE(), GradientDescent(RandomFunctionDescent(SE()))),
        [0, -0.60653066, -0.910425749, -1.085644613, -1.200342007, -1.282715998, -1.345578899],
        [1, 0.632120559, 0.441013271, 0.354263947, 0.308554688, 0.279730937, 0.259089042],
    ),
    "heavy ball on Matern 5/2": (
        lambda: make_problem(Matern52(1.3, 0.8), HeavyBall(0.3, 0.5), radius=0.7),
        [0, -0.552082736, -0.805080862, -1.004243904, -1.155686343, -1.270581595, -1.356291004],
        [3.385416667, 2.389146668, 2.628379292, 2.540182647, 2.487676733, 2.480441116, 2.537860519],
    ),
    "GD on Matern 3/2": (
        lambda: make_problem(Matern32(), GradientDescent(0.3)),
        [0, -0.365912694, -0.559277925, -0.677621539, -0.760188836, -0.823595495, -0.874778419],
        [3, 2.509062302, 2.511305592, 2.632265267, 2.755044482, 2.857275342, 2.943015934],
    ),
    "Nesterov on RQ": (
        lambda: make_problem(RationalQuadratic(1, 1.5, 2), Nesterov(0.3, 0.6), [1, 0.2], 0.7),
        [1.049, 0.846737295, 0.685660758, 0.583338606, 0.5152691, 0.46536143, 0.427205788],
        [0.464044444, 0.31876562, 0.186257439, 0.122887493, 0.090712201, 0.067844436, 0.051019438],
    ),
    "sphere GD on a mixed spin glass": (
        lambda: make_problem(SpinGlass([0, 0.3, 0.5, 0.7]), SphereDescent(0.1)),
        [0, -0.325942231, -0.602574405, -0.813657066, -0.96882838, -1.084013101, -1.171808196],
        [3.4, 3.654552249, 4.595731864, 5.84199091, 7.098793754, 8.239485189, 9.23560277],
    ),
    "GD on a quadratic": (
        lambda: make_problem(SpinGlass([0, 0, 0.2]), GradientDescent(0.3), [0, 2]),
        [1, 0.148, 0.04048, 0.01422496, 0.005715038, 0.002494192, 0.001151161],
        [4.4, 0.4928, 0.113312, 0.035483034, 0.013138643, 0.005397194, 0.002377669],
    ),
    "CG on a modulated SE": (
        lambda: make_problem(Amplitude([1, 0.3]) * SE(), ConjugateGradient(0.3, "HS"), [0.5, 0.1]),
        [0.55, 0.176416526, -0.097208974, -0.370838269, -0.624818055, -0.872798188],
        [1.3325, 1.074914101, 0.973580167, 0.856003504, 0.768335386, 0.690950397],
    ),
    "CG on SE": (
        lambda: make_problem(SE(), ConjugateGradient(0.3, "PR+")),
        [0, -0.286799245, -0.522195288, -0.702078867, -0.839428953, -0.94694241, -1.033385779],
        [1, 0.842895229, 0.646789826, 0.490815533, 0.381232086, 0.30442911, 0.24907656],
    ),
    "BB on a spin glass with ridge": (
        lambda: make_problem(SpinGlass([0, 0, 0.2, 0.1]), BarzilaiBorwein(0.1), [0, 2]),
        [1, 0.5958, 0.084628011, 0.017299328, 0.002075013, 0.000614905],
        [4.7, 2.4937267, 0.238553111, 0.041519338, 0.005279251, 0.003092666],
    ),
    "clipped GD on SE": (
        lambda: make_problem(SE(), GradientDescent(Clipped(0.5, 0.6))),
        [0, -0.286799245, -0.540557557, -0.754204241, -0.930801356, -1.065678966, -1.16468029],
        [1, 0.842895229, 0.624912472, 0.434433739, 0.297941828, 0.214137268, 0.164125781],
    ),
}


@pytest.fixture
def problem():
    return make_problem


@pytest.fixture(scope="session")
def references():
    return REFERENCE


@pytest.fixture(params=REFERENCE)
def reference(request):
    make, values, gradients = REFERENCE[request.param]
    return make(), np.array(values), np.array(gradients)
