"""Entries of a descriptor that contradict one another, or that say something of what an op or a type does not have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import frexp

from qcompiler import numerics
from qcompiler.ir import OPS, SCALARS, Fact
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.numerics.block_format import SCALE_RULES
from qcompiler.target.descriptor import TypeSpec
from qcompiler.target.descriptor_checks import op_attributes, value_problems
from qcompiler.target.problem import Problem
from qcompiler.target.target import Row, Target, stored_range
from qcompiler.target.type_expression import Operand


def type_contradictions(target: Target) -> Iterator[Problem]:
    """``[types]``: keys that belong to another kind, values beyond the storage."""
    for name, spec in target.descriptor.types.items():
        if spec.kind == "scalar":
            for key in ("blocks", "zero_point", "range", "scale"):
                if key in spec.model_fields_set:
                    yield Problem(("types", name, key), f"{key!r} belongs to types of kind 'affine'", "leave it out")
        if spec.kind == "affine" and spec.scale in SCALE_RULES:
            yield Problem(
                ("types", name, "scale"), f"the scale rule {spec.scale!r} belongs to types of kind 'block'",
                "use 'free', 'product(0,1)' or a number",
            )
        yield from value_problems(name, spec)


def limit_contradictions(target: Target) -> Iterator[Problem]:
    """``[ops]``: limits on attributes that the op does not have, or that nothing can meet."""
    for name, row in target.descriptor.ops.items():
        cls = OPS[name]
        for key in ("kernel", "strides", "dilations"):
            limits: list[int] | None = getattr(row, key)
            if limits is None:
                continue
            # The kernel of a convolution is that of its weights: a method, no attribute.
            has = key in op_attributes(cls) or (key == "kernel" and callable(getattr(cls, key, None)))
            if not has:
                yield Problem(("ops", name, key), f"op {name!r} has no {key}", "leave it out")
            elif limits[1] < 1:
                yield Problem(("ops", name, key), f"no {key} lies within {limits}", "give a largest one of 1 or more")
        for key, given in (("last_axis", row.last_axis), ("max_axis_length", row.max_axis_length)):
            if given and "axis" not in op_attributes(cls):
                yield Problem(("ops", name, key), f"op {name!r} has no attribute 'axis'", "leave it out")


def fuse_contradictions(target: Target) -> Iterator[Problem]:
    """``[ops] fuse``: ops of one operand that work element by element, inside the target."""
    for name, row in target.rows.items():
        elementwise = Fact.ELEMENTWISE in OPS[name].facts
        outside = name in ("quantize", "dequantize", "from_block")
        if row.spec.fuse and (not elementwise or len(row.operands) != 1 or row.operands[0].variadic or outside):
            yield Problem(
                ("ops", name, "fuse"), f"op {name!r} cannot end a fused kernel",
                "leave it out: ops of one operand that work element by element can, such as requantize and clamp",
            )


def result_contradictions(target: Target) -> Iterator[Problem]:
    """``[ops] out``: computed, and at the scale of a product only where there is one."""
    for name, row in target.rows.items():
        keys = ("ops", name, "out")
        for cited, spec in zip(row.out.names, row.out.choices, strict=True):
            if spec.constant:
                yield Problem(keys, f"a result is computed, but {cited!r} is constant", "cite another type")
            if spec.is_product and len(row.operands) < 2:
                yield Problem(
                    keys, f"{cited!r} has the scale of a product, but {name} has one operand", "cite a type of its own"
                )


def tie_contradictions(target: Target) -> Iterator[Problem]:
    """``[ops] ties``: operands and result that can share scale and zero point."""
    for name, row in target.rows.items():
        if not row.tied:
            continue
        keys = ("ops", name, "ties")
        if any(spec.kind == "block" for spec in row.out.choices):
            continue  # exponents are tied, where they are fixed
        results = _affine_choices(row.out)
        operands = [(index, _affine_choices(operand)) for index, operand in enumerate(row.operands)]
        if not results or not any(choices for _, choices in operands):
            yield Problem(keys, f"{name} has no affine operand and result to tie", "leave it out")
        for index, choices in operands:
            if choices and results and not any(_can_share(a, b) for a, b in product(choices, results)):
                yield Problem(
                    keys, f"operand {index}, {row.operands[index].text}, and the result, {row.out.text}, cannot share "
                    "storage, range, scale and zero point", "leave out 'ties', or cite the same type for both",
                )


def _affine_choices(operand: Operand) -> list[TypeSpec]:
    return [spec for spec in operand.choices if spec.kind == "affine"]


def _can_share(a: TypeSpec, b: TypeSpec) -> bool:
    """Whether one tensor type is of both formats."""
    if a.is_product or b.is_product or not set(a.storages) & set(b.storages) or a.range != b.range:
        return False
    scales = {s.scale for s in (a, b) if isinstance(s.scale, float)}
    zero_points = {s.zero_point for s in (a, b)} - {"any"}
    return len(scales) <= 1 and len(zero_points) <= 1


def affine_accumulator_contradictions(target: Target) -> Iterator[Problem]:
    """``limits.accumulator``: no wider than the type that holds the sums, and wide enough for one product."""
    bits = target.descriptor.limits.accumulator.bits
    keys = ("limits", "accumulator")
    for name, row in target.rows.items():
        if Fact.CONTRACTION not in OPS[name].facts:
            continue
        for cited, spec in zip(row.out.names, row.out.choices, strict=True):
            widest = max((SCALARS[s].bits for s in spec.storages), default=bits)
            if spec.is_product and widest < bits:
                yield Problem(
                    keys, f"accumulators have {bits} bits, but {cited!r}, the result of {name}, stores {widest}",
                    f"set bits = {widest}, or a wider storage",
                )
        missing = _bits_of_product(row) - bits
        if missing > 0:
            yield Problem(
                keys, f"{bits} bits cannot hold a single product of {name}: {missing} bits too few",
                f"set bits = {bits + missing} or more",
            )


def _bits_of_product(row: Row) -> int:
    """Bits of the widest product of the operands of an affine contraction; 0 where there is none."""
    factors = [_affine_choices(operand) for operand in row.operands[:2]]
    needed = [0]
    for a, b in product(*factors) if len(factors) == 2 else ():
        ends = [m * n for m in _ends(a) for n in _ends(b)]
        needed.append(bits_for(min(ends), max(ends)))
    return max(needed)


def _ends(spec: TypeSpec) -> tuple[int, int]:
    """Smallest and largest integer less its zero point, of weights in groups times the largest multiplier."""
    low, high = stored_range(spec)
    if spec.group_multiplier is not None:
        return low * spec.group_multiplier[1], high * spec.group_multiplier[1]
    if spec.zero_point == "any":
        return low - high, high - low
    return low - spec.zero_point, high - spec.zero_point


def power_of_two_contradictions(target: Target) -> Iterator[Problem]:
    """``[ops] arithmetic``: shifts, cited for formats whose scales need not be powers of two."""
    for name, row in target.rows.items():
        if row.arithmetic is None:
            continue
        rule = numerics.resolve(name, row.arithmetic.name, row.arithmetic.options)
        # Arithmetic that rounds like a requantize form scales like it, too.
        if not getattr(getattr(rule, "form", rule), "needs_powers_of_two", False):
            continue
        for operand in (*row.operands, row.out):
            for cited, spec in zip(operand.names, operand.choices, strict=True):
                for free in _formats_of_other_scales(target, cited, spec):
                    yield Problem(
                        ("ops", name, "arithmetic"),
                        f"{row.arithmetic} needs scales that are powers of two, but those of {free!r} need not be",
                        "set scale = \"power-of-two\" in that type, or cite another arithmetic",
                    )


def _formats_of_other_scales(target: Target, cited: str, spec: TypeSpec) -> list[str]:
    """The format, or for the scale of a product those of its factors, whose scales are any real numbers."""
    if spec.kind != "affine" or spec.scale == "power-of-two":
        return []
    if not spec.is_product:
        return [] if isinstance(spec.scale, float) and frexp(spec.scale)[0] == 0.5 else [cited]
    factors = (
        (name, factor)
        for row in target.rows.values() if spec in row.out.choices
        for operand in row.operands[:2]
        for name, factor in zip(operand.names, operand.choices, strict=True)
        if not factor.is_product
    )
    return [name for each, factor in factors for name in _formats_of_other_scales(target, each, factor)]


def needed_op_contradictions(target: Target) -> Iterator[Problem]:
    """Ops that others need: the ways to and from the host, and what accumulators are held by."""
    rows = target.rows
    for needed in ("to_block", "from_block") if target.has_blocks else ("quantize", "dequantize"):
        if target.descriptor.fallback == "host" and needed not in rows:
            yield Problem(
                ("fallback",), f"the way to the host needs an op {needed!r}, which has no row", "add it to [ops]"
            )
    if any(spec.is_product for r in rows.values() for spec in r.out.choices) and "requantize" not in rows:
        yield Problem(("ops",), "accumulators need an op 'requantize', which has no row", "add it to [ops]")
