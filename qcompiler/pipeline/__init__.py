"""Passes, pipelines, and what may watch a pipeline run."""

from qcompiler.pipeline.compiler_pass import (
    PASSES,
    CalibrationSource,
    Context,
    Feeds,
    Pass,
    PassResult,
    Progress,
    compiler_pass,
    silent,
)
from qcompiler.pipeline.conditions import describe_conditions, stage_of
from qcompiler.pipeline.crash_reproducer import CrashReproducer, Reproducer, read_reproducer
from qcompiler.pipeline.dump_ir import DumpIR
from qcompiler.pipeline.explain import Explain
from qcompiler.pipeline.instrument import Instrument
from qcompiler.pipeline.options import Option, option, options_of
from qcompiler.pipeline.pipeline import ALIASES, Pipeline, format_pass
from qcompiler.pipeline.print_ir import PrintIR
from qcompiler.pipeline.stage import Stage
from qcompiler.pipeline.timing import PassTiming, Timing
from qcompiler.pipeline.verify_each import VerifyEach

__all__ = [
    "ALIASES", "PASSES", "CalibrationSource", "Context", "CrashReproducer", "DumpIR", "Explain", "Feeds", "Instrument",
    "Option", "Pass", "PassResult", "PassTiming", "Pipeline", "PrintIR", "Progress", "Reproducer", "Stage", "Timing",
    "VerifyEach", "compiler_pass", "describe_conditions", "format_pass", "option", "options_of", "read_reproducer",
    "silent", "stage_of",
]
