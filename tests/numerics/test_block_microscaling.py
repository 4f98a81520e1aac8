"""MX formats against independent implementations, element by element: gfloat and ml_dtypes."""

from __future__ import annotations

from typing import Any

import gfloat
import ml_dtypes
import numpy as np
import pytest
from gfloat.formats import (
    format_info_mxfp4_e2m1,
    format_info_mxfp6_e2m3,
    format_info_mxfp6_e3m2,
    format_info_mxfp8_e4m3,
    format_info_mxfp8_e5m2,
    format_info_mxint8,
)
from numpy.typing import NDArray

from qcompiler.numerics.block_conversion import from_block, to_block
from qcompiler.numerics.block_format import ELEMENTS, BlockFormat

GFLOAT = {
    "e4m3": format_info_mxfp8_e4m3, "e5m2": format_info_mxfp8_e5m2, "e3m2": format_info_mxfp6_e3m2,
    "e2m3": format_info_mxfp6_e2m3, "e2m1": format_info_mxfp4_e2m1, "int8": format_info_mxint8,
}
TYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e3m2": ml_dtypes.float6_e3m2fn,
    "e2m3": ml_dtypes.float6_e2m3fn, "e2m1": ml_dtypes.float4_e2m1fn,
}
NAMES = sorted(GFLOAT)


def finfo(name: str) -> Any:
    """Limits of the element format."""
    return ml_dtypes.finfo(TYPES[name])  # type: ignore[no-untyped-call]


def element_grid(name: str) -> NDArray[np.float64]:
    """Every number of the element format that is not negative."""
    if name == "int8":
        return np.arange(128) / 64
    codes = np.arange(1 << (finfo(name).bits - 1), dtype=np.uint8).view(TYPES[name])
    values: NDArray[np.float64] = codes.astype(np.float64)
    return values[np.isfinite(values)]


def seeded_blocks(name: str, seed: int) -> NDArray[np.float32]:
    """Blocks of 32: numbers of the element format, ties between them and their neighbours in float32, at any scale;
    zeros; numbers near both ends of float32; outliers; numbers above the largest element.
    """
    rng = np.random.default_rng([seed, NAMES.index(name)])
    grid = element_grid(name)
    ties = (grid[1:] + grid[:-1]) / 2
    pool = np.concatenate([grid, ties, ties * (1 + 2.0**-20), ties * (1 - 2.0**-20), grid[-1:] * 1.0625])
    x = rng.choice(pool, (60, 32)) * rng.choice([-1, 1], (60, 32))
    # The largest number fixes the scale, so that ties stay ties.
    x[:30, 0] = grid[-1]
    x = x * 2.0 ** rng.integers(-30, 30, (60, 1))
    x[40:44] = rng.standard_normal((4, 32)) * 2.0 ** np.array([[-125.0], [-140.0], [-149.0], [120.0]])
    x[44] = 0
    x[45, 1:] = 0
    x[46:50, 7] *= 2.0**12
    with np.errstate(over="ignore"):
        limited: NDArray[np.float32] = np.clip(x, -3e38, 3e38).astype(np.float32)
    return limited


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_against_gfloat(name: str, seed: int) -> None:
    info, x = GFLOAT[name], seeded_blocks(name, seed)
    f = BlockFormat.mx(name)
    mantissas, exponents = to_block(x, f, (1, 32))
    ours = from_block(mantissas, exponents, (1, 32))
    for row, block in enumerate(x.astype(np.float64)):
        scale = gfloat.compute_scale_amax(info.etype.emax, block)
        assert 2.0 ** int(exponents[row, 0] + f.fraction) == scale
        theirs = gfloat.quantize_block(info, block, gfloat.compute_scale_amax)
        if name == "int8":
            # gfloat's int8 reaches -2; OCP MX v1.0, section 5.3, lets an implementation leave it out, as ours does.
            theirs = np.maximum(theirs, -127 / 64 * scale)
        np.testing.assert_array_equal(ours[row], theirs)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_elements_against_ml_dtypes(name: str) -> None:
    """The mantissas of a block, read in its steps, are what ml_dtypes rounds the scaled numbers to."""
    x = seeded_blocks(name, 7)
    f = BlockFormat.mx(name)
    mantissas, exponents = to_block(x, f, (1, 32))
    largest = float(finfo(name).max)
    scaled = np.clip(np.ldexp(x.astype(np.float64), -(exponents + f.fraction)), -largest, largest)
    np.testing.assert_array_equal(mantissas * 2.0**-f.fraction, scaled.astype(TYPES[name]).astype(np.float64))


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_element_is_kept(name: str) -> None:
    """All numbers of the element format, at scale 1, in one block."""
    f = BlockFormat.mx(name)
    grid = element_grid(name)
    both = np.concatenate([grid, -grid])
    mantissas, exponents = to_block(both, f, ())
    assert int(exponents) == -f.fraction == ELEMENTS[name].step
    assert from_block(mantissas, exponents, ()).tolist() == both.tolist()


@pytest.mark.parametrize("name", sorted(TYPES))
def test_tosa_takes_the_smallest_scale_that_does_not_overflow(name: str) -> None:
    """Where the numbers above the largest element round to it, the scale stays; beyond, TOSA's doubles."""
    info = finfo(name)
    largest, spacing = float(info.max), float(2.0 ** (ELEMENTS[name].top - info.nmant))
    tie = largest + spacing / 2
    # e4m3 ends on an even number, to which its tie goes; the others' tie leaves the range.
    stays = [largest, np.nextafter(tie, 0)] + ([tie] if name == "e4m3" else [])
    for value in (*stays, tie, np.nextafter(tie, np.inf)):
        (floor, ocp), (ceiling, tosa) = (
            to_block(np.array([value]), BlockFormat.mx(name, scale=s), (1,)) for s in ("floor", "no-overflow")
        )
        assert ocp[0] == ELEMENTS[name].step
        assert tosa[0] == ocp[0] + (value not in stays)
        assert floor[0] == BlockFormat.mx(name).largest
        assert abs(ceiling[0]) <= BlockFormat.mx(name).largest
