"""Tables of spectral alignment, and what is wrong with others."""

import numpy as np
import pytest

from hdjax import config, curvature, streaming
from hdjax.curvature import Block
from tests.curvature.problems import STATE

BASE = {
    "family": "curvature",
    "system": {
        "dimension": 60,
        "model": {"kind": "softmax", "classes": 3, "snr": 4.0},
        "learning_rate": 1.0,
        "ridge": 0.04,
        "alpha": 2.0,
        "blocks": [{"index": 0, "rank": 2}],
    },
    "run": {"times": [0.0, 1.0], "runs": 2},
}


def system_of(**changes):
    raw = {**BASE, "system": {**BASE["system"], **changes}}
    return config.Experiment.of(raw).system()


def test_configs():
    system = system_of()
    assert system.blocks == (Block(0, "hessian", 2),)
    assert float(system.training.eigenvalues[0, 0]) == 0.25
    xor = {"kind": "xor", "snr": "infinite"}
    leaning = {"kind": "leaning", "units": 6, "classes": 3}
    system = system_of(model=xor, start=leaning, threshold="half")
    assert float(system.training.eigenvalues[0, 0]) == 0
    assert system.training.theta.tolist() == [1, -1, 1, 1, -1, 1]
    assert float(system.threshold) == pytest.approx(
        curvature.classifiers.fixed_point_output(0.04) / 2
    )
    deep = {"kind": "three_layers", "snr": 3.0, "second": [[1.0, 0.0]], "theta": [1.0]}
    assert system_of(model=deep).training.layout.students == 2
    system = system_of(start={"kind": "gram", "students": 3, "gram": STATE})
    np.testing.assert_allclose(system.start().gram.overlaps, STATE, atol=1e-10)
    tilted = system_of(model=xor | {"angle": 60.0}, start=leaning)
    gram = tilted.start().gram.overlaps[6:, 6:]
    np.testing.assert_allclose(gram[0], [1, -1, 0.5, -0.5], atol=1e-12)
    system = system_of(optimiser={"kind": "heavy_ball", "damping": 2.0}, steps=50)
    assert isinstance(system.training.optimiser, streaming.optimisers.HeavyBall)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"kind": "xor", "snr": 1.0}}, "theta, start"),
        ({"model": {"kind": "softmax", "classes": 3, "snr": 0.0}}, "system.model.snr: 0"),
        ({"blocks": [{"index": 0, "kind": "fisher"}]}, "system.blocks.0.kind: 'fisher'"),
        ({"alhpa": 1.0}, "did you mean 'alpha'"),
    ],
)
def test_configs_that_are_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        system_of(**changes)
