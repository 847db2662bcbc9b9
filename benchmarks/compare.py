"""Two files of the same benchmark beside each other: the ratio of each measurement.

    python benchmarks/one_pass.py --json before.json
    python benchmarks/one_pass.py --json after.json
    python benchmarks/compare.py before.json after.json

Rows are paired by what was measured.  A ratio above 1 means that the second number is larger:
slower where the column has seconds, faster where it has a rate.  A star marks ratios that differ
from 1 by more than `--noise`; README.md says how large the noise of a machine is.
"""

import argparse
import json
import math
import sys


def load(path):
    """The content of a file of a benchmark."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return found | {"tables": dict(found["tables"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"error: {path}: {error}; allowed: a file that a benchmark wrote with --json")


def split(row):
    """What a row measures, as text, and its measurements."""
    labels = {name: value for name, value in row.items() if not isinstance(value, float)}
    numbers = {name: value for name, value in row.items() if isinstance(value, float)}
    return ", ".join(f"{name} {value}" for name, value in labels.items()), numbers


def pairs(first, second):
    """(table, what, measurement, first number, second number) of all rows that both files have."""
    for table, rows in first["tables"].items():
        others = dict(split(row) for row in second["tables"].get(table, ()))
        for what, numbers in map(split, rows):
            for name, number in numbers.items():
                if name in others.get(what, {}):
                    yield table, what, name, number, others[what][name]


def main():
    """Print the table of ratios."""
    parser = argparse.ArgumentParser(description="Compare two files of the same benchmark.")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--noise", type=float, default=0.2, help="ratios within it are not marked")
    options = parser.parse_args()
    first, second = load(options.first), load(options.second)
    if first["benchmark"] != second["benchmark"]:
        sys.exit(f"error: {first['benchmark']} and {second['benchmark']}; allowed: one benchmark")
    for name in ("device", "cores", "machine"):
        if first[name] != second[name]:
            print(f"warning: {name}: {first[name]} and {second[name]}")
    for name, version in first["versions"].items():
        if version != second["versions"].get(name):
            print(f"{name} {version} and {second['versions'].get(name)}")
    ratios = []
    for table, what, name, a, b in pairs(first, second):
        ratio = b / a if a else math.nan
        ratios.append(ratio)
        mark = "" if abs(math.log(ratio or math.nan)) <= math.log1p(options.noise) else "  *"
        print(f"{table}: {what}: {name:16} {a:11.4g} {b:11.4g} {ratio:7.2f}{mark}")
    if not ratios:
        sys.exit("error: no row in common")


if __name__ == "__main__":
    main()
