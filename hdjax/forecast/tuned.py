"""The outcome of `tune`: choices of rates, schedules, momenta and batches, with their risks."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from hdjax import store
from hdjax.forecast import drawing, report

__all__ = ["Choice", "Tuning"]


class Choice(NamedTuple):
    """A choice of numbers, and the risk that it has at the end of the budget.

    Attributes:
        name: the choice in words.
        risk: the predicted mean risk at the end.
        knots: (k,) times in epochs.
        rates: (k,) learning rates at these times, linear in between.
        batch: the number of samples of a batch.
        momentum: Delta.
        runs: (runs,) risks of simulated runs at the end; None: not simulated.
    """

    name: str
    risk: float
    knots: np.ndarray
    rates: np.ndarray
    batch: int = 1
    momentum: float = 0.0
    runs: np.ndarray | None = None


class Gain(NamedTuple):
    """By how much a choice is better than another one.

    Attributes:
        predicted: the difference of the predicted mean risks.
        measured: the mean over runs of the difference; None without runs.
        error: its standard error; None without runs.
    """

    predicted: float
    measured: float | None
    error: float | None


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The best choices for a budget.

    Attributes:
        title: what was tuned.
        choices: all choices, the default rate first.
        saturating_batch: the largest batch that loses at most 5 % at the same number of samples.
        scale: the mean squared norm of a row of the standardised features, to which rates refer
            after a division by it.
        notes: sentences on the data.
        runs: the number of runs that verified the choices.
    """

    title: str
    choices: list[Choice]
    saturating_batch: int | None
    scale: float
    notes: tuple[str, ...]
    runs: int

    def __getitem__(self, name: str) -> Choice:
        """The choice of a name."""
        return next(choice for choice in self.choices if choice.name == name)

    def gain(self, better: str, than: str) -> Gain:
        """By how much the choice `better` has a lower risk than the choice `than`."""
        first, second = self[than], self[better]
        predicted = first.risk - second.risk
        if first.runs is None or second.runs is None:
            return Gain(predicted, None, None)
        gaps = first.runs - second.runs
        return Gain(predicted, float(gaps.mean()), float(gaps.std(ddof=1) / len(gaps) ** 0.5))

    def gains(self) -> dict[str, Gain]:
        """The gains of the best schedule and of the best constant rate, in words."""
        pairs = [
            ("best constant rate", "default rate"),
            ("best schedule", "default rate"),
            ("best schedule", "best constant rate"),
        ]
        return {f"{better} over {than}": self.gain(better, than) for better, than in pairs}

    def cells(self) -> list[list[str]]:
        """The table of the choices, with its header."""
        table = [["choice", "rates", "batch", "momentum", "predicted risk", "mean of runs", "s.e."]]
        for own in self.choices:
            flat = np.ptp(own.rates) == 0
            rates = f"{own.rates[0]:.4g}" if flat else " ".join(f"{x:.3g}" for x in own.rates)
            row = [own.name, rates, str(own.batch), f"{own.momentum:.3g}", f"{own.risk:.5g}"]
            if own.runs is None:
                row += ["", ""]
            else:
                error = own.runs.std(ddof=1) / len(own.runs) ** 0.5 if len(own.runs) > 1 else np.nan
                row += [f"{own.runs.mean():.5g}", f"{error:.2g}"]
            table.append(row)
        return table

    def lines(self) -> list[str]:
        """The gains and the saturating batch as sentences."""
        said = []
        for name, gain in self.gains().items():
            text = f"{name}: predicted gain {gain.predicted:.4g}"
            if gain.measured is not None:
                text += f", measured {gain.measured:.4g} +- {gain.error:.2g}"
            said.append(text)
        largest = max(own.batch for own in self.choices)
        if self.saturating_batch == largest:
            said.append(f"no batch up to {largest} loses 5 % at the same number of samples")
        elif self.saturating_batch is not None:
            said.append(
                f"batch at which it saturates: {self.saturating_batch} (the next one loses more "
                "than 5 % at the same number of samples)"
            )
        return said

    def __str__(self) -> str:
        """The choices and gains as text."""
        table = self.cells()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rows = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([self.title, *self.notes, "", *rows, "", *self.lines()])

    def plot(self) -> Figure:
        """A figure of the rates, and of the risks against the size of the batch."""
        return drawing.choices(self)

    def summary(self) -> dict[str, Any]:
        """All numbers, as they are written to `summary.json`."""
        choices = []
        for own in self.choices:
            found = own._asdict()
            found["runs"] = None if own.runs is None else [float(x) for x in own.runs]
            found |= {"knots": own.knots.tolist(), "rates": own.rates.tolist()}
            choices.append(found)
        gains = {name: gain._asdict() for name, gain in self.gains().items()}
        return {
            "title": self.title,
            "choices": choices,
            "gains": gains,
            "saturating_batch": self.saturating_batch,
            "notes": list(self.notes),
        }

    def save(self, directory: str | Path) -> Path:
        """Write `report.html`, `figure.png` and `summary.json`, and return the report's path."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        store.write(folder / "summary.json", json.dumps(self.summary(), indent=1).encode())
        store.write(folder / "figure.png", drawing.picture(self.plot(), "png"))
        return store.write(folder / "report.html", report.tuning_page(self).encode())
