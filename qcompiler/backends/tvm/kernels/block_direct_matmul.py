"""Products of two computed matrices of block floating point, straight from their definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.block_direct_sums import DotSums, PairBody
from qcompiler.backends.tvm.lanes import Expr, convert, literal, spread

Strides = tuple[int, ...]


@dataclass(frozen=True)
class MatrixOperand:
    """Where an operand's numbers stand.

    Attributes:
        stored: format of the mantissas.
        strides: mantissas between neighbours along each leading axis of the result, then along the rows or columns of
            the result, then along the terms.
        exponent_strides: the same of the exponents, of which there is one for each block of terms.
        elements, exponents: how many there are.
    """

    stored: str
    strides: Strides
    exponent_strides: Strides
    elements: int
    exponents: int


@dataclass(frozen=True)
class DirectBlockMatmul(Kernel):
    """A product of matrices whose leading axes broadcast.

    Arguments: ``x``, ``x_exponents``, ``w``, ``w_exponents``; constants (biases ``[N]``) and results of ``sums``,
    results dense ``[..., M, N]``.

    Attributes:
        leading: leading sizes of the result.
        rows, columns, terms: M, N and K.
        length: terms of a block.
        x, w: the operands.
        sums: what becomes of the dots of pairs of blocks.
    """

    leading: tuple[int, ...]
    rows: int
    columns: int
    terms: int
    length: int
    x: MatrixOperand
    w: MatrixOperand
    sums: DotSums

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.x.stored, self.x.elements, Role.INPUT),
            Argument("x_exponents", "int32", self.x.exponents, Role.INPUT),
            Argument("w", self.w.stored, self.w.elements, Role.INPUT),
            Argument("w_exponents", "int32", self.w.exponents, Role.INPUT),
            *self.sums.constants(self.columns),
            *self.sums.results(prod(self.leading) * self.rows * self.columns),
        )

    def items(self, isa: InstructionSet) -> int:
        return prod(self.leading) * self.rows

    def work(self) -> int:
        return 4 * prod(self.leading) * self.rows * self.columns * self.terms

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        # Columns side by side in w are computed side by side.
        lanes = isa.lanes if self.w.strides[-2] == 1 and self.columns >= isa.lanes else 1
        with loop(begin, end) as item:
            starts = self._starts(item)
            with loop(0, -(-self.columns // lanes)) as block:
                # The last vector overlaps the one before; its results are computed twice, alike.
                column = named(tirx.min(block * lanes, self.columns - lanes)) if lanes > 1 else block
                pairs = _Terms(self, buffers, starts, column, lanes).over_pairs
                for name, value in self.sums.emit(buffers, pairs, lanes, column).items():
                    store(buffers[name], item * self.columns + column, value)

    def _starts(self, item: Expr) -> dict[str, Expr]:
        """Where the row of x and the matrix w begin that belong to a row of the result, by argument."""
        rest, row = named(item // self.rows), named(item % self.rows)
        zero = tirx.const(0, "int32")
        starts = {
            "x": row * self.x.strides[-2], "x_exponents": row * self.x.exponent_strides[-2], "w": zero,
            "w_exponents": zero,
        }
        for axis in reversed(range(len(self.leading))):
            index = named(rest % self.leading[axis])
            rest = named(rest // self.leading[axis])
            for name, operand in (("x", self.x), ("w", self.w)):
                starts[name] = starts[name] + index * operand.strides[axis]
                starts[f"{name}_exponents"] = starts[f"{name}_exponents"] + index * operand.exponent_strides[axis]
        return {name: named(start) for name, start in starts.items()}


@dataclass
class _Terms:
    """The terms of some neighbouring columns of a row."""

    shape: DirectBlockMatmul
    buffers: Mapping[str, Any]
    starts: Mapping[str, Expr]
    column: Expr
    lanes: int

    def over_pairs(self, body: PairBody) -> None:
        """Write ``body`` for every pair of blocks."""
        x, w = self.shape.x.exponent_strides, self.shape.w.exponent_strides
        with loop(0, -(-self.shape.terms // self.shape.length)) as block:
            own = held(load(self.buffers["x_exponents"], named(self.starts["x_exponents"] + block * x[-1])))
            place = named(self.starts["w_exponents"] + self.column * w[-2] + block * w[-1])
            known = held(load(self.buffers["w_exponents"], place, self.lanes))
            body(block, held(spread(own, self.lanes) + known), self._dot(block))

    def _dot(self, block: Expr) -> Callable[[], Expr]:
        shape, lanes = self.shape, self.lanes

        def write() -> Expr:
            total = T.alloc_buffer((lanes,), "float64", scope="local")
            store(total, 0, literal(0.0, "float64", lanes))
            first = named(block * shape.length)
            with loop(first, tirx.min(first + shape.length, shape.terms)) as term:
                x = load(self.buffers["x"], named(self.starts["x"] + term * shape.x.strides[-1]))
                place = named(self.starts["w"] + self.column * shape.w.strides[-2] + term * shape.w.strides[-1])
                w = convert(load(self.buffers["w"], place, lanes), "float64")
                product = spread(held(convert(x, "float64")), lanes) * w
                store(total, 0, load(total, 0, lanes) + product)
            return held(load(total, 0, lanes))

        return write
