"""Block formats: their ranges, the MX presets, and settings that contradict each other."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_format import ELEMENTS, BlockFormat


@pytest.mark.parametrize(
    ("f", "mantissas", "exponents", "dtype"),
    [
        (BlockFormat(16), (-32768, 32767), (-128, 127), np.int16),
        (BlockFormat(8, symmetric=True), (-127, 127), (-128, 127), np.int8),
        (BlockFormat(8, 5, "sign-magnitude"), (-127, 127), (-16, 15), np.int8),
        (BlockFormat(2, 2), (-2, 1), (-2, 1), np.int8),
        (BlockFormat(33, 16), (-(2**32), 2**32 - 1), (-32768, 32767), np.int64),
        (BlockFormat.mx("int8"), (-127, 127), (-133, 121), np.int8),
        (BlockFormat.mx("e4m3"), (-(448 << 9), 448 << 9), (-136, 118), np.int32),
        (BlockFormat.mx("e2m1"), (-12, 12), (-128, 126), np.int8),
    ],
)
def test_ranges(f: BlockFormat, mantissas: tuple[int, int], exponents: tuple[int, int], dtype: Any) -> None:
    assert (f.smallest, f.largest) == mantissas
    assert f.exponent_range == exponents
    assert f.mantissa_dtype == dtype


TYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn, "e2m1": ml_dtypes.float4_e2m1fn,
}


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_are_those_of_ml_dtypes(name: str) -> None:
    info: Any = ml_dtypes.finfo(TYPES[name])  # type: ignore[no-untyped-call]
    element, f = ELEMENTS[name], BlockFormat.mx(name)
    assert float(info.smallest_subnormal) == 2.0**element.step
    assert float(info.max) == element.largest * 2.0**element.step
    assert element.precision == info.nmant + 1
    assert 2**element.top <= float(info.max) < 2 ** (element.top + 1)
    assert f.leading_bit == element.top + f.fraction
    assert f.precision == element.precision


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mantissa": 1}, "mantissa of a block format is out of range"),
        ({"mantissa": 63}, "mantissa of a block format is out of range"),
        ({"mantissa": 8.0}, "mantissa of a block format is out of range"),
        ({"exponent": 1}, "exponent of a block format is out of range"),
        ({"exponent": 17}, "exponent of a block format is out of range"),
        ({"representation": "ones-complement"}, "unknown representation"),
        ({"element": "e4m4"}, "did you mean 'e4m3'"),
        ({"scale": "ceil"}, "unknown scale 'ceil'"),
        ({"rounding": "half-evn"}, "did you mean 'half-even'"),
        ({"overflow": "wrap"}, "unknown overflow 'wrap'"),
        ({"guard": 1}, "guard bits belong to the scale rule 'headroom'"),
        ({"scale": "headroom", "guard": 7}, "guard of a block format is out of range"),
        ({"scale": "headroom", "guard": -1}, "guard of a block format is out of range"),
        ({"scale": "headroom", "representation": "sign-magnitude"}, "counts redundant sign bits"),
        ({"element": "e4m3"}, "elements has a mantissa of its own"),
        ({"element": "e2m1", "mantissa": 5}, "elements has a mantissa of its own"),
        ({"lowest_exponent": 3, "highest_exponent": 2}, "exponent range of a block format does not fit"),
        ({"exponent": 4, "lowest_exponent": -8, "highest_exponent": 8}, "exponent range of a block format does not"),
        ({"lowest_exponent": -200}, "exponent range of a block format does not fit"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(QCompilerError) as caught:
        BlockFormat(**{"mantissa": 8, **settings})
    assert message in str(caught.value)


def test_settings_at_their_limits_are_taken() -> None:
    assert BlockFormat(8, scale="headroom", guard=6).guard == 6
    assert BlockFormat(8, 4, lowest_exponent=-8, highest_exponent=7).exponent_range == (-8, 7)
    assert BlockFormat(8, 4, lowest_exponent=5, highest_exponent=5).exponent_range == (5, 5)


def test_mx_refuses_other_elements() -> None:
    with pytest.raises(QCompilerError, match="unknown element 'fp8'"):
        BlockFormat.mx("fp8")
