"""The entry point of the command line, `hdjax ...` or `python -m hdjax ...`.

It prepares the process (signals, environment variables of XLA) and hands over to `hdjax.cli`.
"""

import os

from hdjax import signals


def command() -> None:
    """Run the command line in this process and exit with its code."""
    # The imports below take seconds, and a signal that comes in that time has no result to lose.
    signals.end_at_once()
    # A solver's error becomes NaN, which a result reports.  The alternative, a call back to Python,
    # keeps a compiled program from being written to disk.
    os.environ.setdefault("EQX_ON_ERROR", "nan")
    # XLA mistakes its own tuning flags in a program from disk for instructions that the processor
    # lacks, and prints a long warning.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from hdjax import cli

    cli.command()


if __name__ == "__main__":
    command()
