"""Integer bilinear resize."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.runs import for_each_vector
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal_like, spread
from qcompiler.backends.tvm.stages.rounding import shift_half_away
from qcompiler.numerics.interpolation import LitertResizeBilinear

Array = NDArray[Any]

_ONE = 1 << 10
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
        low, high = (named(load(buffers["bounds"], tirx.const(i, "int32"))) for i in (0, 1))
        with loop(begin, end) as item:
            sample, row = named(item // self.result_height), named(item % self.result_height)
            base = sample * self.height
            upper, lower = (named((base + load(buffers[name], row)) * self.width) for name in ("top", "bottom"))
            down = self._wide(load(buffers["down"], row))
            with loop(0, self.result_width) as column:
                left, right = (named(load(buffers[name], column)) for name in ("left", "right"))
                across = self._wide(load(buffers["across"], column))
                corners = [named((y + x) * self.inner) for x in (left, right) for y in (upper, lower)]
                one = literal_like(_ONE, down)
                weights = [
                    named(y * x) for x in (one - across, across) for y in (one - down, down)
                ]
                target = named((item * self.result_width + column) * self.inner)

                def body(offset: Expr, lanes: int, corners: Any = corners, weights: Any = weights, target: Any = target) -> None:
                    mixed = None
                    for corner, weight in zip(corners, weights, strict=True):
                        term = self._wide(load(buffers["x"], corner + offset, lanes)) * spread(weight, lanes)
                        mixed = term if mixed is None else mixed + term
                    mixed = named(mixed)
                    rounded = shift_half_away(mixed, literal_like(20, mixed), literal_like((1 << 20) - 1, mixed))
                    value = convert(rounded, "int32")
                    value = tirx.max(tirx.min(value, spread(high, lanes)), spread(low, lanes_of(value)))
                    store(buffers["y"], target + offset, convert(value, self.dtype))

                for_each_vector(self.inner, isa.lanes, body)

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
    for names, size, result in zip((("top", "bottom", "down"), ("left", "right", "across")), sizes, result_sizes, strict=True):
        arrays = rule.coordinates(size, result, half_pixel, align_corners)
        found |= {name: array.astype(np.int32) for name, array in zip(names, arrays, strict=True)}
    return found
