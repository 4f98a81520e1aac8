"""What every op provides, and the registry that finds op classes by name."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

from numpy.typing import NDArray

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, SymbolicDim, bind_dim
from qcompiler.ir.types import BlockFloat, Elem, TensorType
from qcompiler.registry import Registry

Array = NDArray[Any]
Stored = Array | BlockArray
"""What a value holds: an array, or mantissas and exponents."""


class Fact(enum.Flag):
    """Mathematical facts about an op that hold on every target."""

    NONE = 0
    ELEMENTWISE = enum.auto()
    """Each result element depends on the operand elements at the same (broadcast) position."""
    UNARY = enum.auto()
    """A function of one real number, applied to each element of operand 0; it can become a table."""
    VALUE_PRESERVING = enum.auto()
    """Every result element is an element of an operand, or a constant padding value."""
    CONTRACTION = enum.auto()
    """A sum of products of operands 0 and 1, plus operand 2 where present."""
    CLAMP = enum.auto()
    """Limits values to an interval and does nothing else."""
    COMMUTATIVE = enum.auto()
    """Operands 0 and 1 may change places."""


class OpTypeError(Exception):
    """Operand or result types that an op cannot have; the verifier adds the place."""


@dataclass(frozen=True)
class Tensor:
    """A type together with the stored numbers: what an op computes on.

    Attributes:
        type: what the numbers mean.
        data: stored numbers; the mantissas of block floating point.
        exponents: those of block floating point, on the grid of blocks; None for other types.
    """

    type: TensorType
    data: Array
    exponents: Array | None = None

    @classmethod
    def of(cls, type: TensorType, stored: Stored) -> Tensor:
        """A tensor of what an op computed."""
        return cls(type, *stored) if isinstance(stored, BlockArray) else cls(type, stored)

    @property
    def stored(self) -> Stored:
        """The stored numbers; mantissas and exponents of block floating point."""
        return self.data if self.exponents is None else BlockArray(self.data, self.exponents)

    @property
    def block(self) -> BlockArray:
        """Mantissas and exponents.

        Raises:
            OpTypeError: the type is no block floating point.
        """
        if self.exponents is None:
            raise OpTypeError(f"needs block floating point, found {self.type}")
        return BlockArray(self.data, self.exponents)


class Constants(Mapping[str, ConstantArray]):
    """Named constant arrays of an arithmetic, such as multiplier and shift: an immutable, hashable mapping."""

    def __init__(self, arrays: Mapping[str, Any] = {}) -> None:
        self._arrays = {
            name: value if isinstance(value, ConstantArray) else ConstantArray(value)
            for name, value in sorted(arrays.items())
        }

    def __getitem__(self, name: str) -> ConstantArray:
        return self._arrays[name]

    def __iter__(self) -> Any:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __hash__(self) -> int:
        return hash(tuple(self._arrays.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constants) and self._arrays == other._arrays

    def __repr__(self) -> str:
        return "Constants({" + ", ".join(f"{name}: @{value.digest[:16]}" for name, value in self.items()) + "})"

    def arrays(self) -> dict[str, Array]:
        return {name: value.array for name, value in self._arrays.items()}


class Op:
    """Base of all ops: a frozen dataclass whose fields are the op's attributes.

    A subclass states mathematics only; what a target demands of the op stands in the target's descriptor.
    """

    name: ClassVar[str]
    facts: ClassVar[Fact] = Fact.NONE
    bounds: ClassVar[tuple[float, float] | None] = None
    """Interval that holds every real result value, where the mathematics gives one."""
    foldable: ClassVar[bool] = True
    """Whether constant operands allow evaluation at compile time."""
    holds_blocks: ClassVar[bool] = False
    """Whether the op's own methods know block floating point, without a block form."""

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        """Shapes of the results.

        Raises:
            OpTypeError: the operand shapes do not fit the op.
        """
        raise NotImplementedError

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        """Element types of the results; None where the operands leave them open.

        An open element type is part of the node: the scale of a requantize, say.

        Raises:
            OpTypeError: the operand element types do not fit the op.
        """
        raise NotImplementedError

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        """Stored numbers of the results, exactly as the program defines them.

        Args:
            operands: tensors whose types have no free dimension.
            results: result types without free dimensions.
        """
        raise NotImplementedError

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        """Check what ``infer_shapes`` and ``infer_elems`` leave open.

        Raises:
            OpTypeError: the result types do not fit.
        """

    def result_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        """``infer_elems``, by the op's block form where operands are block floating point.

        Raises:
            OpTypeError: the operand element types do not fit the op.
        """
        form = self.block_form(operands)
        return form.infer_elems(self, operands) if form else self.infer_elems(operands)

    def check(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        """``verify``, by the op's block form where operands are block floating point.

        Raises:
            OpTypeError: the result types do not fit.
        """
        form = self.block_form(operands)
        if form:
            form.verify(self, operands, results)
        else:
            self.verify(operands, results)

    def compute(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        """``evaluate``, by the op's block form where operands are block floating point."""
        form = self.block_form([t.type for t in operands])
        return form.evaluate(self, operands, results) if form else self.evaluate(operands, results)

    def block_form(self, operands: Sequence[TensorType]) -> BlockForm | None:
        """What the op means on these operands where some are block floating point; None where none is.

        Raises:
            OpTypeError: the op has no meaning on block floating point.
        """
        if self.holds_blocks or not any(isinstance(t.elem, BlockFloat) for t in operands):
            return None
        form = BLOCK_FORMS.get(self.name)
        if form is None:
            raise OpTypeError("has no meaning on block floating point")
        return form

    def multiply_accumulates(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> int:
        """Multiplications of one sample, for cost summaries."""
        return 0

    def replace(self, **changes: Any) -> Any:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]

    def attributes(self) -> dict[str, Any]:
        """Attribute values by name, in declaration order."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def bind(self, symbols: Mapping[str, int]) -> Op:
        """The op with symbolic dimensions in its attributes replaced by integers."""
        bound = {
            key: _bind_attribute(value, symbols)
            for key, value in self.attributes().items()
            if _has_symbol(value)
        }
        return self.replace(**bound) if bound else self


def _has_symbol(value: Any) -> bool:
    return isinstance(value, SymbolicDim) or (isinstance(value, tuple) and any(map(_has_symbol, value)))


def _bind_attribute(value: Any, symbols: Mapping[str, int]) -> Any:
    if isinstance(value, SymbolicDim):
        return bind_dim(value, symbols)
    if isinstance(value, tuple):
        return tuple(_bind_attribute(v, symbols) for v in value)
    return value


OPS: Registry[str, type[Op]] = Registry("op")
"""Op classes by name."""


class BlockForm:
    """What an op means where operands are block floating point; shapes are those of any operands.

    The methods are those of :class:`Op`, for an op that is given first.
    """

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        """Element types of the results; open by default, so that they belong to the node."""
        return tuple(None for _ in op.infer_shapes(operands))

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        """Check operand and result types.

        Raises:
            OpTypeError: they do not fit.
        """

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        """Stored numbers of the results, exactly as the program defines them."""
        raise NotImplementedError


BLOCK_FORMS: Registry[str, BlockForm] = Registry("block form")
"""Meanings on block floating point, by name of the op."""

_OpClass = TypeVar("_OpClass", bound=type[Op])
_FormClass = TypeVar("_FormClass", bound=type[BlockForm])


def block_form(*names: str) -> Callable[[_FormClass], _FormClass]:
    """Register a class as the meaning of ops on block floating point.

    Raises:
        QCompilerError: an op has one already.
    """

    def register(cls: _FormClass) -> _FormClass:
        for name in names:
            BLOCK_FORMS.add(name, cls())
        return cls

    return register


@dataclass_transform(frozen_default=True)
def op(name: str) -> Callable[[_OpClass], _OpClass]:
    """Register a class as the op ``name`` and make it a frozen dataclass.

    Raises:
        QCompilerError: the name is taken.
    """

    def register(cls: _OpClass) -> _OpClass:
        OPS.check_free(name, cls.__module__)
        dataclass(frozen=True)(cls)
        cls.name = name
        OPS.add(name, cls)
        return cls

    return register


def require(condition: bool, message: str) -> None:
    """Raise a type error with ``message`` unless ``condition`` holds."""
    if not condition:
        raise OpTypeError(message)
