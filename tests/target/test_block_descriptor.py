"""Types of kind 'block' in descriptors: what is read, what is refused and where; accumulators that hold a product."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from qcompiler import plugins
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, Builder, Graph, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.target import Target, TypeSpec, load_target, read_descriptor
from qcompiler.target.block_types import admits_block, block_lengths, operand_blocks

plugins.load()

GOOD = """\
schema = 1
name = "chip"
summary = "A chip"
source = "Its manual"
pipeline = "simplify,legalize"
layout = "NHWC"

[limits]
accumulator = { bits = 24, overflow = "saturate" }

[types]
real = { kind = "scalar", storage = "f32" }
x    = { kind = "block", mantissa = 8, blocks = 16, scale = "headroom", guard = 1, overflow = "raise" }
w    = { kind = "block", mantissa = 8, blocks = 16, constant = true }
bias = { kind = "block", mantissa = 16, constant = true }
acc  = { kind = "block", mantissa = 24, exponent = 10, blocks = "element" }

[ops]
to_block   = { in = ["real"], out = "x" }
from_block = { in = ["x"], out = "real" }
normalize  = { in = ["acc"], out = "x" }
matmul     = { in = ["x", "w", "bias?"], out = "acc", arithmetic = "fixed-point{overflow=saturate fraction=2}" }
mul        = { in = ["x", "x"], out = "acc", arithmetic = "exact-product" }
mean       = { in = ["x"], out = "acc", arithmetic = "reciprocal" }
add        = { in = ["x", "x"], out = "acc", arithmetic = "align-larger" }
"""


def read(folder: Path, *changes: tuple[str, str]) -> Target:
    text = GOOD
    for old, new in changes:
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    (folder / "chip.toml").write_text(text)
    return read_descriptor(folder / "chip.toml")


def test_formats_are_read(tmp_path: Path) -> None:
    types = read(tmp_path).descriptor.types
    assert types["x"].block_format == BlockFormat(8, scale="headroom", guard=1, overflow="raise")
    assert types["acc"].block_format == BlockFormat(24, 10)
    mx = read(tmp_path, ('w    = { kind = "block", mantissa = 8', 'w    = { kind = "block", mx = "e2m1"'))
    assert mx.descriptor.types["w"].block_format == BlockFormat.mx("e2m1")


X = 'x    = { kind = "block", mantissa = 8, blocks = 16, scale = "headroom", guard = 1, overflow = "raise" }'
ACC = 'acc  = { kind = "block", mantissa = 24, exponent = 10, blocks = "element" }'


def x(fields: str) -> tuple[str, str]:
    return X, f'x    = {{ kind = "block", blocks = 16, {fields} }}'


BROKEN: dict[str, tuple[tuple[str, str], str]] = {
    # What is replaced by what, and what the message says.
    "block field of a scalar": (
        ('storage = "f32"', 'storage = "f32", mantissa = 8'), "line 12: types.real: 'mantissa' belongs"
    ),
    "guard of a scalar": (
        ('storage = "f32"', 'storage = "f32", guard = 0'), "types.real: 'guard' belongs to types of kind 'block'"
    ),
    "blocks of a scalar": (
        ('storage = "f32"', 'storage = "f32", blocks = 4'), "types.real: a type of kind 'scalar' has no blocks"
    ),
    "storage of a block": (
        x('mantissa = 8, storage = "i8"'), "line 13: types.x: 'storage' belongs to types of kind 'affine'"
    ),
    "zero point of a block": (
        x("mantissa = 8, zero_point = 0"), "types.x: 'zero_point' belongs to types of kind 'affine'"
    ),
    "range of a block": (x("mantissa = 8, range = [-127, 127]"), "types.x: 'range' belongs to types of kind 'affine'"),
    "blocks by channel": (
        (ACC, ACC.replace("element", "channel")), "types.acc: a type of kind 'block' has no blocks 'channel'"
    ),
    "scale of affine types": (
        x('mantissa = 8, scale = "product(0,1)"'), r"types.x: a type of kind 'block' has no scale 'product\(0,1\)'"
    ),
    "scale that is a number": (x("mantissa = 8, scale = 0.5"), "types.x: a type of kind 'block' has no scale 0.5"),
    "no mantissa": (x("exponent = 8"), "types.x: a type of kind 'block' needs 'mantissa', or 'mx'"),
    "mantissa and element": (
        x('mantissa = 8, mx = "int8"'), "types.x: a type of kind 'block' needs 'mantissa', or 'mx'"
    ),
    "unknown element": (x('mx = "e4m4"'), "line 13: types.x: unknown element 'e4m4'"),
    "unknown rounding": (x('mantissa = 8, rounding = "up"'), "types.x: unknown rounding 'up'"),
    "unknown overflow": (x('mantissa = 8, overflow = "wrap"'), "line 13: types.x.overflow"),
    "unknown representation": (x('mantissa = 8, representation = "ones"'), "types.x.representation"),
    "unknown exponents": (x('mantissa = 8, exponents = "static"'), "types.x.exponents"),
    "mantissa too wide": (x("mantissa = 63"), "types.x: mantissa of a block format is out of range"),
    "exponent too narrow": (x("mantissa = 8, exponent = 1"), "types.x: exponent of a block format is out of range"),
    "guard without headroom": (x("mantissa = 8, guard = 1"), "types.x: guard bits belong to the scale rule 'headroom'"),
    "guard too large": (
        x('mantissa = 8, scale = "headroom", guard = 7'), "types.x: guard of a block format is out of range"
    ),
    "headroom of sign and magnitude": (
        x('mantissa = 8, scale = "headroom", representation = "sign-magnitude"'),
        "types.x: the scale rule 'headroom' counts",
    ),
    "blocks of no value": ((ACC, ACC.replace('"element"', "0")), "types.acc.blocks"),
    "arithmetic of integers": (
        ("align-larger", "litert-add"), "line 25: ops.add.arithmetic: litert-add is not an arithmetic of block"
    ),
    "no arithmetic": ((', arithmetic = "align-larger"', ""), "line 25: ops.add: cites no arithmetic"),
    "unknown order": (
        ("fixed-point{overflow=saturate fraction=2}", "float32{order=random}"),
        "ops.matmul.arithmetic: unknown order of summation",
    ),
    "unknown overflow of sums": (
        ("overflow=saturate", "overflow=clamp"), "line 22: ops.matmul.arithmetic: unknown overflow 'clamp'"
    ),
    # Accumulators.
    "limits of other bits": (
        ("bits = 24", "bits = 32"),
        "line 9: limits.accumulator: accumulators have 32 bits, but 'acc', the result of matmul, has mantissas of 24",
    ),
    "limits of other overflow": (
        ('overflow = "saturate" }\n\n', 'overflow = "wrap" }\n\n'),
        "line 9: limits.accumulator: overflow is 'wrap', but 'saturate' in .*, the arithmetic of matmul",
    ),
    "no limits": (
        ('[limits]\naccumulator = { bits = 24, overflow = "saturate" }\n', ""),
        "chip.toml: limits.accumulator: accumulators have 32 bits, but 'acc'",
    ),
    "more binary places than bits": (
        ("fraction=2", "fraction=24"), "ops.matmul.arithmetic: binary places of an accumulator"
    ),
    "fewer binary places than none": (
        ("fraction=2", "fraction=-1"), "ops.matmul.arithmetic: binary places of an accumulator"
    ),
    "wide factors": (
        x("mantissa = 24"), "line 16: types.acc.mantissa: 24 bits cannot hold a single product of 'x' and 'w' with 2 "
        "binary places below it, which matmul sums up: 10 bits too few",
    ),
    "short exponents": (
        ("exponent = 10", "exponent = 8"),
        "line 16: types.acc.exponent: 8 bits cannot hold the exponents of matmul, -258 to 254: 2 bits too few",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_descriptors_name_line_and_key(case: str, tmp_path: Path) -> None:
    change, message = BROKEN[case]
    with pytest.raises(QCompilerError, match=message) as caught:
        read(tmp_path, change)
    assert "chip.toml" in str(caught.value)


def test_one_product_fits_exactly(tmp_path: Path) -> None:
    """(-128)**2 is 2**14, and with two places below it takes 18 bits; 17 are one too few."""
    for bits in (18, 17):
        changes = ("bits = 24", f"bits = {bits}"), ("mantissa = 24", f"mantissa = {bits}")
        if bits == 18:
            read(tmp_path, *changes)
            continue
        with pytest.raises(QCompilerError, match=r"types\.acc\.mantissa: 17 bits .*: 1 bits too few") as caught:
            read(tmp_path, *changes)
        assert caught.value.fix == "use mantissa = 18 or more"


@pytest.mark.parametrize("symmetric", [False, True])
def test_products_of_mul_are_held_too(symmetric: bool, tmp_path: Path) -> None:
    """Without sums of products: (-128)**2 takes 16 bits, 127**2 takes 15."""
    rows = [line for line in GOOD.splitlines() if line.startswith("matmul")]
    changes = [(rows[0] + "\n", ""), ("mantissa = 24", "mantissa = 15")]
    if symmetric:
        read(tmp_path, *changes, x("mantissa = 8, symmetric = true"))
        return
    with pytest.raises(QCompilerError, match="product of 'x' and 'x', which mul sums up: 1 bits too few"):
        read(tmp_path, *changes)


def test_the_first_of_several_widths_counts(tmp_path: Path) -> None:
    """Operand 1 may be another x, which is wider."""
    far = 'far = { kind = "block", mantissa = 20, blocks = 16 }'
    changes = ('in = ["x", "w", "bias?"]', 'in = ["x", "w|far", "bias?"]'), ("[ops]", far + "\n[ops]")
    with pytest.raises(QCompilerError, match=r"'x' and 'far' with 2 binary places below it.*: 6 bits too few"):
        read(tmp_path, *changes)


def test_float32_sums_need_no_accumulator(tmp_path: Path) -> None:
    """Neither widths nor ``limits`` are looked at; ``mul`` has its own."""
    target = read(
        tmp_path, ("fixed-point{overflow=saturate fraction=2}", "float32"),
        ('"bias?"], out = "acc"', '"real?"], out = "real"'), ("bits = 24", "bits = 9"),
    )
    assert target.rows["matmul"].out.choices[0].kind == "scalar"


SPECS = {
    "tensor": {"kind": "block", "mantissa": 16}, "eight": {"kind": "block", "mantissa": 8, "blocks": 8},
    "element": {"kind": "block", "mantissa": 32, "blocks": "element"},
}


@pytest.mark.parametrize(
    ("spec", "shape", "blocks"),
    [
        ("tensor", (SymbolicDim("N"), 4, 5), (1, 4, 5)), ("tensor", (SymbolicDim("N", 6), 5), (6, 5)),
        ("tensor", (3, 4), (3, 4)), ("tensor", (), ()), ("tensor", (0, 4), (1, 4)),
        ("eight", (SymbolicDim("N"), 20), (1, 8)), ("eight", (3,), (8,)), ("eight", (), ()),
        ("eight", (SymbolicDim("N", 12),), (4,)), ("eight", (2, SymbolicDim("N")), (1, 1)),
        ("element", (SymbolicDim("N"), 20), (1, 1)), ("element", (), ()),
    ],
)
def test_blocks_follow_from_the_shape(spec: str, shape: Any, blocks: tuple[int, ...]) -> None:
    assert block_lengths(TypeSpec.model_validate(SPECS[spec]), shape) == blocks


def blocks_of_weights(op: Any, x: tuple[int, ...], w: tuple[int, ...]) -> Any:
    graph = Graph()
    operands = [graph.add_input(name, TensorType(shape, F32)) for name, shape in (("x", x), ("w", w))]
    return operand_blocks(TypeSpec.model_validate(SPECS["eight"]), Builder(graph).create(op, operands), 1)


def test_blocks_of_weights_run_along_the_reduction() -> None:
    assert blocks_of_weights(Matmul(), (2, 20), (20, 3)) == (8, 1)
    assert blocks_of_weights(Matmul(True), (2, 20), (3, 20)) == (1, 8)
    assert blocks_of_weights(Matmul(), (4, 2, 20), (4, 20, 3)) == (1, 8, 1)
    assert blocks_of_weights(Conv2D(layout="NHWC"), (1, 9, 9, 20), (4, 3, 3, 20)) == (1, 1, 1, 8)
    assert blocks_of_weights(Conv2D(groups=2, layout="NHWC"), (1, 9, 9, 24), (4, 3, 3, 12)) == (1, 1, 1, 4)


@pytest.mark.parametrize(
    ("changes", "blocks", "problem"),
    [
        ({}, (1, 8), None), ({"rounding": "floor"}, (1, 8), "is of format"), ({"mantissa": 9}, (1, 8), "is of format"),
        ({"lowest_exponent": -100}, (1, 8), "is of format"), ({}, (1, 4), r"has blocks \[1, 8\] on"),
    ],
)
def test_types_are_judged_by_every_field(changes: dict[str, Any], blocks: tuple[int, ...], problem: str | None) -> None:
    spec = TypeSpec.model_validate(SPECS["eight"])
    elem = BlockFloat(dataclasses.replace(BlockFormat(8), **changes), blocks)
    found = admits_block(spec, TensorType((2, 16), elem), elem, (1, 8))
    if problem is None:
        assert found is None
    else:
        with pytest.raises(AssertionError, match=problem):
            raise AssertionError(found)


def test_fixed_exponents_are_demanded() -> None:
    spec = TypeSpec.model_validate({**SPECS["eight"], "exponents": "fixed"})
    elem = BlockFloat(BlockFormat(8), (1, 8))
    assert admits_block(spec, TensorType((2, 16), elem), elem, (1, 8)) == "has exponents that are fixed at compile time"


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        TypeSpec.model_validate({**SPECS["eight"], "guards": 1})


def test_accumulators_are_no_boundary() -> None:
    target = load_target("dsp-bfp16")
    assert target.accumulators == [target.descriptor.types["acc"]]
