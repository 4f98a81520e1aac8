"""Random contractions of block floating point with blocks along the channels, and numbers to feed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Arithmetic, BlockFloat, Builder, ConstantArray, Graph, SymbolicDim, TensorType, Value
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import F32
from qcompiler.ir.types import block_float_grid
from qcompiler.numerics.block_format import ELEMENTS, BlockFormat
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.block_conversion import FromBlock, Normalize, ToBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul

Array = NDArray[Any]

N = SymbolicDim("N")
ROUNDINGS = tuple(sorted(SHIFT_ROUNDINGS))
BYTES = (
    BlockFormat(8), BlockFormat(8, scale="headroom", overflow="raise"), BlockFormat(8, overflow="raise"),
    BlockFormat.mx("int8"), BlockFormat.mx("e2m3"), BlockFormat.mx("e2m1"), BlockFormat(5),
)
"""Formats that the fast kernels take."""
WIDE = (BlockFormat.mx("e4m3"), BlockFormat.mx("e3m2"), BlockFormat(16, scale="headroom"), BlockFormat(12))
"""Formats that they do not."""
DENSE = ("dense", "pointwise", "grouped", "depthwise", "matmul")


def mantissas_of(block_format: BlockFormat, rng: np.random.Generator, shape: Sequence[int]) -> Array:
    """Mantissas that a format can hold: any, its ends, and small ones."""
    if block_format.element == "integer":
        known = np.arange(block_format.smallest, block_format.largest + 1)
    else:
        element = ELEMENTS[block_format.element]
        shifted = {s << p for s in range(1 << element.precision) for p in range(element.largest.bit_length())}
        positive = sorted(m for m in shifted if m <= element.largest)
        known = np.array([*(-m for m in reversed(positive[1:])), *positive])
    ends = rng.choice([block_format.smallest, block_format.largest], shape)
    small = rng.choice(known[np.abs(known) <= 3], shape)
    chosen = np.choose(rng.choice(3, shape, p=rng.dirichlet([1, 1, 1])), [rng.choice(known, shape), ends, small])
    return chosen.astype(block_format.mantissa_dtype)


@dataclass
class ContractionWriter:
    """A graph that is being written.

    Attributes:
        rng: decides everything.
        batch: first dimension of the inputs.
        exponent: about that of weights.
        top: the largest exponent of activations, at which no sum leaves float32.
        graph, build: what is written.
        outputs: real numbers; behind most of them stands block floating point.
    """

    rng: np.random.Generator
    batch: Dim = N
    exponent: int = 0
    top: int = 50
    graph: Graph = field(default_factory=lambda: Graph("sums"))
    outputs: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.build = Builder(self.graph, loc=("layer",))
        self.exponent = int(self.pick(-7, -7, -20, -60, 10))
        self.top = 30 if self.exponent > 0 else 50

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def number(self, low: int, high: int) -> int:
        """Any from ``low`` to ``high``."""
        return int(self.rng.integers(low, high + 1))

    def activations(self, block_format: BlockFormat, length: int, *shape: int, box: Sequence[int] = ()) -> Value:
        """An input, in blocks of ``length`` along the last axis, and of ``box`` along those before."""
        full = (self.batch, *shape)
        x = self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(full, F32))
        blocks = (1, *(box or (1,) * (len(shape) - 1)), length)
        return self.build(ToBlock(), x, elem=BlockFloat(block_format, blocks))

    def constant(self, mantissas: Array, exponents: Array, block_format: BlockFormat, blocks: Sequence[int]) -> Value:
        op = Constant(ConstantArray(mantissas), ConstantArray(exponents.astype(np.int32)))
        return self.build(op, elem=BlockFloat(block_format, tuple(blocks)))

    def weights(self, block_format: BlockFormat, shape: Sequence[int], blocks: Sequence[int]) -> Value:
        """Blocks near one exponent, or far apart; some hold zeros alone."""
        grid = tuple(int(str(n)) for n in block_float_grid(tuple(shape), tuple(blocks)))
        reach = self.pick(0, 2, 6, 25)
        exponents = self.exponent + self.rng.integers(-reach, reach + 1, grid)
        exponents = np.clip(exponents, *block_format.exponent_range)
        mantissas = mantissas_of(block_format, self.rng, shape)
        if self.pick(True, False):
            mantissas[self.rng.random(shape) < self.pick(0.2, 0.9)] = 0
        mantissas[self.number(0, shape[0] - 1)] *= self.number(0, 1)
        return self.constant(mantissas, exponents, block_format, blocks)

    def convolution(
        self, kind: str, arithmetic: str, x_format: BlockFormat, w_format: BlockFormat, has_box: bool = False
    ) -> tuple[Contraction, Value, Value]:
        """The op and its operands: activations, weights."""
        rule, length = Arithmetic.parse(arithmetic), self.pick(1, 3, 4, 8, 8, 16, 32)
        if kind == "matmul":
            return self._matmul(rule, length, x_format, w_format)
        groups = {"grouped": self.number(2, 3), "depthwise": self.number(2, 40)}.get(kind, 1)
        # A group has at least two channels, or it would be a depthwise convolution.
        each = 1 if kind == "depthwise" else self.number(1 + (groups > 1), 20)
        outputs = groups if kind == "depthwise" else groups * self.number(1, 20)
        kernel = (1, 1) if kind == "pointwise" else (self.number(1, 3), self.number(1, 3))
        strides, dilations = self.pick((1, 1), (2, 2), (1, 2)), self.pick((1, 1), (1, 1), (2, 1), (1, 2))
        # Windows may lie on padding alone; a transposed convolution's padding is cut off.
        widest = [k - (kind == "transposed") for k in kernel * 2]
        pads = (0, 0, 0, 0) if kind == "pointwise" else tuple(self.number(0, k) for k in widest)
        sizes: dict[str, Any] = {
            "strides": (1, 1) if kind == "pointwise" and self.pick(True, False) else strides, "dilations": dilations,
            "pads": pads, "groups": groups, "layout": "NHWC", "arithmetic": rule,
        }
        op: Conv2D | ConvTranspose2D = (
            ConvTranspose2D(**sizes, output_padding=(self.number(0, strides[0] - 1), 0)) if kind == "transposed"
            else Conv2D(**sizes)
        )
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        image = [r + self.number(1, 6) for r in reach]
        box = (self.number(1, 2), self.number(1, 3)) if has_box else ()
        x = self.activations(x_format, length, *image, groups * each, box=box)
        if groups > 1:
            length = gcd(length, each)
        blocks = (1, 1, self.number(1, 3), 1) if kind == "depthwise" else (self.number(1, 2), 1, 1, length)
        return op, x, self.weights(w_format, (outputs, *kernel, each), blocks)

    def _matmul(
        self, rule: Arithmetic, length: int, x_format: BlockFormat, w_format: BlockFormat
    ) -> tuple[Contraction, Value, Value]:
        terms, outputs, transposed = self.number(1, 70), self.number(1, 40), self.pick(True, False)
        x = self.activations(x_format, length, *self.pick((), (self.number(1, 7),)), terms)
        shape, blocks = ((outputs, terms), (1, length)) if transposed else ((terms, outputs), (length, 1))
        return Matmul(transposed, rule), x, self.weights(w_format, shape, blocks)

    def product(
        self, arithmetic: str, x_format: BlockFormat, w_format: BlockFormat
    ) -> tuple[Contraction, Value, Value]:
        """A matrix product of two computed operands."""
        self.top = 30
        length, rows, terms, outputs = self.pick(3, 8), self.number(1, 5), self.number(1, 20), self.number(1, 20)
        heads, transposed = self.number(1, 3), self.pick(True, False)
        x = self.activations(x_format, length, heads, rows, terms)
        shape = (outputs, terms) if transposed else (terms, outputs)
        held = (self.batch, self.pick(1, heads), *shape)
        w = self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(held, F32))
        blocks = (1, 1, 1, length) if transposed else (1, 1, length, 1)
        return (
            Matmul(transposed, Arithmetic.parse(arithmetic)), x,
            self.build(ToBlock(), w, elem=BlockFloat(w_format, blocks)),
        )

    def float_sums(self, op: Contraction, x: Value, w: Value) -> None:
        """Sums in float32, with what may stand behind them."""
        operands = [x, w]
        outputs = self._outputs(op, x, w)
        if self.pick(True, False):
            around = 2.0 ** (self.exponent + self.number(-12, 6))
            bias = (self.rng.normal(0, 1, outputs) * around).astype(np.float32)
            operands.append(self.build(Constant.of(bias), elem=F32))
        sums = self.limited(self.build(op, *operands))
        if self.pick(True, True, False):
            sums = self.build(ToBlock(), sums, elem=self.blocks_for(sums))
        self.emit(sums)

    def fixed_sums(
        self, op: Contraction, x: Value, w: Value, bits: int, rounding: str = "", blocks: Sequence[int] = ()
    ) -> None:
        """Sums in fixed point with an exponent each, or of some blocks, with what may stand behind them."""
        operands = [x, w]
        outputs, largest = self._outputs(op, x, w), 1 << min(bits - 4, self.pick(3, 10, 22, 30))
        if self.pick(True, False):
            numbers = self.rng.integers(-largest, largest + 1, outputs)
            exponent = np.array([np.clip(self.exponent * 2 + self.number(-20, 12), -250, 250)])
            held = BlockFormat(32, 10)
            operands.append(self.constant(numbers.astype(np.int32), exponent, held, (outputs,)))
        shape = op.infer_shapes([v.type for v in operands])[0]
        block_format = BlockFormat(bits, 10, rounding=rounding or self.pick(*ROUNDINGS))
        each = BlockFloat(block_format, tuple(blocks) or (1,) * len(shape))
        sums = self.limited(self.build(op, *operands, elem=each))
        if self.pick(True, True, False):
            sums = self.build(Normalize(), sums, elem=self.blocks_for(sums))
        self.emit(sums)

    def limited(self, x: Value) -> Value:
        """Perhaps limited."""
        op = self.pick(None, None, Relu(), Clip(0.0, 6.0), Clip(-0.375, 2.0**-9), Clip(maximum=-1e-3))
        return x if op is None else self.build(op, x)

    def blocks_for(self, x: Value) -> BlockFloat:
        """What results are held in: 8 bits, blocks along the channels."""
        block_format = self.pick(*BYTES, BlockFormat(8, scale="no-overflow", rounding=self.pick(*ROUNDINGS)), *WIDE)
        return BlockFloat(block_format, (*(1,) * (x.type.rank - 1), self.pick(3, 8, 16)))

    def emit(self, value: Value) -> None:
        """Make a value an output."""
        self.outputs.append(self.build(FromBlock(), value) if isinstance(value.type.elem, BlockFloat) else value)

    def finish(self) -> Graph:
        """The graph."""
        self.graph.set_outputs((f"y{i}", v) for i, v in enumerate(self.outputs))
        return self.graph

    def feeds(self, samples: int) -> dict[str, Array]:
        """Activations of any size whose products with the weights stay within float32."""
        count = self.batch if isinstance(self.batch, int) else samples
        return {v.name: self._sample((count, *(int(str(d)) for d in v.type.shape[1:]))) for v in self.graph.inputs}

    def _sample(self, shape: tuple[int, ...]) -> Array:
        rng = self.rng
        middle = self.pick(0, 0, -12, self.top, -60, -110, -140)
        exponents = np.clip(middle + rng.integers(0, self.pick(1, 3, 12), shape), -148, self.top)
        # Few significant bits make ties.
        ties, smooth = rng.integers(-255, 256, shape), rng.normal(0, 1, shape)
        x = np.ldexp(np.where(rng.random(shape) < rng.choice([0.0, 0.5, 1.0]), ties, smooth), exponents)
        if self.pick(True, False):
            x = np.where(rng.random(shape) < 0.03, x * 2.0**20, x)
        # Pixels without a value, values without a neighbour.
        x[rng.random(shape[:-1]) < rng.choice([0.0, 0.3])] = 0.0
        x[rng.random(shape) < rng.choice([0.0, 0.1, 0.9])] = 0.0
        limited: Array = np.clip(x, -1e30, 1e30).astype(np.float32)
        return limited

    def _outputs(self, op: Contraction, x: Value, w: Value) -> int:
        outputs = op.infer_shapes([x.type, w.type])[0][-1]
        assert isinstance(outputs, int)
        return outputs
