"""Results on disk: what is read is what was written, whole, and the summary keeps its layout."""

import json
import resource
from concurrent.futures import ThreadPoolExecutor

import h5netcdf
import numpy as np
import pytest
import xarray as xr

from hdjax import reading, store
from tests.trees import changed, made


@pytest.fixture
def tree():
    risk = np.array([[1.0, 0.5], [3.0, 1.5], [2.0, np.nan]])
    overlaps = np.arange(24.0).reshape(3, 2, 2, 2)
    groups = {
        "runs": {"risk": risk, "overlaps": overlaps},
        "mean": {"risk": [2.0, 1.0], "overlaps": overlaps.mean(0)},
        "std": {"risk": [1.0, np.nan]},
        "limit": {"risk": [2.0, np.inf], "resolvent": [1.0 + 2.0j, complex(0.0, np.inf)]},
        "sup_error": {"risk": [0.1, 0.3, np.nan]},
        "paths": {"half": [0.2, 0.3, np.inf]},
        "paths_limit": {"half": 0.25},
    }
    names = {"statistics": ["risk", "overlaps"], "paths": ["half"]}
    return made(groups, recorded=[0.0, 0.4], config={"family": "streaming"}, **names)


def test_what_is_loaded_is_what_was_saved(tree, tmp_path):
    tree["runs/risk"].attrs["flag"] = True
    path = store.save(tree, tmp_path / "new" / "result.nc")
    loaded = store.load(path)
    xr.testing.assert_identical(loaded, tree)
    assert loaded.attrs == tree.attrs
    assert loaded["limit/resolvent"].dtype == np.complex128
    assert tree["runs/risk"].attrs["flag"] is True
    # Once more, from the file.
    xr.testing.assert_identical(store.load(store.save(loaded, path)), tree)


def test_other_programs_read_each_group_by_itself(tree, tmp_path):
    path = store.save(tree, tmp_path / "result.nc")
    with h5netcdf.File(path) as file:
        assert set(file.groups) == set(tree.children)
        limit = file.groups["limit"]
        assert limit["resolvent"].dimensions == ("time", "complex")
        np.testing.assert_array_equal(limit["resolvent"], [[1, 2], [0, np.inf]])
        np.testing.assert_array_equal(limit["recorded_time"], [0, 0.4])
        assert json.loads(file.attrs["config"]) == {"family": "streaming"}
        assert file.attrs["device"] == "1 x cpu: cpu"
    with xr.open_dataset(path, group="mean", engine="h5netcdf") as mean:
        assert mean["risk"].sel(time=0.5) == 1


def test_attributes_of_any_kind_survive(tree, tmp_path):
    odd = {"none": None, "table": {"a": [1, 2.5]}, "list": [1, "b"], "number": 0.5, "flag": True}
    tree.attrs |= odd | {"text": "a\0b", "line": "µ\n", "empty": ""}
    assert store.load(store.save(tree, tmp_path / "result.nc")).attrs == tree.attrs


def test_names_on_an_axis_survive(tmp_path):
    tree = made(
        {"exponent": {}, "sup_error_median": {"risk": [1.0, 2.0]}}, axes={"loss": ["é", "b"]}
    )
    loaded = store.load(store.save(tree, tmp_path / "result.nc"))
    assert reading.labels(loaded, "loss").tolist() == ["é", "b"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tree, tmp_path):
    path = store.save(tree, tmp_path / "result.nc")
    before = path.read_bytes()
    bad = xr.Dataset({"bad": ("time", np.array([object(), object()]))})
    broken = tree.assign({"bad": xr.DataTree(bad)})
    with pytest.raises(Exception, match=r"object|dtype"):
        store.save(broken, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["result.nc"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tree, tmp_path):
    path = store.save(tree, tmp_path / "result.nc")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"result\.nc"):
            store.save(tree, path)
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


def test_results_are_replaced_only_when_told_and_by_no_less(tree, tmp_path):
    folder = store.save_result(tree, tmp_path / "mine")
    for refused in (lambda: store.save_result(tree, folder), lambda: store.prepare(folder)):
        with pytest.raises(FileExistsError, match=r"holds result.nc, summary.json; .*--force"):
            refused()
    fewer = changed(tree, {}, interrupted=1, runs=2)
    with pytest.raises(FileExistsError, match="a result of 3 runs, this interrupted one 2"):
        store.save_result(fewer, folder, force=True)
    assert store.load_result(folder).attrs["runs"] == 3
    assert store.prepare(folder, force=True) == folder
    store.save_result(changed(tree, {}, interrupted=1, runs=4), folder, force=True)
    store.save_result(changed(tree, {}, runs=1), folder, force=True)  # complete, and asked for
    assert store.load_result(folder).attrs["runs"] == 1
    (folder / "result.nc").write_text("something else")
    with pytest.raises(FileExistsError, match="a result that cannot be read"):
        store.save_result(fewer, folder, force=True)


def test_points_and_dimensions_count_as_runs(tree, tmp_path):
    axes = {"rate": [0.1, 0.2, 0.3]}
    points = made({"mean": {"risk": np.zeros((3, 2))}}, axes=axes, kind="sweep", points=3, runs=2)
    folder = store.save_result(points, tmp_path / "mine")
    with pytest.raises(FileExistsError, match="a result of 6 runs, this interrupted one 4"):
        store.save_result(changed(points, {}, points=2, interrupted=1), folder, force=True)


def test_loading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        store.load(tmp_path / "result.nc")
    (tmp_path / "text.nc").write_text("not a result")
    with pytest.raises(ValueError, match="no NetCDF file"):
        store.load(tmp_path / "text.nc")


def test_summary_has_the_documented_layout(tree, tmp_path):
    rules = [{"rule": "sup_error(risk) < 1", "value": 0.2, "passed": True}]
    tree.attrs["expect"] = rules
    path = store.save_summary(tree, tmp_path / "summary.json")
    assert json.loads(path.read_text()) == {
        "family": "streaming",
        "config": {"family": "streaming"},
        "versions": {"jax": "0.10.1"},
        "device": "1 x cpu: cpu",
        "runs": 3,
        "times": [0.0, 0.5],
        "recorded_times": [0.0, 0.4],
        "statistics": {
            "risk": {
                "limit": [2.0, None],
                "mean": [2.0, 1.0],
                "std": [1.0, None],
                "predicted_mean": None,
                "predicted_std": None,
                "sup_error": 0.2,
            },
            "overlaps": {
                "limit": None,
                "mean": [[[8.0, 9.0], [10.0, 11.0]], [[12.0, 13.0], [14.0, 15.0]]],
                "std": None,
                "predicted_mean": None,
                "predicted_std": None,
                "sup_error": None,
            },
        },
        "path": {"half": {"median": 0.3, "mean": None, "std": None, "limit": 0.25}},
        "expect": rules,
        "seconds": {"compile": 1.5, "simulate": 0.25, "limit": None},
        "memory": {"simulate": 4096, "limit": None},
    }


def test_summary_without_a_config_or_rules(tree):
    summary = store.summary(changed(tree, {}, config=None, expect=[]))
    assert summary["config"] is None
    assert summary["expect"] == []


def test_summary_of_realised_starts_has_the_mean_limit():
    limits = np.array([[1.0, np.nan], [2.0, np.nan], [6.0, np.nan]])
    summary = store.summary(made({"limit": {"risk": limits}}, start="realised"))
    assert summary["statistics"]["risk"]["limit"] == [3.0, None]


def test_summary_has_pairs_for_complex_numbers():
    tree = made({"limit": {"risk": [1.0 + 2.0j, complex(3.0, np.nan)]}})
    assert store.summary(tree)["statistics"]["risk"]["limit"] == [[1.0, 2.0], [3.0, None]]


def test_summary_of_a_sweep_nests_over_the_axes():
    groups = {
        "mean": {"risk": [[2.0, 1.0], [4.0, 2.0]]},
        "sup_error": {"risk": [[0.1, 0.3, np.nan], [0.2, 0.6, np.nan]]},
        "paths": {"half": [[0.2, 0.3, np.inf], [0.4, 0.6, np.inf]]},
    }
    axes, recorded = {"rate": [0.1, 0.2]}, [[0.0, 0.5], [0.0, 0.4]]
    tree = made(groups, axes=axes, recorded=recorded, kind="sweep", paths=["half"])
    summary = store.summary(tree)
    assert summary["axes"] == {"rate": [0.1, 0.2]}
    assert summary["recorded_times"] == recorded
    assert summary["statistics"]["risk"]["mean"] == [[2.0, 1.0], [4.0, 2.0]]
    assert summary["statistics"]["risk"]["sup_error"] == [0.2, 0.4]
    assert summary["path"]["half"]["median"] == [0.3, 0.6]


def scaled():
    groups = {
        "sup_error_median": {"risk": [0.2, 0.1]},
        "exponent": {"risk": -0.5},
        "exponent_interval": {"risk": [-0.6, np.nan]},
    }
    cost = {"compile": [1.0, 1.0], "simulate": [0.5, 2.0], "limit": [0.1, 0.1]}
    cost |= {"memory": [2**20, 2**22]}
    power = dict.fromkeys(cost, (1.0, np.nan, np.nan))
    axes = {"dimension": [16, 64]}
    return made(groups, [], axes, kind="scaling", cost=cost, cost_exponent=power)


def test_summary_of_a_scaling():
    summary = store.summary(scaled())
    assert summary["cost"]["simulate"] == [0.5, 2.0]
    assert summary["cost_exponent"]["memory"] == [1.0, None, None]
    assert summary["memory"] == {"simulate": 4096, "limit": None}
    assert "times" not in summary
    assert "axes" not in summary
    assert summary["dimensions"] == [16, 64]
    assert summary["statistics"] == {
        "risk": {"sup_error": [0.2, 0.1], "exponent": -0.5, "exponent_interval": [-0.6, None]}
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": 3}, "no kind of result: 3"),
        ({"kind": "scaling"}, "no axis 'dimension'"),
        ({"statistics": "risk"}, "no list of statistics"),
        ({"statistics": ["loss"]}, "no variable of 'loss'"),
    ],
)
def test_what_is_no_whole_result_is_told(tree, tmp_path, change, message):
    path = store.save(changed(tree, {}, **change), tmp_path / "result.nc")
    with pytest.raises(ValueError, match=message + "; allowed: a result of hdjax"):
        store.load_result(path)
