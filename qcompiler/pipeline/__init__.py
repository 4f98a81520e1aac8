"""Passes and pipelines."""

from qcompiler.pipeline.compiler_pass import (
    PASSES,
    CalibrationSource,
    Context,
    Feeds,
    Pass,
    PassResult,
    Progress,
    compiler_pass,
    option,
    silent,
)
from qcompiler.pipeline.pipeline import ALIASES, Pipeline, format_pass

__all__ = [
    "ALIASES", "PASSES", "CalibrationSource", "Context", "Feeds", "Pass", "PassResult", "Pipeline", "Progress",
    "compiler_pass", "format_pass", "option", "silent",
]
