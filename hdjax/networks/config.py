"""How repeated trainings are written in a config with `family = "networks"`.

    [system]
    data = "digits"                                     # "idx": inputs, classes; "npz": file
    samples = 1024                                      # some of them, drawn with `seed`
    network = { kind = "cnn", width = 0.25 }            # "mlp": hidden, activation
    optimiser = { kind = "adam", learning_rate = 1e-3 } # "gradient_descent"; momentum
    batch = 128                                         # all samples, if nothing is said
    fit = { kernel = "matern32", steps = 20 }           # a theory, for a limit
    alignment = { layers = ["first", "last"] }          # top spaces; rank, samples

The classes are trained by cross-entropy.  Without `fit` there is no limit: `run.limit = false`.
"""

import dataclasses
import functools
import operator
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from pydantic import Field

from hdjax import datasets, landscapes, networks
from hdjax.schema import (
    Call,
    FileField,
    Kind,
    NonNegative,
    NonNegativeInteger,
    OwnStatistic,
    Positive,
    PositiveInteger,
    Strict,
    suggest,
)

__all__ = ["MethodConfig", "StatisticConfig", "SystemConfig"]


class Digits(Call):
    """Scikit-learn's digits."""

    make = datasets.digits
    kind: Literal["digits"] = "digits"


class Npz(Strict):
    """An `.npz` archive of `inputs` and `classes`."""

    kind: Literal["npz"] = "npz"
    file: FileField
    inputs: str = "X"
    classes: str = "Y"

    def build(self) -> datasets.Classified:
        """The images."""
        return datasets.load_npz(self.file, self.inputs, self.classes)


class Idx(Call):
    """A pair of IDX files, as MNIST comes."""

    make = datasets.load_idx
    kind: Literal["idx"] = "idx"
    inputs: FileField
    classes: FileField


Data = Annotated[Digits | Npz | Idx, Field(discriminator="kind"), Kind(default="digits")]


class CNN(Strict):
    """Two convolutions of 16 and 32 channels times `width`, and a dense layer."""

    kind: Literal["cnn"] = "cnn"
    width: Positive = 1.0

    def build(self, shape: tuple[int, ...], classes: int) -> Any:
        """A function of a key."""
        return functools.partial(_cnn, shape, classes, self.width)


def _cnn(shape: tuple[int, ...], classes: int, width: float, key: Any) -> networks.CNN:
    return networks.CNN(shape, classes, width, key=key)


class MLP(Strict):
    """Dense layers; without hidden ones, multinomial regression."""

    kind: Literal["mlp"] = "mlp"
    hidden: list[PositiveInteger]
    activation: Literal["relu", "tanh", "softplus"] = "relu"

    def build(self, shape: tuple[int, ...], classes: int) -> Any:
        """A function of a key."""
        activation = {"tanh": jnp.tanh}.get(self.activation) or getattr(jax.nn, self.activation)
        return functools.partial(_mlp, int(np.prod(shape)), self.hidden, classes, activation)


def _mlp(inputs: int, hidden: Any, classes: int, activation: Any, key: Any) -> networks.MLP:
    return networks.MLP(inputs, hidden, classes, activation, key=key)


Network = Annotated[CNN | MLP, Field(discriminator="kind"), Kind(default="cnn")]


class Adam(Strict):
    """Adam; `momentum` is its first decay."""

    kind: Literal["adam"] = "adam"
    learning_rate: NonNegative = 1e-3
    momentum: NonNegative = 0.9

    def build(self) -> Any:
        """Of Optax, with its numbers as leaves."""
        return Partial(optax.adam, self.learning_rate, self.momentum)


class GradientDescent(Strict):
    """Gradient descent, with heavy-ball momentum if any."""

    kind: Literal["gradient_descent"] = "gradient_descent"
    learning_rate: NonNegative
    momentum: NonNegative = 0.0

    def build(self) -> Any:
        """Of Optax, with its numbers as leaves."""
        if not self.momentum:
            return Partial(optax.sgd, self.learning_rate)
        return Partial(optax.sgd, self.learning_rate, self.momentum)

    def algorithm(self) -> landscapes.Algorithm:
        """The same on a Gaussian random function."""
        if not self.momentum:
            return landscapes.GradientDescent(self.learning_rate)
        return landscapes.HeavyBall(self.learning_rate, self.momentum)


Optimiser = Annotated[Adam | GradientDescent, Field(discriminator="kind"), Kind()]

_KERNELS = {
    "squared_exponential": landscapes.SquaredExponential,
    "rational_quadratic": landscapes.RationalQuadratic,
    "matern32": landscapes.Matern32,
    "matern52": landscapes.Matern52,
}


class FitConfig(Strict):
    """A kernel fitted to the first `steps` of trainings on all samples, at `learning_rate`."""

    kernel: Literal["squared_exponential", "rational_quadratic", "matern32", "matern52"]
    steps: PositiveInteger
    runs: PositiveInteger = 4
    learning_rate: Positive | None = None
    seed: NonNegativeInteger = 1


class AlignmentConfig(Strict):
    """Top spaces of the layers' matrices: `layers` are names of the network's fields."""

    layers: Annotated[list[str], Field(min_length=1)]
    rank: PositiveInteger = 10
    samples: PositiveInteger | None = None


class SystemConfig(Strict):
    """The arguments of `hdjax.networks.Training`, and of a `LayerAlignment` that looks at it."""

    data: Data = Digits()
    samples: PositiveInteger | None = None
    seed: NonNegativeInteger = 0
    network: Network = CNN()
    optimiser: Optimiser
    batch: PositiveInteger | None = None
    fit: FitConfig | None = None
    alignment: AlignmentConfig | None = None

    def build(self) -> networks.Training | networks.LayerAlignment:
        """The system.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """
        inputs, classes = self._chosen(self.data.build())
        network = self.network.build(inputs.shape[1:], int(classes.max()) + 1)
        parts = network, networks.cross_entropy, inputs, classes
        theory = None if self.fit is None else self._fitted(parts, self.fit)
        optimiser = self.optimiser.build()
        training = networks.Training(*parts, optimiser, batch=self.batch, theory=theory)
        return training if self.alignment is None else self._aligned(training, self.alignment)

    def _aligned(
        self, training: networks.Training, own: AlignmentConfig
    ) -> networks.LayerAlignment:
        if self.fit is not None:
            raise ValueError("fit: given with alignment, of which it knows nothing; allowed: none")
        shape = eqx.filter_eval_shape(training.network, jax.random.key(0))
        for name in own.layers:
            if not hasattr(shape, name):
                names = [field.name for field in dataclasses.fields(shape)]
                raise ValueError(f"alignment.layers: {name!r}; {suggest(name, names)}")
        layers = {name: operator.attrgetter(name) for name in own.layers}
        return networks.LayerAlignment(training, layers, rank=own.rank, samples=own.samples)

    def _chosen(self, data: datasets.Classified) -> tuple[Any, Any]:
        classes = data.classes
        if np.any(classes < 0) or np.any(classes != np.round(classes)):
            raise ValueError("data: classes that are no integers from 0 on; allowed: such")
        total = len(classes)
        if self.samples is not None and self.samples > total:
            raise ValueError(f"samples: {self.samples}; allowed: up to {total}")
        order = np.random.default_rng(self.seed).permutation(total)[: self.samples]
        return jnp.asarray(data.inputs[order], jnp.float32), classes[order].astype(np.int32)

    def _fitted(self, parts: tuple[Any, Any, Any, Any], own: FitConfig) -> networks.Fitted:
        if not isinstance(self.optimiser, GradientDescent):
            raise ValueError(
                f"fit: with {self.optimiser.kind!r}, which is no gradient span algorithm; allowed "
                "with gradient_descent"
            )
        rate = self.optimiser.learning_rate if own.learning_rate is None else own.learning_rate
        observed = GradientDescent(learning_rate=rate)
        return networks.Fitted(
            _KERNELS[own.kernel](),
            networks.Training(*parts, observed.build()),
            observed.algorithm(),
            self.optimiser.algorithm(),
            steps=own.steps,
            runs=own.runs,
            key=jax.random.key(own.seed),
        )


class Direct(Call):
    """The training itself."""

    make = networks.Direct
    kind: Literal["direct"] = "direct"
    dtype: Literal["float32", "float64"] = "float32"


MethodConfig = Annotated[Direct, Kind(default="direct")]


StatisticConfig = OwnStatistic
