"""Element-wise steps: what ops that compute each number by itself become, alone, fused, or behind a contraction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.kernel import held
from qcompiler.backends.tvm.lanes import Expr


@dataclass(frozen=True)
class Stage(ABC):
    """A function of numbers, for one lane or many. Subclasses are frozen dataclasses that describe it completely."""

    @abstractmethod
    def expression(self, operands: Sequence[Expr]) -> Expr:
        """The result.

        Args:
            operands: one for each operand of the op, then one for each constant, all with the same lanes. Stored
                integers of up to 32 bits come as int32, those of 64 bits as int64, floats as they are; constants in
                the format of their array.

        Returns:
            int32, int64 or a float. Where the element has bounds, they are applied afterwards.
        """


@dataclass(frozen=True)
class Element:
    """What one node computes for each element.

    Attributes:
        stage: the function.
        constants: further operands, broadcastable to the result: scalars, or arrays along its axes.
        bounds: the result is limited to these integers; None where it needs no limit.
    """

    stage: Stage
    constants: tuple[NDArray[Any], ...] = ()
    bounds: tuple[int, int] | None = None


@dataclass(frozen=True)
class Step:
    """One stage within a kernel.

    Attributes:
        stage: the function.
        operands: which numbers it takes: kernel inputs are numbered first, then the results of earlier steps.
        limited: whether the result is limited by two further inputs, named by the last two entries of ``operands``.
    """

    stage: Stage
    operands: tuple[int, ...]
    limited: bool = False


def evaluate(steps: Sequence[Step], inputs: Sequence[Expr]) -> Expr:
    """The result of the last step, for given inputs."""
    known = list(inputs)
    for step in steps:
        operands = [known[i] for i in step.operands]
        if step.limited:
            *operands, low, high = operands
            value = step.stage.expression(operands)
            value = tirx.max(tirx.min(value, high), low)
        else:
            value = step.stage.expression(operands)
        known.append(held(value))
    return known[-1]
