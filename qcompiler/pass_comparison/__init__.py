"""Which pass, and which layer, moved the numbers: samples run through the program after each pass."""

from qcompiler.pass_comparison.instrument import FLOAT_NOISE_DB, LOSS_DB, Compare
from qcompiler.pass_comparison.report import ComparisonReport, IntegerChange, PassComparison, ValueComparison

__all__ = [
    "FLOAT_NOISE_DB", "LOSS_DB", "Compare", "ComparisonReport", "IntegerChange", "PassComparison", "ValueComparison",
]
