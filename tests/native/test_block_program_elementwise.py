"""Sums, products and selections of block floating point in native code."""

from __future__ import annotations

from block_program_comparison import check, every_isa, examples
from block_writer import BlockWriter
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.ir import Arithmetic, BlockFloat, Value
from qcompiler.ops.binary import Add, Maximum, Minimum, Mul, Sub
from qcompiler.ops.block_conversion import Normalize
from qcompiler.ops.slicing import Slice

seeds = st.integers(0, (1 << 32) - 1)


def other(w: BlockWriter, block_format: object = None) -> Value:
    """The second operand: as large as the input, a slice of it that is broadcast, or a constant."""
    found = block_format if block_format is not None else w.narrow()
    kind = w.rng.integers(4)
    if kind == 0:
        return w.constant(found, w.pick((1, 4, 20), (20,), (1, 5, 1, 1), (1, 5, 4, 20)))  # type: ignore[arg-type]
    if kind == 1:
        row = w.build(Slice((1,), (2,), (3,), (1,)), w.x)
        return w.held(found, row)  # type: ignore[arg-type]
    return w.held(found)  # type: ignore[arg-type]


def operands(w: BlockWriter, *values: Value) -> list[Value]:
    return [values[i] for i in w.rng.permutation(len(values))]


def combined(w: BlockWriter) -> Value:
    op = w.pick(Add(arithmetic=Arithmetic.parse("align-larger")), Sub(arithmetic=Arithmetic.parse("align-larger")))
    return w.finished(w.make(op, *operands(w, w.held(), other(w)), block_format=w.accumulator()))


def multiplied(w: BlockWriter) -> Value:
    op = Mul(arithmetic=Arithmetic.parse("exact-product"))
    return w.finished(w.make(op, *operands(w, w.held(), other(w)), block_format=w.accumulator()))


def selected(w: BlockWriter) -> Value:
    a = w.held()
    elem = a.type.elem
    assert isinstance(elem, BlockFloat)
    return w.finished(w.make(w.pick(Maximum(), Minimum()), *operands(w, a, other(w, elem.format))))


def added_to_itself(w: BlockWriter) -> Value:
    """Sums that stand in memory, and are read twice."""
    plus = Add(arithmetic=Arithmetic.parse("align-larger"))
    total = w.make(plus, w.held(), other(w), block_format=w.accumulator())
    return w.build(Normalize(), w.make(plus, total, total), elem=w.elem(w.narrow(), total.type.shape))


@every_isa
@examples(1)
@given(seed=seeds)
def test_sums(isa: InstructionSet, seed: int) -> None:
    check(isa, [combined] * 3 + [added_to_itself], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_products_and_selections(isa: InstructionSet, seed: int) -> None:
    check(isa, [multiplied, multiplied, selected, selected], seed)
