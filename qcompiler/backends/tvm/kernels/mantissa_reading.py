"""Tensors that kernels of block floating point read, at runs of places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.kernel import Argument, Role, held, load, named
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address, element_count, exponent_count
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, has_exponent_each
from qcompiler.backends.tvm.kernels.mantissa_shift import significand
from qcompiler.backends.tvm.lanes import Expr, convert, spread


@dataclass(frozen=True)
class StoredMantissas:
    """A block floating-point tensor in memory.

    Attributes:
        dtype: format of the mantissas.
        bits: their width, sign included.
        address: where they and the exponents stand.
    """

    dtype: str
    bits: int
    address: Address


def tensor_arguments(name: str, shape: tuple[int, ...], tensor: StoredMantissas) -> tuple[Argument, ...]:
    """Mantissas ``name`` and exponents ``name_exponents``."""
    return (
        Argument(name, tensor.dtype, element_count(shape, tensor.address), Role.INPUT),
        Argument(f"{name}_exponents", "int32", exponent_count(shape, tensor.address), Role.INPUT),
    )


class BoundExponents:
    """Exponents at one run of places."""

    def __init__(self, buffer: Any, run: Run, address: Address) -> None:
        self._buffer = buffer
        self._first = named(run.exponent(address))
        self._shared = None if has_exponent_each(address) else held(load(buffer, self._first))

    def at(self, column: Expr, lanes: int) -> Expr:
        """int32: one for all lanes, or one for each."""
        return self._shared if self._shared is not None else held(load(self._buffer, self._first + column, lanes))


class BoundNumbers:
    """Numbers at one run of places."""

    def __init__(self, buffer: Any, run: Run, address: Address) -> None:
        self._buffer = buffer
        self._stride = address[-1].stride
        self._first = named(run.element(address))

    def at(self, column: Expr, lanes: int) -> Expr:
        """As they are stored."""
        if self._stride == 0:
            return spread(load(self._buffer, self._first), lanes)
        if self._stride == 1:
            return load(self._buffer, self._first + column, lanes)
        places = self._first + column * self._stride
        if lanes == 1:
            return load(self._buffer, places)
        return self._buffer[tirx.Ramp(places, self._stride, lanes)]


class BoundTensor:
    """A block floating-point tensor at one run of places."""

    def __init__(self, buffers: Mapping[str, Any], name: str, run: Run, address: Address, domain: str) -> None:
        self._numbers = BoundNumbers(buffers[name], run, address)
        self._exponents = BoundExponents(buffers[f"{name}_exponents"], run, address)
        self._domain = domain

    def at(self, column: Expr, lanes: int) -> tuple[Expr, Expr]:
        return held(convert(self._numbers.at(column, lanes), self._domain)), self._exponents.at(column, lanes)


class BoundReals:
    """Real numbers at one run of places."""

    def __init__(self, buffer: Any, run: Run, address: Address, domain: str) -> None:
        self._numbers = BoundNumbers(buffer, run, address)
        self._domain = domain

    def real_at(self, column: Expr, lanes: int) -> Expr:
        """float32."""
        return self._numbers.at(column, lanes)

    def at(self, column: Expr, lanes: int) -> tuple[Expr, Expr]:
        return taken_apart(held(self.real_at(column, lanes)), self._domain)


def taken_apart(real: Expr, domain: str) -> tuple[Expr, Expr]:
    """The significand of each real in a domain, and its exponent."""
    integer, exponent = significand(real)
    return held(convert(integer, domain)), exponent
