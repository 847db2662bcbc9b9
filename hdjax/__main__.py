"""The entry point of the command line, `hdjax ...` or `python -m hdjax ...`.

It prepares the process (signals, environment variables of XLA) and hands over to `hdjax.cli`.
"""

import os
import sys

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
    if sys.stderr is None:
        # It was closed; progress and warnings go nowhere.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    try:
        from hdjax import cli
    except (ImportError, OSError, ValueError) as error:
        # A package refuses its environment, as Matplotlib does with a wrong MPLBACKEND.
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(2)
    cli.command()


if __name__ == "__main__":
    command()
