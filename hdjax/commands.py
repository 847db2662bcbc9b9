"""The commands `hdjax predict`, `hdjax tune` and `hdjax data list`, which `hdjax.cli` adds.

`hdjax.forecast` is imported when a command runs, so that other commands do not wait for it.
"""

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer

from hdjax import programs

data_app = typer.Typer(help="The data sets that can be had without a file.")

Data = Annotated[
    str, typer.Argument(metavar="DATA", help="A file, or a name of `hdjax data list`.")
]
Target = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column, array or file of labels; see docs/predict.md."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Default: results/<name of the data>.")
]
Loss = Annotated[str, typer.Option(help="squared, logistic, softmax or huber.")]
Algorithm = Annotated[str | None, typer.Option(help="sgd, momentum or one-pass.")]
Rate = Annotated[
    float | None,
    typer.Option(help="gamma; see docs/predict.md. Default: safely stable."),
]
Epochs = Annotated[float, typer.Option(help="How long SGD runs.")]
Passes = Annotated[float | None, typer.Option("--epochs", help="How long SGD runs. Default: 10.")]
Measured = Annotated[float, typer.Option(help="One pass: share of samples to measure the model.")]
Batch = Annotated[int, typer.Option(help="Samples of a batch, over which gradients are summed.")]
Momentum = Annotated[float, typer.Option(help="Delta, at least 0 and below 1.")]
Ridge = Annotated[float | None, typer.Option(help="delta of the penalty delta/2 |X|^2.")]
Share = Annotated[float, typer.Option(help="Share of the samples for the test.")]
Samples = Annotated[int | None, typer.Option(help="Samples to train on. Default: all others.")]
Standardise = Annotated[str | None, typer.Option(help="columns, rows, centre or none.")]
Features = Annotated[int | None, typer.Option(help="Number of ReLU random features.")]
Classes = Annotated[
    str | None,
    typer.Option(metavar="A,B/C", help="Groups of classes, divided by '/': others are left out."),
]
Objective = Annotated[str, typer.Option(help="The risk that is minimised: test or train.")]
Pieces = Annotated[int, typer.Option(min=1, help="Intervals of the schedule.")]
Simulate = Annotated[bool, typer.Option(help="Check the prediction by some runs.")]
Runs = Annotated[int, typer.Option(min=1, help="The number of these runs.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split, the features and the runs.")]
Cache = Annotated[bool, typer.Option(help="Keep compiled programs on disk; see hdjax cache.")]


def predict_(
    data: Data,
    target: Target = None,
    out: Out = None,
    loss: Loss = "squared",
    algorithm: Algorithm = None,
    learning_rate: Rate = None,
    epochs: Passes = None,
    batch: Batch = 1,
    momentum: Momentum = 0.0,
    ridge: Ridge = None,
    measure_share: Measured = 0.5,
    test_share: Share = 0.2,
    samples: Samples = None,
    standardise: Standardise = None,
    random_features: Features = None,
    classes: Classes = None,
    simulate: Simulate = True,
    runs: Runs = 8,
    seed: Seed = 0,
    cache: Cache = True,
) -> int:
    """Predict the curves of SGD on DATA, diagnose the prediction, and write a report."""
    from hdjax.forecast import predict

    if cache:
        programs.enable()
    forecast = predict(
        data,
        target,
        loss=loss,
        algorithm=algorithm,
        learning_rate=learning_rate,
        epochs=epochs,
        batch=batch,
        momentum=momentum,
        ridge=ridge,
        measure_share=measure_share,
        test_share=test_share,
        samples=samples,
        standardise=standardise,
        random_features=random_features,
        classes=groups(classes),
        runs=runs if simulate else 0,
        seed=seed,
    )
    _write(forecast, Path("results") / Path(data).stem if out is None else out)
    return 0


def tune_(
    data: Data,
    target: Target = None,
    out: Out = None,
    objective: Objective = "test",
    epochs: Epochs = 10.0,
    pieces: Pieces = 6,
    test_share: Share = 0.2,
    samples: Samples = None,
    standardise: Standardise = None,
    random_features: Features = None,
    classes: Classes = None,
    simulate: Simulate = True,
    runs: Runs = 100,
    seed: Seed = 0,
    cache: Cache = True,
) -> int:
    """Find the best rate, schedule, momentum and batch for DATA, and verify their gains."""
    from hdjax.forecast import tune

    if cache:
        programs.enable()
    tuning = tune(
        data,
        target,
        objective=objective,
        epochs=epochs,
        pieces=pieces,
        test_share=test_share,
        samples=samples,
        standardise=standardise,
        random_features=random_features,
        classes=groups(classes),
        runs=runs if simulate else 0,
        seed=seed,
    )
    _write(tuning, Path("results") / f"{Path(data).stem}_tuned" if out is None else out)
    return 0


@data_app.command("list")
def list_() -> int:
    """Say which data sets can be had, and what they need."""
    from hdjax.forecast.tables import SHIPPED

    installed = importlib.util.find_spec("sklearn") is not None
    state = "installed" if installed else "pip install 'hdjax[data]'"
    for name, told in SHIPPED.items():
        typer.echo(f"{name:14} {told} (scikit-learn, {state})")
    typer.echo("Nothing is downloaded. Files of your own are read where they are: " + _FORMATS)
    return 0


_FORMATS = ".npz, .npy pairs, .csv, IDX pairs (MNIST), CIFAR archives in the binary version."


def groups(text: str | None) -> list[list[str]] | None:
    """The groups of classes of an option.

    Example:
        >>> groups("0,2/1")
        [['0', '2'], ['1']]
    """
    return None if text is None else [group.split(",") for group in text.split("/")]


def _write(outcome: Any, folder: Path) -> None:
    """Write the files of an outcome, and print it."""
    report = outcome.save(folder)
    typer.echo(outcome)
    typer.echo(report)
