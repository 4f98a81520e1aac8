"""Strips of an input's rows, assembled in scratch memory: padded, and in the format that the dot product takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.kernel import load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, convert, literal, reinterpret, spread, vector


def offset_of(stored: str, taken: str) -> int:
    """What is added to activations on their way from one format to the other.

    Args:
        stored: ``uint8``, ``int8`` or ``int16``.
        taken: the same, ``uint8``, ``int8``, or a wider format, which holds them as they are.
    """
    return {("int8", "uint8"): 128, ("uint8", "int8"): -128}.get((stored, taken), 0)


@dataclass(frozen=True)
class Panel:
    """Parts of ``rows`` rows of an NHWC input.

    Attributes:
        height, width, channels: the input.
        rows: rows of the panel.
        row_step: rows of the input from one to the next.
        columns: pixels of a row.
        stored: format of the input.
        taken: format of the panel.
        step: numbers that are copied at a time.
    """

    height: int
    width: int
    channels: int
    rows: int
    row_step: int
    columns: int
    stored: str
    taken: str
    step: int

    @property
    def pitch(self) -> int:
        """Numbers from one row to the next."""
        return self.columns * self.channels

    @property
    def elements(self) -> int:
        """Size of the panel: copies write up to a step behind the last row, and runs read a few numbers more."""
        return self.rows * self.pitch + self.step + 4

    def assemble(self, buffers: Mapping[str, Any], top: Expr, left: Expr) -> None:
        """Fill ``panel`` from ``x``, and with ``padding`` outside of it.

        Whole steps are written; what one part writes too much, the next one writes over.

        Args:
            buffers: by name.
            top: the input's row that the panel begins with; may be negative.
            left: the input's column that the panel begins with; may be negative.
        """
        panel, source = buffers["panel"], buffers["x"]
        padding = named(spread(load(buffers["padding"], 0), self.step))
        zero, columns = tirx.const(0, "int32"), tirx.const(self.columns, "int32")
        lead = named(tirx.min(tirx.max(-left, zero), columns))
        stop = named(tirx.max(tirx.min(self.width - left, columns), lead))

        def fill(start: Expr, numbers: Expr) -> None:
            with loop(0, (numbers + (self.step - 1)) // self.step) as i:
                store(panel, start + i * self.step, padding)

        with loop(0, self.rows) as r:
            row = named(top + r * self.row_step)
            start = named(r * self.pitch)
            with T.If(tirx.all(row >= 0, row < self.height)):
                with T.Then():
                    fill(start, lead * self.channels)
                    origin = named((row * self.width + left + lead) * self.channels)
                    target = named(start + lead * self.channels)
                    with loop(0, ((stop - lead) * self.channels + (self.step - 1)) // self.step) as i:
                        numbers = load(source, origin + i * self.step, self.step)
                        store(panel, target + i * self.step, self._converted(numbers))
                    fill(named(start + stop * self.channels), (columns - stop) * self.channels)
                with T.Else():
                    fill(start, self.pitch)

    def _converted(self, numbers: Expr) -> Expr:
        if self.stored == self.taken:
            return numbers
        if offset_of(self.stored, self.taken):
            # Adding 128 to a byte flips its highest bit.
            bytes_ = reinterpret(vector("uint8", self.step), numbers)
            return reinterpret(vector(self.taken, self.step), bytes_ ^ literal(0x80, "uint8", self.step))
        assert np.dtype(self.taken).itemsize > np.dtype(self.stored).itemsize
        return convert(numbers, self.taken)
