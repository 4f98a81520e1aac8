"""Contractions of int16 activations with constant int16 weights, exact in int64.

Sums of such products leave int32, so they are computed in parts that fit, by the kernels for bytes on the instruction
set's ``wide`` view. There are three ways:

- with carries (``wide_carry_convolution``): what lies above the low 16 bits is moved to a second accumulator, before it
  gets too large. Where weights are not all large, that is the least work;
- by digits (``weight_digits``): the weights are split into digits; for each there is a sum. The digits are output
  channels of one convolution, or weights of one depthwise convolution each;
- by an estimate (``wide_estimate``): the sum's low 32 bits, and an estimate from products of bytes. Where those take
  fewer instructions than products of 16 bits, that is less work than two digits.

An element-wise step makes int64 sums out of the parts (``wide_partial_sums``).

To lower a contraction:

1. Make room for ``sums.elements`` int32 a sample.
2. Where there is ``high_bytes``, run it on each sample, or all: it makes the activations of some of the calls.
3. For each sample make every call, with ``y`` at the call's ``offset`` behind the sample's first partial sum.
4. Run ``sums.combination(samples)``, or an ``Elementwise`` of your own whose first inputs are ``sums.inputs(samples)``
   and whose first step is ``Step(sums.stage, ...)``, on views at ``sums.offsets``.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_tiles import choose_tile, predicted_cycles
from qcompiler.backends.tvm.kernels.contraction_weights import pack_constants
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.elementwise import Elementwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.weight_digits import split_into_digits
from qcompiler.backends.tvm.kernels.wide_carry_convolution import CARRIED_BITS, CarryConvolution, chunk_constants
from qcompiler.backends.tvm.kernels.wide_estimate import (
    PLACES,
    EstimateWeights,
    estimate_weights,
    high_bytes_kernel,
    zero_point_of,
)
from qcompiler.backends.tvm.kernels.wide_kernel import WideKernel
from qcompiler.backends.tvm.kernels.wide_partial_sums import CombineDigits, CombineEstimate, PartialSums
from qcompiler.backends.tvm.kernels.window_geometry import Pads, Pair, window_counts

Array = NDArray[Any]

_SUMS = Epilogue((), (), "int32")

_HIGH_BYTES_CYCLES = 8
"""For one register of high bytes: two to four of activations, out of the second-level cache."""


@dataclass(frozen=True)
class ContractionGeometry:
    """The shapes of a convolution of one sample.

    Attributes:
        height, width, channels: the input ``[height, width, channels]``.
        outputs: output channels.
        kernel, strides, dilations: along height and width.
        pads: top, left, bottom, right. Padding is zero.
        groups: divides channels and outputs.
    """

    height: int
    width: int
    channels: int
    outputs: int
    kernel: Pair = (1, 1)
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1

    @staticmethod
    def of_matrices(rows: int, terms: int, columns: int) -> ContractionGeometry:
        """A product of ``[rows, terms]`` and ``[terms, columns]``: its weights are ``[columns, 1, 1, terms]``."""
        return ContractionGeometry(1, rows, terms, columns)

    @property
    def output_size(self) -> Pair:
        """Height and width of the output."""
        return window_counts((self.height, self.width), self.kernel, self.strides, self.dilations, self.pads)

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is summed up by itself."""
        return self.groups == self.channels == self.outputs > 1


@dataclass(frozen=True)
class WideCall:
    """One kernel of a contraction, for one sample.

    Attributes:
        kernel: its arguments are ``x`` ``[height, width, channels]``, the constants, ``y``, int32, and scratch memory.
        constants: by the name of the argument.
        offset: how many numbers behind the sample's first partial sum ``y`` begins.
        takes_high_bytes: whether ``x`` is what ``WideContraction.high_bytes`` computes, not the int16 activations.
    """

    kernel: Kernel
    constants: Mapping[str, Array]
    offset: int = 0
    takes_high_bytes: bool = False


@dataclass(frozen=True)
class WideContraction:
    """How a contraction is computed.

    Attributes:
        calls: together they write every partial sum; in any order.
        sums: where those lie, and how they make the result.
        high_bytes: from ``input_0``, int16 activations of one sample, to the bytes ``y`` that some calls take; None
            where no call does.
    """

    calls: tuple[WideCall, ...]
    sums: PartialSums
    high_bytes: Elementwise | None = None


def wide_contraction(geometry: ContractionGeometry, weights: NDArray[np.int16], isa: InstructionSet) -> WideContraction:
    """The kernels and constants for a convolution, or a product with a constant matrix.

    Args:
        geometry: the shapes.
        weights: int16 ``[outputs, kernel height, kernel width, channels / groups]``.
        isa: what the kernels will be compiled for; itself, not its ``wide`` view.

    Raises:
        QCompilerError: 65536 non-zero weights for an output, or more; ``DirectConvolution`` with an int64 accumulator
            has no such limit.
    """
    base_bits, digits = split_into_digits(weights)
    found = [by_digits(geometry, base_bits, digits, isa)]
    if len(digits) > 1 and not geometry.is_depthwise:
        # Depthwise kernels load and interleave more than they multiply: those of bytes are hardly faster.
        estimate = estimate_weights(weights) if isa.group > isa.wide.group else None
        if estimate is not None:
            found.append(by_estimate(geometry, weights, estimate, isa))
        with_carries = by_carries(geometry, weights, isa)
        if with_carries is not None:
            found.append(with_carries)
    return min(found, key=lambda way: _predicted_cycles(way, isa)) if len(found) > 1 else found[0]


def by_digits(
    geometry: ContractionGeometry, base_bits: int, digits: NDArray[np.int16], isa: InstructionSet
) -> WideContraction:
    """A contraction with each digit of the weights.

    Args:
        geometry: the shapes.
        base_bits, digits: as ``split_into_digits`` gives them.
        isa: what the kernels will be compiled for.
    """
    count, groups, size = len(digits), geometry.groups, prod(geometry.output_size)
    if geometry.is_depthwise:
        sums = PartialSums(1, size * geometry.outputs, count, CombineDigits(base_bits))
        return WideContraction(
            tuple(
                _wide_call(geometry, digit, offset, isa) for digit, offset in zip(digits, sums.offsets, strict=True)
            ),
            sums,
        )
    # Digits of a group lie side by side, so that they share its activations.
    inner = geometry.outputs // groups
    by_group = digits.reshape(count, groups, inner, *digits.shape[2:])
    ordered = np.moveaxis(by_group, 0, 1).reshape(-1, *digits.shape[2:])
    call = _wide_call(replace(geometry, outputs=len(ordered)), ordered, 0, isa)
    return WideContraction((call,), PartialSums(size * groups, inner, count, CombineDigits(base_bits)))


def by_estimate(
    geometry: ContractionGeometry, weights: NDArray[np.int16], estimate: EstimateWeights, isa: InstructionSet
) -> WideContraction:
    """A contraction that wraps around, and one of high bytes.

    Args:
        geometry: the shapes.
        weights: int16 ``[outputs, kernel height, kernel width, channels / groups]``.
        estimate: what ``estimate_weights`` makes of them.
        isa: what the kernels will be compiled for; it multiplies bytes.
    """
    sums = PartialSums(1, prod(geometry.output_size) * geometry.outputs, 2, CombineEstimate(PLACES))
    low, high = sums.offsets
    zero_point = zero_point_of(isa.activation)
    kernel, constants = _kernel(geometry, isa.activation, estimate.high, estimate.bias, zero_point, isa)
    return WideContraction(
        (_wide_call(geometry, weights, low, isa), WideCall(kernel, constants, high, takes_high_bytes=True)),
        sums, high_bytes_kernel(geometry.height * geometry.width * geometry.channels, isa.activation),
    )


def by_carries(
    geometry: ContractionGeometry, weights: NDArray[np.int16], isa: InstructionSet
) -> WideContraction | None:
    """A contraction whose accumulators hand over what exceeds 16 bits; None where they would have to at every step.

    Args:
        geometry: the shapes; not depthwise.
        weights: int16 ``[outputs, kernel height, kernel width, channels / groups]``.
        isa: what the kernels will be compiled for.
    """
    shape = CarryConvolution(
        geometry.height, geometry.width, geometry.channels, geometry.outputs, geometry.kernel, geometry.strides,
        geometry.dilations, geometry.pads, geometry.groups, "int16", _SUMS, Tile(1, 1),
    )
    chunks = chunk_constants(shape, isa.wide, weights)
    if chunks is None:
        return None
    kernel = replace(shape, tile=choose_tile(shape, _with_half_the_registers(isa.wide)))
    constants = pack_constants(kernel, isa.wide, weights, np.zeros(len(weights), np.int32), 0)
    sums = PartialSums(1, prod(geometry.output_size) * geometry.outputs, 2, CombineDigits(CARRIED_BITS))
    return WideContraction((WideCall(WideKernel(kernel), {**constants, **chunks}),), sums)


def _with_half_the_registers(isa: InstructionSet) -> InstructionSet:
    """For tiles that have a second accumulator beside each."""
    # Carries may be spilled: they are seldom used. Weights and a broadcast have no second.
    made = copy(isa)
    vars(made)["registers"] = isa.registers // 2 + 2
    return made


def _predicted_cycles(way: WideContraction, isa: InstructionSet) -> float:
    """Cycles that convolutions take with what prepares their activations, roughly."""
    cycles = 0.0
    for call in way.calls:
        is_wide = isinstance(call.kernel, WideKernel)
        kernel = call.kernel.kernel if isinstance(call.kernel, WideKernel) else call.kernel
        assert isinstance(kernel, Convolution)
        view = isa.wide if is_wide else isa
        each = 1.0
        if isinstance(kernel, CarryConvolution):
            # Moving carries takes about as long as a step.
            each += int(call.constants["chunk_starts"][-1]) / (kernel.terms(view) // view.group)
        cycles += each * predicted_cycles(kernel, kernel.tile, view)
    if way.high_bytes is not None:
        cycles += prod(way.high_bytes.shape) / isa.register_bytes * _HIGH_BYTES_CYCLES
    return cycles


def _wide_call(geometry: ContractionGeometry, weights: NDArray[np.int16], offset: int, isa: InstructionSet) -> WideCall:
    """Sums of products of 16 bits, wrapping around."""
    kernel, constants = _kernel(geometry, "int16", weights, np.zeros(len(weights), np.int32), 0, isa.wide)
    return WideCall(WideKernel(kernel), constants, offset)


def _kernel(
    geometry: ContractionGeometry, activation: str, weights: Array, bias: NDArray[np.int32], zero_point: int,
    isa: InstructionSet,
) -> tuple[Kernel, dict[str, Array]]:
    """Sums of products in int32, with the kernel's constants."""
    if geometry.is_depthwise:
        depthwise = Depthwise(
            geometry.height, geometry.width, geometry.channels, geometry.kernel, geometry.strides, geometry.dilations,
            geometry.pads, activation, _SUMS,
        )
        packed = depthwise.pack(weights[..., 0], bias, zero_point, isa)
        return depthwise, dict(zip(("weights", "bias", "fill"), packed, strict=False))
    shape = Convolution(
        geometry.height, geometry.width, geometry.channels, geometry.outputs, geometry.kernel, geometry.strides,
        geometry.dilations, geometry.pads, geometry.groups, activation, _SUMS, Tile(1, 1),
    )
    convolution = replace(shape, tile=choose_tile(shape, isa))
    return convolution, pack_constants(convolution, isa, weights, bias, zero_point)
