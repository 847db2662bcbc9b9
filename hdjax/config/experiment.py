"""The class `Experiment`: a config that was read and validated, and that can be run.

`load` reads a TOML file.  The experiment builds the system and the method of each point, and runs
the comparison, sweep or scaling that the config describes.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from hdjax import layout
from hdjax.config.tables import MOST, Range, families, load_family, model_of, slot
from hdjax.config.toml import check_depth, parse, parse_override, set_key
from hdjax.engine import QUANTILES, Result, compare, limit, scaling, simulate, sweep
from hdjax.registry import suggest
from hdjax.schema import ConfigError, brief, built, read
from hdjax.system import System
from hdjax.times import as_times, nominal

# The only axis of a sweep that is no key of the system.
_METHOD = "run.method"


def load(path: str | Path, overrides: Sequence[str] = ()) -> "Experiment":
    """Read a config, and validate it with every point of its sweep or scaling.

    Args:
        path: the TOML file.
        overrides: texts "dotted.key=value" that replace values of the config; the value is TOML,
            and a bare word is text.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: the config has mistakes; the message has a line for each of them.

    Example:
        >>> load("configs/least_squares.toml", ["run.runs=8"]).run()  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config: no file {str(path)!r}; allowed: a TOML file")
    raw = parse(path.read_bytes(), str(path))
    for override in overrides:
        key, value = parse_override(override)
        set_key(raw, key, value)
    return Experiment.of(raw, path.parent)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A validated config.

    Attributes:
        config: the validated tables.
        raw: the tables as they were written, with overrides.
        directory: the directory to which the names of array files are relative.
        grid: the axes of the sweep by dotted key, each with its values by label; the label of a
            value is the value itself, or the `name` of a table.
    """

    config: Any
    raw: dict[str, Any]
    directory: Path
    grid: Mapping[str, dict[Any, Any]]

    @classmethod
    def of(cls, raw: dict[str, Any], directory: Path | str = ".") -> "Experiment":
        """Validate the tables of a config, with every point of its sweep or scaling.

        Args:
            raw: the tables, as nested dictionaries.
            directory: the directory to which the names of array files are relative.

        Raises:
            ConfigError: the tables have mistakes; the message has a line for each of them.
        """
        check_depth(raw)
        if "family" not in raw:
            raise ConfigError(f"family: missing; allowed: {', '.join(families())}")
        load_family(raw["family"])
        config = read(model_of(raw["family"]), raw, directory)
        grid = _grid(config.sweep or {})
        if config.sweep is not None and not grid:
            raise ConfigError('sweep: no axis; allowed: e.g. "system.ridge" = [0.0, 0.1]')
        experiment = cls(config, raw, Path(directory), grid)
        try:
            _ = experiment.times
        except ValueError:
            rule = "a list of times, finite, at least 0 and increasing"
            raise ConfigError(f"run.times: {brief(raw['run']['times'])}; allowed: {rule}") from None
        if (points := math.prod(len(values) for values in grid.values())) > MOST:
            raise ConfigError(f"sweep: {points} points; allowed: at most {MOST}")
        for key, values in grid.items():
            for value in values.values():
                experiment._system_config({key: value})
                experiment._method({key: value})
        if config.scaling is not None:
            for d in config.scaling.dims:
                experiment._system_config({"system.dimension": d})
        return experiment

    def choose(self, kind: str | None = None) -> str:
        """The kind of experiment: "scaling" or "sweep" if there is such a table, else "compare".

        Args:
            kind: the kind that a user asks for; None: the kind that the tables determine.

        Raises:
            ConfigError: the config has both tables and `kind` is None; it lacks the table that is
                asked for; or [run] has options that this kind of experiment does not use.
        """
        tables = {"sweep": self.config.sweep, "scaling": self.config.scaling}
        found = [name for name, table in tables.items() if table is not None]
        if kind is None and len(found) == 2:
            raise ConfigError("sweep, scaling: both; allowed: one (or hdjax sweep, hdjax scaling)")
        kind = kind or (found[0] if found else "compare")
        if kind in tables and kind not in found:
            example = {"sweep": '"system.ridge" = [0.0, 0.1]', "scaling": "dims = [64, 256]"}
            raise ConfigError(f"{kind}: missing; allowed: [{kind}] with e.g. {example[kind]}")
        run = self.config.run
        ignored: dict[str, bool] = {}
        if kind == "scaling":
            given = {"fluctuations": run.fluctuations, "paths": run.paths, "limit": not run.limit}
            given["mean_correction"] = run.mean_correction
            ignored = {name: bool(value) for name, value in given.items()}
        elif not run.limit:
            given = {"fluctuations": run.fluctuations, "mean_correction": run.mean_correction}
            ignored = {name: bool(value) for name, value in given.items()}
        for name in (name for name, given in ignored.items() if given):
            raise ConfigError(
                f"run.{name}: {brief(self.raw['run'][name])}; allowed in a {kind}: its default"
            )
        return kind

    @property
    def times(self) -> np.ndarray:
        """(times,) the times of the records, in float64 or the lower precision of an array file."""
        times = self.config.run.times
        return as_times(times.values if isinstance(times, Range) else times)

    @property
    def axes(self) -> dict[str, str]:
        """The dotted key of each axis of the sweep, by the short name of the axis in results."""
        keys = [key.split(".") for key in self.grid]
        names = {}
        for own in keys:
            length = 1
            while sum(other[-length:] == own[-length:] for other in keys) > 1:
                length += 1
            names["_".join(own[-length:])] = ".".join(own)
        return names

    def system(self, changes: Mapping[str, Any] | None = None) -> System:
        """The system of the config, with changes.

        Args:
            changes: new values by dotted key, such as {"system.ridge": 0.1}.

        Raises:
            ConfigError: the schema or a constructor refuses a value.
        """
        return built(self._system_config(changes or {}), "system")

    def statistics(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The statistics that are recorded, by name, with their shapes.

        Raises:
            ConfigError: the config asks for a statistic that the system does not have.
        """
        run = self.config.run
        system = self.system(self._first_point())
        found = own = jax.eval_shape(lambda: system.statistics(system.start()))
        if run.statistics is not None:
            found = {}
            for name, function in self._functions():
                if function is None and name not in own:
                    raise ConfigError(f"run.statistics: {name!r}; {suggest(name, list(own))}")
                found[name] = own[name] if function is None else _shape(function, system)
        for name, path in run.paths.items():
            if path.statistic not in found:
                hint = suggest(path.statistic, list(found))
                raise ConfigError(f"run.paths.{name}.statistic: {path.statistic!r}; {hint}")
        return found

    def empty(self, kind: str | None = None) -> xr.DataTree:
        """The result that `run` will return, with NaN in place of all numbers.

        The rules of `[expect]` are checked on this result (see `hdjax.layout.empty`).

        Args:
            kind: as for `run`.

        Raises:
            ConfigError: as for `statistics` and `choose`.
        """
        kind, run, axes = self.choose(kind), self.config.run, {}
        if kind == "sweep":
            axes = {name: list(self.grid[key]) for name, key in self.axes.items()}
        elif kind == "scaling":
            axes = {"dimension": self.config.scaling.dims}
        elif run.runs == 0:
            kind = "limit"
        elif not run.limit:
            kind = "simulate"
        return layout.empty(
            kind,
            {} if kind == "scaling" and run.runs == 0 else self.statistics(),
            () if kind == "scaling" else nominal(self.times),
            paths=list(run.paths),
            axes=axes,
            levels=QUANTILES,
            start=run.start if run.limit else None,
            config=self.raw,
        )

    def run(
        self,
        kind: str | None = None,
        progress: bool | Callable = True,
        checkpoint: Any = None,
        mesh: Mesh | None = None,
    ) -> Result:
        """Run the experiment; the config becomes an attribute of the result.

        Args:
            kind: "compare", "sweep" or "scaling"; None: the kind that `choose` returns.
            progress: as for `hdjax.compare`.
            checkpoint: as for `hdjax.compare`.
            mesh: as for `hdjax.compare`.

        Raises:
            ConfigError: as for `choose`, or a constructor refuses a value.
            ValueError, TypeError: the family or the engine refuses the experiment.
        """
        kind = self.choose(kind)
        run, key = self.config.run, jax.random.key(self.config.run.seed)
        options = self._options(progress) | {"checkpoint": checkpoint, "mesh": mesh}
        named = {name: built(path, f"run.paths.{name}") for name, path in run.paths.items()}
        if kind == "scaling":
            result = self._scaling(key, options)
        elif kind == "sweep":
            result = self._sweep(key, options | {"paths": named})
        elif run.runs == 0:
            result = limit(
                self.system(),
                self.times,
                statistics=options["statistics"],
                paths=named,
                fluctuations=bool(run.fluctuations),
                mean_correction=run.mean_correction,
            )
        elif not run.limit:
            result = simulate(self.system(), self.times, key=key, paths=named, **options)
        else:
            result = compare(
                self.system(),
                self.times,
                key=key,
                start=run.start,
                fluctuations=run.fluctuations,
                mean_correction=run.mean_correction,
                paths=named,
                **options,
            )
        result.tree.attrs["config"] = self.raw
        return result

    def _scaling(self, key: Any, options: dict[str, Any]) -> Result:
        if options["runs"] == 0:
            options = {name: options[name] for name in ("runs", "statistics")}
        return scaling(
            lambda d: self.system({"system.dimension": d}),
            self.config.scaling.dims,
            self.times,
            key=key,
            start=self.config.run.start,
            devices=self.config.scaling.devices,
            **options,
        )

    def _sweep(self, key: Any, options: dict[str, Any]) -> Result:
        run, axes, grid = self.config.run, self.axes, self.grid

        def changes(point: Mapping[str, Any]) -> dict[str, Any]:
            return {axes[name]: grid[axes[name]][label] for name, label in point.items()}

        options["method"] = lambda **point: self._method(changes(point))
        return sweep(
            lambda **point: self.system(changes(point)),
            {name: list(grid[key]) for name, key in axes.items()},
            self.times,
            key=key,
            start=run.start if run.limit else None,
            fluctuations=bool(run.fluctuations),
            mean_correction=run.mean_correction,
            **options,
        )

    def _options(self, progress: bool | Callable) -> dict[str, Any]:
        run = self.config.run
        statistics = None if run.statistics is None else self._functions()
        return {
            "runs": run.runs,
            "method": self._method({}),
            "statistics": statistics,
            "keep": run.keep,
            "chunk": run.chunk,
            "progress": progress,
        }

    def _functions(self) -> list[tuple[str, Any]]:
        """Pairs of the name of a statistic and its function, None for the system's own."""
        return [
            (s, None) if isinstance(s, str) else (s.name, built(s, f"run.statistics.{i}"))
            for i, s in enumerate(self.config.run.statistics)
        ]

    def _system_config(self, changes: Mapping[str, Any]) -> Any:
        raw = copy.deepcopy({"system": self.raw["system"]})
        for key, value in changes.items():
            if key == _METHOD:
                continue
            for name, own in value.items() if key == "system" else [(None, value)]:
                set_key(raw, key if name is None else f"{key}.{name}", own)
        schema = slot(self.config.family, "system")
        return read(schema, raw["system"], self.directory, prefix="system")

    def _method(self, changes: Mapping[str, Any]) -> Any:
        """The method of simulation at the point with these changes; None for the default."""
        method = self.config.run.method
        if _METHOD in changes:
            schema, raw = slot(self.config.family, "method"), changes[_METHOD]
            raw = {"kind": raw} if isinstance(raw, str) else raw
            method = read(schema, raw, self.directory, prefix=_METHOD)
        return None if method is None else built(method, _METHOD)

    def _first_point(self) -> dict[str, Any]:
        if self.config.scaling is not None:
            return {"system.dimension": self.config.scaling.dims[0]}
        return {key: next(iter(values.values())) for key, values in self.grid.items()}


def _shape(function: Any, system: System) -> jax.ShapeDtypeStruct:
    """The shape and dtype of the return value of a statistic's function."""
    return jax.eval_shape(lambda: jnp.asarray(function(system, system.start())))


def _grid(table: dict[str, Any], prefix: str = "") -> dict[str, dict[Any, Any]]:
    """The axes of a sweep by dotted key, each with its values by label.

    A dotted key without quotes is a nested table in TOML, which is followed here.
    """
    grid: dict[str, dict[Any, Any]] = {}
    for name, value in table.items():
        key = prefix + name
        if isinstance(value, dict) and not {"stop", "num"} & set(value):
            grid |= _grid(value, f"{key}.")
            continue
        # The values of the axis "system" are tables of several keys.
        whole = key == "system" and isinstance(value, list)
        if whole and not all(isinstance(entry, dict) and "name" in entry for entry in value):
            rule = "tables with a name and keys of the system"
            raise ConfigError(f"sweep.system: {brief(value)}; allowed: {rule}")
        if not (whole or key.startswith("system.") or key == _METHOD):
            allowed = f"keys of the system, such as system.ridge, and {_METHOD}"
            raise ConfigError(f"sweep.{key}: no key of the system; allowed: {allowed}")
        if isinstance(value, dict):
            value = read(Range, value, prefix=f"sweep.{key}").values.tolist()
        if not isinstance(value, list) or not value:
            rule = "a list, or { start, stop, num }"
            raise ConfigError(f"sweep.{key}: {brief(value)}; allowed: {rule}")
        pairs = [_labelled(i, entry) for i, entry in enumerate(value)]
        # All labels of an axis have one type: numbers become text beside text.
        words = any(isinstance(label, str) for label, _ in pairs)
        grid[key] = {str(label) if words else label: entry for label, entry in pairs}
        if len(grid[key]) < len(pairs):
            raise ConfigError(f"sweep.{key}: {brief(value)}; allowed: different values")
    return grid


def _labelled(i: int, value: Any) -> tuple[Any, Any]:
    """The label of a value in results and rules, and the value itself."""
    if isinstance(value, dict) and "name" in value:
        if not isinstance(value["name"], str):
            raise ConfigError(f"sweep: name {brief(value['name'])}; allowed: text")
        return value["name"], {name: entry for name, entry in value.items() if name != "name"}
    if isinstance(value, list | dict):
        return f"{i}: {value!r}"[:60], value
    return value, value
