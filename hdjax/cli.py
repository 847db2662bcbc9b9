"""The command `hdjax`: from a config to files, a table and a figure.

Exit codes: 0 for success, 1 for an expectation that failed (the results are kept), 2 for a mistake
of the user (one line for each on standard error; with HDJAX_TRACEBACK set, where it was found),
130 after Ctrl-C (what was finished is kept).
"""

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import typer

from hdjax import config, doctor, expect, plots, store
from hdjax.engine import Result, load

_EXPECTATION_FAILED, _MISTAKE, _INTERRUPTED = 1, 2, 130
# What the package raises at wrong input or without an extra, and what too large problems lead to.
_MISTAKES = (
    ValueError,
    TypeError,
    OSError,
    ModuleNotFoundError,
    ArithmeticError,
    MemoryError,
    jax.errors.JaxRuntimeError,
)

app = typer.Typer(
    name="hdjax",
    help="High-dimensional algorithms against their deterministic equivalents.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Default: results/<name of the config>.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a dotted key; may be repeated."),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: the words after `hdjax`; None for those of the process.

    Example:
        >>> main(["run", "configs/least_squares.toml", "--out", "results"])  # doctest: +SKIP
        0
    """
    jax.config.update("jax_enable_x64", True)
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning
            return typer.main.get_command(app).main(words, "hdjax", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        return _INTERRUPTED
    except _MISTAKES as error:
        if os.environ.get("HDJAX_TRACEBACK"):
            raise
        return _fail(str(error) or type(error).__name__)
    except Exception as error:
        # Typer's own, for words it does not know; their class depends on its version.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        return _fail(message())


@app.command()
def run(config_file: ConfigFile, out: Out = None, changes: Overrides = None) -> int:
    """Run CONFIG: its sweep or scaling, if it has one, or else a comparison."""
    return _execute(config_file, out, changes, None)


@app.command()
def scaling(config_file: ConfigFile, out: Out = None, changes: Overrides = None) -> int:
    """Run the [scaling] of CONFIG: the error against the dimension."""
    return _execute(config_file, out, changes, "scaling")


@app.command()
def sweep(config_file: ConfigFile, out: Out = None, changes: Overrides = None) -> int:
    """Run the [sweep] of CONFIG: a grid of parameters."""
    return _execute(config_file, out, changes, "sweep")


@app.command()
def plot(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result.nc, or its folder.")],
    statistic: Annotated[str | None, typer.Option(help="Default: all that are scalar.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its ending says the format.")
    ] = None,
) -> int:
    """Draw a saved result, without computing anything again."""
    loaded = load(result)
    folder = result if result.is_dir() else result.parent
    file = folder / f"{statistic or 'figure'}.png" if out is None else out
    drawn = plots.plot_all(loaded.data) if statistic is None else plots.plot(loaded.data, statistic)
    _save_figure(drawn, file)
    typer.echo(file)
    return 0


@app.command(name="doctor")
def doctor_() -> int:
    """Say what is installed, on what it runs, and whether its numbers can be trusted."""
    return doctor.main()


@app.command()
def schema(family: Annotated[str | None, typer.Argument(metavar="[FAMILY]")] = None) -> int:
    """Print the JSON schema of configs."""
    typer.echo(json.dumps(config.json_schema(family), indent=1))
    return 0


def _execute(file: Path, out: Path | None, changes: list[str] | None, kind: str | None) -> int:
    experiment = config.load(file, changes or [])
    kind = experiment.choose(kind)
    rules = experiment.config.expect.rules
    expect.check(rules, _names(experiment, kind))
    folder = Path("results") / file.stem if out is None else out
    folder.mkdir(parents=True, exist_ok=True)

    try:
        result = experiment.run(kind)
    except KeyboardInterrupt:
        _say("interrupted: nothing was finished")
        return _INTERRUPTED
    written = [store.save(result.data, folder / "result.nc")]
    typer.echo(result)
    failed, mistake = False, None
    try:
        failed = _evaluate(rules, result)
    except ValueError as error:
        # A rule that could not be judged before the run: told when everything is written.
        mistake = error
    if rules and mistake is None:
        store.save(result.data, written[0])
    written.append(store.save_summary(result.data, folder / "summary.json"))
    try:
        written.append(_save_figure(plots.plot_all(result.data), folder / "figure.png"))
    except Exception as error:
        # Whatever is wrong with a figure, the numbers are worth more.
        _say(f"warning: no figure: {error}")
    for path in written:
        typer.echo(path)
    if result.data.attrs["interrupted"]:
        _say(f"interrupted: what was finished is kept ({result.data.attrs['runs']} runs)")
        return _INTERRUPTED
    if mistake is not None:
        raise mistake
    return _EXPECTATION_FAILED if failed else 0


def _names(experiment: config.Experiment, kind: str) -> expect.Names:
    run, tables = experiment.config.run, experiment.config
    axes: dict[str, Any] = {}
    if kind == "sweep":
        axes = {name: list(experiment.grid[key]) for name, key in experiment.axes.items()}
    elif kind == "scaling" and tables.scaling is not None:
        axes = {"dimension": tables.scaling.dims}
    elif run.runs == 0:
        kind = "limit"
    elif not run.limit:
        kind = "simulate"
    dimension = getattr(tables.system, "dimension", None)
    paths = list(run.paths)
    return expect.Names(
        kind, experiment.statistics(), paths, experiment.times.tolist(), axes, dimension
    )


def _evaluate(rules: list[str], result: Result) -> bool:
    """Print each rule with PASS or FAIL, note them in the result, and say whether any failed."""
    outcome = expect.evaluate(rules, result.data)
    for line in outcome:
        value = "not finite" if line["value"] is None else f"{line['value']:.5g}"
        typer.echo(f"{'PASS' if line['passed'] else 'FAIL'}  {line['rule']}  ({value})")
    result.data.attrs["expect"] = json.dumps(outcome)
    return not all(line["passed"] for line in outcome)


def _save_figure(drawn: Any, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure = getattr(drawn, "figure", drawn)
    figure.savefig(file, dpi=150)
    return file


def _fail(message: str) -> int:
    for line in message.splitlines():
        _say(f"error: {line}")
    return _MISTAKE


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _show_warning(message: Any, category: Any, *_: Any) -> None:
    _say(f"warning: {message}")
