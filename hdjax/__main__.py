"""The process of the command line: `hdjax ...`, or `python -m hdjax ...`."""

import os

from hdjax import signals


def command() -> None:
    """Run the command line in this process and exit with its code."""
    # The imports of the command take seconds, in which there is nothing to lose yet.
    signals.end_at_once()
    # A solver's error becomes NaN, which is reported as such: the alternative, a call back to
    # Python, keeps a compiled program from being written to disk.
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    # XLA takes its own tuning flags in a program from disk for instructions that a processor
    # lacks, and warns of them at length.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from hdjax import cli

    cli.command()


if __name__ == "__main__":
    command()
