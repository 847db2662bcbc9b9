"""The functions that rules are made of: numbers of a result."""

import ast
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hdjax import layout
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
        measure: the number, from a `Call` and the result's tree.
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


def _in(group: str, reduction: Callable[..., Any] = np.nanmedian) -> Callable[..., Any]:
    return lambda call, result: call.variable(result, group, reduction)


def _final(call: "Call", result: xr.DataTree) -> Any:
    return call.variable(result, "mean").isel(time=-1)


def _quantile(call: "Call", result: xr.DataTree) -> Any:
    found = call.variable(result, "quantile")
    levels = found["quantile"].values.tolist()
    return found.isel(quantile=_position("q", levels, call.options["q"]))


def _rise(call: "Call", result: xr.DataTree) -> Any:
    return call.variable(result, "limit", np.nanmean).dropna("time").diff("time").max()


def _max_sup_error(call: "Call", result: xr.DataTree) -> Any:
    return call.variable(result, "sup_error", None).max(skipna=False)


def _diverged(call: "Call", result: xr.DataTree) -> Any:
    return np.isfinite(call.variable(result, "divergence", None)).mean()


def _bound(position: int) -> Callable[..., Any]:
    return lambda call, result: call.variable(result, "exponent_interval").isel(bound=position)


FUNCTIONS = {
    "value": _Function(_in("mean"), arguments=("t",)),
    "std": _Function(_in("std"), arguments=("t",)),
    "quantile": _Function(_quantile, arguments=("q", "t")),
    "final": _Function(_final),
    "limit": _Function(_in("limit", np.nanmean), arguments=("t",), kinds=_LIMIT),
    "rise": _Function(_rise, kinds=_LIMIT),
    "predicted_std": _Function(_in("predicted_std"), arguments=("t",), kinds=("compare",)),
    "sup_error": _Function(_in("sup_error"), kinds=_BOTH),
    "max_sup_error": _Function(_max_sup_error, kinds=_BOTH, whole=True),
    "diverged": _Function(_diverged, None, kinds=(*_RUNS, "scaling"), whole=True),
    "path": _Function(_in("paths"), "path"),
    "path_limit": _Function(_in("paths_limit"), "path", kinds=_LIMIT),
    "exponent": _Function(_in("exponent"), kinds=("scaling",), whole=True),
    "exponent_low": _Function(_bound(0), kinds=("scaling",), whole=True),
    "exponent_high": _Function(_bound(1), kinds=("scaling",), whole=True),
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

    def measure(self, result: xr.DataTree) -> float:
        """The number that is asked for."""
        found = self.function.measure(self, result)
        if found.size != 1:
            shape = found.shape
            raise ValueError(
                f"{self.name}({self.subject}): shape {shape}; allowed: one entry of it"
            )
        return float(found)

    def variable(
        self,
        result: xr.DataTree,
        group: str,
        reduction: Callable[..., Any] | None = np.nanmedian,
    ) -> xr.DataArray:
        """What a group holds of the subject, at the call's point, time and entry.

        Args:
            result: a result's tree.
            group: which group.
            reduction: over the runs; None: none.
        """
        name = self.subject or "diverged_at"
        if not layout.has(result, group, name):
            raise ValueError(f"{self.name}: the result has none of {name!r}")
        data = layout.variable(result, group, name)
        for axis, dim in layout.axes(result).items():
            if axis in self.options and dim in data.dims:
                position = _position(axis, self.names.axes[axis], self.options[axis])
                data = data.isel({dim: position})
        if "t" in self.function.arguments:
            wanted = self.options.get("t")
            record = -1 if wanted is None else record_at(layout.times(result), wanted)
            data = data.isel(time=record)
        dims = layout.entries(result, data)
        shape = tuple(data.sizes[dim] for dim in dims)
        if self.entry:
            fits = len(self.entry) == len(shape)
            if not (fits and all(-n <= i < n for i, n in zip(self.entry, shape, strict=True))):
                raise ValueError(f"{self.subject}{list(self.entry)}: allowed: {shape} entries")
            data = data.isel(dict(zip(dims, self.entry, strict=True)))
        return data if reduction is None else layout.over_runs(data, reduction)


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
