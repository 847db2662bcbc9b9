"""The optimisers of `hdjax.streaming` as tables of a config: `optimiser = { kind = "adam" }`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hdjax import streaming
from hdjax.schema import Call, Kind, Positive, PositiveInteger, ScheduleConfig

Share = Annotated[float, Field(ge=0, lt=1)]


class SGD(Call):
    """Plain SGD."""

    make = streaming.SGD
    kind: Literal["sgd"] = "sgd"


class Momentum(Call):
    """Momentum `beta` that does not depend on d."""

    make = streaming.Momentum
    kind: Literal["momentum"] = "momentum"
    beta: Share


def _heavy_ball(damping: Any) -> streaming.HeavyBall:
    return streaming.HeavyBall(damping.build())


class HeavyBall(Call):
    """Momentum 1 - damping/d; a damping of 3/(1 + t) is Nesterov's."""

    make = _heavy_ball
    kind: Literal["heavy_ball"] = "heavy_ball"
    damping: ScheduleConfig


def _dana(damping: Any, momentum_rate: Any) -> streaming.Dana:
    return streaming.Dana(damping.build(), momentum_rate.build())


class Dana(Call):
    """Gradient step and momentum with rates of their own, both schedules."""

    make = _dana
    kind: Literal["dana"] = "dana"
    damping: ScheduleConfig
    momentum_rate: ScheduleConfig


def _averaging(rate: Any) -> streaming.Averaging:
    return streaming.Averaging(rate.build())


class Averaging(Call):
    """SGD and an average of its iterates; `average_risk` is that of the average."""

    make = _averaging
    kind: Literal["averaging"] = "averaging"
    rate: ScheduleConfig


class Clipped(Call):
    """Gradients clipped at the norm level sqrt(d)."""

    make = streaming.Clipped
    kind: Literal["clipped"] = "clipped"
    level: Positive


class SignSGD(Call):
    """Signs of the gradient's coordinates."""

    make = streaming.SignSGD
    kind: Literal["sign_sgd"] = "sign_sgd"


class Adam(Call):
    """Adam with 1 - beta2 = forgetting/d."""

    make = streaming.Adam
    kind: Literal["adam"] = "adam"
    forgetting: Positive
    initial: Positive = 1.0
    beta1: Share = 0.9


class RMSProp(Call):
    """RMSprop (and, with `beta1`, Adam) with windows that do not depend on d."""

    make = streaming.RMSProp
    kind: Literal["rmsprop"] = "rmsprop"
    beta2: Share
    beta1: Share = 0.0
    draws: PositiveInteger = 4096


OptimiserConfig = Annotated[
    SGD | Momentum | HeavyBall | Dana | Averaging | Clipped | SignSGD | Adam | RMSProp,
    Field(discriminator="kind"),
    Kind(),
]
