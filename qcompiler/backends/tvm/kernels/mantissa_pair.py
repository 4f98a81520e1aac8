"""Sums, differences, products and selections of two tensors of block floating point, before they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.kernel import Argument, Role, held
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address, exponent_count
from qcompiler.backends.tvm.kernels.mantissa_loop import Run
from qcompiler.backends.tvm.kernels.mantissa_reading import (
    BoundExponents,
    BoundTensor,
    StoredMantissas,
    tensor_arguments,
)
from qcompiler.backends.tvm.kernels.mantissa_shift import in_lanes, shift_right
from qcompiler.backends.tvm.kernels.mantissa_source import BoundSource, MantissaSource
from qcompiler.backends.tvm.lanes import Expr, lanes_of


@dataclass(frozen=True)
class PairSource(MantissaSource):
    """A function of two operands at an exponent that is given. Arguments: ``a``, ``b``, each with its exponents, and
    ``met_exponents``, none below those of the operands, for ``mul`` none below their sum.

    Attributes:
        function: ``add``, ``sub``, ``maximum``, ``minimum`` or ``mul``.
        a, b: the operands.
        met: where the exponents of the result stand.
        rounding: how operands at smaller exponents, for ``mul`` products, are rounded: a name in ``SHIFT_ROUNDINGS``.
    """

    function: str
    a: StoredMantissas
    b: StoredMantissas
    met: Address
    rounding: str

    @property
    def bits(self) -> int:
        if self.function == "mul":
            return self.a.bits + self.b.bits
        return max(self.a.bits, self.b.bits) + (self.function in ("add", "sub"))

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.a.address, self.b.address, self.met)

    def readdressed(self, shape: tuple[int, ...], addresses: Sequence[Address]) -> MantissaSource:
        a, b, met = addresses
        return PairSource(
            shape, self.function, replace(self.a, address=a), replace(self.b, address=b), met, self.rounding
        )

    @property
    def exponents(self) -> str:
        return "met_exponents"

    @property
    def exponent_address(self) -> Address:
        return self.met

    def arguments(self) -> tuple[Argument, ...]:
        return (
            *tensor_arguments("a", self.shape, self.a), *tensor_arguments("b", self.shape, self.b),
            Argument("met_exponents", "int32", exponent_count(self.shape, self.met), Role.INPUT),
        )

    def bind(self, buffers: Mapping[str, Any], run: Run, domain: str) -> BoundSource:
        a, b = (
            BoundTensor(buffers, name, run, tensor.address, domain) for name, tensor in (("a", self.a), ("b", self.b))
        )
        return _BoundPair(self, a, b, BoundExponents(buffers["met_exponents"], run, self.met))


class _BoundPair:
    def __init__(self, source: PairSource, a: BoundTensor, b: BoundTensor, met: BoundExponents) -> None:
        self._source, self._a, self._b, self._met = source, a, b, met

    def at(self, column: Expr, lanes: int) -> tuple[Expr, Expr]:
        (a, a_exponents), (b, b_exponents) = self._a.at(column, lanes), self._b.at(column, lanes)
        met, rounding, function = self._met.at(column, lanes), self._source.rounding, self._source.function
        if function == "mul":
            return shift_right(held(a * b), _less(met, _sum(a_exponents, b_exponents)), rounding), met
        a = shift_right(a, _less(met, a_exponents), rounding)
        b = shift_right(b, _less(met, b_exponents), rounding)
        combined = {
            "add": lambda: a + b, "sub": lambda: a - b,
            "maximum": lambda: tirx.max(a, b), "minimum": lambda: tirx.min(a, b),
        }[function]()
        return held(combined), met


def _sum(a: Expr, b: Expr) -> Expr:
    lanes = max(lanes_of(a), lanes_of(b))
    return held(in_lanes(a, lanes) + in_lanes(b, lanes))


def _less(a: Expr, b: Expr) -> Expr:
    lanes = max(lanes_of(a), lanes_of(b))
    return held(in_lanes(a, lanes) - in_lanes(b, lanes))
