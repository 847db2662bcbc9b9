"""The outcome of a prediction: curves with bands, verdicts, numbers, and their files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hdjax import store
from hdjax.forecast import drawing, report
from hdjax.forecast.diagnosis import HOLDS, Verdict, worst

__all__ = ["Curve", "Forecast"]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A statistic against time: what is predicted, and what runs did.

    Attributes:
        name: the statistic.
        label: the statistic in words.
        times: (times,) the times of the records.
        predicted: (times,) the predicted mean.
        spread: (times,) the predicted standard deviation of a run; None: no theory predicts it.
        runs: (runs, times) simulated runs; None: nothing was simulated.
    """

    name: str
    label: str
    times: np.ndarray
    predicted: np.ndarray
    spread: np.ndarray | None = None
    runs: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """The mean over runs (times,)."""
        assert self.runs is not None
        return self.runs.mean(axis=0)

    @property
    def std(self) -> np.ndarray:
        """The standard deviation of a run (times,); NaN for a single run."""
        assert self.runs is not None
        if len(self.runs) < 2:
            return np.full(self.runs.shape[1], np.nan)
        return self.runs.std(axis=0, ddof=1)

    @property
    def error(self) -> np.ndarray:
        """The standard error of the mean over runs (times,)."""
        assert self.runs is not None
        return self.std / len(self.runs) ** 0.5

    def at(self, time: float) -> float:
        """The predicted mean at a time, linear between records."""
        return float(np.interp(time, self.times, self.predicted))


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A predicted training curve, with the verdicts on the prediction.

    Attributes:
        title: what was predicted.
        time_label: what time is.
        curves: the curves by name: "test", and for several passes "train".
        verdicts: the verdicts on the assumptions of the theory.
        numbers: numbers for the user by name, such as the largest stable learning rate.
        notes: sentences on the data and the theory.
        spectrum: (g,) eigenvalues of the data, and (g,) their multiplicities.
        settings: the arguments with which the prediction can be repeated.
    """

    title: str
    time_label: str
    curves: dict[str, Curve]
    verdicts: list[Verdict]
    numbers: dict[str, float]
    notes: tuple[str, ...]
    spectrum: tuple[np.ndarray, np.ndarray]
    settings: dict[str, Any]

    @property
    def verdict(self) -> str:
        """The worst verdict: "holds", "doubtful" or "fails"."""
        return worst(self.verdicts)

    @property
    def doubtful(self) -> bool:
        """Whether the prediction is drawn as doubtful."""
        return self.verdict != HOLDS

    def plot(self) -> Figure:
        """A figure with a panel for each curve, and one of the spectrum."""
        return drawing.figure(self)

    def summary(self) -> dict[str, Any]:
        """All numbers, as they are written to `summary.json`."""
        curves = {}
        for name, curve in self.curves.items():
            found = {"times": curve.times, "predicted": curve.predicted, "spread": curve.spread}
            if curve.runs is not None:
                found |= {"mean": curve.mean, "std": curve.std, "runs": len(curve.runs)}
            curves[name] = {key: _plain(value) for key, value in found.items()}
        return {
            "title": self.title,
            "verdict": self.verdict,
            "verdicts": [verdict._asdict() for verdict in self.verdicts],
            "numbers": self.numbers,
            "notes": list(self.notes),
            "curves": curves,
            "settings": self.settings,
        }

    def save(self, directory: str | Path) -> Path:
        """Write `report.html`, `figure.png`, `table.csv` and `summary.json`.

        Args:
            directory: where to; it is made if it does not exist.

        Returns:
            The path of the report.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        store.write(folder / "summary.json", json.dumps(self.summary(), indent=1).encode())
        store.write(folder / "table.csv", self.table().encode())
        store.write(folder / "figure.png", drawing.picture(self.plot(), "png"))
        return store.write(folder / "report.html", report.page(self).encode())

    def table(self) -> str:
        """The curves as comma-separated values."""
        columns: dict[str, np.ndarray] = {}
        for name, curve in self.curves.items():
            columns.setdefault("time", curve.times)
            columns[f"{name}_predicted"] = curve.predicted
            if curve.spread is not None:
                columns[f"{name}_predicted_std"] = curve.spread
            if curve.runs is not None:
                columns[f"{name}_mean"] = curve.mean
                columns[f"{name}_std"] = curve.std
        rows = zip(*columns.values(), strict=True)
        lines = [",".join(columns), *(",".join(f"{x:.8g}" for x in row) for row in rows)]
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        """The verdicts, the numbers and the curves at some times, as text."""
        lines = [self.title, *self.notes, ""]
        lines += [f"{v.verdict:9} {v.name}: {v.reason}" for v in self.verdicts]
        lines += ["", *(f"{name}: {value:.4g}" for name, value in self.numbers.items()), ""]
        return "\n".join(lines + self.rows())

    def rows(self) -> list[str]:
        """The curves at up to six times, as lines of a table."""
        table = self.cells()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in table
        ]

    def cells(self) -> list[list[str]]:
        """The table of the curves at up to six times, with its header."""
        curves = list(self.curves.values())
        chosen = np.unique(np.linspace(0, len(curves[0].times) - 1, 6).round().astype(int))
        header = ["time"]
        for curve in curves:
            header += [f"{curve.name} predicted"]
            header += ["+-"] if curve.spread is not None else []
            header += ["mean of runs", "s.e."] if curve.runs is not None else []
        table = [header]
        for i in chosen:
            row = [f"{curves[0].times[i]:.4g}"]
            for curve in curves:
                row.append(f"{curve.predicted[i]:.4g}")
                if curve.spread is not None:
                    row.append(f"{curve.spread[i]:.2g}")
                if curve.runs is not None:
                    row += [f"{curve.mean[i]:.4g}", f"{curve.error[i]:.2g}"]
            table.append(row)
        return table


def _plain(value: Any) -> Any:
    """Numbers for JSON, with null for what is not finite."""
    if not isinstance(value, np.ndarray):
        return value
    return [float(x) if np.isfinite(x) else None for x in value]
