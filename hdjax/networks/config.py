"""How repeated trainings are written in a config with `family = "networks"`.

    [system]
    data = "digits"                                     # "idx": inputs, classes; "npz": file
    samples = 1024                                      # so many of the data, drawn with `seed`
    network = { kind = "cnn", width = 0.25 }            # "mlp": hidden, activation
    optimiser = { kind = "adam", learning_rate = 1e-3 } # "gradient_descent"; momentum
    batch = 128                                         # all samples, if nothing is said
    fit = { kernel = "matern32", steps = 20 }           # a theory, which gives a limit
    alignment = { layers = ["first", "last"] }          # top spaces; rank, samples

The classes are trained by cross-entropy.  Without `fit` there is no limit: `run.limit = false`.

This module holds the tables that differ from the signatures of their constructors.  Every other
table is derived from the signature of a constructor that is registered where it is defined.
"""

import dataclasses
import functools
import operator
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from hdjax import datasets, landscapes, networks
from hdjax.registry import (
    Count,
    File,
    In,
    NonNegative,
    OneOf,
    Positive,
    Size,
    Slot,
    declare,
    register,
    suggest,
)

declare("networks.method", Slot(default="direct"))
declare("networks.data", Slot(default="digits"))
declare("networks.network", Slot(default="cnn", given=("shape", "classes")))

register("networks.data", "digits")(datasets.digits)


@register("networks.data", "npz")
def _npz(file: File, inputs: str = "X", classes: str = "Y") -> datasets.Classified:
    """An `.npz` archive with the arrays `inputs` and `classes`.

    Args:
        file: the archive.
        inputs: name of the array of images.
        classes: name of the array of classes.
    """
    return datasets.load_npz(file, inputs, classes)


@register("networks.data", "idx")
def _idx(inputs: File, classes: File) -> datasets.Classified:
    """A pair of IDX files, the format of MNIST.

    Args:
        inputs: the file of images.
        classes: the file of classes.
    """
    return datasets.load_idx(inputs, classes)


def _cnn(shape: tuple[int, ...], classes: int, width: Positive = 1.0) -> Any:
    """Two convolutions of 16 and 32 channels times `width`, and a dense layer."""
    return functools.partial(_draw_cnn, shape, classes, width)


register("networks.network", "cnn", _cnn)(networks.CNN)


def _draw_cnn(shape: tuple[int, ...], classes: int, width: float, key: Any) -> networks.CNN:
    return networks.CNN(shape, classes, width, key=key)


@register("networks.network", "mlp")
def _mlp(
    shape: tuple[int, ...],
    classes: int,
    hidden: list[Size],
    activation: Annotated[str, OneOf("relu", "tanh", "softplus")] = "relu",
) -> Any:
    """Dense layers; without hidden layers it is multinomial regression.

    Args:
        shape: shape of an input.
        classes: the number of classes.
        hidden: widths of the hidden layers.
        activation: activation of the hidden layers.
    """
    function = {"tanh": jnp.tanh}.get(activation) or getattr(jax.nn, activation)
    return functools.partial(_draw_mlp, int(np.prod(shape)), hidden, classes, function)


def _draw_mlp(inputs: int, hidden: Any, classes: int, activation: Any, key: Any) -> networks.MLP:
    return networks.MLP(inputs, hidden, classes, activation, key=key)


@register("networks.optimiser", "adam")
def _adam(learning_rate: NonNegative = 1e-3, momentum: NonNegative = 0.9) -> Any:
    """The optimiser Adam of Optax.

    Args:
        learning_rate: the learning rate.
        momentum: the decay of the first moment.
    """
    return Partial(optax.adam, learning_rate, momentum)


@register("networks.optimiser", "gradient_descent")
@dataclasses.dataclass(frozen=True)
class _GradientDescent:
    """Gradient descent, with heavy-ball momentum if it is not zero.

    Args:
        learning_rate: the learning rate.
        momentum: the momentum of the heavy ball.
    """

    learning_rate: NonNegative
    momentum: NonNegative = 0.0

    def trained(self) -> Any:
        """The Optax optimiser, with its numbers as leaves."""
        if not self.momentum:
            return Partial(optax.sgd, self.learning_rate)
        return Partial(optax.sgd, self.learning_rate, self.momentum)

    def algorithm(self) -> landscapes.algorithms.Algorithm:
        """The algorithm on a Gaussian random function."""
        if not self.momentum:
            return landscapes.algorithms.GradientDescent(self.learning_rate)
        return landscapes.algorithms.HeavyBall(self.learning_rate, self.momentum)


_KERNELS = {
    "squared_exponential": landscapes.kernels.SquaredExponential,
    "rational_quadratic": landscapes.kernels.RationalQuadratic,
    "matern32": landscapes.kernels.Matern32,
    "matern52": landscapes.kernels.Matern52,
}


@register("networks.fit", "")
@dataclasses.dataclass(frozen=True)
class _Fit:
    """A kernel fitted to the first `steps` of trainings on all samples, at `learning_rate`.

    Args:
        kernel: the kernel whose numbers are fitted.
        steps: the number of observed steps.
        runs: the number of observed trainings.
        learning_rate: the learning rate of these trainings; None: the optimiser's.
        seed: the seed of these trainings.
    """

    kernel: Annotated[str, OneOf(*_KERNELS)]
    steps: Size
    runs: Size = 4
    learning_rate: Positive | None = None
    seed: Count = 1

    def theory(self, parts: tuple[Any, Any, Any, Any], optimiser: Any) -> networks.Fitted:
        """The theory of a training with `optimiser`, fitted to trainings of the same parts."""
        if not isinstance(optimiser, _GradientDescent):
            function = getattr(optimiser, "func", type(optimiser))
            raise ValueError(
                f"fit: with {function.__name__!r}, which is no gradient span algorithm; allowed: "
                "with gradient_descent"
            )
        rate = optimiser.learning_rate if self.learning_rate is None else self.learning_rate
        observed = _GradientDescent(rate)
        return networks.Fitted(
            _KERNELS[self.kernel](),
            networks.Training(*parts, observed.trained()),
            observed.algorithm(),
            optimiser.algorithm(),
            steps=self.steps,
            runs=self.runs,
            key=jax.random.key(self.seed),
        )


@register("networks.alignment", "")
@dataclasses.dataclass(frozen=True)
class _Alignment:
    """Top spaces of the matrices of layers.

    Args:
        layers: names of the network's fields.
        rank: dimensions of the top spaces.
        samples: the number of samples of each matrix; None: all.
    """

    layers: list[str]
    rank: Size = 10
    samples: Size | None = None

    def of(self, training: networks.Training) -> networks.LayerAlignment:
        """The training with its layers measured."""
        shape = eqx.filter_eval_shape(training.network, jax.random.key(0))
        names = [field.name for field in dataclasses.fields(shape)]
        if not self.layers:
            raise ValueError(f"alignment.layers: none; allowed: {', '.join(names)}")
        for name in self.layers:
            if name not in names:
                raise ValueError(f"alignment.layers: {name!r}; {suggest(name, names)}")
        layers = {name: operator.attrgetter(name) for name in self.layers}
        return networks.LayerAlignment(training, layers, rank=self.rank, samples=self.samples)


@register("networks.system", "")
def _system(
    *,
    data: Annotated[Any, In("networks.data")] = "digits",
    samples: Size | None = None,
    seed: Count = 0,
    network: Annotated[Any, In("networks.network")] = "cnn",
    optimiser: Annotated[Any, In("networks.optimiser")],
    batch: Size | None = None,
    fit: Annotated[Any, In("networks.fit")] = None,
    alignment: Annotated[Any, In("networks.alignment")] = None,
) -> networks.Training | networks.LayerAlignment:
    """A network, data and an optimiser, trained by cross-entropy.

    Args:
        data: images with classes.
        samples: the number of images that are used, drawn with `seed`; None: all.
        seed: the seed of that draw.
        network: the network that is trained.
        optimiser: the optimiser.
        batch: the number of samples of a step; None: all.
        fit: a theory, which gives a limit.
        alignment: layers whose top spaces are measured.
    """
    inputs, classes = _chosen(data, samples, seed)
    drawn = network(shape=inputs.shape[1:], classes=int(classes.max()) + 1)
    parts = drawn, networks.cross_entropy, inputs, classes
    theory = None if fit is None else fit.theory(parts, optimiser)
    trained = optimiser.trained() if isinstance(optimiser, _GradientDescent) else optimiser
    training = networks.Training(*parts, trained, batch=batch, theory=theory)
    if alignment is None:
        return training
    if fit is not None:
        raise ValueError("fit: given with alignment, which has no theory; allowed: none")
    return alignment.of(training)


def _chosen(data: datasets.Classified, samples: int | None, seed: int) -> tuple[Any, Any]:
    """The inputs and classes of the samples that are used."""
    classes = data.classes
    if np.any(classes < 0) or np.any(classes != np.round(classes)):
        raise ValueError("data: classes that are not whole; allowed: integers from 0 on")
    total = len(classes)
    if samples is not None and samples > total:
        raise ValueError(f"samples: {samples}; allowed: up to {total}, as many as the data have")
    order = np.random.default_rng(seed).permutation(total)[:samples]
    return jnp.asarray(data.inputs[order], jnp.float32), classes[order].astype(np.int32)
