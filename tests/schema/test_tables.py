"""Mistakes in tables name the key, the value and the remedy, each in one line."""

import pytest

from hdjax import config
from hdjax.schema.tables import ConfigError, Kind, Positive, PositiveInteger, Strict, read
from tests.experiments import LEAST_SQUARES, told


def test_each_mistake_has_a_line(write):
    overrides = ["system.a=1", "system.b=1", "run.runs=-1", "run.keep=all"]
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(), overrides)
    assert len(str(caught.value).splitlines()) == 4


def test_the_first_of_many_mistakes_are_told(write):
    unknown = "".join(f"key_{i} = 1\n" for i in range(10_000))
    with pytest.raises(config.ConfigError) as caught:
        config.load(write(unknown + LEAST_SQUARES))
    assert len(str(caught.value).splitlines()) == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("system.lerning_rate=1", "system.lerning_rate: unknown key; did you mean 'learning_rate'"),
        ("system.loss.sgima=1", "system.loss.sgima: unknown key; did you mean 'sigma'"),
        ("rnu.runs=1", "rnu: unknown key; did you mean 'run'"),
        ("system.loss=logstic", "system.loss: 'logstic'; did you mean 'logistic'"),
        (
            "system.spectrum.kind=power-law",
            "system.spectrum: 'power-law'; did you mean 'power_law'",
        ),
        ("system.spectrum=power_law", "system.spectrum.exponent: missing"),
        ("system.loss.kind=1", "system.loss: '1'; allowed: absolute_error"),
        ("system.loss=1", "system.loss: 1; allowed: a table"),
        (
            "system.learning_rate=-1",
            "system.learning_rate: -1; allowed: greater than or equal to 0",
        ),
        ("system.learning_rate='1'", "system.learning_rate: '1'"),
        ("system.learning_rate=nan", "system.learning_rate: nan; allowed: a finite number"),
        ("system.dimension=1.5", "system.dimension: 1.5; allowed: integer"),
        ("system.ridge=true", "system.ridge: True; allowed: number"),
        ("run.method=driect", "run.method: 'driect'; did you mean 'direct'"),
        ("run.method.dtype=float16", "run.method.dtype: 'float16'"),
        ("run.statistics=[{ kind = 'resolvent' }]", "run.statistics.0.high: missing"),
        ("run.paths.half.kind=hiting_time", "did you mean 'hitting_time'"),
        ("system=1", "system: 1; allowed: a table"),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_remedy(write, override, message):
    assert message in told(write(), override)


class Point(Strict):
    x: Positive
    count: PositiveInteger = 1


class Line(Strict):
    points: list[Point]


def test_the_way_to_a_mistake_leads_through_lists():
    with pytest.raises(ConfigError) as caught:
        read(Line, {"points": [{"x": 1.0}, {"x": 0.0, "cuont": 2}, {}]}, prefix="system")
    assert str(caught.value).splitlines() == [
        "system.points.1.cuont: unknown key; did you mean 'count'? allowed: x, count",
        "system.points.2.x: missing; allowed: a value, since the key has no default",
    ]
    with pytest.raises(ConfigError, match=r"^points\.0\.x: 0\.0; allowed: greater than 0$"):
        read(Line, {"points": [{"x": 0.0}]})


def test_whole_numbers_may_be_written_as_powers_of_ten():
    assert read(Point, {"x": 1.0, "count": 1e6}).count == 10**6
    for wrong in (1.5, 0, 2**53 + 1, True, "1"):
        with pytest.raises(ConfigError, match=r"^count: "):
            read(Point, {"x": 1.0, "count": wrong})


def test_short_forms_stand_for_tables():
    kind = Kind(default="plain", array="given", number="constant")
    assert kind.expand("other") == {"kind": "other"}
    assert kind.expand([1.0]) == {"kind": "given", "values": [1.0]}
    assert kind.expand("start.npy") == {"kind": "given", "values": "start.npy"}
    file = {"file": "both.npz", "key": "a"}
    assert kind.expand(file) == {"kind": "given", "values": file}
    assert kind.expand(0.5) == {"kind": "constant", "value": 0.5}
    assert kind.expand({"scale": 2.0}) == {"kind": "plain", "scale": 2.0}
    assert kind.expand({"kind": "other"}) == {"kind": "other"}
    # Without short forms values stay what they are, and their model refuses them.
    assert [Kind().expand(value) for value in (0.5, [1.0], {})] == [0.5, [1.0], {}]


def test_mistakes_of_inner_tables_name_the_outer_ones():
    inner = ConfigError("-1; allowed: at least 0", "scale")
    assert str(inner.within("system.start")) == "system.start.scale: -1; allowed: at least 0"
    assert str(ConfigError("two lines").within("run")) == "run: two lines"
