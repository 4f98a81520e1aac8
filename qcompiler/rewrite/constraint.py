"""What a pattern may demand of values and attributes beside the op that makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qcompiler.ir import Affine, Value
from qcompiler.ops.constant import constant_value


@dataclass(frozen=True)
class Constraint:
    """A demand on a value.

    Attributes:
        description: completes the sentence "the value is not ...".
        holds: whether a value meets the demand.
    """

    description: str
    holds: Callable[[Value], bool]


@dataclass(frozen=True)
class AttributeConstraint:
    """A demand on an attribute of an op.

    Attributes:
        description: completes the sentence "the attribute is not ...".
        holds: whether an attribute value meets the demand.
    """

    description: str
    holds: Callable[[Any], bool]


one_use = Constraint("used only there", lambda value: value.only_user is not None)
"""One operand of one node uses the value, and the program does not return it."""

is_constant = Constraint("a constant", lambda value: constant_value(value) is not None)
"""The value is known at compile time."""

is_number = Constraint(
    "a constant of one number", lambda value: (a := constant_value(value)) is not None and a.size == 1
)
"""The value is a constant of one element."""

is_float = Constraint("of a float type", lambda value: value.type.storage.is_float)
"""The value holds floating-point numbers."""


def is_quantized(bits: int | None = None) -> Constraint:
    """The value has an affine quantized type; of storage with ``bits`` bits, where given."""
    text = "quantized" + (f" to {bits} bits" if bits else "")
    return Constraint(
        text, lambda value: isinstance(value.type.elem, Affine) and bits in (None, value.type.storage.bits)
    )


def has_storage(*names: str) -> Constraint:
    """The value is stored in one of these machine formats, such as ``i8``."""
    return Constraint("stored as " + " or ".join(names), lambda value: value.type.storage.name in names)


def has_rank(*ranks: int) -> Constraint:
    """The value has one of these numbers of dimensions."""
    return Constraint("of rank " + " or ".join(map(str, ranks)), lambda value: value.type.rank in ranks)


def one_of(*choices: Any) -> AttributeConstraint:
    """The attribute equals one of ``choices``."""
    return AttributeConstraint("one of " + ", ".join(map(str, choices)), lambda attribute: attribute in choices)


def satisfies(description: str, holds: Callable[[Any], bool]) -> AttributeConstraint:
    """The attribute meets a demand of your own; ``description`` completes "the attribute is not ..."."""
    return AttributeConstraint(description, holds)
