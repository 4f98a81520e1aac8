"""Block formats, shapes and numbers to draw from."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcompiler.numerics.block_format import ELEMENTS, BlockFormat
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS

AMD = BlockFormat(8, overflow="clamp", symmetric=True)
AMD_COMPILER = BlockFormat(8, overflow="raise")
DSP = BlockFormat(16, scale="headroom", overflow="raise")

roundings = st.sampled_from(sorted(SHIFT_ROUNDINGS))


@st.composite
def integer_formats(draw: st.DrawFn) -> BlockFormat:
    mantissa = draw(st.integers(2, 24))
    scale = draw(st.sampled_from(["floor", "no-overflow", "headroom"]))
    two = scale == "headroom" or draw(st.booleans())
    low = draw(st.integers(-40, 4))
    return BlockFormat(
        mantissa, 8, "twos-complement" if two else "sign-magnitude", symmetric=draw(st.booleans()), scale=scale,
        guard=draw(st.integers(0, mantissa - 2)) if scale == "headroom" else 0, rounding=draw(roundings),
        overflow=draw(st.sampled_from(["clamp", "raise"])), lowest_exponent=low,
        highest_exponent=low + draw(st.integers(0, 60)),
    )


@st.composite
def element_formats(draw: st.DrawFn) -> BlockFormat:
    element = draw(st.sampled_from(sorted(ELEMENTS)))
    low = draw(st.integers(-60, 4))
    return BlockFormat(
        BlockFormat.mx(element).mantissa, 8, "sign-magnitude", element=element, rounding=draw(roundings),
        scale=draw(st.sampled_from(["floor", "no-overflow"])), overflow=draw(st.sampled_from(["clamp", "raise"])),
        lowest_exponent=low, highest_exponent=low + draw(st.integers(0, 60)),
    )


formats = st.one_of(integer_formats(), element_formats())

SPECIAL = (0.0, 1.0, -1.0, 1.5, -1.5, 127.5, -127.5, -128.0, 127.49, 255.0, 448.0, 464.0, 465.0, 0.5, -0.25)
"""Zero, powers of two, ties, the ends of 8-bit mantissas and of e4m3."""


@st.composite
def arrays(draw: st.DrawFn, rank: int = 2) -> NDArray[Any]:
    """Reals of mixed magnitude: blocks of zeros, ties, single large outliers."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(rank))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.choice([*SPECIAL, *rng.integers(-300, 300, 20) / 2], shape) * 2.0 ** draw(st.integers(-50, 50))
    x = np.where(rng.random(shape) < 0.3, 0, x)
    if draw(st.booleans()):
        x.flat[int(rng.integers(x.size))] *= 2.0 ** float(rng.integers(1, 30))
    if draw(st.booleans()):
        x = x * 2.0 ** rng.integers(-12, 12, shape)
    return x.astype(draw(st.sampled_from([np.float32, np.float64])))


@st.composite
def blocks_for(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Block lengths: one block, or lengths that may leave a shorter last block."""
    if draw(st.booleans()) and draw(st.booleans()):
        return ()
    return tuple(draw(st.integers(1, size + 1)) for size in shape)
