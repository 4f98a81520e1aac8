"""Depthwise convolution: each channel has a window of its own.

For every column of the input, the rows of the window are interleaved once, and all results whose window holds the
column use it: no sums over lanes, no gathers, each number loaded once for each row of results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, align_stack, loop, named
from qcompiler.backends.tvm.kernels.depthwise_layout import (
    VECTORS,
    Part,
    TapGroup,
    block_channels,
    dot_order,
    pack_bias,
    pack_weights,
    parts_of,
    rows_together,
    tap_groups,
)
from qcompiler.backends.tvm.kernels.depthwise_results import Results, keeps_dot_order
from qcompiler.backends.tvm.kernels.depthwise_rows import UNROLLED, BlockRows
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.window_geometry import window_counts
from qcompiler.backends.tvm.lanes import Expr

CACHED = 24 << 10
"""Bytes that stay in the cache next to the processor while a kernel works on them."""

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Depthwise(Kernel):
    """Depthwise convolution of one sample, ``[H, W, C]`` to ``[OH, OW, C]``.

    Arguments: ``x``, ``weights`` and ``bias`` as ``pack`` gives them, ``fill`` where there is padding, the epilogue's
    inputs, those by channel as ``pack_channels`` gives them, and ``y``.

    Attributes:
        height, width, channels: of the input.
        kernel, strides, dilations: vertical, horizontal.
        pads: top, left, bottom, right.
        stored: format of the activations: ``uint8``, ``int8``, or ``int16`` where products are of 16 bits.
        epilogue: from accumulators to results.
    """

    height: int
    width: int
    channels: int
    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: Pads
    stored: str
    epilogue: Epilogue

    @property
    def output_size(self) -> Pair:
        """Rows and columns of the result."""
        return window_counts((self.height, self.width), self.kernel, self.strides, self.dilations, self.pads)

    def pack(
        self, weights: NDArray[Any], bias: NDArray[np.int32], zero_point: int, isa: InstructionSet
    ) -> list[NDArray[Any]]:
        """The constants ``weights``, ``bias`` and, with padding, ``fill``.

        Args:
            weights: ``[C, KH, KW]``; int8, or int16 where the instruction set takes it.
            bias: ``[C]``.
            zero_point: of the activations; padding has this value.
            isa: the instruction set.
        """
        groups = self.tap_groups(isa)
        packed = [pack_weights(weights, groups, isa), pack_bias(bias, weights, zero_point, self.stored, isa)]
        if any(self.pads):
            packed.append(np.full(self._fill_elements(isa), zero_point, self.stored))
        return packed

    def pack_channels(self, constants: NDArray[Any], isa: InstructionSet) -> NDArray[Any]:
        """Constants of the epilogue, one a channel, in the order in which the kernel reads them."""
        order = dot_order(isa) if keeps_dot_order(self.epilogue) else np.arange(isa.register_bytes)
        return np.asarray(constants[block_channels(self.channels, isa, order)])

    def tap_groups(self, isa: InstructionSet) -> tuple[TapGroup, ...]:
        """The window as dot products take it."""
        return tap_groups(self.kernel, isa.group, only_vertical=self.runs_in_loops(isa))

    def runs_in_loops(self, isa: InstructionSet) -> bool:
        """Whether the window is too large to be written out."""
        return len(tap_groups(self.kernel, isa.group, only_vertical=True)) * VECTORS > UNROLLED

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        parts = parts_of(self.channels, isa)
        blocks = sum(p.count for p in parts)
        beyond = max(p.width - p.used for p in parts)
        size = self.height * self.width * self.channels
        rows, columns = self.output_size
        weights = blocks * len(self.tap_groups(isa)) * isa.register_bytes * isa.group
        fill = [Argument("fill", self.stored, self._fill_elements(isa), Role.CONSTANT)] if any(self.pads) else []
        return (
            Argument("x", self.stored, size + beyond, Role.INPUT),
            Argument("weights", isa.weight, weights, Role.CONSTANT),
            Argument("bias", "int32", blocks * isa.register_bytes, Role.CONSTANT),
            *fill,
            *self.epilogue.arguments(isa, rows * columns * self.channels, blocks * isa.register_bytes),
            Argument("y", self.epilogue.stored, rows * columns * self.channels, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        parts = parts_of(self.channels, isa)
        return self._row_groups(parts) * sum(part.count for part in parts)

    def work(self) -> int:
        rows, columns = self.output_size
        return rows * columns * self.channels * (self.kernel[0] * self.kernel[1] + 4)

    def prim_func(self, isa: InstructionSet, symbol: str) -> Any:
        # Were LLVM told that results overlap no weights, it would load each weight once for many results, and spill it.
        return super().prim_func(isa, symbol).with_attr("tirx.noalias", False)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        align_stack(isa)
        results = Results(self.epilogue, isa, buffers)
        parts = parts_of(self.channels, isa)
        blocks, groups = sum(part.count for part in parts), self._row_groups(parts)
        with loop(begin, end) as item:
            block, group = self._place_of(item, blocks, groups, isa)
            self._emit_part(parts, block, lambda part: BlockRows(self, isa, buffers, results, part).emit(block, group))

    def _place_of(self, item: Expr, blocks: int, groups: int, isa: InstructionSet) -> tuple[Expr, Expr]:
        """The block of channels and the group of rows of an item."""
        if self.height * self.width * isa.register_bytes <= CACHED:
            # One block of channels after the other: its input stays in the cache for all rows.
            return named(tirx.truncdiv(item, groups)), named(tirx.truncmod(item, groups))
        # One row after the other: cache lines that blocks share, and rows that windows share, are still there.
        return named(tirx.truncmod(item, blocks)), named(tirx.truncdiv(item, blocks))

    def _emit_part(self, parts: Sequence[Part], block: Expr, emit: Callable[[Part], None]) -> None:
        """What belongs to the part that a block is of."""
        first, *others = parts
        if not others:
            emit(first)
            return
        with T.If(block < others[0].block):
            with T.Then():
                emit(first)
            with T.Else():
                self._emit_part(others, block, emit)

    def _row_groups(self, parts: Sequence[Part]) -> int:
        return -(-self.output_size[0] // rows_together(parts))

    def _fill_elements(self, isa: InstructionSet) -> int:
        # As long as a row of the input, since it stands in for rows outside.
        return self.width * self.channels + isa.register_bytes
