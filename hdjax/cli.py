"""The command `hdjax`: from a config to files, a table and a figure.

Exit codes: 0 for success, 1 for an expectation that failed (the results are kept), 2 for a mistake
of the user (one line for each on standard error; with HDJAX_TRACEBACK set, where it was found),
75 after SIGTERM or SIGUSR1 and 130 after Ctrl-C (what was finished is kept; see `hdjax.signals`).

Files are written before anything is printed.  Who does not read what is printed does no harm.
"""

import contextlib
import functools
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import jax
import typer

from hdjax import config, doctor, expect, programs, store
from hdjax.config import reference
from hdjax.engine import Result, load
from hdjax.signals import INTERRUPTED, STOPPED, Signals

_EXPECTATION_FAILED, _MISTAKE = 1, 2
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

cache_app = typer.Typer(help="Compiled programs on disk, with which a second run starts at once.")
app.add_typer(cache_app, name="cache")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Default: results/<name of the config>.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a dotted key; may be repeated."),
]
# What a command leaves to be run, under the signals of the process; gives the exit code.
Job = Callable[[Signals], int]
Force = Annotated[bool, typer.Option("--force", help="Replace a result that is there.")]
Cache = Annotated[bool, typer.Option(help="Keep compiled programs on disk; see hdjax cache.")]


def command() -> NoReturn:
    """The process of the command: `main`, and its exit code."""
    code = main()
    if code in (INTERRUPTED, STOPPED):
        # A chunk may be under way in a thread, for which Python would wait.
        os._exit(code)
    sys.exit(code)


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
    with Signals() as signals, warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return _run(words, signals)
        except (KeyboardInterrupt, typer.Abort):
            _say("interrupted: what was not written is lost")
            return signals.exit_code
        except _MISTAKES as error:
            if os.environ.get("HDJAX_TRACEBACK"):
                raise
            return _fail(error)
        except Exception as error:
            # Typer's own, for words it does not know; their class depends on its version.
            message = getattr(error, "format_message", None)
            if message is None:
                raise
            return _fail(message())


def _run(words: list[str], signals: Signals) -> int:
    """Run a command; what it prints is printed at its end, whatever the end is."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            program = typer.main.get_command(app)
            outcome = program.main(words, "hdjax", standalone_mode=False)
            # An exit code, or what is left to be run; None after --help.
            return (outcome(signals) if isinstance(outcome, functools.partial) else outcome) or 0
    finally:
        _print(printed.getvalue())


def _experiment(kind: str | None) -> Callable[..., Job]:
    """The command that runs a config: as `kind`, or as its tables say."""

    def command(
        config_file: ConfigFile,
        out: Out = None,
        changes: Overrides = None,
        force: Force = False,
        cache: Cache = True,
    ) -> Job:
        return functools.partial(_execute, config_file, out, changes, kind, force, cache)

    return command


for _kind, _help in (
    (None, "Run CONFIG: its sweep or scaling, if it has one, or else a comparison."),
    ("scaling", "Run the [scaling] of CONFIG: the error against the dimension."),
    ("sweep", "Run the [sweep] of CONFIG: a grid of parameters."),
):
    app.command(_kind or "run", help=_help)(_experiment(_kind))


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
    _save_figure(loaded.plot(statistic), file)
    typer.echo(file)
    return 0


@app.command(name="doctor")
def doctor_() -> int:
    """Say what is installed, on what it runs, and whether its numbers can be trusted."""
    return doctor.main()


@app.command()
def schema(
    family: Annotated[str | None, typer.Argument(metavar="[FAMILY]")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables of its keys.")] = False,
) -> int:
    """Print the JSON schema of configs, or the tables of a family's keys."""
    if markdown:
        names = config.families() if family is None else [family]
        typer.echo("\n".join(reference.markdown(name) for name in names))
    else:
        typer.echo(json.dumps(config.json_schema(family), indent=1))
    return 0


@cache_app.command()
def clear() -> int:
    """Remove the compiled programs that runs have left on disk."""
    typer.echo(f"{programs.clear() / 2**20:.1f} MiB removed from {programs.directory()}")
    return 0


def _execute(
    file: Path,
    out: Path | None,
    changes: list[str] | None,
    kind: str | None,
    force: bool,
    cache: bool,
    signals: Signals,
) -> int:
    if cache:
        programs.enable()
    experiment = config.load(file, changes or [])
    kind = experiment.choose(kind)
    rules = experiment.config.expect.rules
    expect.check(rules, experiment.empty(kind))
    folder = store.prepare(Path("results") / file.stem if out is None else out, force)

    try:
        result = experiment.run(kind)
    except KeyboardInterrupt:
        _say("interrupted: nothing was finished")
        return signals.exit_code
    with signals.held():
        passed = _report(result, rules, folder, force)
    if result.tree.attrs["interrupted"]:
        _say(f"interrupted: what was finished is kept ({result.tree.attrs['runs']} runs)")
        return signals.exit_code
    return 0 if passed else _EXPECTATION_FAILED


def _report(result: Result, rules: list[str], folder: Path, force: bool) -> bool:
    """Write and print a result, and say whether it obeys the rules.

    Raises:
        ValueError: a rule that could not be judged before the run; everything is written.
        OSError: no room for the files; the table is printed.
    """
    lines, passed, mistake = [], False, None
    try:
        lines, passed = _evaluate(rules, result)
    except Exception as error:
        mistake = error
    try:
        folder = _save(result, folder, force)
        lines += [folder / store.RESULT, folder / store.SUMMARY]
        try:
            lines.append(_save_figure(result.plot(), folder / store.FIGURE))
        except Exception as error:
            # Whatever is wrong with a figure, the numbers are worth more.
            _say(f"warning: no figure: {error}")
    finally:
        typer.echo(result)
        for line in lines:
            typer.echo(line)
    if mistake is not None:
        raise mistake
    return passed


def _save(result: Result, folder: Path, force: bool) -> Path:
    try:
        return result.save(folder, force)
    except FileExistsError as error:
        # Another process was faster, or an interrupt left less than there was.
        other = result.save(store.beside(folder))
        _say(f"warning: {error}; written to {str(other)!r}")
        return other


def _evaluate(rules: list[str], result: Result) -> tuple[list[Any], bool]:
    """Note each rule in the result; a line for each, and whether it obeys all of them."""
    result.tree.attrs["expect"] = outcome = expect.evaluate(rules, result.tree)
    lines = []
    for rule in outcome:
        value = "not finite" if rule["value"] is None else f"{rule['value']:.5g}"
        lines.append(f"{'PASS' if rule['passed'] else 'FAIL'}  {rule['rule']}  ({value})")
    return lines, all(rule["passed"] for rule in outcome)


def _save_figure(drawn: Any, file: Path) -> Path:
    figure = getattr(drawn, "figure", drawn)
    picture = io.BytesIO()
    figure.savefig(picture, format=file.suffix.removeprefix(".") or "png", dpi=150)
    return store.write(file, picture.getbuffer())


def _fail(error: Any) -> int:
    """Say what is wrong: a line for each mistake in a config, one line for anything else."""
    text = str(error) or type(error).__name__
    lines = text.splitlines() if isinstance(error, config.ConfigError) else [_one_line(text)]
    for line in lines:
        _say(f"error: {line}")
    return _MISTAKE


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    # XLA repeats itself before it comes to the point.
    return text if len(text) <= 1000 else f"{text[:200]} ... {text[-200:]}"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


def _print(text: str) -> None:
    """Write to standard output; one that was closed (`| head -1`) is no error."""
    if sys.stdout is None or not text:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


def _show_warning(message: Any, category: Any, *_: Any) -> None:
    _say(f"warning: {message}")
