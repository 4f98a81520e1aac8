"""Brings in everything that registers itself: the built-in ops and passes."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import qcompiler.ops
import qcompiler.passes


@cache
def load() -> None:
    """Register all built-in passes. Calling it again does nothing."""
    for module in pkgutil.iter_modules(qcompiler.passes.__path__):
        importlib.import_module(f"qcompiler.passes.{module.name}")
