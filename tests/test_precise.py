"""Products ask for the highest precision of the device, and are those of NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hdjax import precise

RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=shape) for shape in ((3, 4), (4, 5), (5, 2)))
PRODUCTS = {
    "dot": (lambda m: m.dot(A, B), A @ B),
    "vdot": (lambda m: m.vdot(A, A), (A**2).sum()),
    "matmul": (lambda m: m.matmul(A, B), A @ B),
    "tensordot": (lambda m: m.tensordot(A, B, 1), A @ B),
    "einsum": (lambda m: m.einsum("ij,jk->k", A, B), (A @ B).sum(0)),
    "multi_dot": (lambda m: m.multi_dot([A, B, C]), A @ B @ C),
}


def precisions(jaxpr):
    """The precision of every product of a program, also of those inside of other programs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from precisions(inner)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_of_the_highest_precision(name):
    call, expected = PRODUCTS[name]
    np.testing.assert_allclose(call(precise), expected, rtol=1e-13)
    found = list(precisions(jax.make_jaxpr(lambda: call(precise))().jaxpr))
    assert found
    assert set(found) == {(jax.lax.Precision.HIGHEST,) * 2}


def test_products_of_jax_ask_for_none():
    """What the module is for: without it a product has the precision that the device likes."""
    assert list(precisions(jax.make_jaxpr(lambda: jnp.dot(A, B))().jaxpr)) == [None]


def test_every_function_is_tried():
    assert set(PRODUCTS) == {name for name, own in vars(precise).items() if type(own) is partial}
