"""Integer bilinear resize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.runs import for_each_vector
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like, spread
from qcompiler.backends.tvm.stages.rounding import shift_half_away
from qcompiler.numerics.interpolation import LitertResizeBilinear

Array = NDArray[Any]

_FRACTION_BITS = 10
_ONE = 1 << _FRACTION_BITS
"""Weights are in 1/1024."""


@dataclass(frozen=True)
class ResizeBilinear(Kernel):
    """``litert-resize-bilinear`` of ``[outer, height, width, inner]``.

    Attributes:
        dtype: format of x and y.
        outer: dimensions before the resized ones, multiplied.
        height, width: of x.
        result_height, result_width: of y.
        inner: dimensions behind the resized ones, multiplied.
    """

    dtype: str
    outer: int
    height: int
    width: int
    result_height: int
    result_width: int
    inner: int

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        rows, columns = self.result_height, self.result_width
        sizes = {"top": rows, "bottom": rows, "down": rows, "left": columns, "right": columns, "across": columns}
        return (
            Argument("x", self.dtype, self.outer * self.height * self.width * self.inner, Role.INPUT),
            *(Argument(name, "int32", size, Role.CONSTANT) for name, size in sizes.items()),
            Argument("bounds", "int32", 2, Role.CONSTANT),
            Argument("y", self.dtype, self.outer * rows * columns * self.inner, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        """An item is a row of the result."""
        return self.outer * self.result_height

    def work(self) -> int:
        return 8 * self.outer * self.result_height * self.result_width * self.inner

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        bounds = [named(load(buffers["bounds"], tirx.const(i, "int32"))) for i in (0, 1)]
        with loop(begin, end) as item:
            sample, row = named(item // self.result_height), named(item % self.result_height)
            base = sample * self.height
            upper, lower = (named((base + load(buffers[name], row)) * self.width) for name in ("top", "bottom"))
            down = self._wide(load(buffers["down"], row))
            one = literal_like(_ONE, down)
            with loop(0, self.result_width) as column:
                left, right = (named(load(buffers[name], column)) for name in ("left", "right"))
                across = self._wide(load(buffers["across"], column))
                corners = [
                    (named((y + x) * self.inner), named(of_y * of_x))
                    for x, of_x in ((left, one - across), (right, across))
                    for y, of_y in ((upper, one - down), (lower, down))
                ]
                self._mix(isa, buffers, corners, named((item * self.result_width + column) * self.inner), bounds)

    def _mix(
        self, isa: InstructionSet, buffers: Mapping[str, Any], corners: Sequence[tuple[Expr, Expr]], target: Expr,
        bounds: Sequence[Expr],
    ) -> None:
        """One pixel of the result from where its four corners stand and their weights."""

        def mix_vector(offset: Expr, lanes: int) -> None:
            first, *others = (
                self._wide(load(buffers["x"], corner + offset, lanes)) * spread(weight, lanes)
                for corner, weight in corners
            )
            total = named(sum(others, first))
            rounded = shift_half_away(
                total, literal_like(2 * _FRACTION_BITS, total), literal_like(_ONE * _ONE - 1, total)
            )
            low, high = (spread(bound, lanes) for bound in bounds)
            value = tirx.max(tirx.min(convert(rounded, "int32"), high), low)
            store(buffers["y"], target + offset, convert(value, self.dtype))

        for_each_vector(self.inner, isa.lanes, mix_vector)

    def _wide(self, x: Expr) -> Expr:
        """In the format of sums: weights of a half pixel before the first one add up to four, in 2**20ths."""
        return convert(x, "int32" if np.dtype(self.dtype).itemsize == 1 else "int64")


def resize_coordinates(
    rule: LitertResizeBilinear, sizes: tuple[int, int], result_sizes: tuple[int, int], half_pixel: bool,
    align_corners: bool,
) -> dict[str, Array]:
    """The constants of :class:`ResizeBilinear` but for the bounds, by name.

    Args:
        rule: the arithmetic.
        sizes: height and width of x.
        result_sizes: of y.
        half_pixel, align_corners: how coordinates map.
    """
    found: dict[str, Array] = {}
    names_by_axis = (("top", "bottom", "down"), ("left", "right", "across"))
    for names, size, result in zip(names_by_axis, sizes, result_sizes, strict=True):
        arrays = rule.coordinates(size, result, half_pixel, align_corners)
        found |= {name: array.astype(np.int32) for name, array in zip(names, arrays, strict=True)}
    return found
