"""The functions that rules are made of: numbers of a result."""

import ast
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hdjax.names import entry_dims
from hdjax.registry import suggest
from hdjax.times import record_at


@dataclasses.dataclass(frozen=True)
class Names:
    """What rules may speak of: known before anything is run.

    Attributes:
        kind: of the result: "compare", "simulate", "limit", "sweep" or "scaling".
        statistics: names of the statistics.
        paths: names of the path statistics.
        times: times of the records.
        axes: the axes of a sweep with their values; {"dimension": [...]} for a scaling.
        dimension: d, where there is one.
    """

    kind: str
    statistics: Sequence[str]
    paths: Sequence[str] = ()
    times: Sequence[float] = ()
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    dimension: int | None = None


# The kinds of results that hold curves of runs, of the limit, and their distance.
_RUNS = ("compare", "simulate", "sweep")
_LIMIT = ("compare", "limit", "sweep")
_BOTH = ("compare", "sweep", "scaling")


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function of the language.

    Attributes:
        measure: the number, from a `Call` and the dataset.
        subject: what its first argument names, if anything.
        arguments: names of its further arguments.
        kinds: the results that have it.
        whole: whether it may be over all points of a sweep.
    """

    measure: Callable[..., Any]
    subject: str | None = "statistic"
    arguments: tuple[str, ...] = ()
    kinds: tuple[str, ...] = _RUNS
    whole: bool = False


def _at(suffix: str) -> Callable[..., Any]:
    return lambda call, ds: call.variable(ds, suffix)


def _quantile(call: "Call", ds: xr.Dataset) -> Any:
    levels = ds["quantile"].values.tolist() if "quantile" in ds.coords else []
    return call.variable(ds, "_quantile").isel(quantile=_position("q", levels, call.options["q"]))


def _max_sup_error(call: "Call", ds: xr.Dataset) -> Any:
    return call.variable(ds, "_sup_error", over_runs=False).max(skipna=False)


def _diverged(call: "Call", ds: xr.Dataset) -> Any:
    return np.isfinite(call.variable(ds, "diverged_at", over_runs=False)).mean()


FUNCTIONS = {
    "value": _Function(_at("_mean"), arguments=("t",)),
    "std": _Function(_at("_std"), arguments=("t",)),
    "quantile": _Function(_quantile, arguments=("q", "t")),
    "final": _Function(lambda call, ds: call.variable(ds, "_mean").isel(time=-1)),
    "limit": _Function(_at("_limit"), arguments=("t",), kinds=_LIMIT),
    "rise": _Function(
        lambda call, ds: call.variable(ds, "_limit").dropna("time").diff("time").max(),
        kinds=_LIMIT,
    ),
    "predicted_std": _Function(_at("_predicted_std"), arguments=("t",), kinds=("compare",)),
    "sup_error": _Function(_at("_sup_error"), kinds=_BOTH),
    "max_sup_error": _Function(_max_sup_error, kinds=_BOTH, whole=True),
    "diverged": _Function(_diverged, None, kinds=(*_RUNS, "scaling"), whole=True),
    "path": _Function(_at(""), "path"),
    "path_limit": _Function(_at("_limit"), "path", kinds=_LIMIT),
    "exponent": _Function(_at("_exponent"), kinds=("scaling",), whole=True),
    "exponent_low": _Function(
        lambda call, ds: call.variable(ds, "_exponent_interval")[0], kinds=("scaling",), whole=True
    ),
    "exponent_high": _Function(
        lambda call, ds: call.variable(ds, "_exponent_interval")[1], kinds=("scaling",), whole=True
    ),
}


class Call:
    """One call of a function of the language, checked against the names that exist."""

    def __init__(self, node: Any, names: Names):
        self.names, self.name = names, node.func.id
        if self.name not in FUNCTIONS:
            known = list(FUNCTIONS)
            raise ValueError(f"function {self.name!r}; {suggest(self.name, known)}")
        self.function = FUNCTIONS[self.name]
        if names.kind not in self.function.kinds:
            kinds = ", ".join(self.function.kinds)
            raise ValueError(f"{self.name}: the result is a {names.kind}; allowed: {kinds}")
        self.subject, self.entry, positional = self._subject(list(node.args))
        self.options = self._options(positional, node.keywords)

    def _subject(self, arguments: list[Any]) -> tuple[str, tuple[int, ...], list[Any]]:
        kind = self.function.subject
        if kind is None:
            return "", (), arguments
        known = self.names.statistics if kind == "statistic" else self.names.paths
        if not arguments:
            raise ValueError(f"{self.name}: no {kind}; allowed: {', '.join(known)}")
        node, entry = arguments[0], ()
        if isinstance(node, ast.Subscript):
            value = _literal(node.slice)
            entry = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(i, int) for i in entry):
                raise ValueError(f"{ast.unparse(node)!r}: allowed: entries such as overlaps[0, 1]")
            node = node.value
        subject = node.id if isinstance(node, ast.Name) else _literal(node)
        if subject not in known:
            raise ValueError(f"{kind} {subject!r}; {suggest(subject, known)}")
        return subject, entry, arguments[1:]

    def _options(self, positional: list[Any], keywords: list[Any]) -> dict[str, Any]:
        own, axes = self.function.arguments, self.names.axes
        if len(positional) > len(own):
            raise ValueError(
                f"{self.name}: too many arguments; allowed: {', '.join(own) or 'none'}"
            )
        for axis in set(own) & set(axes):
            raise ValueError(
                f"{self.name}: the sweep's axis {axis!r} is also its argument; allowed: "
                "an axis of another name"
            )
        options = {name: _literal(node) for name, node in zip(own, positional, strict=False)}
        for keyword in keywords:
            if keyword.arg not in (*own, *axes):
                raise ValueError(
                    f"{self.name}: argument {keyword.arg!r}; {suggest(keyword.arg, [*own, *axes])}"
                )
            options[keyword.arg] = _literal(keyword.value)
        if "q" in own and "q" not in options:
            raise ValueError(f"{self.name}: q is missing, the level of the quantile")
        if "t" in options and len(self.names.times):
            record_at(self.names.times, options["t"])
        for axis, values in axes.items():
            if axis in options:
                _position(axis, values, options[axis])
            elif not self.function.whole:
                raise ValueError(f"{self.name}: {axis} is missing; allowed: {_listed(values)}")
        return options

    def measure(self, ds: xr.Dataset) -> float:
        """The number that is asked for."""
        found = self.function.measure(self, ds)
        if found.size != 1:
            shape = found.shape
            raise ValueError(
                f"{self.name}({self.subject}): shape {shape}; allowed: one entry of it"
            )
        return float(found)

    def variable(self, ds: xr.Dataset, suffix: str, over_runs: bool = True) -> xr.DataArray:
        """The variable of the subject, at the call's point, time and entry."""
        stem = f"path_{self.subject}" if self.function.subject == "path" else self.subject
        if stem + suffix not in ds:
            raise ValueError(f"{self.name}: the result has none of {self.subject or suffix!r}")
        data = ds[stem + suffix]
        for axis, values in self.names.axes.items():
            if axis in self.options and axis in data.dims:
                data = data.isel({axis: _position(axis, values, self.options[axis])})
        if "t" in self.function.arguments:
            wanted = self.options.get("t")
            data = data.isel(time=-1 if wanted is None else record_at(ds["time"].values, wanted))
        shape = tuple(data.sizes[dim] for dim in entry_dims(data.dims, stem))
        if self.entry:
            fits = len(self.entry) == len(shape)
            if not (fits and all(-n <= i < n for i, n in zip(self.entry, shape, strict=True))):
                raise ValueError(f"{self.subject}{list(self.entry)}: allowed: {shape} entries")
            data = data.isel({f"{stem}_{axis}": i for axis, i in enumerate(self.entry)})
        if over_runs and "run" in data.dims:
            some = data.notnull().any("run")
            safe = data.where(some, 0.0)
            mean = suffix == "_limit" and stem == self.subject
            data = (safe.mean("run") if mean else safe.median("run")).where(some)
        return data


def _literal(node: Any) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)!r}: allowed: a number or a name") from None


def _position(axis: str, values: Sequence[Any], wanted: Any) -> int:
    for position, value in enumerate(values):
        numbers = isinstance(value, int | float) and isinstance(wanted, int | float)
        if value == wanted or (numbers and math.isclose(value, wanted, rel_tol=1e-9)):
            return position
    raise ValueError(f"{axis}: {wanted!r}; allowed: {_listed(values)}")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
