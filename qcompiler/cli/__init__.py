"""The command line."""

from qcompiler.cli.application import main

__all__ = ["main"]
