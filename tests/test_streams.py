"""Keys: every key that is drawn from or folded into, in every simulator, is recorded and compared.

A key is drawn from for one purpose, and a key that is drawn from is never folded into.
"""

import ast
from collections import defaultdict
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hdjax as hd
from hdjax import curvature, landscapes, multiindex, multipass, networks, random, streaming
from hdjax.engine.runs import Stops, advance_one, blank, shapes
from hdjax.random import Stream
from hdjax.streaming.divided import DividedSimulator
from tests.still import Still

ROOT = Path(hd.__file__).parent
SAMPLERS = ["bernoulli", "chisquare", "choice", "gamma", "normal"]
SAMPLERS += ["permutation", "rademacher", "randint", "t", "uniform"]
EVERY = 2**32


class Record:
    """The keys that a program draws from, with what it draws, and those that it folds into."""

    def __init__(self, monkeypatch):
        self.purposes, self.folded = defaultdict(set), defaultdict(set)
        at, split, planes = random.at, jax.random.split, random._planes

        def folded(key, tick):
            self._note(self.folded, isinstance(tick, Stream), key)
            return at(key, tick)

        def halved(key, num=2):
            self._note(self.folded, False, key)
            return split(key, num)

        def rows_drawn(key, tick, rows, pairs, dtype):
            # A row of numbers is drawn from the key of its tick.
            self._note(self.folded, False, key)
            own = random.threefry2x32(random._key_words(key), random._rows(tick, rows))
            keys = jax.random.wrap_key_data(jnp.concatenate(own, axis=1), impl="threefry2x32")
            self._note(self.purposes, ("row", pairs), keys)
            return planes(key, tick, rows, pairs, dtype)

        monkeypatch.setattr(random, "at", folded)
        monkeypatch.setattr(random, "_planes", rows_drawn)
        monkeypatch.setattr(jax.random, "split", halved)
        for name in SAMPLERS:
            monkeypatch.setattr(jax.random, name, self._sampler(name, getattr(jax.random, name)))

    def _sampler(self, name, function):
        def sampler(key, *args, **options):
            drawn = function(key, *args, **options)
            self._note(self.purposes, (name, drawn.shape), key)
            return drawn

        return sampler

    def _note(self, where, what, keys):
        def note(data):
            for pair in data.reshape(-1, 2).tolist():
                where[tuple(pair)].add(what)

        jax.debug.callback(note, jax.random.key_data(keys))

    @property
    def drawn(self):
        jax.effects_barrier()
        return set(self.purposes)


def words(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def sparse(key):
    return jax.random.normal(key, (8,))


def network(key):
    return networks.MLP(3, [4], 2, key=key)


def first_layer(network):
    return network.layers[0]


def one_pass(loss=None, d=8, **options):
    loss = streaming.losses.LeastSquares(sigma=0.5) if loss is None else loss
    ends = {"start": streaming.GaussianStart(), "target": streaming.GaussianStart()}
    return streaming.OnePassSGD(loss, hd.spectra.identity(d), 0.3, **ends | options)


def mixture(**options):
    return streaming.mixtures.mixture_softmax(12, 2, snr=2.0, learning_rate=0.5, **options)


def aligned(**options):
    blocks = [curvature.Block(0, "hessian", 1), curvature.Block(1, "gradient", 1)]
    return curvature.Alignment(mixture(), blocks, alpha=1.0, **options)


def problem():
    return multipass.gaussian_problem(6, 3, key=jax.random.key(9), noise=0.5)


def training(batch=4):
    rng = np.random.default_rng(0)
    data = rng.standard_normal((12, 3)), rng.integers(0, 2, 12)
    return networks.Training(network, networks.cross_entropy, *data, optax.sgd(0.1), batch=batch)


def landscape(kernel, dimension=5, **options):
    return landscapes.GradientSpan(
        kernel, landscapes.algorithms.GradientDescent(0.1), dimension, **options
    )


DIRECT = streaming.Direct
ROWS = np.random.default_rng(1).standard_normal((40, 8))


def link():
    return multiindex.links.from_coefficients({(1,): 0.8, (2,): 0.6})


def spin():
    return landscapes.kernels.SpinGlass([0, 0, 0.2, 0, 0, 0.1])


def flow():
    return multiindex.GradientFlow(link(), 6, directions=1)


def finite(readout=None, **options):
    return multiindex.FiniteSamples(link(), 6, 20, readout, noise=0.1, **options)


def xor(**options):
    theta = np.array([0.5, -0.5])
    training = streaming.mixtures.xor(12, theta=theta, snr=2.0, learning_rate=0.3)
    return curvature.Alignment(training, **options)


def many(sampling="replacement"):
    return multipass.MultiPassSGD(problem(), 0.3, sampling=sampling)


def layers():
    two = {"a": first_layer, "b": first_layer}
    return networks.LayerAlignment(training(), two, rank=1)


SMOOTH = landscapes.kernels.SquaredExponential
# name: (system and method, steps of an epoch; None where the steps are bounded or nothing is drawn)
CASES = {
    "one pass": (lambda: (one_pass(batch_size=2), DIRECT()), 1),
    "one pass, mixture": (lambda: (mixture(), DIRECT()), 1),
    "gram": (lambda: (one_pass(batch_size=2), streaming.GramSampler("float64")), 1),
    "gram, mixture": (lambda: (mixture(), streaming.GramSampler("float64")), 1),
    "homogenised": (lambda: (one_pass(), streaming.Homogenised(0.1)), 1),
    "corrected": (lambda: (one_pass(), streaming.CorrectedDiffusion(0.1)), 1),
    "signs": (lambda: (one_pass(batch_size=2), DIRECT(data=streaming.data.Rademacher())), 1),
    "Student": (lambda: (one_pass(), DIRECT(data=streaming.data.StudentT(5.0))), 1),
    "sampler": (lambda: (one_pass(batch_size=2), DIRECT(data=streaming.data.Sampler(sparse))), 1),
    "rows": (lambda: (one_pass(), DIRECT(data=streaming.data.Rows(ROWS))), None),
    "alignment": (lambda: (aligned(), None), 1),
    "alignment, training": (lambda: (aligned(train=True), None), 1),
    "alignment, theta": (lambda: (xor(theta_scale=0.1), None), 1),
    "projected": (lambda: (aligned(), curvature.ProjectedSGD(rank=1, refresh=1, samples=9)), 1),
    "multi pass": (lambda: (many(), None), 1),
    "multi pass, reshuffling": (lambda: (many("reshuffling"), None), 6),
    "multi pass, homogenised": (lambda: (many(), multipass.Homogenised(0.1)), 1),
    "momentum": (lambda: (multipass.MomentumSGD(problem(), 0.3, batch_fraction=0.5), None), 1),
    "previsible": (lambda: (landscape(SMOOTH()), landscapes.Previsible()), None),
    "spin glass": (
        lambda: (landscape(spin(), noise=spin()), landscapes.Explicit(variances=[0.4, 1.6])),
        None,
    ),
    "features": (lambda: (landscape(spin() + SMOOTH()), landscapes.Explicit(features=4)), None),
    "ambient": (lambda: (landscape(SMOOTH()), landscapes.Ambient()), None),
    "function": (lambda: (landscape(SMOOTH()), landscapes.Function(jnp.sum, "float64")), None),
    "observation": (lambda: (landscapes.NextObservation(landscape(SMOOTH())), None), None),
    "flow": (lambda: (flow(), multiindex.FullFlow()), None),
    "flow, reduced": (lambda: (flow(), multiindex.Reduced()), None),
    "flow, anisotropic": (lambda: (flow(), multiindex.Anisotropic(np.ones(6))), None),
    "saddles": (lambda: (multiindex.SaddleToSaddle(link(), 50), None), None),
    "descent": (lambda: (multiindex.StiefelDescent(link(), 6, 0.05), None), None),
    "finite samples": (lambda: (finite(multiindex.readouts.RandomFeatures(2, 2)), None), None),
    "fresh samples": (lambda: (finite(fresh=True, inputs="student"), None), 1),
    "Stiefel": (lambda: (multiindex.StiefelSGD(link(), 6, 0.1, noise=0.1), None), 1),
    "training": (lambda: (training(), None), 3),
    "layers": (lambda: (layers(), None), 3),
}


SLOW = {"alignment", "alignment, training", "projected", "layers", "spin glass", "fresh samples"}


def marked(names):
    """Cases, of which those that compile for long are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in names]


def clock(system, method):
    """Times of the first two ticks that have a record."""
    simulator = system.simulator(method, system.horizon(np.arange(2.0), method))
    first = simulator.samples if getattr(system, "train", False) else 0
    return simulator.clock.times(first + np.arange(2))


def odd(simulator, state, key):
    """A probe that draws what no simulator draws."""
    return jax.random.normal(key, (7, 3))


@pytest.mark.parametrize("name", marked(CASES))
def test_a_key_is_drawn_from_for_one_purpose(name, monkeypatch):
    """In the engine's own program, with two probes; their keys are drawn from by nobody else."""
    system, method = CASES[name][0]()
    run = random.at(jax.random.key(0), 5)
    ts, probes = clock(system, method), {"a": odd, "b": odd}
    plan = hd.make_plan(system, ts, method=method, probes=probes, start=None)
    simulator = system.simulator(plan.method, plan.horizon)
    running = blank(shapes(system, plan, run), run, ())
    stops = Stops(plan.ticks, jax.numpy.arange(2))
    record = Record(monkeypatch)
    jax.jit(lambda: advance_one(system, simulator, plan, run, running, stops, 0, 2))()
    assert not record.drawn & set(record.folded)
    assert all(len(purposes) == 1 for purposes in record.purposes.values())
    # Ticks and counts are folded into the keys of streams, never into the run's own.
    assert record.folded[words(run)] == {True}
    own = random.stream(run, Stream.PROBES)
    expected = {
        words(random.at(random.at(own, position), tick))
        for position in range(2)
        for tick in plan.ticks
    }
    of_probes = {key for key, purposes in record.purposes.items() if ("normal", (7, 3)) in purposes}
    assert of_probes == expected
    assert len(expected) == 4


def test_every_simulator_is_looked_at():
    def kinds(kind):
        for sub in kind.__subclasses__():
            yield from kinds(sub)
            if sub.__module__.startswith("hdjax.") and not getattr(sub, "__abstractmethods__", ()):
                yield sub

    seen = set()
    for case, _ in CASES.values():
        system, method = case()
        simulator = system.simulator(method, system.horizon(np.arange(2.0), method))
        while simulator is not None:
            seen.add(type(simulator))
            simulator = getattr(simulator, "inner", None)
    # The draws of a divided run are those of a single device (tests/streaming/test_divided.py).
    assert set(kinds(hd.Simulator)) == seen | {DividedSimulator}


@pytest.mark.parametrize("name", marked(name for name in CASES if CASES[name][1]))
def test_all_64_bits_of_a_tick_count(name, monkeypatch):
    """Steps of epochs k, 2^32 + k and 2^33 + k, and what is measured there, share no key."""
    (system, method), period = CASES[name][0](), CASES[name][1]
    run = random.at(jax.random.key(0), 5)
    record = Record(monkeypatch)
    simulator = system.simulator(method, system.horizon(np.arange(2.0), method))

    @jax.jit
    def step(k):
        state = simulator.advance(start, k, k + 1, run)
        return simulator.summary(state)

    start = simulator.init(run)
    solver = random.stream(run, Stream.SOLVER)
    beyond = {words(random.at(solver, i)) for i in range(2)}  # a first guess, always the same
    drawn = []
    for k in (period, EVERY * period, 2 * EVERY * period):
        jax.effects_barrier()
        record.purposes.clear()
        step(jnp.asarray(k))
        drawn.append(record.drawn - beyond)
    assert all(drawn)
    assert not drawn[0] & drawn[1]
    assert not drawn[0] & drawn[2]
    assert not drawn[1] & drawn[2]


class OneNumber(Still):
    """Draws one number at the start, and keeps it."""

    def init(self, key):
        return jax.random.normal(random.stream(key, Stream.START))


class Waiting(hd.Method):
    """The way to run it."""

    def simulator(self, system, horizon):
        return OneNumber()


class Resting(hd.PlainSystem, hd.WithoutLimit, hd.WithoutFluctuations):
    """A family of the user's."""

    methods = (Waiting,)
    no_limit = no_fluctuations = "it is an example"

    family = "resting"
    time_label = "tick"
    size: jax.Array = eqx.field(default=0.0, converter=jnp.asarray)

    def start(self):
        return jnp.zeros(())

    def validate(self, *, compared=False, realised=False):
        pass

    def statistics(self, summary):
        return {"x": summary}


def drawn(simulator, state, key):
    return jax.random.normal(key)


def test_probes_differ_between_runs_positions_and_ticks_of_64_bits():
    ts = [0.0, 1.0, 2.0**31, 2.0**32, 2.0**32 + 1, 2.0**33 + 1]
    probes = {"a": drawn, "b": drawn}
    result = hd.simulate(Resting(), ts, key=jax.random.key(0), runs=3, probes=probes)
    values = np.stack([result.probes["a"].values, result.probes["b"].values])
    assert values.shape == (2, 3, 6)
    assert np.unique(values).size == 36
    assert not np.isin(result.runs["x"].values, values).any()
    again = hd.simulate(Resting(), ts[1::3], key=jax.random.key(0), runs=1, probes=probes)
    np.testing.assert_array_equal(again.probes["b"].values[0], values[1, 0, [1, 4]])


def test_points_have_keys_that_no_run_has():
    """The runs of a point are not those of an experiment with a run's key."""
    key, options = jax.random.key(0), {"runs": 3, "progress": False}
    axis = {"size": [0.0, 1.0, 2.0]}
    swept = hd.sweep(Resting, axis, [0.0], key=key, shared_keys=False, start=None, **options)
    points = swept.runs["x"].values.ravel()
    runs = [hd.simulate(Resting(), [0.0], key=key, **options)]
    runs += [
        hd.simulate(Resting(), [0.0], key=jax.random.fold_in(key, r), **options) for r in range(3)
    ]
    runs = np.concatenate([run.runs["x"].values.ravel() for run in runs])
    assert np.unique(np.concatenate([points, runs])).size == points.size + runs.size
    point = random.at(random.stream(key, Stream.POINTS), 1)
    alone = hd.simulate(Resting(), [0.0], key=point, **options).runs["x"].values
    np.testing.assert_array_equal(swept.runs["x"].values[1], alone)


def test_a_random_direction_is_none_of_the_start():
    """One pass at d = 100: cosines are of order 1/10."""
    target = np.full(100, 0.1)
    system = streaming.OnePassSGD(
        streaming.losses.LeastSquares(),
        hd.spectra.identity(100),
        0.5,
        streaming.GaussianStart(),
        target,
    )

    def cosine(simulator, state, key):
        x = state.moving[:, 0]
        v = jax.random.normal(key, (100,), x.dtype)
        return v @ x / jnp.linalg.norm(v) / jnp.linalg.norm(x)

    found = hd.simulate(system, [0.0], key=jax.random.key(0), runs=8, probes={"p": cosine})
    assert np.abs(found.probes["p"].values).max() < 0.5


def test_a_fresh_network_is_not_that_of_the_start():
    """|theta - theta'|^2 of two networks is |theta|^2 + |theta'|^2 but for 1/sqrt(parameters)."""

    def gap(simulator, state, key):
        own = simulator.network(state), network(key)
        flat = [jnp.concatenate([x.ravel() for x in jax.tree.leaves(net)]) for net in own]
        a, b = (x.astype(float) for x in flat)
        return ((a - b) ** 2).sum() / ((a**2).sum() + (b**2).sum())

    found = hd.simulate(training(), [0], key=jax.random.key(0), runs=8, probes={"p": gap})
    assert np.abs(found.probes["p"].values - 1).max() < 0.9
    assert abs(found.probes["p"].values.mean() - 1) < 0.4


def test_noise_of_a_probe_is_none_of_a_random_function():
    def noise(simulator, state, key):
        return jax.random.normal(key, (64,))

    found = hd.simulate(
        landscape(landscapes.kernels.SquaredExponential(), 50),
        [0, 1],
        key=jax.random.key(0),
        runs=200,
        probes={"z": noise},
    )
    f, z = found.runs["value"].values, found.probes["z"].values
    for k in range(2):
        correlations = [np.corrcoef(f[:, k], z[:, k, j])[0, 1] for j in range(64)]
        assert np.abs(correlations).max() < 4.5 / np.sqrt(200)


def test_streams_are_different_and_out_of_reach():
    assert len({stream.value for stream in Stream.__members__.values()}) == len(Stream.__members__)
    engine = [stream for stream in Stream if stream >= 2**32]
    assert {stream.name for stream in engine} == {"PROBES", "POINTS", "SIZES", "FIT", "THEORY"}
    assert min(engine) > np.iinfo(np.int64).max


DERIVED = {"fold_in", "split", "clone", "wrap_key_data", "PRNGKey"}


def derivations(source):
    """Where a module derives keys by means of `jax.random`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("jax", "jax.random"):
            yield from DERIVED.union({"random"}) & {alias.name for alias in node.names}
        if isinstance(node, ast.Attribute) and node.attr in DERIVED:
            yield from [node.attr] if ast.unparse(node.value) == "jax.random" else []


def test_keys_are_derived_in_one_module():
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.rglob("*.py")}
    # Networks are Equinox modules, which take a key of any kind.
    others = {"random.py", "networks/architectures.py"}
    assert {name for name, source in files.items() if list(derivations(source))} == others
    assert list(derivations("a, b = jax.random.split(key)")) == ["split"]
    assert list(derivations("from jax import random")) == ["random"]
