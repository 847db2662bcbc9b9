"""Mixtures against reference values, exact identities and SGD; their means, starts and errors."""

import dataclasses

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hdjax as hd
from hdjax import gaussian, streaming
from hdjax.streaming import losses, mixtures
from tests.optimised import optimised
from tests.streaming.models import G, Q, S

FINE = hd.Integrator(diffrax.Dopri8(), rtol=1e-9, atol=1e-11)


def at(system, students, overlaps, means):
    """The summary of given Gram matrices, whether or not columns have them."""
    gram = np.block([[students, overlaps], [overlaps.T, means]])
    return dataclasses.replace(system.start(), blocks=jnp.asarray(gram)[None])


def parts(blocks, m):
    return np.asarray(blocks[:m, m:]), np.asarray(blocks[:m, :m])


@pytest.mark.slow
def test_softmax_reference():
    system = mixtures.mixture_softmax(
        100,
        3,
        snr=2.0,
        learning_rate=1.5,
        ridge=0.1,
        probabilities=[0.5, 0.3, 0.2],
        integrator=FINE,
    )
    start = at(system, Q, S, G)
    found = system.field().component_moments(start.state)
    gradient = [
        [-0.4554951533, 0.2017276653, 0.3135505119],
        [0.1928529640, -0.4329123117, 0.2407964463],
        [0.2626421892, 0.2311846464, -0.5543469582],
    ]
    np.testing.assert_allclose(found.gradient.T, gradient, atol=1e-9)
    p = np.array([0.5, 0.3, 0.2])
    hessian = np.einsum("c,cij->ij", p, found.stein)
    np.testing.assert_allclose(
        hessian[np.triu_indices(3)],
        [0.1843189234, -0.0899873170, -0.0943316064, 0.1633875593, -0.0734002423, 0.1677318487],
        atol=1e-9,
    )
    noise = np.einsum("c,cij->ij", p, found.noise)
    np.testing.assert_allclose(
        noise[np.triu_indices(3)],
        [0.1666570552, -0.0669574646, -0.0996995906, 0.1110719055, -0.0441144409, 0.1438140315],
        atol=1e-9,
    )
    assert float(p @ np.asarray(found.risk)) == pytest.approx(0.7281220496, abs=1e-9)
    rate, _ = system.vector_field(jnp.zeros(()), start.state)
    overlaps, students = parts(rate[0], 3)
    np.testing.assert_allclose(overlaps[0], [0.0299263685, 0.0023439287, 0.0462815761], atol=1e-9)
    np.testing.assert_allclose(
        students[np.triu_indices(3)],
        [0.0631613635, -0.3960747622, -0.0383084727, 0.0556088677, 0.1043296937, -0.1486631489],
        atol=1e-9,
    )
    path = system.limit(jnp.array([0.0, 2.0]), start=start, save=lambda s: s.blocks).values
    overlaps, students = parts(path[-1, 0], 3)
    expected = [
        [0.8259163, -0.3154691, 0.1449610],
        [-0.4424675, 0.8998193, -0.3123193],
        [-0.1612034, -0.2880230, 0.4636857],
    ]
    np.testing.assert_allclose(overlaps, expected, atol=1e-7)
    np.testing.assert_allclose(np.diag(students), [1.2238373, 1.0502309, 0.7343232], atol=1e-7)
    # Class gradients sum to zero, whatever the quadrature does.
    decay = np.exp(-1.5 * 0.1 * 2)
    np.testing.assert_allclose(overlaps.sum(0), decay * S.sum(0), atol=1e-9)
    np.testing.assert_allclose(students.sum(), decay**2 * Q.sum(), atol=1e-9)


@pytest.mark.slow
def test_heavy_ball_reference():
    system = mixtures.mixture_softmax(
        100,
        3,
        snr=2.0,
        learning_rate=1.5,
        ridge=0.1,
        probabilities=[0.5, 0.3, 0.2],
        optimiser=streaming.optimisers.HeavyBall(2.0),
        integrator=hd.Integrator(diffrax.Dopri8(), rtol=1e-8, atol=1e-10),
    )
    gram = np.zeros((9, 9))
    gram[3:, 3:] = np.block([[Q, S], [S.T, G]])
    start = dataclasses.replace(system.start(), blocks=jnp.asarray(gram)[None])
    end = system.limit(jnp.array([0.0, 2.0]), start=start, save=lambda s: s.overlaps).values[-1]
    overlaps, students = parts(end, 3)
    np.testing.assert_allclose(
        [overlaps[0, 0], overlaps[2, 2], students[0, 0], students[0, 1]],
        [0.8175157, 0.4791766, 1.1633323, -0.1263012],
        atol=2e-7,
    )


REFERENCE = {
    "relu": {
        "gradient": [-0.2625114, -0.0361552, 0.2091279, 0.1766901],
        "hessian": [0.0376819, -0.0174834, 0.0666584],
        "noise": [0.0652856, -0.0452666, 0.1412963],
        "slope": [-0.0025877, -0.0075716],
        "risk": 0.6574044,
        "theta": [0.6954761, -0.9006655],
        "overlaps": [0.8310191, 0.1558985, 0.6951695],
        "students": [1.0509729, 0.1291314, 0.8445441],
    },
    "softplus": {
        "gradient": [-0.2331574, -0.1507165, 0.1672124, 0.1918198],
        "hessian": [0.0134874, -0.0170475, 0.0306155],
        "noise": [0.0403604, -0.0501591, 0.0822201],
        "slope": [-0.0187123, -0.0553698],
        "risk": 0.7015054,
        "theta": [0.6871431, -0.7892109],
        "overlaps": [0.7693689, 0.1942358, 0.5983100],
        "students": [0.9767728, 0.1210689, 0.6982541],
    },
    "tanh": {
        "gradient": [-0.1625737, -0.2467891, 0.2271666, 0.3607260],
        "hessian": [0.0108285, -0.0288625, 0.0274430],
        "noise": [0.0841485, -0.1024464, 0.1867055],
        "slope": [0.0610861, -0.0689266],
        "risk": 0.7583827,
        "theta": [0.5208724, -0.7389921],
        "overlaps": [0.6676627, 0.2690709, 0.4892030],
        "students": [0.9119420, 0.1314171, 0.7206066],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("activation", list(REFERENCE))
def test_xor_reference(activation):
    expected = REFERENCE[activation]
    system = mixtures.xor(
        100,
        theta=jnp.array([0.8, -1.1]),
        snr=3.0,
        learning_rate=2.0,
        ridge=0.05,
        activation=activation,
        integrator=hd.Integrator(diffrax.Dopri8(), rtol=1e-8, atol=1e-10),
    )
    overlaps = np.array([[0.9, -0.9, 0.2, -0.2], [-0.1, 0.1, 0.7, -0.7]])
    students = np.array([[1.3, 0.1], [0.1, 0.9]])
    pair = np.array([[1.0, -1.0], [-1.0, 1.0]])
    means = np.kron(np.eye(2), pair)
    start = at(system, students, overlaps, means)
    found = jax.jit(lambda: system.field().component_moments(start.state))()
    three = np.triu_indices(2)
    np.testing.assert_allclose(found.gradient[:, 0], expected["gradient"], atol=1e-7)
    np.testing.assert_allclose(found.stein.mean(0)[three] / 3, expected["hessian"], atol=1e-7)
    np.testing.assert_allclose(found.noise.mean(0)[three], expected["noise"], atol=1e-7)
    np.testing.assert_allclose(found.theta_gradient.mean(0), expected["slope"], atol=1e-7)
    assert float(found.risk.mean()) == pytest.approx(expected["risk"], abs=1e-7)
    end = system.limit(jnp.array([0.0, 2.0]), start=start).values
    left, square = parts(end.blocks[-1, 0], 2)
    np.testing.assert_allclose(end.theta[-1], expected["theta"], atol=1e-6)
    np.testing.assert_allclose(
        [left[0, 0], left[0, 2], left[1, 2]], expected["overlaps"], atol=1e-6
    )
    np.testing.assert_allclose(square[three], expected["students"], atol=1e-6)


@pytest.mark.slow
def test_commuting_covariances_reference():
    """Two bins of coordinates whose eigenvalues differ between the components."""
    snr, kappa = 2.0, np.array([[2.5, 0.7], [0.4, 1.6]])
    system = streaming.OnePassSGD(
        losses.MixtureSoftmax(2),
        hd.spectra.explicit([1.0, 2.0], [50, 50]),
        1.5,
        streaming.GaussianStart(columns=2),
        mixture=streaming.Mixture(
            [0.6, 0.4], mixtures.orthonormal_means(100, 2), eigenvalues=kappa.T / snr
        ),
        ridge=0.1,
        integrator=FINE,
    )
    students = [[[0.3, 0.1], [0.1, 0.4]], [[0.5, 0.0], [0.0, 0.2]]]
    overlaps = [[[0.4, 0.0], [0.1, 0.2]], [[0.0, 0.1], [-0.1, 0.3]]]
    means = [[[0.6, 0.1], [0.1, 0.2]], [[0.3, 0.0], [0.0, 0.7]]]
    blocks = [
        np.block([[np.array(v), np.array(w)], [np.array(w).T, np.array(g)]])
        for v, w, g in zip(students, overlaps, means, strict=True)
    ]
    start = dataclasses.replace(system.start(), blocks=jnp.asarray(np.stack(blocks)))
    end = system.limit(jnp.array([0.0, 2.0]), start=start, save=lambda s: s.overlaps).values[-1]
    left, square = parts(end, 2)
    np.testing.assert_allclose(
        square[np.triu_indices(2)], [0.8123756, -0.3642783, 0.7942796], atol=1e-7
    )
    np.testing.assert_allclose(left, [[0.5481660, -0.0915459], [-0.2518387, 0.5360368]], atol=1e-7)
    np.testing.assert_allclose(left.sum(0), np.exp(-0.3) * np.sum(overlaps, (0, 1)), atol=1e-9)


@pytest.mark.slow
def test_gradient_flow_lacks_the_noise_alone():
    system = mixtures.mixture_softmax(100, 3, snr=2.0, learning_rate=1.5)
    ts = jnp.array([0.0, 0.01])
    flow = mixtures.gradient_flow(system, ts, save=lambda s: s.overlaps)
    own = system.limit(ts, save=lambda s: s.overlaps).values
    field = system.field()
    noise = field.noise(field.component_moments(system.start().state))[0]
    gap = (own - flow)[-1]
    np.testing.assert_allclose(gap[:3, :3], 1.5**2 * 0.01 * noise, rtol=0.02)
    assert np.abs(gap[:3, 3:]).max() < 1e-3 * np.abs(gap).max()


LOOSE = hd.Integrator(rtol=1e-3, atol=1e-5)


# The bounds hold with a rule of few nodes too, which is fast.
@pytest.mark.filterwarnings("ignore:rule. QMC:UserWarning")
@pytest.mark.slow
@pytest.mark.parametrize("model", ["relu", "softmax"])
def test_sgd_follows_the_limit_closer_like_root_d(model):
    """Each run against the limit from its own start, d = 150 and 600."""

    def make(d):
        if model == "relu":
            return mixtures.xor(
                d,
                theta=jnp.array([0.8, -1.1]),
                snr=5.0,
                learning_rate=2.0,
                integrator=LOOSE,
                rule=gaussian.QMC(9),
            )
        return mixtures.mixture_softmax(
            d,
            3,
            snr=2.0,
            learning_rate=1.5,
            ridge=0.1,
            integrator=LOOSE,
            rule=gaussian.GaussHermite(10),
        )

    ts = jnp.array([0.0, 1.0, 2.5])
    first = make(150)
    # The limit knows a start's Gram matrix alone: one program for both dimensions.
    limits = jax.jit(
        jax.vmap(lambda start: first.limit(ts, start, save=lambda s: s.overlaps).values[1:])
    )
    errors = []
    for d in (150, 600):
        simulator = make(d).simulator()

        def run(key, d=d, simulator=simulator):
            state = simulator.init(key)
            start, k, found = simulator.summary(state), 0, []
            for t in (1.0, 2.5):
                state = simulator.advance(state, jnp.asarray(k), jnp.asarray(int(t * d)), key)
                k = int(t * d)
                found.append(simulator.summary(state).overlaps)
            return start, jnp.stack(found)

        keys = jax.vmap(jax.random.key)(d + jnp.arange(24))
        with optimised():
            starts, found = jax.jit(jax.vmap(run))(keys)
        errors.append(float(np.median(np.abs(found - limits(starts)).max((1, 2, 3)))))
    assert 1.5 < errors[0] / errors[1] < 2.7


def test_means_and_starts():
    simplex = mixtures.simplex_means(30, 4)
    np.testing.assert_allclose(simplex.sum(1), 0, atol=1e-12)
    gram = simplex.T @ simplex
    np.testing.assert_allclose(gram, np.eye(4) * 4 / 3 - 1 / 3, atol=1e-12)
    means = mixtures.xor_means(30)
    columns, v = mixtures.xor_start(jax.random.key(0), means, [0, 1, 2, 3], overlap=0.4)
    np.testing.assert_allclose(np.diag(columns.T @ means), 0.4, atol=1e-12)
    assert v.tolist() == [1, 1, -1, -1]
    own = np.array([[2.0, 0.3], [0.3, 1.0]])
    columns = mixtures.columns_with_gram(20, own)
    np.testing.assert_allclose(columns.T @ columns, own, atol=1e-12)


def test_three_layers_are_xor_with_a_layer_more():
    """One unit in each hidden layer, of weights 1 and 2: the logit is 2 tanh(tanh(x))."""
    deep = mixtures.three_layers(
        20, second=np.ones((1, 1)), third=2 * np.ones(1), snr=4.0, learning_rate=1.0
    )
    logit, nothing = 2 * np.tanh(np.tanh(-0.8)), jnp.zeros(0)
    for component, label in ((0, 1.0), (2, 0.0)):
        found = deep.loss(jnp.array([-0.8]), nothing, jnp.asarray(component), nothing, deep.theta)
        np.testing.assert_allclose(found, np.log1p(np.exp(logit)) - label * logit, rtol=1e-12)
    np.testing.assert_allclose(deep.eigenvalues, 0.25)
    np.testing.assert_allclose(deep.probabilities, 0.25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mixtures.noise_spectrum(10, 0.0), "snr: 0"),
        (lambda: mixtures.orthonormal_means(3, 3), "classes: 3 in dimension 3"),
        (
            lambda: mixtures.columns_with_gram(9, [[1.0, 2.0], [2.0, 1.0]]),
            "lowest eigenvalue",
        ),
        (lambda: mixtures.xor_start(jax.random.key(0), jnp.eye(4), [4], 0.1), "targets"),
        (lambda: mixtures.xor_start(jax.random.key(0), jnp.eye(4), [0], 0.0), "overlap"),
        (
            lambda: mixtures.mixture_softmax(
                20, 2, snr=1.0, learning_rate=1.0, means=mixtures.orthonormal_means(20, 3)
            ),
            "labels: None with 3 components",
        ),
        (
            lambda: mixtures.mixture_softmax(
                20, 3, snr=1.0, learning_rate=1.0, probabilities=[0.5, 0.5, 0.5]
            ),
            "probabilities",
        ),
        (
            lambda: mixtures.xor(
                20,
                theta=jnp.ones(3),
                snr=1.0,
                learning_rate=1.0,
                start=streaming.GaussianStart(columns=2),
            ),
            "theta",
        ),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
