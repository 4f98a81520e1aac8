"""Rows of a block floating-point image with an exponent for every number, padded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.kernel import load, loop, named, store
from qcompiler.backends.tvm.kernels.block_panel import PADDING_EXPONENT, power_of_two
from qcompiler.backends.tvm.lanes import Expr, convert, literal, spread


@dataclass(frozen=True)
class Expansion(ABC):
    """Parts of ``rows`` rows of a padded NHWC image.

    Attributes:
        height, width, channels: the image.
        length: neighbouring channels that share an exponent.
        rows, columns: of the expanded part.
        left: columns of padding before the image's first one.
        lanes: numbers of the widest vector.
    """

    height: int
    width: int
    channels: int
    length: int
    rows: int
    columns: int
    left: int
    lanes: int

    buffers: ClassVar[dict[str, str]]
    """Formats of the scratch buffers, by name; each holds ``[rows, columns, channels]``."""

    @abstractmethod
    def numbers(self, mantissas: Expr, exponent: Expr) -> dict[str, Expr]:
        """What neighbouring int8 mantissas with one int32 exponent become, by the name of the buffer."""

    @abstractmethod
    def padding(self) -> dict[str, int | float]:
        """What padding becomes, by the name of the buffer."""

    @property
    def step(self) -> int:
        """Numbers that are expanded at a time."""
        return min(self.lanes, 1 << (self.length - 1).bit_length())

    @property
    def elements(self) -> int:
        """Size of a buffer: what one part writes too much, the next one writes over, and vectors read a bit more."""
        return self.rows * self.columns * self.channels + self.lanes

    def emit(self, buffers: Mapping[str, Any], top: Expr) -> None:
        """Fill the scratch buffers from ``x`` and ``x_exponents``.

        Args:
            buffers: by name.
            top: the image's row that they begin with; may be negative.
        """
        stop = min(self.columns, self.left + self.width)
        with loop(0, self.rows) as r:
            row = named(top + r)
            start = named(r * (self.columns * self.channels))
            with T.If(tirx.all(row >= 0, row < self.height)):
                with T.Then():
                    self._fill(buffers, start, self.left * self.channels)
                    with loop(0, stop - self.left) as column:
                        target = named(start + (self.left + column) * self.channels)
                        self._pixel(buffers, named(row * self.width + column), target)
                    self._fill(buffers, start + stop * self.channels, (self.columns - stop) * self.channels)
                with T.Else():
                    self._fill(buffers, start, self.columns * self.channels)

    def _pixel(self, buffers: Mapping[str, Any], pixel: Expr, target: Expr) -> None:
        full, last = divmod(self.channels, self.length)

        def block(index: Expr | int, terms: int) -> None:
            exponent = named(load(buffers["x_exponents"], pixel * -(-self.channels // self.length) + index))
            with loop(0, -(-terms // self.step)) as part:
                channel = named(index * self.length + part * self.step)
                mantissas = named(load(buffers["x"], pixel * self.channels + channel, self.step))
                for name, value in self.numbers(mantissas, exponent).items():
                    store(buffers[name], target + channel, value)

        if full:
            with loop(0, full) as index:
                block(index, self.length)
        if last:
            block(full, last)

    def _fill(self, buffers: Mapping[str, Any], start: Expr, count: int) -> None:
        for name, value in self.padding().items():
            with loop(0, -(-count // self.lanes)) as i:
                store(buffers[name], start + i * self.lanes, literal(value, self.buffers[name], self.lanes))


SHARED_PLACES = 8
"""Places that activations give to weights: int8 with 121, the largest exponent of any format, is beyond float32."""


@dataclass(frozen=True)
class FloatExpansion(Expansion):
    """``mantissa * 2**(exponent - SHARED_PLACES)`` as float32, exact for exponents from -141 to 128."""

    buffers: ClassVar[dict[str, str]] = {"expanded": "float32"}

    def numbers(self, mantissas: Expr, exponent: Expr) -> dict[str, Expr]:
        power = power_of_two(exponent - SHARED_PLACES)
        return {"expanded": convert(mantissas, "float32") * spread(power, self.step)}

    def padding(self) -> dict[str, int | float]:
        return {"expanded": 0.0}


@dataclass(frozen=True)
class FixedExpansion(Expansion):
    """Mantissas and exponents as int32."""

    buffers: ClassVar[dict[str, str]] = {"mantissas": "int32", "exponents": "int32"}

    def numbers(self, mantissas: Expr, exponent: Expr) -> dict[str, Expr]:
        return {"mantissas": convert(mantissas, "int32"), "exponents": spread(exponent, self.step)}

    def padding(self) -> dict[str, int | float]:
        return {"mantissas": 0, "exponents": PADDING_EXPONENT}
