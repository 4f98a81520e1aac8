"""Conversions into, out of and between block formats, and limits, in native code."""

from __future__ import annotations

import pytest
from block_program_comparison import check, every_isa, examples
from block_writer import BlockWriter
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.ir import BlockFloat, Value
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import Normalize, ToBlock

RAISED = BlockFormat(8, overflow="raise")
"""AMD's BFP16."""

DEEP = BlockFormat(8, 10)
"""Its exponents reach below those of subnormal float32 numbers."""

seeds = st.integers(0, (1 << 32) - 1)


def from_reals(w: BlockWriter) -> Value:
    return w.held(w.any_format())


def at_fixed_exponents(w: BlockWriter) -> Value:
    block_format = w.any_format()
    low, high = block_format.exponent_range
    fixed = int(w.rng.integers(max(low, -100), min(high, 60)))
    value = w.build(ToBlock(), w.x, elem=w.elem(block_format, w.x.type.shape, fixed))
    return w.build(Normalize(), value, elem=w.elem(w.narrow(), w.x.type.shape, int(w.rng.integers(-16, 16))))


def converted(w: BlockWriter) -> Value:
    """From each kind of blocks to each other."""
    value = w.held(w.any_format())
    for _ in range(2):
        value = w.build(Normalize(), value, elem=w.elem(w.any_format(), w.x.type.shape))
    return value


def limited(w: BlockWriter) -> Value:
    return w.finished(w.held(w.any_format()))


@every_isa
@examples(1)
@given(seed=seeds)
def test_into_blocks(isa: InstructionSet, seed: int) -> None:
    check(isa, [from_reals] * 3 + [at_fixed_exponents], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_between_blocks(isa: InstructionSet, seed: int) -> None:
    check(isa, [converted] * 2 + [limited] * 2, seed)


def in_short_blocks(w: BlockWriter) -> Value:
    """Several blocks to a vector, or a block of several vectors."""
    elem = BlockFloat(w.pick(w.narrow(), w.any_format(), RAISED, DEEP), (1, 1, 1, w.pick(2, 8, 8, 16, 32, 64)))
    return w.build(ToBlock(), w.x, elem=elem)


def headroom(w: BlockWriter) -> Value:
    """Blocks of zeros, of -1 and zeros, and of negative powers of two, in formats that count redundant sign bits."""
    fine = BlockFormat(12, scale="headroom", rounding=w.pick("floor", "half-even"))
    coarse = BlockFormat(6, scale="headroom", guard=w.pick(0, 1), overflow=w.pick("clamp", "raise"))
    value = w.build(ToBlock(), w.x, elem=w.elem(fine, w.x.type.shape, w.pick(0, 4)))
    return w.build(Normalize(), value, elem=w.elem(coarse, w.x.type.shape))


@pytest.mark.parametrize("magnitudes", [(-149, -110), (-20, 20), (90, 100)], ids=["subnormal", "usual", "large"])
@every_isa
@examples(1)
@given(seed=seeds)
def test_short_blocks(isa: InstructionSet, magnitudes: tuple[int, int], seed: int) -> None:
    check(isa, [in_short_blocks] * 4, seed, shape=(2, 3, 64), magnitudes=magnitudes)


@every_isa
@examples(1)
@given(seed=seeds)
def test_redundant_sign_bits(isa: InstructionSet, seed: int) -> None:
    check(isa, [headroom] * 4, seed, magnitudes=(-4, 4))


@every_isa
@examples(1)
@given(seed=seeds)
def test_blocks_of_many_numbers(isa: InstructionSet, seed: int) -> None:
    """They are looked at in pieces, of which several threads take some."""
    check(isa, [converted, limited], seed, shape=(24, 17, 21))
