"""Real bounds of block floating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.kernel import Argument, Role, held, load
from qcompiler.backends.tvm.kernels.mantissa_shift import LIMITS, in_lanes, limited, move
from qcompiler.backends.tvm.lanes import Expr, convert, element, lanes_of, literal, spread
from qcompiler.numerics.block_format import BlockFormat


@dataclass(frozen=True)
class Limits:
    """Real bounds that mantissas are limited to: see :class:`~qcompiler.ops.block_forms.elementwise.Limit`.

    Arguments: ``limit_significands``, int64, and ``limit_exponents``, int32, the lower bound's and the upper's.

    Attributes:
        lower, upper: ``none``, ``zero`` or ``real``.
        rounding: of the bounds at a block's exponent: a name in ``SHIFT_ROUNDINGS``.
        smallest, largest: mantissas of the format.
        bits: of what the limits may be in place of a smaller mantissa; 0 where they include zero.
        precision: significant bits of a floating-point element; None for integers.
    """

    lower: str
    upper: str
    rounding: str
    smallest: int
    largest: int
    bits: int
    precision: int | None

    @staticmethod
    def of(limits: Sequence[float], block_format: BlockFormat) -> Limits:
        """Limits of a format's mantissas to two reals, infinite where there is none."""
        lower, upper = ("none" if not np.isfinite(limit) else "real" if limit else "zero" for limit in limits)
        bits = 0 if limits[0] <= 0.0 <= limits[1] else block_format.mantissa
        return Limits(
            lower, upper, block_format.rounding, block_format.smallest, block_format.largest, bits,
            block_format.precision,
        )

    def arguments(self) -> tuple[Argument, ...]:
        if "real" not in (self.lower, self.upper):
            return ()
        return (
            Argument("limit_significands", "int64", 2, Role.CONSTANT),
            Argument("limit_exponents", "int32", 2, Role.CONSTANT),
        )

    def apply(self, buffers: Mapping[str, Any], x: Expr, exponents: Expr) -> Expr:
        """Integers at ``exponents``, limited."""
        for index, kind in enumerate((self.lower, self.upper)):
            if kind == "none":
                continue
            bound = self._bound(buffers, index, exponents) if kind == "real" else literal(0, "int64")
            most = LIMITS[element(x)]
            fitted = limited(bound, max(self.smallest, -most), min(self.largest, most))
            found = in_lanes(held(convert(fitted, element(x))), lanes_of(x))
            x = held(tirx.min(x, found) if index else tirx.max(x, found))
        return x

    def _bound(self, buffers: Mapping[str, Any], index: int, exponents: Expr) -> Expr:
        lanes, place = lanes_of(exponents), tirx.const(index, "int32")
        bound, exponent = (
            spread(held(load(buffers[name], place)), lanes) for name in ("limit_significands", "limit_exponents")
        )
        return move(bound, exponent, exponents, self.rounding, self.precision)


def limit_constants(limits: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The arguments of :class:`Limits`."""
    fractions, exponents = np.frexp(np.nan_to_num(np.asarray(limits, np.float64), posinf=0.0, neginf=0.0))
    return {
        "limit_significands": np.ldexp(fractions, 53).astype(np.int64),
        "limit_exponents": (exponents - 53).astype(np.int32),
    }
