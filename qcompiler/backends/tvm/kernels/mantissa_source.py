"""What kernels of block floating point read: stored mantissas, real numbers, or what a subclass computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from qcompiler.backends.tvm.kernel import Argument, Role
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address, element_count
from qcompiler.backends.tvm.kernels.mantissa_limits import Limits
from qcompiler.backends.tvm.kernels.mantissa_loop import Run
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundReals, BoundTensor, StoredMantissas, tensor_arguments
from qcompiler.backends.tvm.kernels.mantissa_shift import domain_of
from qcompiler.backends.tvm.lanes import Expr

REAL_BITS = 25
"""Of a float32's significand, sign included."""


class BoundSource(Protocol):
    """A source at one run of places."""

    def at(self, column: Expr, lanes: int) -> tuple[Expr, Expr]:
        """Integers in the source's domain and their exponents, int32, from a place within the row on.

        Exponents are one for all lanes, or one for each.
        """
        ...


@dataclass(frozen=True)
class MantissaSource(ABC):
    """Integers with exponents, for each place of an index space. Subclasses are frozen dataclasses.

    Attributes:
        shape: the index space.
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def bits(self) -> int:
        """Width of the widest integer, sign included."""

    @property
    @abstractmethod
    def addresses(self) -> tuple[Address, ...]:
        """Of all tensors that are read."""

    @abstractmethod
    def readdressed(self, shape: tuple[int, ...], addresses: Sequence[Address]) -> MantissaSource:
        """The same source in another index space, with new ``addresses``."""

    @property
    @abstractmethod
    def exponents(self) -> str:
        """The argument that holds the exponents of what it gives; empty for reals."""

    @property
    @abstractmethod
    def exponent_address(self) -> Address:
        """Where these stand."""

    @property
    def is_real(self) -> bool:
        """Whether numbers are read whose exponents are their own."""
        return False

    @abstractmethod
    def arguments(self) -> tuple[Argument, ...]:
        """The buffers that it takes."""

    @abstractmethod
    def bind(self, buffers: Mapping[str, Any], run: Run, domain: str) -> BoundSource:
        """The source at the places of a run.

        Args:
            buffers: by name.
            run: the places.
            domain: ``int32`` or ``int64``: the format of the integers.
        """


@dataclass(frozen=True)
class StoredSource(MantissaSource):
    """Mantissas as they are. Arguments: ``x`` and ``x_exponents``."""

    x: StoredMantissas

    @property
    def bits(self) -> int:
        return self.x.bits

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.x.address,)

    def readdressed(self, shape: tuple[int, ...], addresses: Sequence[Address]) -> MantissaSource:
        (x,) = addresses
        return StoredSource(shape, replace(self.x, address=x))

    @property
    def exponents(self) -> str:
        return "x_exponents"

    @property
    def exponent_address(self) -> Address:
        return self.x.address

    def arguments(self) -> tuple[Argument, ...]:
        return tensor_arguments("x", self.shape, self.x)

    def bind(self, buffers: Mapping[str, Any], run: Run, domain: str) -> BoundSource:
        return BoundTensor(buffers, "x", run, self.x.address, domain)


@dataclass(frozen=True)
class RealSource(MantissaSource):
    """Finite float32 numbers. Argument: ``x``.

    Attributes:
        address: where they stand.
    """

    address: Address

    @property
    def bits(self) -> int:
        return REAL_BITS

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.address,)

    def readdressed(self, shape: tuple[int, ...], addresses: Sequence[Address]) -> MantissaSource:
        (address,) = addresses
        return RealSource(shape, address)

    @property
    def exponents(self) -> str:
        return ""

    @property
    def exponent_address(self) -> Address:
        return self.address

    @property
    def is_real(self) -> bool:
        return True

    def arguments(self) -> tuple[Argument, ...]:
        return (Argument("x", "float32", element_count(self.shape, self.address), Role.INPUT),)

    def bind(self, buffers: Mapping[str, Any], run: Run, domain: str) -> BoundSource:
        return self.bind_reals(buffers, run, domain)

    def bind_reals(self, buffers: Mapping[str, Any], run: Run, domain: str) -> BoundReals:
        """As ``bind``: also the numbers as they are."""
        return BoundReals(buffers["x"], run, self.address, domain)


@dataclass(frozen=True)
class LimitedSource:
    """A source and the limits of what it gives; the arguments are those of both.

    Attributes:
        source: the integers.
        limits: None where there are none.
    """

    source: MantissaSource
    limits: Limits | None = None

    def domain(self, result_bits: int) -> str:
        """The format to compute in for results of ``result_bits``."""
        return domain_of(self.source.bits, result_bits, self.limits.bits if self.limits else 0)

    def arguments(self) -> tuple[Argument, ...]:
        return (*self.source.arguments(), *(self.limits.arguments() if self.limits else ()))

    def bind(self, buffers: Mapping[str, Any], run: Run, domain: str) -> BoundSource:
        """As :meth:`MantissaSource.bind`."""
        bound = self.source.bind(buffers, run, domain)
        return bound if self.limits is None else _BoundLimits(self.limits, buffers, bound, domain)

    def without_limits(self) -> LimitedSource:
        return replace(self, limits=None)


class _BoundLimits:
    def __init__(self, limits: Limits, buffers: Mapping[str, Any], source: BoundSource, domain: str) -> None:
        self._limits, self._buffers, self._source, self._domain = limits, buffers, source, domain

    def at(self, column: Expr, lanes: int) -> tuple[Expr, Expr]:
        x, exponents = self._source.at(column, lanes)
        return self._limits.apply(self._buffers, x, exponents), exponents
