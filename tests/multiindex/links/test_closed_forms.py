"""Links with closed Hermite coefficients agree with quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from hdjax import multiindex

CLOSED = {
    "sine": (lambda: multiindex.links.sine(1.3, 25), lambda z: np.sin(1.3 * z)),
    "cosine": (lambda: multiindex.links.cosine(1.3, 24), lambda z: np.cos(1.3 * z)),
    "exponential": (lambda: multiindex.links.exponential(0.7, 20), lambda z: np.exp(0.7 * z)),
    "relu": (lambda: multiindex.links.relu(12), lambda z: max(z, 0.0)),
    "sign": (lambda: multiindex.links.sign(11), lambda z: np.sign(z)),
    "erf": (lambda: multiindex.links.erf(13), None),
}


ENERGIES = {
    "sine": lambda g: np.exp(-(1.3**2)) * np.sinh(1.3**2 * g),
    "cosine": lambda g: np.exp(-(1.3**2)) * np.cosh(1.3**2 * g),
    "exponential": lambda g: np.exp(0.49 * (1 + g)),
    "relu": lambda g: (np.sqrt(1 - g**2) + g * (np.pi - np.arccos(g))) / (2 * np.pi),
    "sign": lambda g: 2 / np.pi * np.arcsin(g),
    "erf": lambda g: 2 / np.pi * np.arcsin(g / 2),
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_against_quadrature(name):
    make, function = CLOSED[name]
    link = make()
    if function is None:
        function = lambda z: float(jax.scipy.special.erf(z / np.sqrt(2)))  # noqa: E731
    for k in (0, 1, 2, 3, 4, 6, 7):
        weigh = lambda z, k=k: (  # noqa: E731
            function(z)
            * np.polynomial.hermite_e.hermeval(z, np.eye(k + 1)[k])
            / np.sqrt(float(np.prod(range(1, k + 1))))
            * np.exp(-(z**2) / 2)
            / np.sqrt(2 * np.pi)
        )
        value = integrate.quad(weigh, -12, 0, epsabs=1e-13)[0]
        value += integrate.quad(weigh, 0, 12, epsabs=1e-13)[0]
        assert float(link.coefficient((k,))) == pytest.approx(value, abs=1e-11)
    # The closed-form energy at a g at which what is truncated is small.
    g = 0.2
    own = sum(float(t.sum()) ** 2 * g**k for k, t in enumerate(link.tensors) if t is not None)
    missed = g ** (link.degree + 1) * float(link.residual)
    assert own == pytest.approx(ENERGIES[name](g), abs=missed + 1e-12)
    assert float(link.norm2) == pytest.approx(ENERGIES[name](1.0), abs=1e-12)
    if link.function is not None:
        assert float(link(jnp.array([0.7]))) == pytest.approx(function(0.7), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multiindex.links.sine(1.0, 0), "degree"),
        (lambda: multiindex.links.sine([1.0, 2.0]), "omega: .* allowed: a finite number"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
