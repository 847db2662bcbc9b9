"""The training curve of a network from its tangent kernel at the start, against the network's own.

Near its start theta_0 a network is linear in its parameters,

    f(x) = f_0(x) + <grad f_0(x), theta - theta_0>,

and its training is least squares on the rows grad f_0(x_i).  Their Gram matrix is the empirical
neural tangent kernel, and SGD on the linearised network has the limit of `hdjax.multipass` with the
eigenvalues of this kernel.  Each column of the kernel takes a gradient and a product with the
Jacobian, so that no Jacobian is kept.  Runs train the whole network, each on samples of its own,
and show how long the prediction holds.

Source: A. Jacot, F. Gabriel, C. Hongler, "Neural Tangent Kernel" (arXiv 1806.07572).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from hdjax import random
from hdjax.forecast.diagnosis import FAILS, HOLDS, Verdict, judged
from hdjax.forecast.outcome import Curve, Forecast
from hdjax.forecast.preparation import Prepared
from hdjax.multipass import MultiPassSGD, SampleRisk
from hdjax.multipass.modes import Modes, delocalisation
from hdjax.random import Stream

# The relative deviation up to which the prediction is said to hold.
_HOLDS = 0.1


class Tangent(eqx.Module):
    """A network with scalar output, and samples.

    Attributes:
        parameters: the floating arrays of the network.
        rest: everything else.
        shape: the shape of an input.
    """

    parameters: PyTree
    rest: PyTree = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, network: Any, shape: tuple[int, ...]) -> "Tangent":
        """The network split in two, its parameters in the default precision."""
        parameters, rest = eqx.partition(network, eqx.is_inexact_array)
        dtype = jnp.result_type(float)
        return cls(jax.tree.map(lambda leaf: leaf.astype(dtype), parameters), rest, shape)

    def output(self, parameters: PyTree, row: Float[Array, " p"]) -> Float[Array, ""]:
        """The output at a flat input."""
        network = eqx.combine(parameters, self.rest)
        return jnp.reshape(network(row.reshape(self.shape)), ())

    def outputs(self, rows: Float[Array, "n p"]) -> Float[Array, " n"]:
        """The outputs of the network at its start."""
        return jax.vmap(lambda row: self.output(self.parameters, row))(rows)

    @eqx.filter_jit
    def kernel(
        self, rows: Float[Array, "n p"], columns: Float[Array, "k p"]
    ) -> Float[Array, "n k"]:
        """The empirical neural tangent kernel <grad f(x), grad f(y)> at the start."""

        def column(other: Float[Array, " p"]) -> Float[Array, " n"]:
            slope = jax.grad(self.output)(self.parameters, other)
            moved = jax.vmap(
                lambda row: jax.jvp(lambda p: self.output(p, row), (self.parameters,), (slope,))[1]
            )
            return moved(rows)

        return jax.lax.map(column, columns).T


def modes_of(
    tangent: Tangent,
    train: Float[Array, "n p"],
    targets: Float[Array, " n"],
    test: Any,
    labels: Any,
) -> tuple[Modes, float]:
    """The modes of the linearised network, and the mean squared norm of its rows.

    Args:
        tangent: the network.
        train: the training inputs.
        targets: their labels.
        test: (N, p) the test inputs.
        labels: (N,) their labels.
    """
    kernel = np.asarray(tangent.kernel(train, train))
    n, scale = len(kernel), float(np.trace(kernel) / len(kernel))
    values, left = np.linalg.eigh((kernel + kernel.T) / (2 * scale))
    values = np.where(values > n * np.finfo(values.dtype).eps * values.max(), values, 0)
    across = np.asarray(tangent.kernel(test, train)) / scale
    s = np.sqrt(values)
    rows = np.divide(across @ left, s, out=np.zeros(across.shape), where=s > 0)
    gaps = np.asarray(targets - tangent.outputs(train))
    own = np.where(s > 0, left.T @ gaps, 0)
    risk = SampleRisk(rows, np.asarray(labels - tangent.outputs(test)))
    modes = Modes(
        eigenvalues=jnp.asarray(values),
        multiplicities=jnp.ones(n),
        start=jnp.zeros(n),
        labels=jnp.asarray(own),
        floor=jnp.asarray(max(gaps @ gaps - own @ own, 0.0) / 2),
        samples=jnp.asarray(float(n)),
        quadratics={"test": risk},
        delocalisation=delocalisation(values, left),
    )
    return modes, scale


@eqx.filter_jit
def trained(
    tangent: Tangent,
    rate: Float[Array, ""],
    samples: tuple[Array, Array],
    tests: tuple[Array, Array],
    steps: Int[Array, " times"],
    key: Key[Array, ""],
    runs: int,
) -> tuple[Float[Array, "runs times"], Float[Array, "runs times"]]:
    """The training losses and test risks of the whole network after `steps` steps of SGD.

    Args:
        tangent: the network at its start.
        rate: the step itself.
        samples: training inputs (n, p) and labels (n,).
        tests: test inputs and labels.
        steps: (times,) increasing numbers of steps.
        key: the key of the samples.
        runs: the number of runs.
    """

    def loss(parameters: PyTree, row: Array, label: Array) -> Array:
        return (tangent.output(parameters, row) - label) ** 2 / 2

    def mean(parameters: PyTree, data: tuple[Array, Array]) -> Array:
        return jax.vmap(lambda row, label: loss(parameters, row, label))(*data).mean()

    def run(own: Key[Array, ""]) -> tuple[Array, Array]:
        draws = random.stream(own, Stream.STEPS)

        def step(k: Array, parameters: PyTree) -> PyTree:
            i = jax.random.randint(random.at(draws, k), (), 0, len(samples[1]))
            slope = jax.grad(loss)(parameters, samples[0][i], samples[1][i])
            return jax.tree.map(lambda p, g: p - rate * g, parameters, slope)

        def record(carry: tuple, now: Array) -> tuple[tuple, tuple[Array, Array]]:
            parameters, last = carry
            parameters = jax.lax.fori_loop(last, now, step, parameters)
            return (parameters, now), (mean(parameters, samples), mean(parameters, tests))

        return jax.lax.scan(record, (tangent.parameters, jnp.zeros_like(steps[0])), steps)[1]

    return jax.lax.map(run, random.at(key, jnp.arange(runs)))


def of_network(
    network: Any, shape: tuple[int, ...], data: Prepared, settings: dict[str, Any], ts: np.ndarray
) -> Forecast:
    """The prediction for a whole network, by its linearisation at the start.

    Args:
        network: a function of one input with a scalar output, such as an Equinox module.
        shape: the shape of an input.
        data: the samples, not standardised.
        settings: the arguments of `predict`.
        ts: the times of the records, in epochs.
    """
    if data.train_targets.shape[1] != 1:
        raise ValueError(
            f"labels: {len(data.classes)} classes; allowed with a network: numbers or two classes"
        )
    unit = data.scale**0.5
    train, test = jnp.asarray(data.train * unit), jnp.asarray(data.test * unit)
    targets = jnp.asarray(data.train_targets[:, 0]), jnp.asarray(data.test_targets[:, 0])
    tangent = Tangent.of(network, shape)
    modes, scale = modes_of(tangent, train, targets[0], test, targets[1])
    heaviest = float(jnp.diag(tangent.kernel(train, train)).max()) / scale
    given = settings["learning_rate"]
    gamma = min(1.0, 1 / heaviest) if given is None else float(given)
    n = len(train)
    steps = np.round(ts * n).astype(int)
    found = MultiPassSGD(None, gamma, modes=modes).limit(jnp.asarray(steps / n)).values
    runs: Any = (None, None)
    if settings["runs"]:
        key = jax.random.key(settings["seed"])
        rate = jnp.asarray(gamma / scale)
        parts = (train, targets[0]), (test, targets[1])
        runs = trained(tangent, rate, *parts, jnp.asarray(steps), key, settings["runs"])
        runs = tuple(np.asarray(part) for part in runs)
    curves = {
        name: Curve(name, label, steps / n, np.asarray(found[own]), None, simulated)
        for name, label, own, simulated in (
            ("train", "training loss per sample", "loss", runs[0]),
            ("test", "test risk", "test", runs[1]),
        )
    }
    numbers = {"learning rate": gamma, "the step of the network's SGD": gamma / scale}
    verdicts = [
        judged(
            "row norms",
            gamma * heaviest,
            1.5,
            2.6,
            "gamma max K(x, x) over its mean is",
            "SGD overshoots on some samples",
        )
    ]
    if settings["runs"]:
        numbers["epochs for which the prediction holds"] = held(curves["train"])
        verdicts.append(_linear(numbers["epochs for which the prediction holds"], float(ts[-1])))
    return Forecast(
        title=f"A network, linearised at its start, on {data.source}",
        time_label="epochs",
        curves=curves,
        verdicts=verdicts,
        numbers=numbers,
        notes=(f"{n} samples", "runs train the whole network", *data.notes[1:]),
        spectrum=(np.asarray(modes.eigenvalues), np.ones(n)),
        settings=settings | {"learning_rate": gamma},
    )


def held(curve: Curve) -> float:
    """The time up to which the predicted mean is within 10 % of the mean of the runs."""
    off = ~(np.abs(curve.predicted / curve.mean - 1) <= _HOLDS)
    return float(curve.times[max(int(off.argmax()) - 1, 0)] if off.any() else curve.times[-1])


def _linear(epochs: float, horizon: float) -> Verdict:
    if epochs >= horizon:
        return Verdict(
            "linearisation", epochs, HOLDS, f"within 10 % of the runs to {epochs:g} epochs"
        )
    told = f"within 10 % of the runs up to {epochs:.3g} epochs alone: the features change"
    return Verdict("linearisation", epochs, FAILS, told)
