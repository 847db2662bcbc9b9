"""The schema of results: names and dimensions of any text."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import hdjax as hd
from hdjax import expect, layout, reading, store
from hdjax.limits import Limit
from tests.expect.results import SHAPES, TIMES
from tests.still import Still
from tests.trees import LEVELS, made

# What is a dimension, a coordinate, a group or an entry elsewhere, or no name in NetCDF.
NAMES = [
    *("run", "time", "recorded_time", "quantile", "risk", "risk_0", "risk_", "mean", "limit"),
    *("code", "complex", "a/b", "/", ".", "..", " a ", "-x", "%", "é", "a\0b", "a\nb"),
    *("_x002F_", "_x002F/", "__x0041_", "a_x", "\ud800", "risk_imag", "risk_mean"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_read_as_they_were_written(name):
    encoded = layout.encode(name)
    assert layout.decode(encoded) == name
    assert "/" not in encoded
    encoded.encode()
    assert encoded[0].isidentifier() or encoded[0].isdigit()
    assert encoded.strip() == encoded


def test_no_two_names_are_written_alike():
    assert len({layout.encode(name) for name in NAMES}) == len(NAMES)
    assert layout.encode("learning_rate") == "learning_rate"


def test_statistics_and_axes_may_have_any_name(tmp_path):
    """Many of them at once; a statistic cannot be called like a coordinate."""
    names = ["risk", "risk_0", "risk_", "mean", "code", "complex", "a/b", " a ", "a\0b"]
    several = ("time", "risk", "/")
    given = ["run", "time", "quantile", *names, "/", "\ud800"]
    axes = {name: [0.5, 1.5] if name in several else [i] for i, name in enumerate(given)}
    shape = tuple(len(values) for values in axes.values())
    runs = {name: np.arange(48.0).reshape(*shape, 3, 2) + i for i, name in enumerate(names)}
    runs["risk"] = np.arange(96.0).reshape(*shape, 3, 2, 2)
    groups = {
        "runs": runs,
        "mean": {name: values.mean(len(shape)) for name, values in runs.items()},
    }
    recorded = np.zeros((*shape, 2))
    result = hd.Result(made(groups, axes=axes, recorded=recorded, statistics=names))
    loaded = hd.Result(store.load_result(store.save(result.tree, tmp_path / "result.nc")))
    xr.testing.assert_identical(loaded.tree, result.tree)
    assert loaded.tree.attrs == result.tree.attrs
    for found in (result, loaded):
        dims = reading.axes(found.tree)
        assert len({*dims.values(), *names}) == len(given) + len(names)
        for axis, values in axes.items():
            assert reading.labels(found.tree, axis).tolist() == values
        for name in names:
            np.testing.assert_array_equal(found.runs[name], runs[name])
        plain = [layout.decode(dim) for dim in dims.values()]
        assert list(found.runs["a/b"].dims) == [*plain, "run", "time"]
        at = found.runs["risk"].sel({"time_": 1.5})
        np.testing.assert_array_equal(at, runs["risk"].take(1, given.index("time")))
        assert len(reading.entries(found.tree, reading.variable(found.tree, "runs", "risk"))) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"statistics": ["risk", "risk"]}, "statistics: 'risk' is given twice; allowed: "),
        ({"statistics": [""]}, "statistics: ''; allowed: text"),
        ({"probes": [3]}, "probes: 3; allowed: text"),
        ({"grid": [1]}, "grid: 1; allowed: text"),
        ({"statistics": ["time"]}, "statistics: 'time'; allowed: other names than those of the"),
        ({"paths": ["run"]}, "paths: 'run'; allowed: other names"),
    ],
)
def test_what_is_no_name_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        layout.check_names(**names)


def test_groups_have_the_documented_dimensions():
    numbers = {"one": (), "vector": (4,), "matrix": (2, 3)}
    sizes = {"run": 3, "time": 2, "quantile": 5, "bound": 2}
    dims = {
        "runs": ("run", "time"),
        "mean": ("time",),
        "std": ("time",),
        "count": ("time",),
        "quantile": ("quantile", "time"),
        "limit": ("time",),
        "predicted_mean": ("time",),
        "predicted_std": ("time",),
        "sup_error": ("run",),
        "sup_error_count": ("run",),
        "sup_error_mean": (),
        "sup_error_std": (),
        "sup_error_median": (),
        "paths": ("run",),
        "paths_limit": (),
        "probes": ("run", "time"),
    }
    own = {"limit": ("run", "time"), "paths_limit": ("run",)}
    for start, axes in (("law", {}), ("realised", {}), ("law", {"rate": [0.1, 0.2]})):
        wanted = dims | own if start == "realised" else dims
        lead = tuple(len(values) for values in axes.values())
        groups = {
            group: {
                name: np.zeros((*lead, *[sizes[dim] for dim in each], *shape))
                for name, shape in numbers.items()
            }
            for group, each in wanted.items()
        }
        recorded = np.broadcast_to([0.0, 0.4], (*lead, 2))
        tree = made(groups, axes=axes, recorded=recorded, start=start)
        for group, each in wanted.items():
            found = tree[group].to_dataset()
            assert found["one"].dims == (*axes, *each)
            assert found["vector"].dims == (*axes, *each, "vector_0")
            assert found["matrix"].dims == (*axes, *each, "matrix_0", "matrix_1")
            assert ("recorded_time" in found) == ("time" in each)
            assert set(found.coords) - {"recorded_time"} == {*axes, *each}
            if "time" in each:
                assert found["recorded_time"].dims == (*axes, "time")
                np.testing.assert_array_equal(found["time"], [0, 0.5])


def test_points_that_are_missing_are_gaps():
    def point(value):
        groups = {"mean": {"risk": np.full(2, value)}, "count": {"risk": np.full(2, 3)}}
        return layout.Contents(groups, np.arange(2.0), value * np.arange(2.0), {}, {})

    whole = layout.stack({1: point(1.0), 2: point(2.0)}, (2, 2))
    np.testing.assert_array_equal(
        whole.groups["mean"]["risk"], [[[np.nan] * 2, [1, 1]], [[2, 2], [np.nan] * 2]]
    )
    assert whole.groups["count"]["risk"].tolist() == [[[0, 0], [3, 3]], [[3, 3], [0, 0]]]
    np.testing.assert_array_equal(whole.recorded[1], [[0, 2], [np.nan] * 2])


def test_a_group_that_is_not_there_is_told():
    result = hd.Result(made({"mean": {"risk": [1.0, 2.0]}, "count": {"risk": [3, 3]}}))
    with pytest.raises(AttributeError, match="limit: the result has none; allowed: mean, count"):
        _ = result.limit
    assert {"mean", "count", "times"} <= set(dir(result))
    assert "limit" not in dir(result)
    with pytest.raises(KeyError, match="rsik"):
        _ = result.mean["rsik"]
    with pytest.raises(TypeError):
        result["risk"]


class Round(Still):
    level: jax.Array

    def init(self, key):
        return self.level + jax.random.normal(key)


class Waiting(hd.Method):
    def simulator(self, system, horizon):
        return Round(system.level)


class Level(hd.PlainSystem, hd.WithoutFluctuations):
    """Nothing moves: the engine's part alone."""

    family = "still"
    time_label = "t"
    methods = (Waiting,)
    no_fluctuations = "it is an example"
    level: jax.Array = eqx.field(converter=jnp.asarray)

    def start(self):
        return self.level

    def validate(self, *, compared=False, realised=False):
        pass

    def limit(self, ts, start=None, horizon=None, save=lambda summary: summary):
        return Limit.whole(jax.vmap(lambda t: save(self.level))(ts), ts)

    def statistics(self, summary):
        return {"level": summary}


def turned(system, summary):
    return jax.lax.complex(summary, 2 * summary)


def pair(system, summary):
    return summary * np.ones(2)


def test_a_sweep_over_an_axis_called_like_its_statistic(tmp_path):
    result = hd.sweep(
        lambda level, **_: Level(level),
        {"level": [1.0, 2.0], "time": [3, 4], "a/b": ["x"]},
        [0.0, 1.0],
        key=jax.random.key(0),
        runs=4,
        statistics={"level": None, "turned/by two": turned, "pair": pair},
    )
    assert result.mean["level"].dims == ("level_", "time_", "a/b", "time")
    np.testing.assert_array_equal(result.limit["level"].sel(level_=2.0), 2.0)
    np.testing.assert_array_equal(result.limit["turned/by two"].sel(level_=2.0), 2 + 4j)
    assert result.runs["pair"].dims == ("level_", "time_", "a/b", "run", "time", "pair_0")
    loaded = hd.load(result.save(tmp_path))
    xr.testing.assert_identical(loaded.tree, result.tree)
    assert loaded.tree.attrs == result.tree.attrs
    line = result.plot("level", select={"time": 3, "a/b": "x"}).get_lines()[0]
    np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    np.testing.assert_array_equal(
        line.get_ydata(), result.mean["level"].isel(time_=0, time=-1).sel({"a/b": "x"})
    )
    assert result.plot("turned/by two", select={"time": 3, "a/b": "x"}).get_ylabel() == (
        "real part of turned/by two at t = 1"
    )
    table = [line.split() for line in repr(result).splitlines()]
    assert table[1][:3] == ["level", "time", "a/b"]
    at = result.at(1.0)
    np.testing.assert_array_equal(at["mean/level"], result.mean["level"].isel(time=1))


@pytest.mark.parametrize("kind", layout.KINDS)
@pytest.mark.parametrize("start", ["law", "realised", None])
def test_an_empty_result_has_the_groups_of_its_kind(kind, start):
    axes = {"sweep": {"rate": [0.1, 0.2]}, "scaling": {"dimension": [8, 16]}}.get(kind)
    times = [] if kind == "scaling" else TIMES
    empty = layout.empty(kind, SHAPES, times, paths=["half"], axes=axes, levels=LEVELS, start=start)
    if start is None and kind == "sweep":
        assert not {"limit", "sup_error", "paths_limit"} & set(empty.children)
        with pytest.raises(ValueError, match="this sweep has no limit"):
            expect.check(["limit(risk, rate=0.1) < 1"], empty)
    for group in empty.children:
        assert all(np.isnan(value).all() for value in empty[group].data_vars.values())
    assert ("mean" in empty.children) == (kind not in ("limit", "scaling"))
    predicts = kind in ("compare", "limit", "sweep") and start is not None
    for group in ("predicted_mean", "predicted_std"):
        assert (group in empty.children) == predicts
