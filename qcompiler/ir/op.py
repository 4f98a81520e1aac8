"""What every op provides, and the registry that finds op classes by name."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, dataclass_transform

from numpy.typing import NDArray

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, SymbolicDim, bind_dim
from qcompiler.ir.types import Elem, TensorType
from qcompiler.registry import Registry

Array = NDArray[Any]


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
    """A type together with the stored numbers: what an op computes on."""

    type: TensorType
    data: Array


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

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
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

_OpClass = TypeVar("_OpClass", bound=type[Op])


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
