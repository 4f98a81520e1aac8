"""Whether what a descriptor cites exists: number formats, ops, types, arithmetic, predicates, attributes.

Each function looks at one kind of citation and yields what is wrong with it, with the nearest name that there is.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping

from qcompiler import numerics
from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import OPS, SCALARS, Arithmetic, Op
from qcompiler.numerics import BlockArithmetic
from qcompiler.target.descriptor import TypeSpec
from qcompiler.target.predicate import parse_condition
from qcompiler.target.problem import Problem
from qcompiler.target.target import Row, Target
from qcompiler.target.type_expression import UnknownType, parse_operand


def storage_problems(target: Target) -> Iterator[Problem]:
    """``[types] storage``: known number formats, integers for affine types."""
    for name, spec in target.descriptor.types.items():
        keys = ("types", name, "storage")
        for storage in spec.storages:
            if storage not in SCALARS:
                fix = did_you_mean(storage, SCALARS) or f"use one of {', '.join(SCALARS)}"
                yield Problem(keys, f"unknown number format {storage!r}", fix)
            elif spec.kind == "affine" and not SCALARS[storage].is_integer:
                yield Problem(keys, f"affine types store integers, not {storage}", "use an integer format, such as i8")
        if len(set(spec.storages)) < len(spec.storages):
            yield Problem(keys, "names a number format twice", "leave out the second")


def op_problems(target: Target) -> Iterator[Problem]:
    """``[ops]`` and ``fuse_after``: known op names."""
    for name, row in target.descriptor.ops.items():
        if name not in OPS:
            yield Problem(("ops", name), f"unknown op {name!r}", did_you_mean(name, OPS))
        for other in row.fuse_after:
            if other not in OPS:
                yield Problem(("ops", name, "fuse_after"), f"unknown op {other!r}", did_you_mean(other, OPS))
        if row.fuse_after and not row.fuse:
            yield Problem(("ops", name, "fuse_after"), "belongs to ops with 'fuse = true'", "add that, or leave it out")


def attribute_problems(target: Target) -> Iterator[Problem]:
    """``[ops] attributes``: attributes that the op has, with values of their types."""
    for name, row in target.descriptor.ops.items():
        declared = typing.get_type_hints(OPS[name])
        own = op_attributes(OPS[name])
        keys = ("ops", name, "attributes")
        for attribute, allowed in row.attributes.items():
            if attribute not in own:
                fix = did_you_mean(attribute, own) or (f"use one of {', '.join(own)}" if own else None)
                yield Problem(keys, f"op {name!r} has no attribute {attribute!r}", fix)
                continue
            if not allowed:
                yield Problem(keys, f"{attribute!r} has no allowed value, so that no {name} is legal", "list some")
            for value in allowed:
                if not _is_of(value, declared[attribute]):
                    wanted = getattr(declared[attribute], "__name__", str(declared[attribute]))
                    text = f"{value!r} cannot be a value of {attribute!r}"
                    yield Problem(keys, text, f"give values of type {wanted}")


def op_attributes(cls: type[Op]) -> list[str]:
    """Attributes of an op that a descriptor may restrict."""
    fields: Mapping[str, object] = cls.__dataclass_fields__  # type: ignore[attr-defined]
    return [name for name in fields if name not in ("arithmetic", "constants")]


def _is_of(value: object, declared: object) -> bool:
    """Whether a value of TOML can be one of an attribute's declared type."""
    if declared in (str, bool, int):
        return type(value) is declared
    if declared is float:
        return type(value) in (int, float)
    if typing.get_origin(declared) is tuple:
        return isinstance(value, list)
    return True


def condition_problems(target: Target) -> Iterator[Problem]:
    """``[ops] where``: known predicates with their parameters."""
    for name, row in target.descriptor.ops.items():
        keys = ("ops", name, "where")
        for condition in row.where:
            try:
                parse_condition(condition)
            except ValueError as error:
                yield Problem(keys, str(error), "write NAME or NAME{key=value key=value}")
            except QCompilerError as error:
                yield Problem(keys, error.problem, error.fix or error.expected)


def type_citation_problems(target: Target) -> Iterator[Problem]:
    """``[ops] in`` and ``out``: known types with parameters that they can have, in an order that makes sense."""
    types = target.descriptor.types
    for name, row in target.descriptor.ops.items():
        for key, texts in (("in", row.operands), ("out", [row.out])):
            keys = ("ops", name, key)
            for text in texts:
                yield from _citation_problems(keys, text, types)
            if key == "out":
                continue
            if not texts:
                yield Problem(keys, "an op has at least one operand", "give a type for each operand")
            if any(text.endswith("...") for text in texts[:-1]):
                yield Problem(keys, "only the last operand may stand for any number", "leave out '...' before it")
            optional = [text.endswith(("?", "...")) for text in texts]
            if sorted(optional) != optional:
                yield Problem(keys, "an optional operand stands before one that is needed", "put optional ones last")
        if row.out.endswith(("?", "...")):
            yield Problem(("ops", name, "out"), "a result is neither optional nor any number of them", "name its type")


def _citation_problems(keys: tuple[str, ...], text: str, types: Mapping[str, TypeSpec]) -> Iterator[Problem]:
    try:
        operand = parse_operand(text, types)
    except UnknownType as error:
        yield Problem(keys, str(error), did_you_mean(error.name, types))
        return
    except ValueError as error:
        yield Problem(keys, str(error), "write NAME, or NAME{scale=1 zero_point=0} of an affine type")
        return
    for cited, spec in zip(operand.names, operand.choices, strict=True):
        # What the type itself gets wrong is said of the type.
        if "{" in cited:
            yield from (Problem(keys, f"{cited}: {p.text}", p.fix) for p in value_problems("", spec))


def value_problems(name: str, spec: TypeSpec) -> Iterator[Problem]:
    """Ranges and zero points of an affine type that its storage holds, and scales that float32 holds."""
    if spec.kind != "affine":
        return
    for storage in (SCALARS[s] for s in spec.storages):
        low, high = storage.minimum, storage.maximum
        if spec.range and not low <= spec.range[0] <= spec.range[1] <= high:
            yield Problem(
                ("types", name, "range"), f"{spec.range} is not within {storage}", f"stay within [{low}, {high}]"
            )
        if isinstance(spec.zero_point, int):
            low, high = spec.range or (low, high)
            if not low <= spec.zero_point <= high:
                yield Problem(
                    ("types", name, "zero_point"), f"{spec.zero_point} is not within {spec.range or storage}",
                    f"stay within [{low}, {high}]",
                )
    if isinstance(spec.scale, float) and not _SMALLEST_FLOAT32 <= spec.scale <= _LARGEST_FLOAT32:
        yield Problem(("types", name, "scale"), f"{spec.scale!r} is no float32", "scales are float32 above 0")


_SMALLEST_FLOAT32, _LARGEST_FLOAT32 = 2.0**-126, (2 - 2.0**-23) * 2.0**127
"""Normal numbers: reciprocals of others overflow."""


def arithmetic_problems(target: Target) -> Iterator[Problem]:
    """``[ops] arithmetic``: registered for the op and for its types, with parameters and values that it has."""
    for name, row in target.descriptor.ops.items():
        if row.arithmetic is not None:
            try:
                Arithmetic.parse(row.arithmetic)
            except ValueError as error:
                fix = "write NAME or NAME{key=value key=value}"
                yield Problem(("ops", name, "arithmetic"), str(error), fix)
    for name, resolved in target.rows.items():
        yield from _row_arithmetic_problems(name, resolved)


def _row_arithmetic_problems(name: str, row: Row) -> Iterator[Problem]:
    of_blocks = any(spec.kind == "block" for spec in row.operands[0].choices)
    fitting = [
        n for (op, n), cls in numerics.ARITHMETIC.items()
        if op == name and issubclass(cls, BlockArithmetic) == of_blocks
    ]
    if row.arithmetic is None:
        if fitting:
            yield Problem(("ops", name), "cites no arithmetic", f"add arithmetic = one of {', '.join(fitting)}")
        return
    keys = ("ops", name, "arithmetic")
    try:
        numerics.resolve(name, row.arithmetic.name, row.arithmetic.options)
    except QCompilerError as error:
        yield Problem(keys, error.problem, error.fix or error.expected)
        return
    if row.arithmetic.name not in fitting:
        taken = "block floating point" if of_blocks else "affine types"
        yield Problem(keys, f"{row.arithmetic} is not an arithmetic of {taken}", f"use one of {', '.join(fitting)}")
