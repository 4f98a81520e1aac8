"""How what a block floating-point op computes becomes the result of its region: limited, converted, or as it is.

A lowering hands over a :class:`SourceViews`: integers with exponents, for each place of the result, that the last
kernels read. It needs no memory for them, unless it wants to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.kernel_program import ProgramBuilder, View, is_block
from qcompiler.backends.tvm.kernels.exponent_choice import ChooseExponents
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address, address, exponent_count, merged
from qcompiler.backends.tvm.kernels.mantissa_box_normalization import NormalizeBoxes
from qcompiler.backends.tvm.kernels.mantissa_extremes import PieceExtremes
from qcompiler.backends.tvm.kernels.mantissa_limits import Limits, limit_constants
from qcompiler.backends.tvm.kernels.mantissa_loop import has_exponent_each
from qcompiler.backends.tvm.kernels.mantissa_normalization import NormalizeBlocks
from qcompiler.backends.tvm.kernels.mantissa_reading import StoredMantissas
from qcompiler.backends.tvm.kernels.mantissa_short_blocks import NormalizeShortBlocks, takes_short_blocks
from qcompiler.backends.tvm.kernels.mantissa_source import LimitedSource, MantissaSource, RealSource, StoredSource
from qcompiler.backends.tvm.kernels.mantissa_write import WriteMantissas
from qcompiler.ir import Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import fixed_grid
from qcompiler.ops.block_values import block_float, blocks_of

Array = NDArray[Any]

LONG_BLOCK = 1024
"""Blocks of more numbers than this are looked at in pieces, so that threads share the work."""


@dataclass(frozen=True)
class SourceViews:
    """What a region's last kernels read.

    Attributes:
        source: in the index space of the result's shape, axes not merged.
        views: for each of its arguments.
    """

    source: MantissaSource
    views: Mapping[str, View]


def stored_value(value: Value, target: tuple[int, ...]) -> StoredMantissas:
    """A block floating-point value, broadcast to an index space."""
    elem = block_float(value.type)
    return StoredMantissas(
        str(elem.storage.dtype), elem.format.mantissa,
        address(static_shape(value.type.shape), blocks_of(value.type), target),
    )


def tensor_views(name: str, value: Value, builder: ProgramBuilder) -> dict[str, View]:
    """Mantissas and exponents of a value as arguments ``name`` and ``name_exponents``."""
    return {name: builder.view(value), f"{name}_exponents": builder.exponents(value)}


def source_of(value: Value, builder: ProgramBuilder) -> SourceViews:
    """A value that stands in memory: block floating point, or real numbers."""
    shape = static_shape(value.type.shape)
    if not is_block(value):
        return SourceViews(RealSource(shape, address(shape, None, shape)), {"x": builder.view(value)})
    return SourceViews(StoredSource(shape, stored_value(value, shape)), tensor_views("x", value, builder))


def finish_region(region: BlockRegion, found: SourceViews, builder: ProgramBuilder) -> None:
    """Write a region's result.

    Args:
        region: its root's result is what the source gives, in the root's own format and at its exponents.
        found: the source. Where nothing converts the result, the exponents of the source are those of the result.
        builder: takes the calls.
    """
    write_result(found, region.limit, region.conversion, region.result, builder, region.label)


def write_result(
    found: SourceViews, limit: Node | None, conversion: Node | None, result: Value, builder: ProgramBuilder, label: str
) -> None:
    """As :func:`finish_region`, for a clip or relu and a normalize or to_block, each where there is one."""
    limits, views = None, dict(found.views)
    if limit is not None:
        operand = block_float(limit.operands[0].type)
        limits = Limits.of(limit.op.limits, operand.format)  # type: ignore[attr-defined]
        if limits.arguments():
            views |= {n: builder.constant(a) for n, a in limit_constants(limit.op.limits).items()}  # type: ignore[attr-defined]
    shape = found.source.shape
    to = stored_value(result, shape)
    joined, addresses = merged(shape, (*found.source.addresses, to.address))
    source = LimitedSource(found.source.readdressed(joined, addresses[:-1]), limits)
    to = replace(to, address=addresses[-1])
    writer = _Writer(source, views, to, block_float(result.type).format, result, builder, label)
    if conversion is None:
        builder.place_exponents(result, views[source.source.exponents])
        writer.write(moves=False)
    elif fixed_grid(result.type) is not None:
        writer.write(moves=True)
    else:
        writer.normalize()


@dataclass
class _Writer:
    source: LimitedSource
    views: dict[str, View]
    to: StoredMantissas
    block_format: BlockFormat
    result: Value
    builder: ProgramBuilder
    label: str

    def write(self, moves: bool) -> None:
        """Mantissas at exponents that are known."""
        kernel = WriteMantissas(self.source, self.to, self.block_format, moves)
        views = {**self.views, "y": self.builder.result(self.result)}
        if moves:
            views["y_exponents"] = self.builder.exponents(self.result)
        self.builder.call_by_name(kernel, views, self.label)

    def normalize(self) -> None:
        """Exponents by the rules of the format, and mantissas."""
        source, shape = self.source.source, self.source.source.shape
        in_rows = all(a.step and a.block == 1 for a in self.to.address[:-1])
        last = self.to.address[-1]
        length = last.block if last.step else shape[-1]
        is_uniform = source.is_real or all(_is_uniform(shape, a, self.to.address) for a in source.addresses)
        if isinstance(source, RealSource) and takes_short_blocks(self.source, self.to):
            self._in_one_pass(NormalizeShortBlocks(source, self.to, self.block_format))
        elif is_uniform and _is_whole(self.to.address) and prod(shape) // self._blocks > LONG_BLOCK:
            self._normalize_in_pieces()
        elif in_rows and all(_fits_runs(a, length, shape[-1]) for a in source.addresses):
            self._in_one_pass(NormalizeBlocks(self.source, self.to, length, self.block_format))
        elif is_uniform and _is_whole(self.to.address):
            self._normalize_in_pieces()
        else:
            self._in_one_pass(NormalizeBoxes(self.source, self.to, self.block_format))

    @property
    def _blocks(self) -> int:
        return exponent_count(self.source.source.shape, self.to.address)

    def _in_one_pass(self, kernel: NormalizeShortBlocks | NormalizeBlocks | NormalizeBoxes) -> None:
        places = {
            "y": self.builder.result(self.result), "y_exponents": self.builder.exponents_result(self.result)
        }
        self.builder.call_by_name(kernel, self.views | places, self.label)

    def _normalize_in_pieces(self) -> None:
        source, builder = self.source.source, self.builder
        domain = self.source.domain(self.to.bits)
        look = PieceExtremes(self.source.without_limits(), self.to.address, domain)
        units = look.partition.units
        views = {**self.views, "extremes": builder.temporary(look.dtype, 2 * units)}
        views["y_exponents"] = builder.exponents_result(self.result)
        builder.call_by_name(look, views, self.label)
        count = 0 if source.is_real else exponent_count(source.shape, source.exponent_address)
        if count:
            views["places"] = builder.constant(self._exponent_places())
        choose = ChooseExponents(
            self._blocks, units // self._blocks, look.dtype, count, self.source.limits, self.block_format, domain
        )
        exponents = {} if source.is_real else {"x_exponents": views[source.exponents]}
        builder.call_by_name(choose, views | exponents, self.label)
        self.write(moves=True)

    def _exponent_places(self) -> Array:
        """Which of the source's exponents each block of the result has."""
        source = self.source.source
        sizes = [size if to.step else 1 for size, to in zip(source.shape, self.to.address, strict=True)]
        places = np.zeros(sizes, np.int32)
        for axis, (size, own) in enumerate(zip(sizes, source.exponent_address, strict=True)):
            along = np.arange(size, dtype=np.int32) // own.block * own.step
            places += along.reshape([-1 if i == axis else 1 for i in range(len(sizes))]).astype(np.int32)
        return places.reshape(-1)


def _is_whole(to: Address) -> bool:
    """Whether the blocks of a result follow one another, each number of one before those of the next."""
    steps = [bool(a.step) for a in to]
    return steps == sorted(steps, reverse=True) and all(a.block == 1 for a in to)


def _is_uniform(shape: tuple[int, ...], of: Address, to: Address) -> bool:
    """Whether no block of a result sees two exponents of a tensor."""
    for size, own, its in zip(shape, of, to, strict=True):
        length = its.block if its.step else size
        if own.step and length > 1 and own.block % length and own.block < size:
            return False
    return True


def _fits_runs(of: Address, length: int, size: int) -> bool:
    """Whether runs of ``length`` along the last axis see one exponent, or have one each."""
    last = of[-1]
    return not last.step or has_exponent_each(of) or last.block % length == 0 or last.block >= size
