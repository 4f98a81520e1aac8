"""Depthwise convolution of block floating point with fixed-point accumulators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, load, named, store
from qcompiler.backends.tvm.kernels.block_alignment import aligned, sum_format, with_bias
from qcompiler.backends.tvm.kernels.block_convolution import registers_of
from qcompiler.backends.tvm.kernels.block_depthwise import BlockDepthwise, ChannelTile, Tap
from qcompiler.backends.tvm.kernels.block_expansion import FixedExpansion
from qcompiler.backends.tvm.kernels.block_fixed_convolution import LARGEST_MANTISSA, NO_LIMIT
from qcompiler.backends.tvm.lanes import Expr, convert, literal, spread

Array = NDArray[Any]


@dataclass(frozen=True)
class FixedBlockDepthwise(BlockDepthwise):
    """Products, each shifted to the result's exponent and rounded, added as integers.

    Results, bias and exponents are as those of ``FixedBlockConvolution``.

    Buffers beside those of :class:`BlockDepthwise`: what :meth:`pack` makes, ``y`` (``[OH, OW, C]`` in the
    accumulators' format), ``y_exponents`` (int32 ``[OH, OW, C]``).

    Attributes:
        accumulator: format of the sums, ``int32`` or ``int64``; they must not overflow.
        rounding: of shifts to the right, a name in ``SHIFT_ROUNDINGS``.
        fraction: binary places kept below the last bit of the largest product.
        bias_bits: as that of ``FixedBlockConvolution``.
    """

    accumulator: str = "int32"
    rounding: str = "half-even"
    fraction: int = 0
    bias_bits: int = 31

    def expansion(self, isa: InstructionSet) -> FixedExpansion:
        return FixedExpansion(
            self.height, self.width, self.channels, self.length, self.expanded_rows, self.columns, self.pads[1],
            isa.lanes,
        )

    def own_arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        rows, columns = self.output_size
        packed, results = self.packed_channels(isa), rows * columns * self.channels
        return (
            Argument("weights", "int32", packed * self.taps, Role.CONSTANT),
            Argument("weight_exponents", "int32", packed * self.taps, Role.CONSTANT),
            Argument("lowest", "int32", packed, Role.CONSTANT),
            Argument("bias", "int32", packed, Role.CONSTANT),
            Argument("bias_exponent", "int32", 1, Role.CONSTANT),
            Argument("y", self.accumulator, results, Role.OUTPUT),
            Argument("y_exponents", "int32", results, Role.OUTPUT),
        )

    def pack(
        self, isa: InstructionSet, weights: Array, exponents: Array, bias: Array | None, bias_exponent: int = 0
    ) -> dict[str, Array]:
        """Constants by name: ``weights`` and ``weight_exponents`` as ``[tap, C]``, and those of the bias.

        Args:
            isa: the instruction set.
            weights: int8 mantissas ``[C, KH, KW]``.
            exponents: of each weight, ``[C, KH, KW]``.
            bias: int32 ``[C]``, or None.
            bias_exponent: of all of the bias; no result has a smaller one.
        """
        missing = (0, self.packed_channels(isa) - self.channels)

        def by_tap(numbers: Array) -> Array:
            taps = numbers.astype(np.int32).reshape(self.channels, -1).T
            return np.pad(taps, ((0, 0), missing)).reshape(-1)

        limit = NO_LIMIT if bias is None else bias_exponent
        found = np.zeros(self.channels, np.int32) if bias is None else bias.astype(np.int32)
        return {
            "weights": by_tap(weights),
            "weight_exponents": by_tap(exponents),
            "lowest": np.full(self.packed_channels(isa), limit, np.int32),
            "bias": np.pad(found, missing),
            "bias_exponent": np.array([bias_exponent], np.int32),
        }

    def emit_tile(self, isa: InstructionSet, buffers: Mapping[str, Any], tile: ChannelTile) -> None:
        lanes, targets = isa.lanes, self._targets(isa, buffers, tile)
        bound = LARGEST_MANTISSA**2
        sums = sum_format(bound << self.fraction, self.taps, self.accumulator)
        totals = registers_of(isa, self.tile_pixels, 1, [literal(0, sums, lanes)])

        def add(tap: Tap) -> None:
            weights, exponents = (
                named(load(buffers[name], tap.constant, lanes)) for name in ("weights", "weight_exponents")
            )
            numbers, own = (self.pixel_vectors(isa, buffers[name], tap) for name in ("mantissas", "exponents"))
            for total, target, mantissas, exponent in zip(totals, targets, numbers, own, strict=True):
                places = named(target - (exponents + exponent))
                moved = aligned(named(mantissas * weights), places, self.fraction, bound, self.rounding)
                store(total, 0, load(total, 0, lanes) + convert(moved, sums))

        self.over_taps(isa, tile, add)
        bias = named(load(buffers["bias"], tile.channel, lanes))
        exponent = named(spread(load(buffers["bias_exponent"], 0), lanes))
        self.store_tile(isa, buffers["y"], tile, [
            with_bias(named(convert(load(total, 0, lanes), self.accumulator)), bias, target - exponent,
                      self.bias_bits, self.rounding)
            for total, target in zip(totals, targets, strict=True)
        ])
        self.store_tile(isa, buffers["y_exponents"], tile, targets)

    def _targets(self, isa: InstructionSet, buffers: Mapping[str, Any], tile: ChannelTile) -> list[Expr]:
        """The exponents of a tile's results, by pixel."""
        lanes = isa.lanes
        largest = registers_of(isa, self.tile_pixels, 1, [literal(NO_LIMIT, "int32", lanes)])

        def compare(tap: Tap) -> None:
            exponents = named(load(buffers["weight_exponents"], tap.constant, lanes))
            for known, own in zip(largest, self.pixel_vectors(isa, buffers["exponents"], tap), strict=True):
                store(known, 0, tirx.max(load(known, 0, lanes), exponents + own))

        self.over_taps(isa, tile, compare)
        limit = named(load(buffers["lowest"], tile.channel, lanes))
        fraction = literal(self.fraction, "int32", lanes)
        return [named(tirx.max(load(known, 0, lanes) - fraction, limit)) for known in largest]
