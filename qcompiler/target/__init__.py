"""Targets: TOML descriptors, and whether a program is legal on them."""

from qcompiler.target.descriptor import Descriptor, OpRow, TypeSpec
from qcompiler.target.legality import (
    Violation,
    check_boundary,
    check_float_node,
    check_quantized_node,
    choose,
    is_constant,
)
from qcompiler.target.loader import built_in_targets, load_target, read_descriptor
from qcompiler.target.target import Row, Target, storages, stored_range

__all__ = [
    "Descriptor", "OpRow", "Row", "Target", "TypeSpec", "Violation", "built_in_targets", "check_boundary",
    "check_float_node", "check_quantized_node", "choose", "is_constant", "load_target", "read_descriptor",
    "storages", "stored_range",
]
