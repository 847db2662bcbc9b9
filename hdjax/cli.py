"""The command line `hdjax`: runs a config, and writes its result as files, a table and a figure.

Exit codes: 0 for success; 1 if an expectation failed (the results are kept); 2 for a mistake of the
user (one line for each mistake on standard error; with the variable HDJAX_TRACEBACK set, the
traceback); 75 after SIGTERM, SIGUSR1, SIGHUP or SIGXCPU and 130 after Ctrl-C (see `hdjax.signals`).
A fault of the package itself gives 70.

A run that was interrupted, or killed in any other way, goes on with the same command or with
`hdjax resume DIR` (see `hdjax.rundir`).  If another process of the run has ended, the code is 75.

The same command in several processes runs one experiment (see `hdjax.hosts`), and the first of them
alone writes and prints.

Files are written before the table is printed, so that a closed standard output loses no result.
"""

import contextlib
import functools
import io
import json
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import jax
import typer

from hdjax import commands, config, doctor, expect, hosts, programs, rundir, store
from hdjax.config import reference
from hdjax.engine import Checkpoint, Result, load
from hdjax.placement import Coordinator, Cores, Devices, MeshText, Processes, ProcessId
from hdjax.signals import INTERRUPTED, STOPPED, Signals

_EXPECTATION_FAILED, _MISTAKE, _FAULT = 1, 2, 70
# Exceptions for wrong input, for a missing extra, and for problems that are too large.
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

cache_app = typer.Typer(help="Compiled programs on disk, which a second run uses again.")
app.add_typer(cache_app, name="cache")
app.add_typer(commands.data_app, name="data")
app.command("predict")(commands.predict_)
app.command("tune")(commands.tune_)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Default: results/<name of the config>.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a dotted key; may be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the result in DIR.")]
Cache = Annotated[bool, typer.Option(help="Keep compiled programs on disk; see hdjax cache.")]
Every = Annotated[
    str,
    typer.Option(
        "--checkpoint-every", metavar="TIME", help="Save a chunk that is running so often."
    ),
]
Lines = Annotated[
    bool, typer.Option("--json", help="Print lines of JSON: one a chunk, and the result.")
]


def command() -> NoReturn:
    """Run `main` with the arguments of the process, and exit with its code.

    A fault of the package itself prints a traceback and gives the code 70 (EX_SOFTWARE), so that 1
    always means a failed expectation.
    """
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        code = _FAULT
    if code in (INTERRUPTED, STOPPED):
        hosts.disconnect()
        # Python would wait for the thread in which a chunk may still be computed.
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit code.

    Args:
        arguments: the words after `hdjax`; None: the arguments of the process.

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
        except hosts.ProcessLost as error:
            _say(f"error: {error}")
            # The others cannot be waited for.
            os._exit(STOPPED)
        except (KeyboardInterrupt, typer.Abort):
            _say("interrupted: what was not written is lost")
            return signals.exit_code
        except _MISTAKES as error:
            if os.environ.get("HDJAX_TRACEBACK"):
                raise
            return _fail(error)
        except Exception as error:
            # Typer's exceptions for unknown words; their class depends on the version of Typer.
            message = getattr(error, "format_message", None)
            if message is None:
                raise
            return _fail(message())


def _run(words: list[str], signals: Signals) -> int:
    """Run a command, and print its output when it has ended, normally or by an exception."""
    printed, output = io.StringIO(), sys.stdout
    try:
        with contextlib.redirect_stdout(printed):
            program = typer.main.get_command(app)
            # The outcome is an exit code, a `Job` that remains to be run, or None after --help.
            outcome = program.main(words, "hdjax", standalone_mode=False)
            return _execute(outcome, signals, output) if isinstance(outcome, Job) else outcome or 0
    finally:
        _print(printed.getvalue())


class Job(NamedTuple):
    """The part of a command that runs an experiment.

    Attributes:
        load: reads the experiment.
        kind: the kind of experiment that was asked for, if any.
        folder: the directory of the run.
        force: whether to begin anew.
        cache: whether compiled programs are kept on disk.
        every: the time between two saves of the chunk that is running.
        devices: the devices and processes.
        lines: whether lines of JSON are printed.
    """

    load: Callable[[], config.Experiment]
    kind: str | None
    folder: Path
    force: bool
    cache: bool
    every: str
    devices: Devices
    lines: bool


def _experiment(kind: str | None) -> Callable[..., Job]:
    """The command that runs a config as a sweep or scaling, or for None as its tables say."""

    def command(
        config_file: ConfigFile,
        out: Out = None,
        changes: Overrides = None,
        force: Force = False,
        cache: Cache = True,
        every: Every = "5min",
        cores: Cores = None,
        mesh: MeshText = None,
        coordinator: Coordinator = None,
        processes: Processes = None,
        process_id: ProcessId = None,
        lines: Lines = False,
    ) -> Job:
        load_config = functools.partial(config.load, config_file, changes or [])
        folder = Path("results") / config_file.stem if out is None else out
        devices = Devices(cores, mesh, coordinator, processes, process_id)
        return Job(load_config, kind, folder, force, cache, every, devices, lines)

    return command


for _kind, _help in (
    (None, "Run CONFIG: its sweep or scaling, if it has one, or else a comparison."),
    ("scaling", "Run the [scaling] of CONFIG: the error against the dimension."),
    ("sweep", "Run the [sweep] of CONFIG: a grid of parameters."),
):
    app.command(_kind or "run", help=_help)(_experiment(_kind))


@app.command()
def resume(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The --out of a run.")],
    cache: Cache = True,
    every: Every = "5min",
    cores: Cores = None,
    mesh: MeshText = None,
    coordinator: Coordinator = None,
    processes: Processes = None,
    process_id: ProcessId = None,
    lines: Lines = False,
) -> Job | int:
    """Go on with a run that was interrupted or killed; nothing to do if it has ended."""
    asked = rundir.read(directory)
    if not rundir.unfinished(directory):
        typer.echo(f"{directory} has ended")
        return 0
    load_config = functools.partial(config.Experiment.of, asked["config"], asked["directory"])
    devices = Devices(cores, mesh, coordinator, processes, process_id)
    return Job(load_config, asked["kind"], directory, False, cache, every, devices, lines)


@app.command()
def plot(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A result.nc, or its folder.")],
    statistic: Annotated[str | None, typer.Option(help="Default: all scalar statistics.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its suffix chooses the format.")
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
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables of keys.")] = False,
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


def _execute(job: Job, signals: Signals, output: Any) -> int:
    """Run an experiment, and return the exit code."""
    if job.cache:
        programs.enable()
    mesh = job.devices.connect()
    seconds = _seconds(job.every)
    experiment = job.load()
    kind = experiment.choose(job.kind)
    rules = experiment.config.expect.rules
    expect.check(rules, experiment.empty(kind))
    asked = {"config": experiment.raw, "directory": experiment.directory.resolve(), "kind": kind}
    progress = functools.partial(_tell, output) if job.lines else True

    with hosts.held(), rundir.opened(job.folder, asked, job.force) as directory:
        try:
            kept = Checkpoint(directory.checkpoint, seconds)
            result = experiment.run(kind, progress, kept, mesh)
        except KeyboardInterrupt:
            directory.log("interrupted")
            _say(f"interrupted: nothing was finished{_resumable(directory)}")
            return signals.exit_code
        with signals.held():
            passed = hosts.by_first(lambda: _report(result, rules, directory, job.lines))
            if result.tree.attrs["interrupted"]:
                runs = result.tree.attrs["runs"]
                directory.log("interrupted")
                _say(f"interrupted: what was finished is kept ({runs} runs){_resumable(directory)}")
                return signals.exit_code
            directory.log("ends")
            directory.end()
    return 0 if passed else _EXPECTATION_FAILED


def _resumable(directory: rundir.RunDirectory) -> str:
    """What a message says of a run that can be gone on with."""
    if not directory.checkpoint.exists():
        return ""
    return f"; to go on: hdjax resume {shlex.quote(str(directory.path))}"


def _tell(output: Any, report: dict[str, Any]) -> None:
    """Print a report on what is done and left as a line of JSON, at once."""
    with contextlib.suppress(OSError, ValueError):
        print(json.dumps(report), file=output, flush=True)


def _seconds(text: str) -> float:
    """A time such as 30, 30s, 5min or 1.5h in seconds.

    Raises:
        ValueError: the text is no time, or the time is not positive.
    """
    found = re.fullmatch(r"(\d+\.?\d*)(s|min|h|)", text)
    seconds = float(found[1]) * {"": 1, "s": 1, "min": 60, "h": 3600}[found[2]] if found else 0
    if not seconds:
        raise ValueError(f"--checkpoint-every: {text!r}; allowed: a time such as 30s, 5min or 1h")
    return seconds


def _report(
    result: Result, rules: list[str], directory: rundir.RunDirectory, as_json: bool
) -> bool:
    """Write a result to files and print it, and return whether it obeys the rules.

    Raises:
        ValueError: a rule has a mistake that could not be found before the run; the files are
            written and the table is printed.
        OSError: the files cannot be written; the table is printed.
    """
    lines, passed, mistake = [], False, None
    try:
        lines, passed = _evaluate(rules, result)
    except Exception as error:
        mistake = error
    try:
        folder = _save(result, directory.path, directory.replaces)
        if folder == directory.path:
            directory.sign()
        lines += [folder / store.RESULT, folder / store.SUMMARY]
        try:
            lines.append(_save_figure(result.plot(), folder / store.FIGURE))
        except Exception as error:
            # An error in the figure must not lose the numbers.
            _say(f"warning: no figure: {error}")
    finally:
        content = json.dumps({"result": store.summary(result.tree)}, default=str)
        for line in [content] if as_json else [result, *lines]:
            typer.echo(line)
    if mistake is not None:
        raise mistake
    return passed


def _save(result: Result, folder: Path, force: bool) -> Path:
    try:
        return result.save(folder, force)
    except FileExistsError as error:
        # Another process wrote a result meanwhile, or this interrupted result has fewer runs.
        other = result.save(store.beside(folder))
        _say(f"warning: {error}; written to {str(other)!r}")
        return other


def _evaluate(rules: list[str], result: Result) -> tuple[list[Any], bool]:
    """Store the outcome of the rules in the result; return a line each, and whether all passed."""
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
    """Print what is wrong, a line for each mistake in a config or one line for another error."""
    text = str(error) or type(error).__name__
    lines = text.splitlines() if isinstance(error, config.ConfigError) else [_one_line(text)]
    for line in lines:
        _say(f"error: {line}")
    return _MISTAKE


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    # Messages of XLA are long and repeat themselves; their beginning and end say what happened.
    return text if len(text) <= 1000 else f"{text[:200]} ... {text[-200:]}"


def _say(line: str) -> None:
    """Print a line on standard error; of several processes, the first one alone does.

    Errors are printed by all of them.
    """
    if not hosts.is_first():
        if not line.startswith("error"):
            return
        line = f"process {jax.process_index()}: {line}"
    with contextlib.suppress(OSError):
        typer.echo(line, err=True)


def _print(text: str) -> None:
    """Write to standard output; a closed one (as in `hdjax run ... | head -1`) is no error."""
    if sys.stdout is None or not text:
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Python flushes standard output again at exit, which must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


def _show_warning(message: Any, category: Any, *_: Any) -> None:
    _say(f"warning: {message}")
