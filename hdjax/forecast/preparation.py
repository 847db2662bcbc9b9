"""From a table to rows and targets for SGD: groups of classes, a split, standardised features.

The theory of one-pass and multi-pass SGD needs features of mean zero.  All numbers (means, standard
deviations, the scale) come from the training samples.  Rows are divided by their root mean square
norm in the end, so that tr A^T A = n and SGD on least squares is stable for rates below 2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from hdjax.forecast.tables import Table
from hdjax.multipass import random_features_problem
from hdjax.multipass.data import Labelled, Split

STANDARDISE = ("columns", "rows", "centre", "none")
# Integers of at most so many different values are classes.
_MOST_CLASSES = 20


class Prepared(NamedTuple):
    """Training and test samples as SGD sees them.

    Attributes:
        train: (n, d) rows, tr A^T A = n.
        test: (N, d) rows.
        train_targets: (n, m) centred targets: a column for each class, or a single column.
        test_targets: (N, m) targets, less the means of the training targets.
        train_labels: (n,) numbers of classes, or numbers.
        test_labels: (N,) likewise.
        classes: the names of the classes; empty for a regression.
        scale: the mean squared norm of a row before rows were divided by its root.
        source: where the data come from.
        notes: sentences on what was done to the data.
    """

    train: Float[np.ndarray, "n d"]
    test: Float[np.ndarray, "N d"]
    train_targets: Float[np.ndarray, "n m"]
    test_targets: Float[np.ndarray, "N m"]
    train_labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    scale: float
    source: str
    notes: tuple[str, ...]


def prepare(
    table: Table,
    *,
    test_share: float = 0.2,
    samples: int | None = None,
    standardise: str | None = None,
    random_features: int | None = None,
    classes: Sequence[Any] | None = None,
    seed: int = 0,
) -> Prepared:
    """Split and standardise a table.

    Args:
        table: the samples.
        test_share: the share of the samples that SGD does not train on.
        samples: the number of samples to train on; None: all that are not for the test.
        standardise: "columns" (each feature with mean 0 and variance 1), "rows" (features with mean
            0, then rows of one norm), "centre" (features with mean 0), "none"; None: "columns", or
            "rows" with random features.
        random_features: the number of ReLU random features that replace the features; None: none.
        classes: the classes that are kept, or groups of classes; None: all.
        seed: seed of the split and of the random features.

    Raises:
        ValueError: an option out of range, or data that do not allow it.

    Example:
        >>> data = prepare(hd.forecast.as_table("wine"), test_share=0.25)
        >>> data.train.shape, data.classes
        ((134, 13), ('class_0', 'class_1', 'class_2'))
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share: {test_share}; allowed: above 0 and below 1")
    if standardise not in (None, *STANDARDISE):
        raise ValueError(f"standardise: {standardise!r}; allowed: {', '.join(STANDARDISE)}")
    if random_features is not None and standardise not in (None, "rows"):
        raise ValueError(f"standardise: {standardise!r} with random features; allowed: 'rows'")
    if random_features is not None and random_features < 1:
        raise ValueError(f"random_features: {random_features}; allowed: at least 1")
    features, labels, names = _classes(table, classes)
    total = len(labels)
    tests = max(1, round(test_share * total))
    count = total - tests if samples is None else samples
    if count < 2 or count + tests > total:
        raise ValueError(
            f"samples: {count} to train on and {tests} to test with; allowed: at least 2 and 1, "
            f"{total} in all"
        )
    order = np.random.default_rng(seed).permutation(total)
    parts = order[tests : tests + count], order[:tests]
    own, other = (labels[part] for part in parts)
    if names and len(np.unique(own)) < 2:
        raise ValueError("labels: one class among the training samples; allowed: two or more")
    train, test = (features[part] for part in parts)
    if random_features is None:
        train, test, notes = _standardised(train, test, standardise or "columns", table, parts[0])
    else:
        train, test = _random_features(train, test, random_features, seed, parts)
        notes = [
            f"{random_features} ReLU random features of rows of one norm, with mean 0 and rows of "
            "one norm"
        ]
    targets, tests_targets = (_targets(part, len(names)) for part in (own, other))
    mean, unit = targets.mean(axis=0), 1.0 if names else float(targets.std())
    notes.append(_told(names, unit))
    scale = float(np.mean(np.sum(train**2, axis=1)))
    root = np.sqrt(scale)
    return Prepared(
        train=train / root,
        test=test / root,
        train_targets=(targets - mean) / unit,
        test_targets=(tests_targets - mean) / unit,
        train_labels=own,
        test_labels=other,
        classes=names,
        scale=scale,
        source=table.source,
        notes=tuple(notes),
    )


def _told(names: Sequence[str], unit: float) -> str:
    """What was done to the labels."""
    if not names:
        return f"labels with mean 0 and variance 1 (divided by {unit:.4g})"
    if len(names) > 2:
        return f"labels: {len(names)} columns of 0 and 1, less their means"
    return f"labels: -1 for {names[0]} and 1 for {names[1]}, less their mean"


def _classes(table: Table, wanted: Any) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Features, labels and names of classes; labels are numbers of classes if there are names."""
    labels = table.labels
    found = np.unique(labels)
    integers = labels.dtype.kind in "iub" or (
        labels.dtype.kind == "f" and bool(np.all(found == np.round(found)))
    )
    classified = labels.dtype.kind in "OSU" or (integers and len(found) <= _MOST_CLASSES)
    if len(found) < 2:
        raise ValueError(f"labels: one class, {found[0]!s}; allowed: two or more different labels")
    if not classified:
        if wanted is not None:
            raise ValueError(
                f"classes: {wanted} with {len(found)} different labels; allowed with up to "
                f"{_MOST_CLASSES} classes"
            )
        return table.features, labels.astype(np.float64), ()
    names = np.array([f"{x:g}" if labels.dtype.kind == "f" else str(x) for x in labels])
    known = list(dict.fromkeys(names[np.argsort(labels, kind="stable")]))
    if 2 * len(known) > len(names):
        raise ValueError(
            f"labels: {len(known)} classes for {len(names)} samples; allowed: at least 2 samples "
            "for each class"
        )
    groups = [[name] for name in known] if wanted is None else _groups(wanted, known)
    number = {name: i for i, group in enumerate(groups) for name in group}
    kept = np.isin(names, list(number))
    numbers = np.array([number[name] for name in names[kept]])
    return table.features[kept], numbers, tuple("+".join(group) for group in groups)


def _groups(wanted: Sequence[Any], known: list[str]) -> list[list[str]]:
    groups = [
        [str(name) for name in (group if isinstance(group, list | tuple) else [group])]
        for group in wanted
    ]
    flat = [name for group in groups for name in group]
    unknown = [name for name in flat if name not in known]
    if unknown or len(groups) < 2 or len(set(flat)) < len(flat):
        raise ValueError(
            f"classes: {wanted}; allowed: two or more groups without a common class, of "
            f"{', '.join(known)}"
        )
    return groups


def _targets(labels: np.ndarray, classes: int) -> Float[np.ndarray, "n m"]:
    """Columns of targets: numbers, -1 and 1 for two classes, or a column for each of many."""
    if classes == 0:
        return labels[:, None].astype(np.float64)
    if classes == 2:
        return 2.0 * labels[:, None] - 1
    return np.eye(classes)[labels]


def _standardised(
    train: np.ndarray, test: np.ndarray, how: str, table: Table, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    notes = []
    varying = train.std(axis=0) > 1e-12 * np.maximum(np.abs(train).max(axis=0), 1e-300)
    if how != "none":
        if not varying.any():
            raise ValueError("features: all columns are constant; allowed: columns that vary")
        constant = [name for name, keep in zip(table.columns, varying, strict=True) if not keep]
        if constant:
            named = ", ".join(constant[:8]) + (", ..." if len(constant) > 8 else "")
            notes.append(f"constant columns are left out: {named}")
        train, test = train[:, varying], test[:, varying]
        mean = train.mean(axis=0)
        train, test = train - mean, test - mean
        notes.append("features with mean 0")
    if how == "columns":
        spread = train.std(axis=0)
        train, test = train / spread, test / spread
        notes[-1] = "features with mean 0 and variance 1"
    if how == "rows":
        norms = np.linalg.norm(train, axis=1, keepdims=True)
        if norms.min() <= 1e-12 * norms.max():
            raise ValueError(
                f"row {rows[np.argmin(norms)]}: norm 0 after the mean is subtracted; allowed with "
                "standardise='rows': rows with positive norms"
            )
        others = np.linalg.norm(test, axis=1, keepdims=True)
        train, test = train / norms, test / np.where(others == 0, 1, others)
        notes.append("rows divided by their norms")
    return train, test, notes or ["features as given"]


def _random_features(
    train: np.ndarray, test: np.ndarray, count: int, seed: int, parts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    for rows, part in zip((train, test), parts, strict=True):
        zero = np.flatnonzero(~rows.any(axis=1))
        if zero.size:
            raise ValueError(
                f"row {part[zero[0]]}: all zero; allowed with random features: rows with positive "
                "norms"
            )
    split = Split(Labelled(train, np.zeros(len(train))), Labelled(test, np.zeros(len(test))))
    problem = random_features_problem(split, count, key=jax.random.key(seed))
    rows: Any = problem.quadratics["test"]
    return np.asarray(problem.matrix), np.asarray(rows.rows)
