"""The config of a small experiment, in a file."""

from tests.experiments import write

__all__ = ["write"]
