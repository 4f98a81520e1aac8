"""Depthwise convolution of block floating point with float32 accumulators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, load, named, store
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.kernels.block_convolution import registers_of
from qcompiler.backends.tvm.kernels.block_depthwise import BlockDepthwise, ChannelTile, Tap
from qcompiler.backends.tvm.kernels.block_expansion import SHARED_PLACES, FloatExpansion
from qcompiler.backends.tvm.kernels.block_float_constants import SMALLEST_DENORMAL
from qcompiler.backends.tvm.kernels.block_float_convolution import limited
from qcompiler.backends.tvm.lanes import Expr, literal, literal_like, rounded_product

Array = NDArray[Any]


@dataclass(frozen=True)
class FloatBlockDepthwise(BlockDepthwise):
    """Products, each rounded to float32 once, added in the order of the taps in float32, without fused steps.

    Both factors are float32 numbers themselves, so that their product as floats is the exact one, rounded once.

    Buffers beside those of :class:`BlockDepthwise`: what :meth:`pack` makes; ``low`` and ``high`` (one float32 each,
    where it is ``limited``), ``y`` (float32 ``[OH, OW, C]``).

    Attributes:
        limited: whether results are limited to ``low`` and ``high`` at the end.
        exact: whether every product is a float32; see :func:`products_are_exact`.
    """

    limited: bool = False
    exact: bool = False

    def expansion(self, isa: InstructionSet) -> FloatExpansion:
        return FloatExpansion(
            self.height, self.width, self.channels, self.length, self.expanded_rows, self.columns, self.pads[1],
            isa.lanes,
        )

    def own_arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        rows, columns = self.output_size
        packed = self.packed_channels(isa)
        limits = [Argument(name, "float32", 1, Role.CONSTANT) for name in ("low", "high")]
        return (
            Argument("weights", "float32", packed * self.taps, Role.CONSTANT),
            Argument("bias", "float32", packed, Role.CONSTANT),
            *(limits if self.limited else []),
            Argument("y", "float32", rows * columns * self.channels, Role.OUTPUT),
        )

    def pack(
        self, isa: InstructionSet, weights: Array, exponents: Array, bias: Array | None
    ) -> dict[str, Array]:
        """``weights`` as float32 ``[tap, C]`` and ``bias``: -0.0 where there is none, which changes no number.

        Args:
            isa: the instruction set.
            weights: int8 mantissas ``[C, KH, KW]``.
            exponents: of each weight, ``[C, KH, KW]``.
            bias: float32 ``[C]``, or None.

        Raises:
            NoLowering: a weight is no float32.
        """
        places = exponents.astype(np.int64) + SHARED_PLACES
        exact = np.ldexp(weights.astype(np.float64), places)
        with np.errstate(over="ignore", under="ignore"):
            numbers = exact.astype(np.float32)
        if (numbers != exact).any():
            raise NoLowering(
                "native code takes weights that are float32 numbers", expected="exponents from -157 to 112",
                found=f"{exponents.min()} to {exponents.max()}",
            )
        missing = (0, self.packed_channels(isa) - self.channels)
        found = np.full(self.channels, -0.0, np.float32) if bias is None else bias.astype(np.float32)
        taps = numbers.reshape(self.channels, -1).T
        return {"weights": np.pad(taps, ((0, 0), missing)).reshape(-1), "bias": np.pad(found, missing)}

    def emit_tile(self, isa: InstructionSet, buffers: Mapping[str, Any], tile: ChannelTile) -> None:
        # Sums that begin with 0.0 are never -0.0; those that begin with -0.0 may be, if all products are.
        start = literal(0.0 if self.exact else -0.0, "float32", isa.lanes)
        totals = registers_of(isa, self.tile_pixels, 1, [start])

        def add(tap: Tap) -> None:
            weights = named(load(buffers["weights"], tap.constant, isa.lanes))
            for total, numbers in zip(totals, self.pixel_vectors(isa, buffers["expanded"], tap), strict=True):
                store(total, 0, load(total, 0, isa.lanes) + self._product(numbers, weights))

        self.over_taps(isa, tile, add)
        bias = named(load(buffers["bias"], tile.channel, isa.lanes))
        results = [named(load(total, 0, isa.lanes) + bias) for total in totals]
        bounds = (buffers["low"], buffers["high"]) if self.limited else None
        self.store_tile(isa, buffers["y"], tile, [limited(value, bounds) for value in results])

    def _product(self, numbers: Expr, weights: Expr) -> Expr:
        """A product, rounded."""
        if self.exact:
            # Where nothing is rounded, a fused multiply-add gives the same number.
            return numbers * weights
        product = named(rounded_product(numbers, weights))
        # The product of integers has no -0: only what is below half of the smallest float32 becomes -0.0.
        zero = literal_like(0.0, numbers)
        return tirx.Select(tirx.any(numbers == zero, weights == zero), zero, product)


def products_are_exact(weights: Array, exponents: Array, lowest: int) -> bool:
    """Whether all products with their exponents are float32 numbers, but for those beyond its range.

    Args:
        weights: int8 mantissas ``[C, KH, KW]``.
        exponents: of each weight, ``[C, KH, KW]``.
        lowest: the smallest exponent that activations can have.
    """
    used = exponents[weights != 0]
    return not used.size or bool(used.min() + lowest >= SMALLEST_DENORMAL)
