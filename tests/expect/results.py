"""Results made by hand, with and without numbers, of which rules are evaluated."""

import numpy as np

from hdjax import layout
from tests.trees import LEVELS, codes

TIMES, RECORDED = [0.0, 0.5, 1.0], np.array([0.0, 0.496, 1.0])


OPTIONS = {
    "statistics": ["risk", "overlaps"],
    "paths": ["half"],
    "runs": 4,
    "config": {"system": {"dimension": 100}},
}


ENDS = np.array([np.nan, np.nan, np.nan, 0.7])


def groups(scale=1.0):
    return {
        "runs": {"risk": scale * np.array([[1, 1, 1], [1, 1, 2], [1, 1, 3], [1, np.nan, 4]])},
        "mean": {
            "risk": scale * np.array([2.0, 1.0, 0.5]),
            "overlaps": scale * np.arange(12.0).reshape(3, 2, 2),
        },
        "std": {"risk": scale * np.array([0.2, 0.1, np.nan])},
        "quantile": {"risk": scale * np.arange(15.0).reshape(5, 3)},
        "limit": {"risk": scale * np.array([2.0, 1.1, 1.3])},
        "predicted_mean": {"risk": scale * np.array([2.0, 1.05, 1.2])},
        "predicted_std": {"risk": scale * np.array([0.2, 0.125, 0.0])},
        "sup_error": {
            "risk": scale * np.array([0.1, 0.2, 0.6, np.nan]),
            "overlaps": scale * np.array([0.1, 0.2, 0.3, 0.4]),
        },
        "codes": codes(ENDS),
        "paths": {"half": scale * np.array([0.2, 0.3, 0.4, np.inf])},
        "paths_limit": {"half": scale * 0.25},
    }


SHAPES = {"risk": np.zeros(()), "overlaps": np.zeros((2, 2)), "turned": np.zeros((), complex)}


EMPTY = layout.empty("compare", SHAPES, TIMES, paths=["half"], levels=LEVELS)
