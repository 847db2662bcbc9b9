"""The losses of `hdjax.streaming` as tables of a config: `loss = { kind = "hinge" }`."""

from typing import Annotated, Any, Literal

import jax
from pydantic import Field

from hdjax.schema import ArrayField, Call, Kind, NonNegative, Positive, PositiveInteger
from hdjax.streaming import losses

# The share of labels that are flipped.
Probability = Annotated[float, Field(ge=0, le=1)]


class LeastSquares(Call):
    """scale/2 |x - x* - noise|^2; lists of sigma and probabilities are a mixture (one column)."""

    make = losses.LeastSquares
    kind: Literal["least_squares"] = "least_squares"
    sigma: NonNegative | list[NonNegative] = 0.0
    scale: Positive = 1.0
    columns: PositiveInteger = 1
    probabilities: list[Positive] | None = None


class Logistic(Call):
    """Logistic loss with labels from the teacher's logit; `flip` is the share of wrong ones."""

    make = losses.Logistic
    kind: Literal["logistic"] = "logistic"
    labels: Literal["soft", "sampled", "hard"] = "soft"
    flip: Probability | None = None


class ComponentLogistic(Call):
    """Logistic loss whose label (0 or 1) is that of the sample's mixture component."""

    make = losses.ComponentLogistic
    kind: Literal["component_logistic"] = "component_logistic"
    labels: ArrayField


class PhaseRetrieval(Call):
    """scale (x^2 - x*^2)^2."""

    make = losses.PhaseRetrieval
    kind: Literal["phase_retrieval"] = "phase_retrieval"
    scale: Positive = 1.0


class LipschitzPhaseRetrieval(Call):
    """scale (|x| - |x*|)^2."""

    make = losses.LipschitzPhaseRetrieval
    kind: Literal["lipschitz_phase_retrieval"] = "lipschitz_phase_retrieval"
    scale: Positive = 1.0


class Softmax(Call):
    """Softmax regression on a teacher's logits, a column for each class."""

    make = losses.Softmax
    kind: Literal["softmax"] = "softmax"
    classes: PositiveInteger
    labels: Literal["soft", "sampled"] = "soft"


class Huber(Call):
    """Huber's loss of x - x* - noise; lists of sigma and probabilities are a mixture."""

    make = losses.Huber
    kind: Literal["huber"] = "huber"
    delta: Positive = 1.0
    sigma: NonNegative | list[NonNegative] = 0.0
    probabilities: list[Positive] = Field(default=[1.0])


class AbsoluteError(Call):
    """|x - x* - noise|; lists of sigma and probabilities are a mixture."""

    make = losses.AbsoluteError
    kind: Literal["absolute_error"] = "absolute_error"
    sigma: NonNegative | list[NonNegative] = 0.0
    probabilities: list[Positive] = Field(default=[1.0])


class LogCosh(Call):
    """Strongly convex and smooth: f'' between `convexity` and `smoothness`."""

    make = losses.LogCosh
    kind: Literal["log_cosh"] = "log_cosh"
    convexity: NonNegative = 0.0
    smoothness: Positive = 1.0


class Hinge(Call):
    """max(0, 1 - y x) with y = sign(x*), or the other sign with probability `flip`."""

    make = losses.Hinge
    kind: Literal["hinge"] = "hinge"
    flip: Probability | None = None


class ReLUUnit(Call):
    """(max(x, 0) - max(x*, 0) - noise)^2 / 2."""

    make = losses.ReLUUnit
    kind: Literal["relu_unit"] = "relu_unit"
    sigma: NonNegative = 0.0


def _committee(activation: str, teacher_weights: Any, weights: Any, sigma: float) -> losses.Loss:
    if activation == "erf":
        return losses.ErfCommittee(teacher_weights, weights, sigma)
    functions = {"relu": jax.nn.relu, "tanh": jax.nn.tanh, "softplus": jax.nn.softplus}
    phi, smooth = functions[activation], activation != "relu"
    return losses.Committee(phi, teacher_weights, weights, sigma, smooth=smooth)


class Committee(Call):
    """(sum v phi(x) - sum v* phi(x*) - noise)^2 / 2; without `weights`, v is trained from theta."""

    make = _committee
    kind: Literal["committee"] = "committee"
    activation: Literal["erf", "relu", "tanh", "softplus"] = "erf"
    teacher_weights: ArrayField
    weights: ArrayField | None = None
    sigma: NonNegative = 0.0


Loss = Annotated[
    LeastSquares
    | Logistic
    | ComponentLogistic
    | PhaseRetrieval
    | LipschitzPhaseRetrieval
    | Softmax
    | Huber
    | AbsoluteError
    | LogCosh
    | Hinge
    | ReLUUnit
    | Committee,
    Field(discriminator="kind"),
    Kind(),
]
