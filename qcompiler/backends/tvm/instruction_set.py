"""What a processor's vector instructions offer to kernels."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from copy import copy
from typing import Any, ClassVar, Self

from qcompiler.backends.tvm.lanes import Expr, convert, reinterpret, vector
from qcompiler.registry import Registry


class InstructionSet(ABC):
    """A family of processors. A new one is a subclass in a file of its own, registered by ``@instruction_set``.

    Attributes:
        name: what ``--cpu`` takes.
        features: instruction-set extensions that compiled code needs, as LLVM spells them (``avx512vnni``).
        architecture: the first part of LLVM's target triple, such as ``x86_64``; empty for any.
        preference: the higher, the faster; of those that run here the highest is taken.
        llvm_target: attributes of TVM's LLVM target: ``mtriple``, ``mcpu``, ``mattr``.
        register_bytes: width of a vector register.
        registers: how many there are.
        activation: what a contraction's kernel multiplies: ``uint8``, ``int8`` or ``int16``.
        weight: the format of packed weights: ``int8`` or ``int16``. Where both are ``int16``, ``dot`` takes all of
            their numbers, as that of ``wide`` does.
        group: products that one ``dot`` adds to each lane; both operands hold them side by side.
        wide_group: the same for ``wide_dot``.
        temporaries: registers that a ``dot`` takes beside its operands.
        executed: whether this project's tests run its code; otherwise it is compiled and inspected only.
    """

    name: ClassVar[str]
    features: ClassVar[tuple[str, ...]] = ()
    architecture: ClassVar[str] = ""
    preference: ClassVar[int] = 0
    llvm_target: ClassVar[dict[str, Any]]
    register_bytes: ClassVar[int] = 16
    registers: ClassVar[int] = 16
    activation: ClassVar[str] = "int16"
    weight: ClassVar[str] = "int16"
    group: ClassVar[int] = 1
    wide_group: ClassVar[int] = 1
    temporaries: ClassVar[int] = 0
    executed: ClassVar[bool] = True

    @property
    def lanes(self) -> int:
        """32-bit numbers in a register."""
        return self.register_bytes // 4

    @property
    def is_retargeted(self) -> bool:
        """Whether it makes code for a machine that was named: see :meth:`retargeted`."""
        return "llvm_target" in vars(self)

    def runs_on(self, architecture: str, features: frozenset[str]) -> bool:
        """Whether a processor of this architecture with these extensions runs the code."""
        return self.architecture in ("", architecture) and features.issuperset(self.features)

    def retargeted(self, triple: str, **attributes: Any) -> Self:
        """A copy that makes code for another machine.

        Args:
            triple: the machine, as LLVM names it: ``aarch64-linux-gnu``.
            attributes: further attributes of TVM's LLVM target, such as ``mcpu``; they replace the set's own.
        """
        made = copy(self)
        vars(made)["llvm_target"] = {**self.llvm_target, "mtriple": triple, **attributes}
        return made

    @property
    def wide(self) -> InstructionSet:
        """The set as kernels see it that multiply numbers of 16 bits: its ``dot`` takes int16 x int16."""
        if self.activation == self.weight == "int16":
            return self
        made: InstructionSet = copy(self)
        vars(made).update(
            name=f"{self.name}-wide", activation="int16", weight="int16", group=self.wide_group, dot=self.wide_dot
        )
        return made

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        """``accumulator[i] + sum over the group g of activations[i, g] * weights[i, g]``, exact in int32.

        Args:
            accumulator: int32, ``lanes`` of them.
            activations: ``lanes * group`` numbers in the format ``activation``.
            weights: ``lanes * group`` numbers in the format ``weight``.
        """
        raise NotImplementedError

    def wide_dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        """As ``dot``, of int16 x int16 and ``wide_group`` products a lane.

        Sums that leave int32 wrap around. Sets whose ``dot`` takes bytes may do better than this one, which is right
        on any processor.

        Args:
            accumulator: int32, ``lanes`` of them.
            activations: int16, ``lanes * wide_group`` of them.
            weights: int16, ``lanes * wide_group`` of them.
        """
        # Unsigned numbers wrap around; LLVM may assume that sums of signed ones do not.
        signed, unsigned = (vector(dtype, self.lanes) for dtype in ("int32", "uint32"))
        products = convert(activations, "int32") * convert(weights, "int32")
        return reinterpret(signed, reinterpret(unsigned, accumulator) + reinterpret(unsigned, products))

    def pack_to_bytes(self, vectors: Sequence[Expr], dtype: str) -> Expr:
        """``4 * lanes`` int32 numbers, given as four vectors, saturated to 8 bits, in order.

        Args:
            vectors: four int32 vectors of ``lanes``.
            dtype: ``int8`` or ``uint8``.
        """
        raise NotImplementedError


INSTRUCTION_SETS: Registry[str, InstructionSet] = Registry("instruction set")
"""Instruction sets by name."""


def instruction_set(cls: type[InstructionSet]) -> type[InstructionSet]:
    """Register a class of instruction sets under its name.

    Raises:
        QCompilerError: the name is taken.
    """
    INSTRUCTION_SETS.add(cls.name, cls())
    return cls
