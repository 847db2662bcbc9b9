"""Results of users: groups by name, records by time, z-scores, and what is kept in files."""

import copy
import pickle

import jax
import numpy as np
import pytest
import xarray as xr

import hdjax as hd
from hdjax.engine.result import provenance, total_seconds
from tests.trees import codes, made, moments

TIMES = [0.0, 0.1, 0.3]


@pytest.fixture
def result():
    runs = np.array([[1.0, 2.0, 3.0], [2.0, 2.0, 7.0], [3.0, 5.0, 5.0]])
    groups = moments({"risk": runs}) | {
        "limit": {"risk": [2.0, 3.0, 4.0]},
        "predicted_std": {"risk": [0.5, 1.0, 2.0]},
        "codes": codes(np.full(3, np.nan), limit=np.nan),
    }
    return hd.Result(made(groups, TIMES))


def test_groups_are_attributes(result):
    np.testing.assert_allclose(result.mean["risk"], [2, 3, 5])
    assert {"runs", "limit", "codes", "zscore", "plot"} <= set(dir(result))
    assert (result.statistics, result.times.tolist()) == (["risk"], TIMES)
    assert result.to_xarray() is result.tree
    with pytest.raises(AttributeError, match=r"men: the result has none; allowed: runs, mean, std"):
        _ = result.men


def test_copies_are_results(result):
    """Before its tree is set a copy has no group, and does not look for one without end."""
    for other in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        xr.testing.assert_identical(other.tree, result.tree)


def test_records_are_found_by_time(result):
    at = result.at(np.float32(0.1))
    np.testing.assert_array_equal(at["runs/risk"], [2, 2, 5])
    assert "time" not in at["runs"].dims
    with pytest.raises(ValueError, match=r"t: 0\.2; the nearest record is at 0\.[13]"):
        result.at(0.2)


def test_zscores_are_distances_from_the_limit(result):
    expected = [[-2, -1, -0.5], [0, -1, 1.5], [2, 2, 0.5]]
    np.testing.assert_allclose(result.zscore("risk"), expected)
    del result.tree["predicted_std"]
    with pytest.raises(AttributeError, match="predicted_std: the result has none"):
        result.zscore("risk")


def test_files_hold_the_whole_result(result, tmp_path):
    folder = result.save(tmp_path / "new" / "folder")
    xr.testing.assert_identical(hd.load(folder).tree, result.tree)
    xr.testing.assert_identical(hd.load(folder / "result.nc").tree, result.tree)
    with pytest.raises(FileExistsError):
        result.save(folder)
    result.save(folder, force=True)


def test_seconds_are_added_where_they_were_measured():
    parts = [{"compile": 1.5, "limit": None}, {"compile": None, "limit": 2.0}, {"compile": 0.25}]
    assert total_seconds([*parts[:1], *[part | {"limit": 1.0} for part in parts[1:]]]) == {
        "compile": 1.75,
        "limit": None,
    }


def test_provenance_names_versions_and_precision():
    found = provenance()
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["precision"] == "float64"
    assert found["device"].startswith(f"{jax.device_count()} x {jax.default_backend()}: ")
