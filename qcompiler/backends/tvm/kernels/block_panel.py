"""Strips of a block floating-point input, assembled in scratch memory: mantissas, and exponents or powers of two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import held, store
from qcompiler.backends.tvm.kernels.block_geometry import BlockGeometry
from qcompiler.backends.tvm.kernels.contraction_panel import Panel, offset_of
from qcompiler.backends.tvm.lanes import Expr, lanes_of, literal, literal_like, reinterpret, rounded_product, vector

PADDING_EXPONENT = -(1 << 20)
"""Exponent of padded pixels: no largest exponent is theirs, and sums of exponents stay within int32."""


@dataclass(frozen=True)
class PowerPanel(Panel):
    """A panel of 2**exponent as float32, made of int32 exponents from -149 to 127."""

    def _converted(self, numbers: Expr) -> Expr:
        return power_of_two(numbers)


def power_of_two(exponents: Expr) -> Expr:
    """``2**exponents`` as float32, exact for int32 exponents from -149 to 127."""
    # A normal power and one that takes it among the denormal numbers: their product is exact.
    normal = _normal_power(tirx.max(exponents, literal_like(-126, exponents)))
    rest = _normal_power(tirx.min(exponents + literal_like(126, exponents), literal_like(0, exponents)))
    return rounded_product(normal, rest)


def _normal_power(exponents: Expr) -> Expr:
    """``2**exponents`` as float32 for int32 exponents from -126 to 127: the bits of a normal float."""
    bits = (exponents + literal_like(127, exponents)) << literal_like(23, exponents)
    return held(reinterpret(vector("float32", lanes_of(exponents)), bits))


def mantissa_panel(shape: BlockGeometry, isa: InstructionSet) -> Panel:
    """The panel of a strip's mantissas."""
    return _panel(Panel, shape, isa, shape.channels, "int8", isa.activation)


def exponent_panel(shape: BlockGeometry, isa: InstructionSet, taken: str) -> Panel:
    """The panel of a strip's exponents: as they are for ``int32``, 2**exponent for ``float32``."""
    kind = PowerPanel if taken == "float32" else Panel
    return _panel(kind, shape, isa, shape.pixel_exponents, "int32", taken)


def assemble(panel: Panel, source: Any, target: Any, top: Expr, left: Expr) -> None:
    """Fill a panel.

    Args:
        panel: which.
        source: the buffer of the input's mantissas or exponents.
        target: scratch memory.
        top, left: the input's row and column that the panel begins with; may be negative.
    """
    padding = T.alloc_buffer((1,), panel.taken, scope="local")
    store(padding, 0, literal(_padding(panel), panel.taken))
    panel.assemble({"panel": target, "x": source, "padding": padding}, top, left)


def has_offset(isa: InstructionSet) -> bool:
    """Whether mantissas are moved on their way to a dot product, which a correction takes back."""
    return offset_of("int8", isa.activation) != 0


def strips_of(
    shape: BlockGeometry, isa: InstructionSet, buffers: Mapping[str, Any], taken: str, row: Expr, pixel: Expr
) -> None:
    """Assemble the mantissas and exponents below a strip that begins with an output pixel of a row."""
    top, left = row * shape.strides[0] - shape.pads[0], pixel * shape.strides[1] - shape.pads[1]
    assemble(mantissa_panel(shape, isa), buffers["x"], buffers["mantissas"], top, left)
    assemble(exponent_panel(shape, isa, taken), buffers["x_exponents"], buffers["exponents"], top, left)


def _padding(panel: Panel) -> int | float:
    if panel.stored == "int8":
        return offset_of(panel.stored, panel.taken)
    return 1.0 if panel.taken == "float32" else PADDING_EXPONENT


def _panel(
    kind: type[Panel], shape: BlockGeometry, isa: InstructionSet, channels: int, stored: str, taken: str
) -> Panel:
    return kind(
        1 if shape.is_flat else shape.height, shape.row_pixels if shape.is_flat else shape.width, channels,
        shape.kernel[0], shape.dilations[0], shape.strip_columns(isa), stored, taken,
        isa.register_bytes // np.dtype(taken).itemsize,
    )
