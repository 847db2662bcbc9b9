"""Data sets for least squares with labels -1 and 1: scikit-learn's digits, and files.

Two groups of classes of the images of `hdjax.datasets` become the labels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from hdjax import datasets


class Labelled(NamedTuple):
    """Inputs with labels, or with the numbers of their classes."""

    inputs: Float[np.ndarray, "samples inputs"]
    labels: Float[np.ndarray, " samples"]


class Split(NamedTuple):
    """Samples to train on, and samples to test with."""

    train: Labelled
    test: Labelled


def digits() -> Labelled:
    """Scikit-learn's 1797 images of digits (64 pixels in [0, 1]), with labels 1 for even ones.

    Raises:
        ModuleNotFoundError: without scikit-learn (`pip install hdjax[data]`).

    Example:
        >>> digits().inputs.shape
        (1797, 64)
    """
    data = _flat(datasets.digits())
    return data._replace(labels=np.where(data.labels % 2 == 0, 1.0, -1.0))


def load_npz(path: str | Path, inputs: str = "X", classes: str = "Y") -> Labelled:
    """`hdjax.datasets.load_npz`, flattened: inputs with the numbers of their classes."""
    return _flat(datasets.load_npz(path, inputs, classes))


def load_idx(inputs: str | Path, classes: str | Path) -> Labelled:
    """`hdjax.datasets.load_idx`, flattened: inputs with the numbers of their classes."""
    return _flat(datasets.load_idx(inputs, classes))


def binary(data: Labelled, negative: Sequence[int], positive: Sequence[int]) -> Labelled:
    """The samples of two groups of classes, with labels -1 and 1.

    Raises:
        ValueError: groups that are empty, share a class, or have no sample.

    Example:
        >>> binary(Labelled(np.eye(3), np.array([0.0, 1.0, 2.0])), [0], [2]).labels.tolist()
        [-1.0, 1.0]
    """
    if not negative or not positive or set(negative) & set(positive):
        raise ValueError(f"classes: {negative}, {positive}; allowed: two groups without a common")
    members = [np.isin(data.labels, group) for group in (negative, positive)]
    for group, member in zip((negative, positive), members, strict=True):
        if not member.any():
            present = ", ".join(f"{c:g}" for c in np.unique(data.labels)[:20])
            raise ValueError(f"classes: none of {list(group)} in the data; allowed: {present}")
    chosen = members[0] | members[1]
    return Labelled(data.inputs[chosen], np.where(members[1][chosen], 1.0, -1.0))


def split(data: Labelled, samples: int, test: int | None, seed: int) -> Split:
    """A random split into `samples` to train on, and `test` others (None: all others).

    Raises:
        ValueError: more samples than there are.

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
    return Labelled(data.inputs.reshape(len(data.inputs), -1), data.classes.astype(np.float64))
