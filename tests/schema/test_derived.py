"""Tables that are derived from constructors: their fields, and what is no type of TOML."""

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter

from hdjax import config, registry
from hdjax.registry import Bounds, In, OneOf, Positive, Positives
from hdjax.schema import ConfigError, derived, parameters, read, slot_type


@pytest.mark.parametrize(
    ("family", "system"),
    [
        ("multipass", {"dimension": 4, "problem": {"samples": 8}, "learning_rate": 0.5}),
        (
            "networks",
            {"samples": 20, "network": {"kind": "mlp", "hidden": []}, "optimiser": "adam"},
        ),
    ],
)
def test_a_table_of_a_statistic_without_options_is_its_name(family, system):
    own = "loss" if family == "multipass" else "cost"

    def experiment(name):
        run = {"times": [0.0, 1.0], "runs": 1, "limit": False, "statistics": [{"name": name}]}
        return config.Experiment.of({"family": family, "system": system, "run": run})

    assert list(experiment(own).statistics()) == [own]
    with pytest.raises(config.ConfigError, match=rf"^run\.statistics: 'x'; allowed: .*{own}"):
        experiment("x").statistics()


def test_a_parameter_without_a_type_of_toml_is_told():
    def made(shape, rule: object = None): ...

    entry = registry.Entry("test.shape", "made", made, made)
    with pytest.raises(TypeError, match=r"made.shape: .*; allowed in a table: bool"):
        list(parameters(entry))


def ball(d: int, *, radius: Positive = 1.0, weights: Positives | None = None):
    """A ball.

    Args:
        d: its dimension.
        radius: its radius.
        weights: weights of its coordinates; their number is the dimension.
    """
    if weights is not None and len(weights) != d:
        raise ValueError(f"weights: {weights}; allowed: {d} numbers")
    return "ball", d, radius, weights


def cube(*, value: Annotated[Any, Bounds(above=0)], word: Annotated[str, OneOf("a", "b")] = "a"):
    """A cube.

    Args:
        value: its side.
        word: its name.
    """
    return "cube", value, word


def pile(*, solids: list[Annotated[Any, In("test.solid")]], top: Annotated[Any, In("test.solid")]):
    """A pile.

    Args:
        solids: the lower ones.
        top: the last one.
    """
    return lambda d: [*solids(d=d), top(d=d)]


@pytest.fixture(scope="module")
def solids():
    registry.declare("test.solid", registry.Slot(default="ball", number="cube", given=("d",)))
    registry.register("test.solid", "ball")(ball)
    registry.register("test.solid", "cube")(cube)
    registry.register("test.pile", "")(pile)
    return slot_type("test.solid"), slot_type("test.pile")


def test_tables_call_their_constructor_with_what_is_written(solids):
    solid, _ = solids
    assert read(solid, {}).build(d=3) == ("ball", 3, 1.0, None)
    assert read(solid, {"radius": 2.0}).build(d=3, other=1) == ("ball", 3, 2.0, None)
    short = TypeAdapter(solid).validate_python
    assert short("ball").build(d=2) == ("ball", 2, 1.0, None)
    # A number is a cube, which takes nothing from the table around it.
    assert short(0.5).build(d=3) == ("cube", 0.5, "a")
    with pytest.raises(registry.NotGivenError, match="d: missing; allowed with ball: given"):
        read(solid, {}).build()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"radius": 0.0}, r"^radius: 0\.0; allowed: greater than 0$"),
        ({"raduis": 1.0}, r"^raduis: unknown key; did you mean 'radius'\? allowed: "),
        ({"d": 3}, "^d: unknown key"),
        ({"kind": "cube"}, "^value: missing"),
        ({"kind": "cube", "value": 1.0, "word": "c"}, r"^word: 'c'; allowed: a, b$"),
        ({"kind": "cbue", "value": 1.0}, r"'cbue'; did you mean 'cube'\? allowed: ball, cube$"),
        ({"weights": [1.0, -1.0]}, r"^weights\.1: -1\.0; allowed: greater than 0$"),
    ],
)
def test_fields_have_the_bounds_of_the_annotations(solids, table, message):
    with pytest.raises(ConfigError, match=message):
        read(solids[0], table)


def test_tables_in_tables_wait_for_what_surrounds_them(solids):
    built = read(solids[1], {"solids": [2.0, {"radius": 3.0}], "top": "ball"}).build()
    assert built(4) == [("cube", 2.0, "a"), ("ball", 4, 3.0, None), ("ball", 4, 1.0, None)]


def test_what_a_constructor_refuses_is_told_at_its_key(solids):
    table = read(solids[0], {"weights": [1.0, 2.0]})
    with pytest.raises(ConfigError, match=r"^weights: \[1\.0, 2\.0\]; allowed: 3 numbers$"):
        table.build(d=3)
    with pytest.raises(ConfigError, match=r"^shape\.weights: \[1\.0, 2\.0\]; allowed: 3 numbers$"):
        derived.built(table, "shape", d=3)


def test_keys_are_the_parameters_without_what_is_given(solids):
    entry = registry.entries("test.solid")["ball"]
    found = {key.name: (key.required, key.text) for key in parameters(entry)}
    assert found == {
        "radius": (False, "its radius."),
        "weights": (False, "weights of its coordinates; their number is the dimension."),
    }
    assert derived.given_to(entry) == ["d"]
    assert derived.given_to(registry.entries("test.solid")["cube"]) == []
