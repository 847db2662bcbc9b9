"""Logistic regression: moments in closed form, large logits, flipped labels, wrong input."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from hdjax.streaming import moments
from hdjax.streaming.losses import ComponentLogistic, Logistic
from hdjax.streaming.projections import Projections
from tests.streaming.losses.closed_forms import ClosedForms, Reference, assert_flips
from tests.streaming.models import B, isotropic


class TestClosedForms(ClosedForms):
    cases: ClassVar = {
        "soft": Reference(
            Logistic("soft"), 0.7240000872, (0.2132045456, -0.2035791499), 0.0571366021, 1e-9
        ),
        "sampled": Reference(
            Logistic("sampled"), 0.7240000872, (0.2132045456, -0.2035791499), 0.2607157519, 2e-2
        ),
        "hard": Reference(
            Logistic("hard"),
            0.6709608703,
            (0.2132045456, -0.3803765396),
            0.2379172453,
            2e-2,
            hard=True,
        ),
    }


def test_large_logits():
    """E s'(sqrt(Q) w) at Q = 900, where Gauss-Hermite fails, against adaptive quadrature."""
    from scipy.integrate import quad
    from scipy.special import expit

    found = moments(
        Logistic(),
        Projections.natural(jnp.diag(jnp.array([900.0, 1.0])), 1),
        0,
        None,
    )
    exact = quad(
        lambda w: expit(30 * w) * expit(-30 * w) * np.exp(-w * w / 2) / np.sqrt(2 * np.pi),
        -2,
        2,
        points=[0],
        epsabs=1e-13,
    )[0]
    np.testing.assert_allclose(found.stein[0, 0], exact, rtol=1e-8)


@pytest.mark.parametrize(
    ("loss", "gram"),
    [
        (Logistic("soft", flip=0.2), B),
        (Logistic("sampled", flip=0.2), B),
        (Logistic("hard", flip=0.2), np.array([[0.8, -0.5], [-0.5, 0.6]])),
    ],
)
def test_flipped_labels_in_closed_form(loss, gram):
    assert_flips(loss, gram)


def test_a_label_of_the_component():
    """f = log(1 + e^x) - y x and its gradient s(x) - y, at numbers."""
    loss, nothing = ComponentLogistic([1.0, 0.0]), jnp.zeros(0)
    for component, label in ((0, 1.0), (1, 0.0)):
        x = jnp.array([0.7])
        value = loss(x, nothing, jnp.asarray(component), nothing, None)
        gradient, _ = loss.gradient(x, nothing, jnp.asarray(component), nothing, None)
        np.testing.assert_allclose(value, np.log(1 + np.exp(0.7)) - label * 0.7, rtol=1e-12)
        np.testing.assert_allclose(gradient, [1 / (1 + np.exp(-0.7)) - label], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Logistic("fuzzy"), "labels"),
        (
            lambda: Logistic(flip=[0.1, 0.2]),
            r"flip: \[0\.1, 0\.2\]; allowed: a finite number, at least 0, at most 1; or None",
        ),
        (
            lambda: Logistic(flip=-0.1),
            r"flip: -0\.1; allowed: a finite number, at least 0, at most 1; or None",
        ),
        (lambda: ComponentLogistic([0.0, 0.5]), "labels: .* allowed: 0 or 1 for each component"),
        (lambda: isotropic(ComponentLogistic([0.0])), "allowed with ComponentLogistic: 1 and 0"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()
