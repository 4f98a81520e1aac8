"""Ops that move values of block floating point, in native code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from block_program_comparison import check, every_isa, examples
from block_writer import BlockWriter
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.ir import BlockFloat, ConstantArray, Value
from qcompiler.ir.scalar import I64
from qcompiler.ops.constant import Constant
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split

seeds = st.integers(0, (1 << 32) - 1)
HEIGHT, WIDTH, CHANNELS = 5, 4, 20


def reshaped(w: BlockWriter) -> Value:
    batch = w.x.type.shape[0]
    return w.make(Reshape(w.pick((batch, HEIGHT * WIDTH, CHANNELS), (batch, HEIGHT * WIDTH * CHANNELS))), w.held())


def transposed(w: BlockWriter) -> Value:
    return w.make(Transpose(w.pick((0, 3, 1, 2), (0, 2, 1, 3), (0, 2, 3, 1))), w.held())


def sliced(w: BlockWriter) -> Value:
    return w.make(Slice((1, 3), (1, w.pick(0, 8, 3)), (4, 19), (1, w.pick(1, 2))), w.held())


def split(w: BlockWriter) -> Sequence[Value]:
    x = w.held()
    elem = x.type.elem
    assert isinstance(elem, BlockFloat)
    node = w.build.create(Split(3, (8, 0, 12)), [x], elem=w.elem(elem.format, x.type.shape))
    return node.results[0], node.results[2]


def joined(w: BlockWriter) -> Value:
    block_format = w.narrow()
    rows = w.build(Slice((2,), (1,), (3,), (1,)), w.x)
    parts = [w.held(block_format), w.held(block_format, rows), w.held(block_format)]
    return w.finished(w.make(Concat(2), *parts))


def joined_channels(w: BlockWriter) -> Value:
    block_format = w.narrow()
    return w.make(Concat(3), w.held(block_format), w.held(block_format))


def padded(w: BlockWriter) -> Value:
    mode = w.pick("constant", "constant", "edge", "reflect")
    return w.finished(w.make(Pad((0, 1, 0, 2), (0, 2, 3, 6), mode=mode), w.held()))


def expanded(w: BlockWriter) -> Value:
    row = w.held(None, w.build(Slice((2,), (1,), (2,), (1,)), w.x))
    return w.make(Expand((w.x.type.shape[0], HEIGHT, 6, CHANNELS)), row)


def gathered(w: BlockWriter) -> Value:
    indices = w.build(Constant(ConstantArray(np.array([0, 3, -1, 3, 1]))), elem=I64)
    return w.make(Gather(w.pick(1, 2, 3)), w.held(), indices)


def resized(w: BlockWriter) -> Value:
    return w.make(Resize(axes=(1, 2), sizes=(7, 9)), w.held())


@every_isa
@examples(1)
@given(seed=seeds)
def test_rearranged(isa: InstructionSet, seed: int) -> None:
    check(isa, [reshaped, transposed, sliced, split, gathered], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_joined_and_repeated(isa: InstructionSet, seed: int) -> None:
    check(isa, [joined, joined_channels, padded, expanded, resized], seed)
