"""What constants take: mantissas packed, exponents in whole bytes."""

from __future__ import annotations

import models
import numpy as np
import pytest
from gfloat import formats

import qcompiler
from qcompiler.analysis.cost import constant_bytes, mantissa_bits
from qcompiler.ir import Affine, BlockFloat, Builder, ConstantArray, Graph, walk
from qcompiler.ir.scalar import F32, I4, I8, I32
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics.block_format import ELEMENTS, BlockFormat
from qcompiler.ops.block_conversion import to_block
from qcompiler.ops.constant import Constant

OCP = {
    "e4m3": formats.format_info_ocp_e4m3, "e5m2": formats.format_info_ocp_e5m2, "e3m2": formats.format_info_ocp_e3m2,
    "e2m3": formats.format_info_ocp_e2m3, "e2m1": formats.format_info_ocp_e2m1,
}


def program_of(op: Constant, elem: Elem) -> Graph:
    graph = Graph()
    graph.set_outputs([("y", Builder(graph)(op, elem=elem))])
    return graph


def block_constant(shape: tuple[int, ...], block_format: BlockFormat, blocks: tuple[int, ...]) -> Graph:
    elem = BlockFloat(block_format, blocks)
    numbers = np.random.default_rng().normal(size=shape).astype(np.float32)
    return program_of(Constant.of(to_block(numbers, TensorType(shape, elem))), elem)


@pytest.mark.parametrize("element", ELEMENTS)
def test_elements_of_mx_formats_take_their_bits(element: str) -> None:
    assert mantissa_bits(BlockFormat.mx(element)) == OCP[element].bits


@pytest.mark.parametrize(("block_format", "shape", "blocks", "expected"), [
    # Mantissas, then exponents: a byte for up to 8 bits, two for more.
    (BlockFormat(16), (4, 10), (4, 10), 80 + 1),
    (BlockFormat(24), (5,), (5,), 15 + 1),
    (BlockFormat(8), (3, 20), (1, 8), 60 + 9),
    (BlockFormat(40, 10), (3,), (1,), 15 + 6),
    (BlockFormat(5), (3, 3), (3, 3), 6 + 1),
    (BlockFormat.mx("int8"), (2, 64), (1, 32), 128 + 4),
    (BlockFormat.mx("e4m3"), (2, 64), (1, 32), 128 + 4),
    (BlockFormat.mx("e2m3"), (2, 64), (1, 32), 96 + 4),
    (BlockFormat.mx("e2m1"), (2, 64), (1, 32), 64 + 4),
    (BlockFormat.mx("e2m1"), (1, 3), (1, 32), 2 + 1),
])
def test_blocks(block_format: BlockFormat, shape: tuple[int, ...], blocks: tuple[int, ...], expected: int) -> None:
    assert constant_bytes(block_constant(shape, block_format, blocks)) == expected


def test_other_constants_take_whole_bytes_or_half_ones() -> None:
    numbers = np.ones((3, 5), np.float32)
    assert constant_bytes(program_of(Constant(ConstantArray(numbers)), F32)) == 60
    integers = ConstantArray(numbers.astype(np.int8))
    assert constant_bytes(program_of(Constant(integers), Affine.per_tensor(I8, 0.5))) == 15
    assert constant_bytes(program_of(Constant(integers), Affine.per_tensor(I4, 0.5))) == 8
    assert constant_bytes(program_of(Constant(ConstantArray(numbers.astype(np.int32))), I32)) == 60


def test_a_compiled_program_is_the_sum_of_its_constants() -> None:
    """Of dsp-bfp16: 16-bit weights, 32-bit biases, an exponent each."""
    name = "residual_cnn"
    program = qcompiler.compile(models.model(name), target="dsp-bfp16", data=models.samples(name, 4), native=False)
    expected = 0
    for node in walk(program.graph):
        if isinstance(node.op, Constant):
            assert node.op.exponents is not None
            expected += node.op.value.array.nbytes + node.op.exponents.array.size
    assert constant_bytes(program.graph) == program.figures["bytes_after"] == expected > 0
