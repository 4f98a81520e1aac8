"""What a target's descriptor says, in words: the one definition of ``qcompiler targets show`` and of its page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qcompiler import numerics
from qcompiler.ir import OPS, Fact
from qcompiler.target.descriptor import TypeSpec
from qcompiler.target.predicate import parse_condition
from qcompiler.target.target import Row, Target, storages, stored_range


@dataclass(frozen=True)
class Described:
    """An op row in words.

    Attributes:
        op: the op.
        operands: a format for each operand.
        result: the format of the result.
        arithmetic: what it cites; empty where it cites none.
        constraints: all that the row demands beside, the predicates by their docstrings.
    """

    op: str
    operands: str
    result: str
    arithmetic: str
    constraints: str


def describe_target(target: Target) -> list[tuple[str, str]]:
    """Name, source and limits, as pairs of a title and a text."""
    descriptor = target.descriptor
    accumulator = descriptor.limits.accumulator
    rank = descriptor.limits.max_rank
    return [
        ("target", descriptor.name),
        ("summary", descriptor.summary),
        ("source", descriptor.source),
        *([("extends", ", ".join(descriptor.bases))] if descriptor.bases else []),
        ("pipeline", descriptor.pipeline),
        ("layout", descriptor.layout),
        ("what it lacks", "is an error" if descriptor.fallback == "error" else "runs on the host"),
        ("native code", "of this processor" if descriptor.native else "simulates it"),
        ("largest rank", str(rank) if rank is not None else "any"),
        ("accumulators", _accumulators(target)),
        *([("sums of parts", f"meet in {accumulator.home}")] if accumulator.home else []),
        *([("proof of sums", "over the calibration samples")] if accumulator.proof == "calibrated" else []),
    ]


def _accumulators(target: Target) -> str:
    """What contractions sum in, and which sums verify-legal proves to fit."""
    limits = target.descriptor.limits.accumulator
    rows = (row for name, row in target.rows.items() if Fact.CONTRACTION in OPS[name].facts)
    formats = [spec for row in rows for spec in row.out.choices]
    if formats and all(spec.kind == "scalar" for spec in formats):
        return " or ".join(dict.fromkeys(storage for spec in formats for storage in spec.storages))
    if limits.overflow == "forbidden":
        return f"{limits.bits} bits: they hold every sum, which verify-legal proves"
    does = {"saturate": "saturate", "wrap": "wrap around"}[limits.overflow]
    if target.has_blocks:
        # How fixed-point sums of mantissas overflow is part of their arithmetic, so that they may.
        return f"{limits.bits} bits: they {does}"
    proved = {"saturate": "every partial sum", "wrap": "every whole sum"}[limits.overflow]
    return f"{limits.bits} bits: they {does}, but hold {proved}, which verify-legal proves"


FORMAT_COLUMNS = ("number format", "kind", "storage", "range", "scale", "zero point", "constant")
OP_COLUMNS = ("op", "operands", "result", "arithmetic", "constraints")


def describe_formats(target: Target) -> list[tuple[str, ...]]:
    """A row of cells for each number format; see ``FORMAT_COLUMNS``."""
    return [(name, *_format(spec)) for name, spec in target.descriptor.types.items()]


def describe_ops(target: Target) -> list[Described]:
    """Every legal op."""
    return [
        Described(name, ", ".join(row.spec.operands), row.spec.out, row.spec.arithmetic or "", constraints(row))
        for name, row in target.rows.items()
    ]


def describe_arithmetic(target: Target) -> list[tuple[str, str, str]]:
    """Each arithmetic that the target cites: the citation, the ops that cite it, and its docstring."""
    citing: dict[str, list[str]] = {}
    for name, row in target.rows.items():
        if row.arithmetic is not None:
            citing.setdefault(str(row.arithmetic), []).append(name)
    found = []
    for text, ops in citing.items():
        arithmetic = target.rows[ops[0]].arithmetic
        assert arithmetic is not None
        found.append((text, ", ".join(ops), numerics.ARITHMETIC[ops[0], arithmetic.name].__doc__ or ""))
    return found


def fused_endings(target: Target) -> list[str]:
    """Ops that a kernel may end with, behind the op that it starts with."""
    return [name for name, row in target.rows.items() if row.spec.fuse]


def describe_changes(target: Target, base: Target) -> list[tuple[str, str, str]]:
    """What a target says other than the one that it extends: the entry, there and here; empty where it has none."""
    before, after = dict(_entries(base)), dict(_entries(target))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        (key, before.get(key, ""), after.get(key, "")) for key in keys if before.get(key, "") != after.get(key, "")
    ]


def _entries(target: Target) -> Iterator[tuple[str, str]]:
    """All entries that a target may change, in words."""
    own = {"target", "summary", "source", "extends"}
    yield from ((title, text) for title, text in describe_target(target) if title not in own)
    yield "decompositions", ", ".join(target.descriptor.decompositions)
    for name, *cells in describe_formats(target):
        yield f"format {name}", "; ".join(filter(None, cells))
    for row in describe_ops(target):
        text = f"{row.operands} -> {row.result}"
        yield f"op {row.op}", "; ".join(filter(None, (text, row.arithmetic, row.constraints)))


def _format(spec: TypeSpec) -> tuple[str, ...]:
    if spec.kind == "scalar":
        return (spec.kind, " or ".join(spec.storages), "", "", "", _constant(spec))
    if spec.kind == "block":
        return _block_format(spec)
    return (
        spec.kind, " or ".join(spec.storages), _range(spec), _scale(spec), str(spec.zero_point), _constant(spec)
    )


def _range(spec: TypeSpec) -> str:
    """Smallest and largest integer of each storage."""
    if spec.range or len(spec.storages) == 1:
        return "{} to {}".format(*stored_range(spec))
    return " or ".join(f"{s.minimum} to {s.maximum}" for s in storages(spec))


_SCALES = {
    "free": "chosen by calibration", "power-of-two": "a power of two chosen by calibration",
    "product(0,1)": "product of those of operands 0 and 1",
}


def _scale(spec: TypeSpec) -> str:
    scale = f"fixed at {spec.scale!r}" if isinstance(spec.scale, float) else _SCALES[spec.scale]
    if spec.is_product:
        return scale
    if isinstance(spec.blocks, int):
        low, high = spec.group_multiplier or (1, 1)
        return f"{scale}, for each output channel, times {low} to {high} for each group of {spec.blocks} weights"
    return f"{scale}, one for each {'output channel' if spec.blocks == 'channel' else spec.blocks}"


def _constant(spec: TypeSpec) -> str:
    only = "only where " + ", ".join(str(parse_condition(c)) for c in spec.where) if spec.where else ""
    return "; ".join(filter(None, ("yes" if spec.constant else "", only)))


def _block_format(spec: TypeSpec) -> tuple[str, ...]:
    form = spec.block_format
    storage = f"m{form.mantissa}e{form.exponent}" + (f" of {form.element}" if form.element != "integer" else "")
    sharing = f"each {spec.blocks} values" if isinstance(spec.blocks, int) else f"each {spec.blocks}"
    guard = f" with {form.guard} guard bits" if form.guard else ""
    scale = f"{spec.exponents} exponent for {sharing}, {form.scale}{guard}, {form.rounding}, {form.overflow}"
    return spec.kind, storage, f"{form.smallest} to {form.largest}", scale, "", _constant(spec)


def constraints(row: Row) -> str:
    """All that a row demands beside types and arithmetic."""
    spec, items = row.spec, []
    if spec.ties:
        items.append("operands and result share their scale")
    if spec.fuse:
        after = f" behind {' or '.join(spec.fuse_after)}" if spec.fuse_after else ""
        items.append(f"may end a fused kernel{after}")
    for key in ("kernel", "strides", "dilations"):
        limits: list[int] | None = getattr(spec, key)
        if limits:
            items.append(f"{key} {limits[0]} to {limits[1]}")
    items.extend(f"{key} one of {', '.join(map(_word, allowed))}" for key, allowed in spec.attributes.items())
    if spec.max_rank is not None:
        items.append(f"rank at most {spec.max_rank}")
    if spec.last_axis:
        items.append("along the last axis only")
    if spec.max_weight_sum is not None:
        items.append(f"absolute weights of an output channel add up to at most {spec.max_weight_sum}")
    if spec.max_axis_length is not None:
        items.append(f"at most {spec.max_axis_length} elements along the axis")
    # A key that has no words of its own here is said as it stands in the file.
    items.extend(
        f"{key} {_word(getattr(spec, key))}" for key in type(spec).model_fields
        if key in spec.model_fields_set and key not in _WORDED
    )
    items.extend(map(str, row.conditions))
    return "; ".join(items)


_WORDED = (
    "operands", "out", "arithmetic", "ties", "fuse", "fuse_after", "kernel", "strides", "dilations", "attributes",
    "max_rank", "max_weight_sum", "last_axis", "max_axis_length", "where",
)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


