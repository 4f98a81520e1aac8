"""Random contractions of block floating point with one exponent a sample, and numbers to feed them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Arithmetic, BlockFloat, Builder, ConstantArray, Graph, SymbolicDim, TensorType, Value
from qcompiler.ir.dimension import Dim, static_shape
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.block_conversion import FromBlock, Normalize, ToBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul

Array = NDArray[Any]

N = SymbolicDim("N")
LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1
ROUNDINGS = tuple(sorted(SHIFT_ROUNDINGS))
MIDDLE = -15
"""About the exponent of weights, of activations, and of what they give."""


def whole(block_format: BlockFormat, shape: tuple[Dim, ...], exponent: int | None = None) -> BlockFloat:
    """One exponent a sample, found at run time or fixed."""
    fixed = None if exponent is None else ConstantArray(np.full((1,) * len(shape), exponent, np.int32))
    return BlockFloat(block_format, tuple(d if isinstance(d, int) else 1 for d in (1, *shape[1:])), fixed)


@dataclass
class Written:
    """A graph that is being written.

    Attributes:
        rng: decides everything.
        batch: first dimension of the inputs.
        graph, build: what is written.
        outputs: real numbers, behind which block floating point stands.
    """

    rng: np.random.Generator
    batch: Dim = N
    graph: Graph = field(default_factory=lambda: Graph("sums"))
    outputs: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.build = Builder(self.graph)

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def activations(self, *shape: int, block_format: BlockFormat | None = None) -> Value:
        """An input, held with 16-bit mantissas."""
        full = (self.batch, *shape)
        x = self.graph.add_input(f"x{len(self.graph.inputs)}", TensorType(full, F32))
        held = block_format or BlockFormat(16, scale="headroom", overflow="raise")
        return self.build(ToBlock(), x, elem=whole(held, full))

    def constant(self, mantissas: Array, bits: int, exponent: int) -> Value:
        exponents = np.full((1,) * mantissas.ndim, exponent, np.int32)
        op = Constant(ConstantArray(mantissas), ConstantArray(exponents))
        return self.build(op, elem=BlockFloat(BlockFormat(bits), mantissas.shape))

    def weights(self, *shape: int, bits: int = 16) -> Value:
        """Of the whole range, mostly small, the ends alone, tiny, powers of two."""
        most = (1 << (bits - 1)) - 1
        numbers: Array = self.pick(
            self.rng.integers(-most - 1, most + 1, shape), self.rng.laplace(0.0, most / 12, shape).clip(-most, most),
            self.rng.choice([-most - 1, most], shape), self.rng.integers(-3, 4, shape),
            self.rng.choice([-1, 1], shape) << self.rng.integers(0, bits - 1, shape),
        )
        return self.constant(numbers.astype(f"int{max(bits, 8)}"), bits, MIDDLE + int(self.rng.integers(-3, 4)))

    def bias(self, channels: int) -> Value:
        """Its exponent is near that of the products, or above it, or far below."""
        most = int(self.pick(100, 1 << 20, (1 << 31) - 1))
        numbers = self.rng.integers(-most, most + 1, channels).astype(np.int32)
        return self.constant(numbers, 32, self.pick(MIDDLE * 2, MIDDLE * 2 + 5, MIDDLE, -80, -120, 20))

    def sum_format(self, rounding: str | None = None) -> BlockFormat:
        return BlockFormat(self.pick(48, 54), 10, rounding=rounding or self.pick(*ROUNDINGS))

    def result_format(self) -> BlockFormat:
        rounding, overflow = self.pick(*ROUNDINGS), self.pick("raise", "clamp")
        lowest, highest = self.pick((None, None), (None, None), (-32, -20), (-8, 2))
        limits: dict[str, Any] = {"rounding": rounding, "lowest_exponent": lowest, "highest_exponent": highest}
        found: BlockFormat = self.pick(
            BlockFormat(16, scale="headroom", overflow=overflow, **limits),
            BlockFormat(self.pick(8, 12, 16, 24), scale=self.pick("floor", "no-overflow"), overflow=overflow, **limits),
            BlockFormat(16, scale="headroom", guard=2, overflow=overflow, **limits),
            BlockFormat(9, representation="sign-magnitude", overflow=overflow, **limits),
        )
        return found

    def sums(
        self, op: Contraction, x: Value, w: Value, bias: Value | None = None, block_format: BlockFormat | None = None
    ) -> Value:
        operands = [x, w] if bias is None else [x, w, bias]
        shape = op.infer_shapes([v.type for v in operands])[0]
        return self.build(op, *operands, elem=whole(block_format or self.sum_format(), shape))

    def limited(self, x: Value) -> Value:
        op = self.pick(
            None, None, Relu(), Clip(0.0, 6.0), Clip(-0.375, float(self.rng.uniform(0.0, 3.0))), Clip(1.5, 40.0),
            Clip(maximum=-1e-3),
        )
        return x if op is None else self.build(op, x)

    def normalized(self, x: Value, block_format: BlockFormat | None = None, exponent: int | None = None) -> Value:
        elem = whole(block_format or self.result_format(), x.type.shape, exponent)
        return self.build(Normalize(), x, elem=elem)

    def finished(self, sums: Value) -> None:
        """Sums as they are, or normalized, at a fixed exponent at times."""
        found = self.limited(sums)
        kind = self.rng.integers(6)
        if kind:
            block_format = self.result_format()
            lowest, highest = block_format.exponent_range
            fixed = int(np.clip(self.rng.integers(-30, 5), lowest, highest)) if kind == 1 else None
            found = self.normalized(found, block_format, fixed)
        self.emit(found)

    def emit(self, value: Value) -> None:
        self.outputs.append(self.build(FromBlock(), value))

    def finish(self) -> Graph:
        self.graph.set_outputs((f"y{i}", v) for i, v in enumerate(self.outputs))
        return self.graph

    def feeds(self, samples: int) -> dict[str, Array]:
        """Real numbers whose exponents are known."""
        count = self.batch if isinstance(self.batch, int) else samples
        return {
            v.name: np.stack([sample_of(static_shape(v.type.shape[1:]), self.rng) for _ in range(count)])
            for v in self.graph.inputs
        }


def sample_of(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Numbers of one sample: subnormal, huge, all zero, one outlier, ends of the range, few bits."""
    anything = rng.integers(LOWEST, HIGHEST + 1, shape)
    outlier = rng.integers(-4, 5, shape)
    outlier.flat[rng.integers(outlier.size)] = LOWEST
    kinds: list[Array] = [
        anything, anything, np.zeros(shape, np.int64), outlier, rng.choice([LOWEST, HIGHEST], shape),
        np.full(shape, rng.choice([LOWEST, HIGHEST])), rng.integers(-2, 3, shape) << int(rng.integers(0, 14)),
        anything * (rng.random(shape) < 0.1),
    ]
    numbers = kinds[rng.integers(len(kinds))]
    exponent = MIDDLE + int(rng.choice([0, 0, 1, -1, 3, -5, -20, 15, 60, -125]))
    return np.asarray(np.ldexp(numbers.astype(np.float64), exponent), np.float32)


# Cases: each adds one or two outputs.


def convolution(w: Written) -> None:
    """Dense, grouped or depthwise, of any geometry."""
    kernel = int(w.rng.integers(1, 4)), int(w.rng.integers(1, 4))
    groups = w.pick(1, 1, 1, 2, 3)
    each, outputs = int(w.rng.integers(1, 20)), int(w.rng.integers(1, 24))
    if w.pick(True, False, False):
        groups, each, outputs = int(w.rng.integers(2, 40)), 1, 1
    pads = w.pick((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 1))
    strides, dilations = w.pick((1, 1), (2, 2), (1, 2)), w.pick((1, 1), (1, 1), (2, 1))
    height, width = (int(w.rng.integers(5, 12)) for _ in range(2))
    op = Conv2D(strides, dilations, pads, groups, "NHWC", arithmetic_of(w))
    x = w.activations(height, width, groups * each)
    weights = w.weights(groups * outputs, *kernel, each)
    w.finished(w.sums(op, x, weights, w.pick(None, w.bias(groups * outputs), w.bias(groups * outputs))))


def many_pixels(w: Written) -> None:
    """More sums than one item of work takes."""
    op = Conv2D(pads=(1, 1, 1, 1), layout="NHWC", arithmetic=arithmetic_of(w))
    sums = w.sums(op, w.activations(19, 23, 4), w.weights(20, 3, 3, 4), w.bias(20))
    w.emit(w.normalized(w.limited(sums)))


def product(w: Written) -> None:
    """With a constant matrix, either way around."""
    terms, columns = int(w.rng.integers(1, 90)), int(w.rng.integers(1, 40))
    shape = w.pick((terms,), (int(w.rng.integers(1, 6)), terms), (2, 3, terms))
    transposed = w.pick(True, False)
    weights = w.weights(columns, terms) if transposed else w.weights(terms, columns)
    op = Matmul(transposed, arithmetic_of(w))
    w.finished(w.sums(op, w.activations(*shape), weights, w.pick(None, w.bias(columns))))


def transposed_convolution(w: Written) -> None:
    op = ConvTranspose2D(strides=(2, 1), pads=(1, 0, 0, 1), layout="NHWC", arithmetic=arithmetic_of(w))
    w.finished(w.sums(op, w.activations(4, 5, 3), w.weights(7, 2, 3, 3), w.bias(7)))


def computed_matrices(w: Written) -> None:
    """Both operands of a product are computed; each sample of both has an exponent of its own."""
    a, b = w.activations(3, 5, 9), w.activations(3, 7, 9)
    w.finished(w.sums(Matmul(True, arithmetic_of(w)), a, b))


def bytes_by_words(w: Written) -> None:
    """Mantissas of other widths than 16 bits."""
    op = Conv2D(layout="NHWC", arithmetic=arithmetic_of(w))
    x = w.activations(5, 5, 3, block_format=BlockFormat(w.pick(8, 16, 24)))
    w.finished(w.sums(op, x, w.weights(5, 2, 2, 3, bits=8), w.bias(5)))


def other_blocks(w: Written) -> None:
    """What follows has blocks of its own, or elements of floating point."""
    op = Conv2D(layout="NHWC", arithmetic=arithmetic_of(w))
    sums = w.limited(w.sums(op, w.activations(5, 5, 3), w.weights(12, 2, 2, 3), w.bias(12)))
    elem = w.pick(
        BlockFloat(BlockFormat(8, rounding=w.pick(*ROUNDINGS)), (1, 1, 1, 8)),
        BlockFloat(BlockFormat.mx("e4m3"), (1, 4, 4, 12)),
    )
    w.emit(w.build(Normalize(), sums, elem=elem))


def arithmetic_of(w: Written) -> Arithmetic:
    return Arithmetic.parse(w.pick("fixed-point", "fixed-point", "fixed-point{fraction=3}"))


COMMON = (convolution, convolution, product, many_pixels)
RARE = (transposed_convolution, computed_matrices, bytes_by_words, other_blocks)
