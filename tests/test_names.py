"""Names that one result cannot hold side by side are refused, and no others."""

import pytest

from hdjax.names import check_names, entry_dims


@pytest.mark.parametrize(
    "names",
    [
        {"statistics": ["risk_mean", "risk"]},
        {"statistics": ["risk", "risk"]},
        {"statistics": ["risk", "risk_count"]},
        {"statistics": ["count"]},
        {"statistics": ["overlaps", "overlaps_0"]},
        {"statistics": ["z", "z_imag"]},
        {"statistics": ["a/b"]},
        {"statistics": [""]},
        {"statistics": [3]},
        {"statistics": ["."]},
        {"statistics": ["x__imag"]},
        {"probes": ["a\0b"]},
        {"statistics": ["path_half"], "paths": ["half"]},
        {"paths": ["half", "half_limit"]},
        {"statistics": ["probe_norm"], "probes": ["norm"]},
        {"statistics": ["risk"], "axes": ["risk"]},
        {"statistics": ["risk"], "axes": ["risk_sup_error"]},
        {"statistics": ["risk"], "axes": ["risk_1"]},
        {"axes": ["path_half"], "paths": ["half"]},
        {"axes": ["time"]},
        {"axes": ["recorded_time"]},
        {"axes": ["quantile"]},
        {"axes": ["limit_diverged_at"]},
        {"axes": ["a/b"]},
        {"axes": [1]},
    ],
)
def test_names_that_run_into_each_other(names):
    with pytest.raises(ValueError, match=r"^(statistics|paths|probes|grid): .*; allowed: "):
        check_names(**{"statistics": (), **names})


def test_names_that_do_not():
    check_names(["risk", "value"], ["half"], ["half"], ["risk_level", "dimension", "valued"])
    check_names(["learning rate", "...", "é", "a__image"])


def test_entries_are_dimensions_with_a_number():
    dims = ("risk_level", "time", "risk_0", "risk_1", "my_risk_0", "risk_10")
    assert entry_dims(dims, "risk") == ["risk_0", "risk_1", "risk_10"]
