"""`python -m hdjax`."""

from hdjax.cli import command

command()
