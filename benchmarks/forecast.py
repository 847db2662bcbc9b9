"""What the verdicts of `hdjax.forecast` are worth: predicted against measured on data of all kinds.

Each line is a data set or a construction with a learning rate: the numbers behind the verdicts, and
the error of the predicted means.  The error is the largest |predicted - mean of runs|/mean of runs
of the training loss and the test risk between epoch 1/2 and the end, and its standard error is that
of the mean of the runs at the same place.  The outcome is "holds" below 10 % (or below three
standard errors, where the standard error is below 5 %), "fails" from 30 % on or if a run diverges,
and "off" between.

    python benchmarks/forecast.py --runs 60 --json forecast.json
"""

import argparse

import jax
import numpy as np
import report

import hdjax as hd

NAMES = (
    "learning rate",
    "row norms",
    "delocalisation",
    "heavy tails",
    "leading directions",
    "size",
)


def planted(features, rng, noise=0.5):
    """Labels of a linear teacher with noise, both of the order of one."""
    teacher = rng.standard_normal(features.shape[1])
    signal = (features - features.mean(0)) @ teacher
    return signal / signal.std() + noise * rng.standard_normal(len(features))


def constructions():
    """Features (n, d) with labels and options, by name."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((500, 100))
    lengths = np.exp(rng.standard_normal((500, 1)))
    words = rng.poisson(2.0 / np.arange(1, 101) ** 1.5, (500, 100)).astype(float)
    words[0] += 1
    ones = np.eye(500)[:, :100] * np.linspace(1, 3, 100) + 0.02 * normal
    made = {
        "Gaussian": (normal, {"learning_rate": 1.0}),
        "Gaussian, near instability": (normal, {"learning_rate": 1.8}),
        "power law": (normal * np.arange(1, 101) ** -0.5, {"standardise": "centre"}),
        "mean 3, not subtracted": (normal + 3, {"standardise": "none", "learning_rate": 1.0}),
        "long rows e^{z/2}": (normal * lengths**0.5, {"learning_rate": 0.3}),
        "long rows e^{z/2}, low rate": (normal * lengths**0.5, {"learning_rate": 0.05}),
        "long rows e^z": (normal * lengths, {"learning_rate": 0.3}),
        "long rows e^z, rows of one norm": (normal * lengths, {"standardise": "rows"}),
        "Student t, 2.1 degrees": (rng.standard_t(2.1, (500, 100)), {"learning_rate": 0.5}),
        "counts of rare words": (words, {"learning_rate": 0.5}),
        "features of single samples": (ones, {"standardise": "none", "learning_rate": 0.2}),
        "features of single samples, low rate": (
            ones,
            {"standardise": "none", "learning_rate": 0.05},
        ),
        "clusters of 100 copies": (np.repeat(normal[:5], 100, 0) + 0.05 * normal, {}),
        "n = 16, d = 8": (normal[:20, :8], {"learning_rate": 1.0}),
    }
    for name, (features, options) in made.items():
        yield name, features, planted(features, rng), options


def cases():
    """Everything that is measured: a name, features, labels and options."""
    random = {"random_features": 400, "samples": 1000}
    parity = {"classes": [list("02468"), list("13579")]}
    yield "digits, even or odd", "digits", None, random | parity | {"learning_rate": 0.3}
    yield "digits, even or odd", "digits", None, random | parity | {"learning_rate": 1.0}
    yield "digits, 10 classes", "digits", None, {"samples": 500}
    yield "digits, 10 classes", "digits", None, {"samples": 500, "learning_rate": 0.5}
    yield "digits, rows of one norm", "digits", None, parity | {"standardise": "rows"}
    for name in ("breast_cancer", "diabetes", "wine", "iris"):
        yield name, name, None, {}
        yield name, name, None, {"learning_rate": 1.0}
    yield from constructions()


def line(name, features, labels, options, runs, epochs):
    forecast = hd.predict(features, labels, epochs=epochs, runs=runs, **options)
    worst = (0.0, 0.0)
    with np.errstate(all="ignore"):
        for curve in forecast.curves.values():
            late = curve.times >= 0.5
            gap = np.abs(curve.predicted / curve.mean - 1)[late]
            error = (curve.error / curve.mean)[late]
            gap = np.where(np.isfinite(gap), gap, np.inf)
            place = int(gap.argmax())
            worst = max(worst, (float(gap[place]), float(error[place])))
    gap, error = worst
    close = gap < 0.1 or (error < 0.05 and gap < 3 * error)
    outcome = "holds" if close else "off" if gap < 0.3 else "fails"
    found = {"data": name, "gamma": round(forecast.numbers["learning rate"], 3)}
    values = {verdict.name: verdict.value for verdict in forecast.verdicts}
    found |= {name: values.get(name, np.nan) for name in NAMES}
    return found | {"error": gap, "s.e.": error, "verdict": forecast.verdict, "outcome": outcome}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--epochs", type=float, default=5.0)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    report.head()
    rows = []
    for case in cases():
        rows.append(line(*case, arguments.runs, arguments.epochs))
        if len(rows) == 1:
            print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
        cells = (f"{x:.2g}" if isinstance(x, float) else str(x) for x in rows[-1].values())
        print("| " + " | ".join(cells) + " |", flush=True)
    report.write(arguments.json, "forecast", table=rows)


if __name__ == "__main__":
    main()
