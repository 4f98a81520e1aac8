"""Sums of int32 that together make the sums of a contraction, and how they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.kernels.elementwise import Elementwise, ElementwiseInput
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like


@dataclass(frozen=True)
class CombineDigits(Stage):
    """int64 ``sum over d of operand[d] * 2**(base_bits * d)`` of int32 sums by digit of the weights, the lowest first.

    Exact: as weights are int16 and sums int32, the highest digit counts at most 2**16 times, so that no part of the
    result reaches 2**48.

    Attributes:
        base_bits: 1 to 16.
    """

    base_bits: int

    def expression(self, operands: Sequence[Expr]) -> Expr:
        # From the highest digit down: each step is one shift and one sum.
        wide = [convert(operand, "int64") for operand in operands]
        shift = literal_like(self.base_bits, wide[0])
        return reduce(lambda high, low: (high << shift) + low, reversed(wide))


@dataclass(frozen=True)
class CombineEstimate(Stage):
    """The int64 sum whose low 32 bits are the first operand, and that is nearest to ``second * 2**places``.

    Operands: int32 ``low``, which wrapped around; int32 ``estimate``, such that the sum and ``estimate * 2**places``
    are less than ``2**31`` apart.

    Attributes:
        places: 0 to 31.
    """

    places: int

    def expression(self, operands: Sequence[Expr]) -> Expr:
        low, estimate = (convert(operand, "int64") for operand in operands)
        near = estimate << literal_like(self.places, estimate)
        # The difference is right in its low 32 bits, and has no others.
        return near + convert(convert(low - near, "int32"), "int64")


@dataclass(frozen=True)
class PartialSums:
    """Where the partial sums of one sample lie: int32 ``[outer, parts, inner]``, dense.

    ``[outer, inner]`` is the contraction's own result in its own order: ``[height, width, outputs]``, however it is
    cut in two.

    Attributes:
        outer, inner: what lies around the parts and within.
        parts: how many each sum has.
        stage: takes the parts in order and gives the int64 sum.
    """

    outer: int
    inner: int
    parts: int
    stage: Stage

    @property
    def elements(self) -> int:
        """int32 numbers of one sample. Samples lie side by side."""
        return self.outer * self.parts * self.inner

    @property
    def offsets(self) -> tuple[int, ...]:
        """For each part: how many numbers behind the first one its own begin."""
        return tuple(part * self.inner for part in range(self.parts))

    def shape(self, samples: int = 1) -> tuple[int, ...]:
        """Dimensions of an element-wise kernel over the results of some samples, neighbours merged."""
        outer = samples * self.outer
        return (outer * self.inner,) if outer == 1 or self.parts == 1 else (outer, self.inner)

    def inputs(self, samples: int = 1) -> tuple[ElementwiseInput, ...]:
        """An element-wise kernel's inputs for the parts; the view of each begins at its offset."""
        strides = (1,) if len(self.shape(samples)) == 1 else (self.parts * self.inner, 1)
        return (ElementwiseInput("int32", strides, constant=False),) * self.parts

    def combination(self, samples: int = 1) -> Elementwise:
        """The kernel that computes int64 ``[samples * outer, inner]`` and nothing else.

        Arguments: ``input_0``, ``input_1`` ..., the same buffer from each of ``offsets`` on, and ``y``.
        """
        step = Step(self.stage, tuple(range(self.parts)))
        return Elementwise(self.shape(samples), self.inputs(samples), (step,), "int64")
