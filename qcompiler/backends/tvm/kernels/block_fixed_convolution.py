"""Convolution of block floating point with fixed-point accumulators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, load, named, store
from qcompiler.backends.tvm.kernels.block_alignment import aligned, sum_format, with_bias
from qcompiler.backends.tvm.kernels.block_convolution import BlockConvolution, TilePlace, registers_of
from qcompiler.backends.tvm.kernels.block_dots import Pair
from qcompiler.backends.tvm.lanes import Expr, convert, literal, spread

LARGEST_MANTISSA = 128
"""Magnitude of the smallest int8."""
NO_LIMIT = -(1 << 30)
"""The lowest exponent of results that have none."""


@dataclass(frozen=True)
class FixedBlockConvolution(BlockConvolution):
    """Dots of pairs of blocks, each shifted to the result's exponent and rounded, added as integers.

    A result's exponent is the largest sum of exponents of its pairs of blocks less ``fraction``, and no less than
    ``lowest``. A result of padding alone has a sum of 0 and an exponent around -2**20 or ``lowest``.

    Buffers beside those of :class:`BlockConvolution`: ``weight_exponents`` (int32, of each block of weights),
    ``lowest`` (int32 by output channel, ``NO_LIMIT`` where there is none), ``bias`` (int32 by output channel),
    ``bias_exponent`` (int32, one; no larger than any ``lowest`` where there is a bias), ``y`` (``[OH, OW, O]`` in the
    accumulators' format), ``y_exponents`` (int32 ``[OH, OW, O]``).

    Attributes:
        accumulator: format of the sums, ``int32`` or ``int64``; they must not overflow.
        rounding: of shifts to the right, a name in ``SHIFT_ROUNDINGS``.
        fraction: binary places kept below the last bit of the largest pair of blocks.
        bias_bits: no bias is larger than ``2**bias_bits`` in magnitude; 0 where there is none, 31 for any. The fewer,
            the faster.
    """

    accumulator: str = "int32"
    rounding: str = "half-even"
    fraction: int = 0
    bias_bits: int = 31

    taken_exponents: ClassVar[str] = "int32"

    def own_arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        rows, columns = self.output_size
        packed, results = self.packed_outputs(isa), rows * columns * self.outputs
        return (
            Argument("weight_exponents", "int32", packed * self.taps * self.tap_blocks, Role.CONSTANT),
            Argument("lowest", "int32", packed, Role.CONSTANT),
            Argument("bias", "int32", packed, Role.CONSTANT),
            Argument("bias_exponent", "int32", 1, Role.CONSTANT),
            Argument("y", self.accumulator, results, Role.OUTPUT),
            Argument("y_exponents", "int32", results, Role.OUTPUT),
        )

    def emit_tile(self, isa: InstructionSet, buffers: Mapping[str, Any], place: TilePlace) -> None:
        targets = self._targets(isa, buffers, place)
        sums = sum_format(self._bound << self.fraction, self.taps * self.tap_blocks, self.accumulator)
        zero = literal(0, sums, isa.lanes)
        totals = registers_of(isa, len(targets), place.vectors, [zero] * place.vectors)

        def add(pair: Pair) -> None:
            scales, powers = self._exponents(isa, buffers, place, pair)
            for i, row in enumerate(self.dots(isa, buffers, place, pair)):
                for v, dot in enumerate(row):
                    total = load(totals[i], v * isa.lanes, isa.lanes)
                    places = named(targets[i][v] - (scales[v] + powers[i]))
                    moved = aligned(dot, places, self.fraction, self._bound, self.rounding)
                    store(totals[i], v * isa.lanes, total + convert(moved, sums))

        self.over_pairs(isa, place, add)
        biases = self.channel_constants(isa, buffers["bias"], place)
        exponent = named(spread(load(buffers["bias_exponent"], 0), isa.lanes))
        results = [
            [with_bias(named(convert(load(totals[i], v * isa.lanes, isa.lanes), self.accumulator)), bias,
                       targets[i][v] - exponent, self.bias_bits, self.rounding) for v, bias in enumerate(biases)]
            for i in range(len(targets))
        ]
        self.store_tile(isa, buffers["y"], place, results)
        self.store_tile(isa, buffers["y_exponents"], place, targets)

    def _targets(self, isa: InstructionSet, buffers: Mapping[str, Any], place: TilePlace) -> list[list[Expr]]:
        """The exponents of a tile's results, by pixel and vector."""
        lanes, pixels = isa.lanes, self.strips(isa).tile
        largest = registers_of(isa, pixels, place.vectors, [literal(NO_LIMIT, "int32", lanes)] * place.vectors)

        def compare(pair: Pair) -> None:
            scales, powers = self._exponents(isa, buffers, place, pair)
            for i, power in enumerate(powers):
                for v, scale in enumerate(scales):
                    known = load(largest[i], v * lanes, lanes)
                    store(largest[i], v * lanes, tirx.max(known, scale + power))

        self.over_pairs(isa, place, compare)
        lowest = self.channel_constants(isa, buffers["lowest"], place)
        fraction = literal(self.fraction, "int32", lanes)
        return [
            [named(tirx.max(load(row, v * lanes, lanes) - fraction, limit)) for v, limit in enumerate(lowest)]
            for row in largest
        ]

    def _exponents(
        self, isa: InstructionSet, buffers: Mapping[str, Any], place: TilePlace, pair: Pair
    ) -> tuple[list[Expr], list[Expr]]:
        """Exponents of a pair of blocks: of the weights by vector, of the activations by pixel."""
        lanes, step = isa.lanes, self.strides[1] * self.pixel_exponents
        scales = self.pair_constants(isa, buffers["weight_exponents"], place, pair)
        powers = [
            named(spread(load(buffers["exponents"], pair.exponent + i * step), lanes))
            for i in range(self.strips(isa).tile)
        ]
        return scales, powers

    @property
    def _bound(self) -> int:
        """Largest magnitude of a dot."""
        return min(self.length, self.group_channels) * LARGEST_MANTISSA**2
