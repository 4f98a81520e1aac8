"""Pools, reductions, tables, softmax and argmax of block floating point in native code."""

from __future__ import annotations

import numpy as np
from block_program_comparison import check, every_isa, examples
from block_writer import BlockWriter
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.ir import Arithmetic, ConstantArray, Constants, Value
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_table import BlockSoftmax, tabulate_block
from qcompiler.ops.block_conversion import Normalize
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceMin, ReduceSum
from qcompiler.ops.table import LookupTable

seeds = st.integers(0, (1 << 32) - 1)
RECIPROCAL = Arithmetic.parse("reciprocal")


def max_pooled(w: BlockWriter) -> Value:
    return w.finished(w.make(MaxPool2D((3, 2), (2, 1), (1, 1), (1, 0, 1, 1), "NHWC"), w.held()))


def average_pooled(w: BlockWriter) -> Value:
    op = AveragePool2D((3, 2), (2, 1), w.pick((1, 0, 1, 1), (0, 0, 0, 0)), "NHWC", arithmetic=RECIPROCAL)
    return w.finished(w.make(op, w.held(), block_format=w.accumulator()))


def averaged(w: BlockWriter) -> Value:
    op = Mean(w.pick((1, 2), (1, 2), (3,), (1, 2, 3)), w.maybe(), arithmetic=RECIPROCAL)
    return w.finished(w.make(op, w.held(), block_format=w.accumulator()))


def summed(w: BlockWriter) -> Value:
    op = ReduceSum(w.pick((1, 2), (2,), (3,)), w.maybe(), arithmetic=Arithmetic.parse("align-larger"))
    return w.finished(w.make(op, w.held(), block_format=w.accumulator()))


def extreme(w: BlockWriter) -> Value:
    return w.finished(w.make(w.pick(ReduceMax, ReduceMin)(w.pick((1, 2), (2,), (3,)), w.maybe()), w.held()))


def largest(w: BlockWriter) -> Value:
    return w.build(ArgMax(w.pick(1, 2, 3), w.maybe()), w.held())


def probabilities(w: BlockWriter) -> Value:
    rule = BlockSoftmax()
    op = Softmax(3, arithmetic=Arithmetic.parse("block-exponential"), constants=Constants(rule.constants()))
    # Exponents above and below that of the table's arguments.
    x = w.build(Normalize(), w.held(), elem=w.elem(BlockFormat(12), w.x.type.shape, w.pick(-4, -8, -14)))
    return w.finished(w.make(op, w.pick(x, x, w.held()), block_format=w.accumulator()))


def looked_up(w: BlockWriter) -> Value:
    bits, exponent = w.pick(4, 8, 11, 16), int(w.rng.integers(-14, -2))
    operand, result = BlockFormat(bits, scale="no-overflow"), BlockFormat(16)
    entries, at = tabulate_block(w.pick(np.tanh, np.exp, np.cos), bits, exponent, result)
    x = w.build(Normalize(), w.held(), elem=w.elem(operand, w.x.type.shape, exponent))
    elem = w.elem(result, w.x.type.shape, at)
    return w.build(LookupTable(ConstantArray(entries.astype(np.int16))), x, elem=elem)


@every_isa
@examples(1)
@given(seed=seeds)
def test_pools(isa: InstructionSet, seed: int) -> None:
    check(isa, [max_pooled, max_pooled, average_pooled, average_pooled], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_reductions(isa: InstructionSet, seed: int) -> None:
    check(isa, [averaged, averaged, summed, extreme, largest], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_softmax_and_tables(isa: InstructionSet, seed: int) -> None:
    check(isa, [probabilities, probabilities, looked_up, looked_up], seed, magnitudes=(-14, 4))
