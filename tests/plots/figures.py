"""Results made by hand whose figures are tested, and what is read off figures."""

import io

import numpy as np

from tests.trees import codes, made, moments

RUNS = 20


LINEAR = np.linspace(0, 10, 21)


NONE = np.full(RUNS, np.nan)


def comparison(time=LINEAR, decay=0.1, **attrs):
    """Curves exp(-decay t) with multiplicative noise, their limit and predicted spread."""
    rng = np.random.default_rng(0)
    limit = np.exp(-decay * time)
    runs = limit * (1 + 0.1 * rng.standard_normal((RUNS, 1)))
    groups = moments({"risk": runs}) | {
        "limit": {"risk": limit},
        "predicted_std": {"risk": 0.1 * limit},
        "codes": codes(NONE, limit=np.nan),
    }
    return made(groups, time, **{"runs": RUNS, **attrs})


def matrices():
    time, shape = LINEAR, (2, 2)
    values = np.stack([np.cos(time + i + j) for i in range(2) for j in range(2)], -1)
    runs = np.broadcast_to(values.reshape(-1, *shape), (RUNS, len(time), *shape))
    groups = moments({"overlaps": runs}) | {
        "limit": {"overlaps": runs[0]},
        "codes": codes(NONE),
    }
    return made(groups, time, runs=RUNS, statistics=["overlaps"])


def line(ax, label):
    (found,) = [one for one in ax.get_lines() if str(one.get_label()).startswith(label)]
    return found


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def rendered(ax):
    ax.figure.savefig(io.BytesIO())
    return ax
