"""Results on disk: what is read is what was written, whole, and the summary keeps its layout."""

import json
import resource
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from hdjax import store

ATTRS = {
    "kind": "compare",
    "family": "streaming",
    "statistics": '["risk", "overlaps"]',
    "paths": '["half"]',
    "runs": 3,
    "config": '{"family": "streaming"}',
    "versions": '{"jax": "0.10.1"}',
    "device": "1 x cpu: cpu",
    "interrupted": 0,
    "seconds": '{"compile": 1.5, "simulate": 0.25, "limit": null}',
}


@pytest.fixture
def ds():
    time = np.array([0.0, 0.5])
    risk = np.array([[1.0, 0.5], [3.0, 1.5], [2.0, np.nan]])
    overlaps = np.arange(24.0).reshape(3, 2, 2, 2)
    entries = ("overlaps_0", "overlaps_1")
    variables = {
        "risk": (("run", "time"), risk, {"long_name": "risk", "flag": True}),
        "risk_mean": ("time", [2.0, 1.0]),
        "risk_std": ("time", [1.0, np.nan]),
        "risk_limit": ("time", [2.0, np.inf]),
        "risk_sup_error": ("run", [0.1, 0.3, np.nan]),
        "overlaps": (("run", "time", *entries), overlaps),
        "overlaps_mean": (("time", *entries), overlaps.mean(0)),
        "path_half": ("run", [0.2, 0.3, np.inf]),
        "path_half_limit": ((), 0.25),
        "resolvent": ("time", [1.0 + 2.0j, 3.0 - 1.0j]),
    }
    return xr.Dataset(variables, {"time": time, "run": range(3)}, ATTRS)


def test_what_is_loaded_is_what_was_saved(ds, tmp_path):
    path = store.save(ds, tmp_path / "new" / "result.nc")
    loaded = store.load(path)
    xr.testing.assert_equal(loaded, ds)
    assert loaded.attrs == ds.attrs
    assert loaded["resolvent"].dtype == np.complex128
    assert loaded["risk"].attrs == {"long_name": "risk", "flag": 1}
    assert ds["risk"].attrs["flag"] is True


def test_attributes_that_netcdf_does_not_know_become_text(ds, tmp_path):
    odd = {"none": None, "table": {"a": [1, 2]}, "list": [1, "b"], "kept": np.float64(0.5)}
    loaded = store.load(store.save(ds.assign_attrs(odd), tmp_path / "result.nc"))
    assert loaded.attrs["none"] == ""
    assert json.loads(loaded.attrs["table"]) == {"a": [1, 2]}
    assert json.loads(loaded.attrs["list"]) == [1, "b"]
    assert loaded.attrs["kept"] == 0.5


def test_names_on_an_axis_survive(tmp_path):
    ds = xr.Dataset({"risk": ("loss", [1.0, 2.0])}, {"loss": ["logistic", "least_squares"]})
    loaded = store.load(store.save(ds, tmp_path / "result.nc"))
    assert loaded["loss"].values.tolist() == ["logistic", "least_squares"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(ds, tmp_path):
    path = store.save(ds, tmp_path / "result.nc")
    before = path.read_bytes()
    broken = ds.assign(bad=("time", np.array([object(), object()])))
    with pytest.raises(Exception, match=r"object|dtype"):
        store.save(broken, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(ds, tmp_path):
    path = store.save(ds, tmp_path / "result.nc")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"result\.nc"):
            store.save(ds, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


def test_files_are_written_side_by_side(tmp_path):
    contents = [bytes([i]) * 10_000 for i in range(40)]
    path = tmp_path / "numbers"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda content: store.write(path, content), contents))
    assert path.read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ["numbers"]


def test_results_are_replaced_only_when_told_and_by_no_less(ds, tmp_path):
    folder = store.save_result(ds, tmp_path / "mine")
    for refused in (lambda: store.save_result(ds, folder), lambda: store.prepare(folder)):
        with pytest.raises(FileExistsError, match=r"holds result.nc, summary.json; .*--force"):
            refused()
    fewer = ds.assign_attrs(interrupted=1, runs=2)
    with pytest.raises(FileExistsError, match="a result of 3 runs, this interrupted one 2"):
        store.save_result(fewer, folder, force=True)
    assert store.load_result(folder).attrs["runs"] == 3
    assert store.prepare(folder, force=True) == folder
    store.save_result(ds.assign_attrs(interrupted=1, runs=4), folder, force=True)
    store.save_result(ds.assign_attrs(runs=1), folder, force=True)  # complete, and asked for
    assert store.load_result(folder).attrs["runs"] == 1
    (folder / "result.nc").write_text("something else")
    with pytest.raises(FileExistsError, match="nobody knows what it holds"):
        store.save_result(fewer, folder, force=True)


def test_points_and_dimensions_count_as_runs(ds, tmp_path):
    points = ds.assign_attrs(kind="sweep", axes='["rate"]', points=3, runs=2)
    folder = store.save_result(points.expand_dims(rate=[0.1, 0.2, 0.3]), tmp_path / "mine")
    with pytest.raises(FileExistsError, match="a result of 6 runs, this interrupted one 4"):
        store.save_result(points.assign_attrs(points=2, interrupted=1), folder, force=True)


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        store.load(tmp_path / "result.nc")
    (tmp_path / "text.nc").write_text("not a result")
    with pytest.raises(ValueError, match="no NetCDF file"):
        store.load(tmp_path / "text.nc")


def test_summary_has_the_documented_layout(ds, tmp_path):
    rules = [{"rule": "sup_error(risk) < 1", "value": 0.2, "passed": True}]
    ds.attrs["expect"] = json.dumps(rules)
    path = store.save_summary(ds, tmp_path / "summary.json")
    assert json.loads(path.read_text()) == {
        "family": "streaming",
        "config": {"family": "streaming"},
        "versions": {"jax": "0.10.1"},
        "device": "1 x cpu: cpu",
        "runs": 3,
        "times": [0.0, 0.5],
        "statistics": {
            "risk": {
                "limit": [2.0, None],
                "mean": [2.0, 1.0],
                "std": [1.0, None],
                "predicted_std": None,
                "sup_error": 0.2,
            },
            "overlaps": {
                "limit": None,
                "mean": [[[8.0, 9.0], [10.0, 11.0]], [[12.0, 13.0], [14.0, 15.0]]],
                "std": None,
                "predicted_std": None,
                "sup_error": None,
            },
        },
        "path": {"half": {"median": 0.3, "mean": None, "std": None, "limit": 0.25}},
        "expect": rules,
        "seconds": {"compile": 1.5, "simulate": 0.25, "limit": None},
    }


def test_summary_without_a_config_or_rules(ds):
    summary = store.summary(ds.assign_attrs(config="", expect=""))
    assert summary["config"] is None
    assert summary["expect"] == []


def test_summary_of_realised_starts_has_the_mean_limit(ds):
    limits = np.array([[1.0, np.nan], [2.0, np.nan], [6.0, np.nan]])
    summary = store.summary(ds.assign(risk_limit=(("run", "time"), limits)))
    assert summary["statistics"]["risk"]["limit"] == [3.0, None]


def test_summary_of_a_sweep_nests_over_the_axes(ds):
    point = ds[["risk_mean", "risk_sup_error", "path_half"]]
    points = xr.concat([point, 2 * point], "rate").assign_coords(rate=[0.1, 0.2])
    summary = store.summary(points.assign_attrs(ATTRS, kind="sweep", axes='["rate"]'))
    assert summary["axes"] == {"rate": [0.1, 0.2]}
    assert summary["statistics"]["risk"]["mean"] == [[2.0, 1.0], [4.0, 2.0]]
    assert summary["statistics"]["risk"]["sup_error"] == [0.2, 0.4]
    assert summary["path"]["half"]["median"] == [0.3, 0.6]


def test_summary_of_a_scaling():
    variables = {
        "risk_median": ("dimension", [0.2, 0.1]),
        "risk_exponent": ((), -0.5),
        "risk_exponent_interval": ("bound", [-0.6, np.nan]),
    }
    attrs = {**ATTRS, "kind": "scaling", "statistics": '["risk"]'}
    summary = store.summary(xr.Dataset(variables, {"dimension": [16, 64]}, attrs))
    assert "times" not in summary
    assert summary["dimensions"] == [16, 64]
    assert summary["statistics"] == {
        "risk": {"sup_error": [0.2, 0.1], "exponent": -0.5, "exponent_interval": [-0.6, None]}
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": 3}, "no kind of result: 3"),
        ({"kind": "scaling"}, "no coordinate 'dimension'"),
        ({"statistics": "risk"}, "no list of statistics"),
        ({"statistics": '["loss"]'}, "no variable of 'loss'"),
    ],
)
def test_what_is_no_whole_result_is_told(ds, tmp_path, change, message):
    path = store.save(ds.assign_attrs(change), tmp_path / "result.nc")
    with pytest.raises(ValueError, match=message + "; allowed: a result of hdjax"):
        store.load_result(path)
