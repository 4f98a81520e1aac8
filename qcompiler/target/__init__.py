"""Targets: TOML descriptors, and whether a program is legal on them."""

from qcompiler.target import conditions  # noqa: F401 - registers the built-in predicates
from qcompiler.target.descriptor import Descriptor, OpRow, TypeSpec
from qcompiler.target.host import host_nodes, host_reason, is_host_node
from qcompiler.target.legality import (
    Violation,
    check_boundary,
    check_float_node,
    check_quantized_node,
    choose,
    is_constant,
)
from qcompiler.target.loader import TARGETS, built_in_targets, load_target, read_descriptor, register_target
from qcompiler.target.predicate import PREDICATES, Condition, predicate
from qcompiler.target.target import Row, Target, storages, stored_range

__all__ = [
    "PREDICATES", "TARGETS", "Condition", "Descriptor", "OpRow", "Row", "Target", "TypeSpec", "Violation",
    "built_in_targets", "check_boundary", "check_float_node", "check_quantized_node", "choose", "host_nodes",
    "host_reason", "is_constant", "is_host_node", "load_target", "predicate", "read_descriptor", "register_target",
    "storages", "stored_range",
]
