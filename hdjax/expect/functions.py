"""The functions of the language of rules, each of which reads one number from a result.

`hdjax.expect` lists the functions for users, and `hdjax.expect.rules` calls them.
"""

import ast
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hdjax import reading, reductions
from hdjax.codes import Code
from hdjax.registry import suggest
from hdjax.times import record_at


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function of the language.

    Attributes:
        measure: computes the number from a `Call`.
        group: the group of the result that the function needs.
        subject: what the first argument names, "statistic" or "path"; None without such an
            argument.
        arguments: the names of further arguments.
        whole: whether a call without axes is over all points of a sweep.
    """

    measure: Callable[["Call"], Any]
    group: str
    subject: str | None = "statistic"
    arguments: tuple[str, ...] = ()
    whole: bool = False


def _of(group: str, reduction: Callable[..., Any] = np.nanmedian, **options: Any) -> _Function:
    """The function that returns the value of a group, reduced over the runs."""
    return _Function(lambda call: call.variable(group, reduction), group, **options)


def _quantile(call: "Call") -> Any:
    """The stored quantile if there is one of this level, else the quantile of the kept runs."""
    q = call.options.get("q")
    if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
        raise ValueError(f"q: {q!r}; allowed: the level of the quantile, from 0 to 1")
    stored = call.variable("quantile")
    near = np.isclose(stored["quantile"].values, q, rtol=0, atol=1e-9)
    if near.any():
        return stored.isel(quantile=int(near.argmax()))
    return call.variable("runs", np.nanquantile, q=q)


def _rise(call: "Call") -> Any:
    limit = call.variable("limit", np.nanmean)
    steps = limit.dropna("time", how="all").diff("time")
    return steps.max("time", skipna=False) if steps.sizes["time"] else limit.isel(time=0) * np.nan


def _probability(call: "Call") -> Any:
    k = call.options.get("k")
    if isinstance(k, bool) or not isinstance(k, int | float) or not float(k).is_integer():
        raise ValueError(f"k: {k!r}; allowed: an integer")
    values = call.variable("paths", None)
    within = ((values > k - 1) & (values <= k)).where(values.notnull())
    return reductions.over_runs(within, np.nanmean)


def _diverged(call: "Call") -> Any:
    code = call.variable("codes", None)
    return (code == Code.DIVERGED).where(code != Code.NOT_RUN).mean()


def _bound(position: int) -> _Function:
    group = "exponent_interval"
    return _Function(lambda call: call.variable(group).isel(bound=position), group, whole=True)


FUNCTIONS = {
    "value": _of("mean", arguments=("t",)),
    "final": _of("mean"),
    "std": _of("std", arguments=("t",)),
    "smallest": _of("runs", np.nanmin, arguments=("t",)),
    "largest": _of("runs", np.nanmax, arguments=("t",)),
    "quantile": _Function(_quantile, "quantile", arguments=("q", "t")),
    "limit": _of("limit", np.nanmean, arguments=("t",)),
    "rise": _Function(_rise, "limit"),
    "predicted_mean": _of("predicted_mean", arguments=("t",)),
    "predicted_std": _of("predicted_std", arguments=("t",)),
    "sup_error": _of("sup_error"),
    "max_sup_error": _Function(
        lambda call: call.variable("sup_error", None).max(skipna=False), "sup_error", whole=True
    ),
    "diverged": _Function(_diverged, "codes", None, whole=True),
    "path": _of("paths", subject="path"),
    "path_mean": _of("paths", np.nanmean, subject="path"),
    "path_limit": _of("paths_limit", subject="path"),
    "probability": _Function(_probability, "paths", "path", ("k",)),
    "exponent": _of("exponent", whole=True),
    "exponent_low": _bound(0),
    "exponent_high": _bound(1),
}


class Call:
    """One call of a function of the language, on a result.

    Attributes:
        options: the values of the arguments and axes by name.
    """

    def __init__(self, node: Any, result: xr.DataTree):
        self._result, self._name = result, node.func.id
        if self._name not in FUNCTIONS:
            raise ValueError(f"function: {self._name!r}; {suggest(self._name, list(FUNCTIONS))}")
        self._function = FUNCTIONS[self._name]
        self._subject, self._entry, positional = self._named(list(node.args))
        self.options = self._given(positional, node.keywords)

    def measure(self) -> float:
        """The number that the call returns.

        Raises:
            ValueError: the result does not have what the call needs, or the value is not a single
                real number.
        """
        call = f"{self._name}({self._subject})"
        if self._function.group not in self._result.children:
            kind, has = self._result.attrs["kind"], ", ".join(self._result.children)
            raise ValueError(
                f"{call}: this {kind} has no {self._function.group}; allowed: what it has, {has}"
            )
        found = self._function.measure(self)
        if found.size != 1:
            raise ValueError(f"{call}: shape {found.shape}; allowed: one entry of it")
        if np.iscomplexobj(found):
            raise ValueError(f"{call}: complex; allowed: real statistics")
        return float(found)

    def variable(
        self, group: str, reduction: Callable[..., Any] | None = np.nanmedian, **options: Any
    ) -> xr.DataArray:
        """The variable of a group that the call is about, at the call's point, time and entry.

        Args:
            group: the group.
            reduction: the reduction over the runs, as for `hdjax.layout.over_runs`; None: no
                reduction.
            **options: further arguments of the reduction.

        Raises:
            ValueError: the result has no such variable, point, time or entry.
        """
        name = self._subject or "code"
        if not reading.has(self._result, group, name):
            has = list(reading.dataset(self._result, group).data_vars)
            raise ValueError(f"{self._name}: {name!r}; allowed: {', '.join(map(str, has))}")
        data = reading.variable(self._result, group, name)
        for axis, dim in reading.axes(self._result).items():
            values = reading.labels(self._result, axis).tolist()
            if dim not in data.dims:
                continue
            if axis in self.options:
                data = data.isel({dim: _position(axis, values, self.options[axis])})
            elif not self._function.whole:
                raise ValueError(f"{self._name}: {axis} is missing; allowed: {_listed(values)}")
        if "time" in data.dims and self._name != "rise":
            wanted, times = self.options.get("t"), reading.times(self._result)
            data = data.isel(time=-1 if wanted is None else record_at(times, wanted))
        dims = reading.entries(self._result, data)
        shape = tuple(data.sizes[dim] for dim in dims)
        if self._entry:
            fits = len(self._entry) == len(shape)
            if not (fits and all(-n <= i < n for i, n in zip(self._entry, shape, strict=True))):
                rule = f"an entry of shape {shape}"
                raise ValueError(f"{self._subject}: {list(self._entry)}; allowed: {rule}")
            data = data.isel(dict(zip(dims, self._entry, strict=True)))
        return data if reduction is None else reductions.over_runs(data, reduction, **options)

    def _named(self, arguments: list[Any]) -> tuple[str, tuple[int, ...], list[Any]]:
        """The name of the statistic or path, its entry, and the other positional arguments."""
        kind = self._function.subject
        if kind is None:
            return "", (), arguments
        known = self._result.attrs["statistics" if kind == "statistic" else "paths"]
        if not arguments:
            raise ValueError(f"{self._name}: no {kind}; allowed: {', '.join(known)}")
        node, entry = arguments[0], ()
        if isinstance(node, ast.Subscript):
            value = _literal(node.slice)
            entry = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(i, int) for i in entry):
                rule = "integers, such as overlaps[0, 1]"
                raise ValueError(f"entry: {ast.unparse(node)!r}; allowed: {rule}")
            node = node.value
        subject = node.id if isinstance(node, ast.Name) else _literal(node)
        if subject not in known:
            raise ValueError(f"{kind}: {subject!r}; {suggest(subject, known)}")
        return subject, entry, arguments[1:]

    def _given(self, positional: list[Any], keywords: list[Any]) -> dict[str, Any]:
        own, axes = self._function.arguments, list(reading.axes(self._result))
        if len(positional) > len(own):
            raise ValueError(
                f"{self._name}: too many arguments; allowed: {', '.join(own) or 'none'}"
            )
        for axis in set(own) & set(axes):
            raise ValueError(
                f"{self._name}: the sweep's axis {axis!r} is also its argument; allowed: "
                "an axis of another name"
            )
        options = {name: _literal(node) for name, node in zip(own, positional, strict=False)}
        for keyword in keywords:
            if keyword.arg not in (*own, *axes):
                hint = suggest(keyword.arg, [*own, *axes])
                raise ValueError(f"{self._name}: argument {keyword.arg!r}; {hint}")
            options[keyword.arg] = _literal(keyword.value)
        return options


def _literal(node: Any) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"argument: {ast.unparse(node)!r}; allowed: a number or a name") from None


def _position(axis: str, values: Sequence[Any], wanted: Any) -> int:
    for position, value in enumerate(values):
        numbers = isinstance(value, int | float) and isinstance(wanted, int | float)
        if value == wanted or (numbers and math.isclose(value, wanted, rel_tol=1e-9)):
            return position
    raise ValueError(f"{axis}: {wanted!r}; allowed: {_listed(values)}")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
