"""Names in a result: which variables there are, and which names cannot be told apart.

A statistic s has the variables s, s_mean, s_std, ... and, if it is a vector or a matrix, the
dimensions s_0, s_1, ... of its entries; a path statistic p is path_p, and a probe p is probe_p.
"""

import re
from collections.abc import Iterable
from typing import Any

# Dimensions, coordinates and variables that do not belong to a statistic.
_COMMON = (
    "run",
    "time",
    "recorded_time",
    "quantile",
    "count",
    "diverged_at",
    "limit_diverged_at",
    "limit_gave_up_at",
)
_STATISTIC = (
    "",
    "_mean",
    "_std",
    "_count",
    "_quantile",
    "_limit",
    "_predicted_std",
    "_sup_error",
    "_sup_error_count",
    "_sup_error_mean",
    "_sup_error_std",
    "_median",
    "_exponent",
    "_exponent_interval",
)
# What NetCDF holds as a name, and `hdjax.store` does not take for an imaginary part.
_NETCDF = re.compile(r"(?!\.{1,2}$)(?!.*__imag$)[^/\0]+", re.DOTALL)


def check_names(
    statistics: Iterable[Any],
    paths: Iterable[Any] = (),
    probes: Iterable[Any] = (),
    axes: Iterable[Any] = (),
) -> None:
    """Refuse names that one result cannot hold side by side.

    Args:
        statistics: names of statistics.
        paths: names of path statistics.
        probes: names of probes.
        axes: axes of a sweep.

    Raises:
        ValueError: a name that is not text, or that NetCDF does not hold, such as one with "/"; two
            names that share a variable, a dimension or a coordinate.

    Example:
        >>> check_names(["risk", "distance"], axes=["learning_rate"])
    """
    parts = {"statistics": _STATISTIC, "paths": ("", "_limit"), "probes": ("",)}
    prefixes = {"paths": "path_", "probes": "probe_"}
    given = {"statistics": statistics, "paths": paths, "probes": probes, "grid": axes}
    # Whose each variable is; entries of vectors, whose number is not known, are a stem.
    owners, stems = dict.fromkeys(_COMMON, "every result"), {}
    for kind, names in given.items():
        for name in names:
            if not isinstance(name, str) or not _NETCDF.fullmatch(name):
                raise ValueError(
                    f"{kind}: {name!r}; allowed: text without '/' and NUL, which is not '.' or "
                    "'..' and does not end in '__imag'"
                )
            owner, stem = f"{kind}: {name!r}", prefixes.get(kind, "") + name
            own = [stem]
            if kind in parts:
                # The imaginary part of a complex number is a variable of its own.
                own = [f"{stem}{part}{end}" for part in parts[kind] for end in ("", "_imag")]
                stems[stem] = owner
            for variable in own:
                if variable in owners:
                    raise ValueError(_clash(owner, variable, owners[variable]))
            owners |= dict.fromkeys(own, owner)
    for variable, owner in owners.items():
        entries = re.fullmatch(r"(.+)_\d+", variable)
        if entries and entries[1] in stems:
            raise ValueError(_clash(owner, variable, f"entries of {stems[entries[1]]}"))


def _clash(owner: str, variable: str, other: str) -> str:
    return f"{owner}; allowed: names of their own ({variable!r} is taken by {other})"


def entry_dims(dims: Iterable[Any], stem: str) -> list[str]:
    """The dimensions that are entries of a vector or matrix, among those of a variable.

    Args:
        dims: names of dimensions.
        stem: the statistic, or path_p of a path statistic p.

    Example:
        >>> entry_dims(["risk_level", "time", "risk_0"], "risk")
        ['risk_0']
    """
    return [str(dim) for dim in dims if re.fullmatch(rf"{re.escape(stem)}_\d+", str(dim))]
