"""Data sets for least squares with labels -1 and 1: scikit-learn's digits, and files.

The images of `hdjax.datasets` become flat inputs, and two groups of their classes the labels.
`random_features_problem` (`ensembles.py`) makes a problem of the result of `split`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hdjax import datasets
from hdjax.checks import checked
from hdjax.registry import Count, Size

__all__ = [
    "Labelled",
    "Split",
    "binary",
    "digits",
    "load_idx",
    "load_npz",
    "split",
]


class Labelled(NamedTuple):
    """Samples: inputs with labels, or with the numbers of their classes as labels.

    Attributes:
        inputs: (samples, inputs).
        labels: (samples,).
    """

    inputs: Float[np.ndarray, "samples inputs"]
    labels: Float[np.ndarray, " samples"]


class Split(NamedTuple):
    """Two disjoint sets of samples.

    Attributes:
        train: the samples to train on.
        test: the samples to test with.
    """

    train: Labelled
    test: Labelled


def digits() -> Labelled:
    """Scikit-learn's 1797 images of digits (64 pixels in [0, 1]), labelled 1 if even and -1 if odd.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed (`pip install hdjax[data]`).

    Example:
        >>> digits().inputs.shape
        (1797, 64)
    """
    data = _flat(datasets.digits())
    return data._replace(labels=np.where(data.labels % 2 == 0, 1.0, -1.0))


def load_npz(path: str | Path, inputs: str = "X", classes: str = "Y") -> Labelled:
    """Samples of an `.npz` archive: flat inputs, labelled by the numbers of their classes.

    Args:
        path: the archive.
        inputs: name of the array of inputs.
        classes: name of the array of classes.

    Raises:
        ValueError: as `hdjax.datasets.load_npz`.
    """
    return _flat(datasets.load_npz(path, inputs, classes))


def load_idx(inputs: str | Path, classes: str | Path) -> Labelled:
    """Samples of a pair of IDX files: flat inputs, labelled by the numbers of their classes.

    Args:
        inputs: the file of inputs.
        classes: the file of classes.

    Raises:
        ValueError: as `hdjax.datasets.load_idx`.
    """
    return _flat(datasets.load_idx(inputs, classes))


def binary(data: Labelled, negative: Sequence[int], positive: Sequence[int]) -> Labelled:
    """The samples of two groups of classes, with labels -1 and 1.

    Args:
        data: inputs, labelled by the numbers of their classes.
        negative: the classes whose label becomes -1.
        positive: the classes whose label becomes 1.

    Raises:
        ValueError: a group is empty or has no sample, or both groups share a class.

    Example:
        >>> binary(Labelled(np.eye(3), np.array([0.0, 1.0, 2.0])), [0], [2]).labels.tolist()
        [-1.0, 1.0]
    """
    if not negative or not positive or set(negative) & set(positive):
        raise ValueError(
            f"classes: {negative}, {positive}; allowed: two groups without a common class"
        )
    members = [np.isin(data.labels, group) for group in (negative, positive)]
    for group, member in zip((negative, positive), members, strict=True):
        if not member.any():
            present = ", ".join(f"{c:g}" for c in np.unique(data.labels)[:20])
            raise ValueError(f"classes: {list(group)}; allowed: classes of the data, {present}")
    chosen = members[0] | members[1]
    return Labelled(data.inputs[chosen], np.where(members[1][chosen], 1.0, -1.0))


@checked
def split(data: Labelled, samples: Size, test: Size | None, seed: Count) -> Split:
    """A random split into samples to train on, and others to test with.

    Args:
        data: the samples.
        samples: number of samples to train on, at least 1.
        test: number of samples to test with, at least 1; None: all others.
        seed: seed of the random order.

    Raises:
        ValueError: `samples` or `test` is below 1, or both need more samples than there are.

    Example:
        >>> parts = split(Labelled(np.eye(5), np.ones(5)), 3, None, seed=0)
        >>> len(parts.train.labels), len(parts.test.labels)
        (3, 2)
    """
    total = len(data.labels)
    test = total - samples if test is None else test
    if samples < 1 or test < 1 or samples + test > total:
        raise ValueError(
            f"samples, test: {samples}, {test}; allowed: at least 1 each, {total} in all"
        )
    order: Int[np.ndarray, " samples"] = np.random.default_rng(seed).permutation(total)
    parts = order[:samples], order[samples : samples + test]
    return Split(*(Labelled(data.inputs[part], data.labels[part]) for part in parts))


def _flat(data: datasets.Classified) -> Labelled:
    """The samples with each input as a vector."""
    return Labelled(data.inputs.reshape(len(data.inputs), -1), data.classes.astype(np.float64))
