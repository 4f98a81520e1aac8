"""Rewriting: patterns, rules, and the drivers that apply them."""

from qcompiler.rewrite.builder import RewriteBuilder
from qcompiler.rewrite.constraint import (
    AttributeConstraint,
    Constraint,
    has_rank,
    has_storage,
    is_constant,
    is_float,
    is_number,
    is_quantized,
    one_of,
    one_use,
    satisfies,
)
from qcompiler.rewrite.conversion import Conversion, Legality, Mode, NotLegal, Verdict, convert
from qcompiler.rewrite.driver import RewriteResult, apply, sweep
from qcompiler.rewrite.match import Declined, Match
from qcompiler.rewrite.pattern import Operand, OpPattern, Pattern
from qcompiler.rewrite.rule import RULES, Outcome, Rule, RuleDescription, check_destinations, describe, rule, rules_into

__all__ = [
    "RULES", "AttributeConstraint", "Constraint", "Conversion", "Declined", "Legality", "Match", "Mode", "NotLegal",
    "OpPattern", "Operand", "Outcome", "Pattern", "RewriteBuilder", "RewriteResult", "Rule", "RuleDescription",
    "Verdict", "apply", "check_destinations", "convert", "describe", "has_rank", "has_storage", "is_constant",
    "is_float", "is_number", "is_quantized", "one_of", "one_use", "rule", "rules_into", "satisfies", "sweep",
]
