"""How an experiment on fixed data is written in a config with `family = "multipass"`.

    [system]
    dimension = 500
    problem = { kind = "gaussian", ratio = 0.5, noise = 0.5 }   # "random_features", "arrays"
    learning_rate = 0.8                                         # of gamma_max: "critical", factor
    algorithm = "sgd"                   # { kind = "momentum", batch_fraction, momentum = "best" }
    spectrum = "empirical"              # what the limit is computed from: "law", "lanczos"
    solver = "block_ode"                # "spectral"; for momentum "recursion", "squaring"

A table with a `kind` calls the public constructor of that name with the table's other keys; a bare
string is a table with nothing else.
"""

from typing import Annotated, Any, Literal

import jax
import numpy as np
from pydantic import Field

from hdjax import multipass
from hdjax.schema import (
    AnySchedule,
    ArrayField,
    Call,
    Critical,
    FileField,
    Kind,
    NonNegative,
    NonNegativeInteger,
    OwnStatistic,
    Positive,
    PositiveInteger,
    SpectrumConfig,
    Strict,
)
from hdjax.schema.spectra import Identity

Classes = Annotated[list[NonNegativeInteger], Field(min_length=1)]


class Digits(Strict):
    """Scikit-learn's digits, even against odd."""

    kind: Literal["digits"] = "digits"

    def build(self) -> multipass.Labelled:
        """The samples."""
        return multipass.digits()


class Npz(Strict):
    """An `.npz` archive of `inputs` and `classes`, two groups of which are chosen."""

    kind: Literal["npz"] = "npz"
    file: FileField
    inputs: str = "X"
    classes: str = "Y"
    negative: Classes
    positive: Classes

    def build(self) -> multipass.Labelled:
        """The samples."""
        data = multipass.load_npz(self.file, self.inputs, self.classes)
        return multipass.binary(data, self.negative, self.positive)


class Idx(Strict):
    """A pair of IDX files, as MNIST comes, two groups of whose classes are chosen."""

    kind: Literal["idx"] = "idx"
    inputs: FileField
    classes: FileField
    negative: Classes
    positive: Classes

    def build(self) -> multipass.Labelled:
        """The samples."""
        data = multipass.load_idx(self.inputs, self.classes)
        return multipass.binary(data, self.negative, self.positive)


Data = Annotated[Digits | Npz | Idx, Field(discriminator="kind"), Kind(default="digits")]


class Gaussian(Strict):
    """A planted signal in a Gaussian matrix; `samples` or `ratio` = d/n."""

    kind: Literal["gaussian"] = "gaussian"
    samples: PositiveInteger | None = None
    ratio: Positive | None = None
    signal: NonNegative = 1.0
    noise: NonNegative = 0.0
    covariance: SpectrumConfig = Identity()
    normalise_rows: bool = False
    seed: NonNegativeInteger = 0

    def size(self, dimension: int) -> int:
        """The number of samples."""
        if (self.samples is None) == (self.ratio is None):
            raise ValueError("problem: samples and ratio; allowed: one of them")
        return self.samples if self.samples is not None else round(dimension / (self.ratio or 1))

    def eigenvalues(self, dimension: int) -> np.ndarray | None:
        """Those of the covariance, with mean 1 where rows are normalised; None: all ones."""
        if isinstance(self.covariance, Identity):
            return None
        spectrum = self.covariance.build(dimension)
        spectrum = spectrum.normalised() if self.normalise_rows else spectrum
        return np.asarray(spectrum.expand(spectrum.eigenvalues))

    def build(self, dimension: int | None) -> multipass.Problem:
        """The problem."""
        d = _required(dimension)
        return multipass.gaussian_problem(
            self.size(d),
            d,
            key=jax.random.key(self.seed),
            signal=self.signal,
            noise=self.noise,
            eigenvalues=self.eigenvalues(d),
            normalise_rows=self.normalise_rows,
        )

    def law(self, dimension: int, points: int) -> multipass.Modes:
        """The modes of its law."""
        samples, s = self.size(dimension), self.eigenvalues(dimension)
        ratio = dimension / samples
        if s is None:
            law: Any = multipass.MarchenkoPastur(ratio)
        else:
            values, counts = np.unique(s / ratio, return_counts=True)
            law = multipass.SampleCovariance(ratio, values, counts / dimension)
        return multipass.law_modes(
            law, samples, signal=self.signal, noise=self.noise, points=points, risk=s is None
        )


class RandomFeatures(Strict):
    """`dimension` random features of data, `samples` to train on and `test` others."""

    kind: Literal["random_features"] = "random_features"
    data: Data = Digits()
    samples: PositiveInteger
    test: PositiveInteger | None = None
    activation: Literal["relu", "tanh", "erf"] = "relu"
    seed: NonNegativeInteger = 0

    def build(self, dimension: int | None) -> multipass.Problem:
        """The problem."""
        parts = multipass.split(self.data.build(), self.samples, self.test, self.seed)
        key = jax.random.key(self.seed)
        return multipass.random_features_problem(
            parts, _required(dimension), key=key, activation=self.activation
        )


class Arrays(Strict):
    """A (n, d) and b (n,) as arrays; `start` (d,), and samples for the statistic "test"."""

    kind: Literal["arrays"] = "arrays"
    matrix: ArrayField
    labels: ArrayField
    start: ArrayField | None = None
    test_matrix: ArrayField | None = None
    test_labels: ArrayField | None = None
    scale: bool = False

    def build(self, dimension: int | None) -> multipass.Problem:
        """The problem."""
        if dimension is not None and self.matrix.shape[-1] != dimension:
            raise ValueError(
                f"dimension: {dimension}; allowed: {self.matrix.shape[-1]}, that of the matrix, or "
                "none"
            )
        if (self.test_matrix is None) != (self.test_labels is None):
            raise ValueError("problem: test_matrix and test_labels; allowed: both or none")
        test = {}
        if self.test_matrix is not None:
            test = {"test": multipass.SampleRisk(self.test_matrix, self.test_labels)}
        problem = multipass.Problem(self.matrix, self.labels, self.start, test)
        return problem.scaled() if self.scale else problem


ProblemConfig = Annotated[
    Gaussian | RandomFeatures | Arrays, Field(discriminator="kind"), Kind(default="gaussian")
]


class Empirical(Strict):
    """The singular values of the matrix."""

    kind: Literal["empirical"] = "empirical"


class Law(Strict):
    """The law of a Gaussian matrix as n and d grow, on a rule of so many points."""

    kind: Literal["law"] = "law"
    points: PositiveInteger = 400


class Lanczos(Strict):
    """Lanczos quadrature, for large matrices."""

    kind: Literal["lanczos"] = "lanczos"
    points: PositiveInteger = 32
    probes: PositiveInteger = 8
    seed: NonNegativeInteger = 0


ModesConfig = Annotated[Empirical | Law | Lanczos, Field(discriminator="kind"), Kind()]


class SGD(Strict):
    """SGD on single samples."""

    kind: Literal["sgd"] = "sgd"
    ridge: NonNegative | None = None
    sampling: Literal["replacement", "reshuffling", "single_pass"] = "replacement"


class Momentum(Strict):
    """SGD with momentum and batches.

    Without `learning_rate`, `momentum` may be "best" or "near_optimal": both are then chosen.
    """

    kind: Literal["momentum"] = "momentum"
    batch_fraction: Positive
    ridge: NonNegative | None = None
    momentum: NonNegative | Literal["best", "near_optimal"] = 0.0


Algorithm = Annotated[SGD | Momentum, Field(discriminator="kind"), Kind()]


class BlockODE(Call):
    """By diffrax: any learning rate, ridge and spectrum."""

    make = multipass.BlockODE
    kind: Literal["block_ode"] = "block_ode"
    rtol: Positive = 1e-6
    atol: Positive = 1e-9
    max_steps: PositiveInteger = 16**4


class Spectral(Call):
    """By one eigendecomposition: constant rates, any time at the same cost."""

    make = multipass.Spectral
    kind: Literal["spectral"] = "spectral"


class Recursion(Call):
    """Step by step, for momentum."""

    make = multipass.Recursion
    kind: Literal["recursion"] = "recursion"


class Squaring(Call):
    """By powers of the recursion's matrix, for long runs with momentum."""

    make = multipass.Squaring
    kind: Literal["squaring"] = "squaring"


SolverConfig = Annotated[
    BlockODE | Spectral | Recursion | Squaring, Field(discriminator="kind"), Kind()
]
RateConfig = Annotated[AnySchedule, Field(discriminator="kind"), Kind(number="constant")]


class SystemConfig(Strict):
    """A problem, an algorithm, and how its limit is computed."""

    dimension: PositiveInteger | None = None
    problem: ProblemConfig
    learning_rate: RateConfig | None = None
    algorithm: Algorithm = SGD()
    spectrum: ModesConfig = Empirical()
    solver: SolverConfig | None = None

    def build(self) -> multipass.MultiPassSGD | multipass.MomentumSGD:
        """The system.

        Raises:
            ValueError, TypeError: naming the argument, its value and what is allowed.
        """
        problem = self.problem.build(self.dimension)
        modes = self._modes(problem)
        if isinstance(self.algorithm, Momentum):
            return self._momentum(problem, modes, self.algorithm)
        return multipass.MultiPassSGD(
            problem,
            self._rate(modes),
            modes=modes,
            ridge=self.algorithm.ridge,
            sampling=self.algorithm.sampling,
            solver=None if self.solver is None else self.solver.build(),
        )

    def _modes(self, problem: multipass.Problem) -> multipass.Modes:
        own = self.spectrum
        if isinstance(own, Lanczos):
            return multipass.lanczos_modes(
                multipass.Problem(problem.matrix, problem.labels, problem.start),
                own.points,
                jax.random.key(own.seed),
                own.probes,
            )
        if isinstance(own, Law):
            if not isinstance(self.problem, Gaussian):
                raise ValueError(
                    f"spectrum: 'law' with a problem of kind {self.problem.kind!r}, which has no "
                    "limiting law here; allowed: 'empirical', 'lanczos'"
                )
            return self.problem.law(problem.matrix.shape[1], own.points)
        return multipass.svd_modes(problem)[0]

    def _rate(self, modes: multipass.Modes) -> Any:
        rate = self.learning_rate
        if rate is None:
            raise ValueError("learning_rate: missing; allowed: a number or a schedule")
        if isinstance(rate, Critical):
            return rate.factor * multipass.max_learning_rate(modes)
        return rate.build()

    def _momentum(
        self, problem: multipass.Problem, modes: multipass.Modes, own: Momentum
    ) -> multipass.MomentumSGD:
        zeta, delta = own.batch_fraction, own.momentum
        if isinstance(delta, str):
            if self.learning_rate is not None:
                raise ValueError(f"learning_rate: given with momentum {delta!r}; allowed: none")
            choose = multipass.best_momentum if delta == "best" else multipass.near_optimal
            gamma, delta, _ = choose(modes, zeta)
        else:
            gamma = self._rate(modes)
        return multipass.MomentumSGD(
            problem,
            gamma,
            batch_fraction=zeta,
            momentum=delta,
            modes=modes,
            ridge=own.ridge,
            solver=None if self.solver is None else self.solver.build(),
        )


class Direct(Call):
    """The algorithm itself."""

    make = multipass.Direct
    kind: Literal["direct"] = "direct"
    dtype: Literal["float32", "float64"] = "float32"


class Homogenised(Call):
    """Homogenised SGD: SGD's means, not its fluctuations."""

    make = multipass.Homogenised
    kind: Literal["homogenised"] = "homogenised"
    dt: Positive = 0.01


MethodConfig = Annotated[Direct | Homogenised, Field(discriminator="kind"), Kind(default="direct")]


StatisticConfig = OwnStatistic


def _required(dimension: int | None) -> int:
    if dimension is None:
        raise ValueError("dimension: missing; allowed: a positive integer")
    return dimension
