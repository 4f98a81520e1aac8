"""Convolution of block floating point with float32 accumulators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, load, named, store
from qcompiler.backends.tvm.kernels.block_convolution import BlockConvolution, TilePlace, registers_of
from qcompiler.backends.tvm.kernels.block_dots import Pair
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal, rounded_product, spread


@dataclass(frozen=True)
class FloatBlockConvolution(BlockConvolution):
    """Dots of pairs of blocks, each rounded to float32 once, added in order in float32, without fused steps.

    Buffers beside those of :class:`BlockConvolution`: ``weight_scales`` (float32, 2**exponent of each block of
    weights), ``bias`` (float32 by output channel, -0.0 where there is none, which changes no number), ``low`` and
    ``high`` (one float32 each, where it is ``limited``), ``y`` (float32 ``[OH, OW, O]``).

    Attributes:
        limited: whether results are limited to ``low`` and ``high`` at the end.
        exact: whether every dot with its exponent is a float32, so that rounding it is no step of its own.
    """

    limited: bool = False
    exact: bool = False

    taken_exponents: ClassVar[str] = "float32"

    def own_arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        rows, columns = self.output_size
        packed = self.packed_outputs(isa)
        limits = [Argument(name, "float32", 1, Role.CONSTANT) for name in ("low", "high")]
        return (
            Argument("weight_scales", "float32", packed * self.taps * self.tap_blocks, Role.CONSTANT),
            Argument("bias", "float32", packed, Role.CONSTANT),
            *(limits if self.limited else []),
            Argument("y", "float32", rows * columns * self.outputs, Role.OUTPUT),
        )

    def emit_tile(self, isa: InstructionSet, buffers: Mapping[str, Any], place: TilePlace) -> None:
        lanes, pixels = isa.lanes, self.strips(isa).tile
        # Whatever is added to -0.0 stays as it is, 0.0 and -0.0 included.
        totals = registers_of(isa, pixels, place.vectors, [literal(-0.0, "float32", lanes)] * place.vectors)

        def add(pair: Pair) -> None:
            scales = self.pair_constants(isa, buffers["weight_scales"], place, pair)
            for i, row in enumerate(self.dots(isa, buffers, place, pair)):
                offset = pair.exponent + i * (self.strides[1] * self.pixel_exponents)
                power = named(spread(load(buffers["exponents"], offset), lanes))
                for v, dot in enumerate(row):
                    total = load(totals[i], v * lanes, lanes)
                    store(totals[i], v * lanes, self._added(total, dot, scales[v], power))

        self.over_pairs(isa, place, add)
        biases = self.channel_constants(isa, buffers["bias"], place)
        bounds = (buffers["low"], buffers["high"]) if self.limited else None
        results = [
            [limited(named(load(row, v * lanes, lanes) + bias), bounds) for v, bias in enumerate(biases)]
            for row in totals
        ]
        self.store_tile(isa, buffers["y"], place, results)

    def _added(self, total: Expr, dot: Expr, scale: Expr, power: Expr) -> Expr:
        """``total`` and a dot with its exponents."""
        # Converting the dot and scaling it are exact; only the second product rounds, among the denormal numbers.
        scaled = rounded_product(convert(dot, "float32"), scale)
        if self.exact:
            # Where nothing is rounded, a fused multiply-add gives the same number.
            return total + scaled * power
        return total + rounded_product(scaled, power)


def limited(value: Expr, bounds: tuple[Any, Any] | None) -> Expr:
    """``value`` within two bounds, buffers of one number each; as it is where there are none."""
    if bounds is None:
        return value
    low, high = (named(spread(load(buffer, 0), lanes_of(value))) for buffer in bounds)
    # As numpy's clip has it, which keeps -0.0 at a bound of 0.0.
    above = named(tirx.Select(value < low, low, value))
    return named(tirx.Select(above > high, high, above))
