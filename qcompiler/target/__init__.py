"""Targets: TOML descriptors, and whether a program is legal on them."""

from qcompiler.target import conditions, shape_conditions  # noqa: F401 - register the built-in predicates
from qcompiler.target.descriptor import Descriptor, OpRow, TypeSpec
from qcompiler.target.descriptor_schema import SCHEMA_FILE, descriptor_schema, schema_text
from qcompiler.target.descriptor_template import check_name, descriptor_template
from qcompiler.target.host import (
    MOVED,
    host_nodes,
    host_reason,
    is_host_node,
    may_move_to_host,
    runs_on_host,
)
from qcompiler.target.legality import (
    Violation,
    check_boundary,
    check_float_node,
    check_quantized_node,
    choose,
    choose_for,
    is_constant,
)
from qcompiler.target.loader import TARGETS, built_in_targets, load_target, read_descriptor, register_target
from qcompiler.target.predicate import PREDICATES, Condition, predicate
from qcompiler.target.problem import FURTHER_CHECKS, Problem
from qcompiler.target.target import Row, Target, storages, stored_range

__all__ = [
    "FURTHER_CHECKS", "MOVED", "PREDICATES", "SCHEMA_FILE", "TARGETS", "Condition", "Descriptor", "OpRow", "Problem",
    "Row", "Target", "TypeSpec", "Violation", "built_in_targets", "check_boundary", "check_float_node", "check_name",
    "check_quantized_node", "choose", "choose_for", "descriptor_schema", "descriptor_template", "host_nodes",
    "host_reason", "is_constant", "is_host_node", "load_target", "may_move_to_host", "predicate", "read_descriptor",
    "register_target", "runs_on_host", "schema_text", "storages", "stored_range",
]
