"""Sums and extremes of windows of block floating point: pooling, and reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, partition_of
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundExponents, StoredMantissas, tensor_arguments
from qcompiler.backends.tvm.kernels.mantissa_shift import domain_of, in_lanes, shift_right
from qcompiler.backends.tvm.kernels.reduction import Reducer
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal, spread


@dataclass(frozen=True)
class WindowAxis:
    """Where windows lie along one axis of the operand: place ``i * stride + tap * dilation - pad`` for result i.

    Attributes:
        size: of the operand.
        taps: of a window; all of the axis where it is reduced, 1 where it stays.
        stride: from one window to the next; 0 where there is one window only.
        dilation: from one tap to the next.
        pad: places before the operand's first.
    """

    size: int
    taps: int = 1
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def stays_inside(self, results: int) -> bool:
        """Whether all taps of all windows are places of the operand."""
        return self.pad == 0 and (results - 1) * self.stride + (self.taps - 1) * self.dilation < self.size


@dataclass(frozen=True)
class ReduceWindows(Kernel):
    """Each result from the numbers of its window, brought to the exponent of its block.

    Arguments: ``x``, ``x_exponents``, ``y_exponents``; ``factors`` ``[rows]``, int64, where results are multiplied:
    one for each row of results; ``y``.

    Attributes:
        axes: one for each axis of the operand; the last one stays, or is reduced.
        shape: of the result, with an axis for each of the operand.
        x: the operand. Its address belongs to the operand's own shape.
        y: the result. Its address belongs to the result's shape.
        reducer: what becomes of the numbers.
        is_scaled: whether results are multiplied by ``factors``.
        rounding: of numbers at smaller exponents.
    """

    axes: tuple[WindowAxis, ...]
    shape: tuple[int, ...]
    x: StoredMantissas
    y: StoredMantissas
    reducer: Reducer
    is_scaled: bool
    rounding: str

    @property
    def _taps(self) -> int:
        return math.prod(axis.taps for axis in self.axes)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def domain(self) -> str:
        """In which numbers are combined: sums of all taps fit."""
        return domain_of(self.x.bits + (self._taps.bit_length() if self.reducer is Reducer.SUM else 0))

    @property
    def partition(self) -> RunPartition:
        # Along an axis that is reduced, a result sees all exponents, one tap after the other.
        own = self.x.address if self.axes[-1].taps == 1 else (*self.x.address[:-1], self.y.address[-1])
        return partition_of(self.shape, (own, self.y.address))

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        rows = math.prod(self.shape[:-1])
        exponents = math.prod(
            -(-size // a.block) if a.step else 1 for size, a in zip(self.shape, self.y.address, strict=True)
        )
        factors = (Argument("factors", "int64", rows, Role.CONSTANT),) if self.is_scaled else ()
        return (
            *tensor_arguments("x", self._sizes, self.x), Argument("y_exponents", "int32", exponents, Role.INPUT),
            *factors, Argument("y", self.y.dtype, math.prod(self.shape), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return 4 * math.prod(self.shape) * self._taps

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        def reduce_run(unit: Expr, run: Run) -> None:
            target = BoundExponents(buffers["y_exponents"], run, self.y.address)
            # Vectors of neighbouring results take neighbouring numbers of the operand.
            widest = isa.lanes if self.axes[-1].taps == 1 else 1
            first = named(run.row * self.shape[-1])
            factor = load(buffers["factors"], run.row) if self.is_scaled else None
            run.for_each_vector(
                widest, lambda column, lanes: self._reduce(buffers, run, column, lanes, target, first, factor)
            )

        self.partition.for_each_run(begin, end, reduce_run)

    def _reduce(
        self, buffers: Mapping[str, Any], run: Run, column: Expr, lanes: int, target: BoundExponents, first: Expr,
        factor: Expr | None,
    ) -> None:
        domain = self.domain
        total = T.alloc_buffer((lanes,), domain, scope="local")
        store(total, 0, literal(self.reducer.start(domain), domain, lanes))
        exponent = target.at(column, lanes)

        def take(places: Sequence[Expr]) -> None:
            x, own = self._number(buffers, places, lanes)
            wide = max(lanes_of(own), lanes_of(exponent))
            places_right = held(in_lanes(exponent, wide) - in_lanes(own, wide))
            moved = shift_right(x, places_right, self.rounding)
            store(total, 0, self.reducer.combined(load(total, 0, lanes), moved))

        self._for_each_tap([*run.indices, column], take)
        result = load(total, 0, lanes)
        if factor is not None:
            result = convert(result, "int64") * spread(factor, lanes)
        store(buffers["y"], first + column, convert(held(result), self.y.dtype))

    def _number(self, buffers: Mapping[str, Any], places: Sequence[Expr], lanes: int) -> tuple[Expr, Expr]:
        """Mantissas and exponents of the operand from a place on."""
        of = self.x.address
        offset: Expr = tirx.const(0, "int32")
        exponent: Expr = tirx.const(0, "int32")
        for place, axis in zip(places, of, strict=True):
            offset = offset + place * axis.stride if axis.stride else offset
            exponent = exponent + tirx.truncdiv(place, axis.block) * axis.step if axis.step else exponent
        each = bool(of[-1].step) and of[-1].block == 1
        x = held(convert(load(buffers["x"], named(offset), lanes), self.domain))
        return x, held(load(buffers["x_exponents"], named(exponent), lanes if each else 1))

    def _for_each_tap(self, results: Sequence[Expr], body: Callable[[Sequence[Expr]], None]) -> None:
        """Call ``body`` with the operand's place of each tap that lies inside of it."""
        with self._taps_inside(results) as places:
            body(places)

    @contextmanager
    def _taps_inside(self, results: Sequence[Expr]) -> Iterator[list[Expr]]:
        with ExitStack() as stack:
            places = []
            for index, axis, count in zip(results, self.axes, self.shape, strict=True):
                if axis.taps == 1 and axis.stays_inside(count):
                    places.append(named(index * axis.stride) if axis.stride else tirx.const(0, "int32"))
                    continue
                tap = stack.enter_context(loop(0, axis.taps))
                place = named(index * axis.stride + tap * axis.dilation - axis.pad)
                if not axis.stays_inside(count):
                    stack.enter_context(T.If(tirx.all(place >= 0, place < axis.size)))
                    stack.enter_context(T.Then())
                places.append(place)
            yield places
