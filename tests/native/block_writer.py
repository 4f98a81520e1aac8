"""Writes random programs of block floating point, and numbers to feed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import BlockFloat, Builder, ConstantArray, Graph, Op, SymbolicDim, TensorType, Value
from qcompiler.ir.dimension import Dim, bind_dim
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.block_conversion import FromBlock, Normalize, ToBlock, to_block
from qcompiler.ops.constant import Constant

Array = NDArray[Any]

ROUNDINGS = ("half-even", "half-up", "half-away", "toward-zero", "floor")


class BlockWriter:
    """Builds one graph out of random nodes of block floating point.

    Args:
        rng: decides everything.
        batch: the first dimension of the input.
        shape: of one sample.
        magnitudes: exponents of the smallest and the largest numbers.
    """

    def __init__(
        self, rng: np.random.Generator, batch: Dim, shape: tuple[int, ...] = (5, 4, 20),
        magnitudes: tuple[int, int] = (-149, 100),
    ) -> None:
        self.rng = rng
        self.magnitudes = magnitudes
        self.graph = Graph("blocks")
        self.build = Builder(self.graph, loc=("layer",))
        self.x = self.graph.add_input("x", TensorType((batch, *shape), F32))
        self.outputs: list[Value] = []

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def maybe(self, one_in: int = 2) -> bool:
        return int(self.rng.integers(one_in)) == 0

    def narrow(self) -> BlockFormat:
        """A format in which values are held: 4 to 16 bits, any rules."""
        scale = self.pick("floor", "no-overflow", "headroom")
        representation = "twos-complement" if scale == "headroom" else self.pick("twos-complement", "sign-magnitude")
        mantissa, bits = self.pick(4, 8, 8, 12, 16, 16), self.pick(5, 8, 8, 8)
        return BlockFormat(
            mantissa, bits, representation, representation == "twos-complement" and self.maybe(4), scale=scale,
            guard=self.pick(0, 0, 2) if scale == "headroom" else 0, rounding=self.pick(*ROUNDINGS),
            overflow=self.pick("clamp", "raise"),
        )

    def any_format(self) -> BlockFormat:
        """Any format, floating-point elements and wide ones included."""
        rounding = self.pick(*ROUNDINGS)
        return self.pick(  # type: ignore[no-any-return]
            self.narrow(), self.narrow(), self.accumulator(),
            BlockFormat.mx(self.pick("int8", "e4m3", "e5m2", "e3m2", "e2m3", "e2m1"), rounding=rounding),
            BlockFormat.mx(self.pick("int8", "e4m3", "e2m1"), scale="no-overflow", rounding=rounding),
        )

    def accumulator(self) -> BlockFormat:
        """A wide format, for sums and products; float64 holds its values."""
        return BlockFormat(
            self.pick(48, 54), 11, rounding=self.pick(*ROUNDINGS), lowest_exponent=-1000, highest_exponent=900
        )

    def blocks(self, shape: Sequence[Dim]) -> tuple[int, ...]:
        """Block lengths: a sample, a run of channels, a single number, or any box."""
        whole = tuple(d.coefficient if isinstance(d, SymbolicDim) else d for d in shape)
        first = whole[:1]
        if isinstance(shape[0], SymbolicDim) and self.maybe():
            first = (1,)
        elif not isinstance(shape[0], SymbolicDim):
            first = (int(self.rng.integers(1, whole[0] + 1)),)
        rest = whole[1:]
        if not rest:
            return first
        ones = (1,) * (len(rest) - 1)
        return self.pick(  # type: ignore[no-any-return]
            (*first, *rest), (*first, *rest), (1, *ones, 8), (1, *ones, int(self.rng.integers(2, 33))), (1, *ones, 1),
            (*first, *(int(self.rng.integers(1, d + 1)) for d in rest)),
        )

    def elem(self, block_format: BlockFormat, shape: Sequence[Dim], fixed: int | None = None) -> BlockFloat:
        """A type with random blocks; with one exponent where it is given."""
        blocks = self.blocks(shape)
        exponents = None if fixed is None else ConstantArray(np.full((1,) * len(blocks), fixed, np.int32))
        return BlockFloat(block_format, blocks, exponents)

    def held(self, block_format: BlockFormat | None = None, x: Value | None = None) -> Value:
        """The input, or another value, in block floating point."""
        x = self.x if x is None else x
        return self.build(ToBlock(), x, elem=self.elem(block_format or self.narrow(), x.type.shape))

    def constant(self, block_format: BlockFormat, shape: tuple[int, ...]) -> Value:
        """A constant of random numbers."""
        type = TensorType(shape, self.elem(block_format, shape))
        return self.build(Constant.of(to_block(self.reals(shape), type)), elem=type.elem)

    def make(self, op: Op, *operands: Value, block_format: BlockFormat | None = None) -> Value:
        """The result of a new node with random blocks, in the first operand's format by default."""
        shape = op.infer_shapes([v.type for v in operands])[0]
        elem = operands[0].type.elem
        assert isinstance(elem, BlockFloat)
        return self.build(op, *operands, elem=self.elem(block_format or elem.format, shape))

    def finished(self, value: Value) -> Value:
        """Perhaps limited, perhaps converted."""
        low = self.pick(-np.inf, 0.0, -1.5, -np.inf, 0.001)
        high = self.pick(np.inf, 6.0, 2.0**-20, np.inf)
        if self.maybe():
            value = self.build(Relu() if self.maybe(4) else Clip(float(low), float(high)), value)
        if self.maybe():
            value = self.build(Normalize(), value, elem=self.elem(self.any_format(), value.type.shape))
        return value

    def add_case(self, case: Callable[[BlockWriter], Value | Sequence[Value]]) -> None:
        """Append a case's nodes; its values become outputs."""
        made = case(self)
        self.outputs.extend([made] if isinstance(made, Value) else made)

    def finish(self) -> Graph:
        """The graph, with every case's values as outputs."""
        reals = [self.build(FromBlock(), v) if isinstance(v.type.elem, BlockFloat) else v for v in self.outputs]
        self.graph.set_outputs((f"{i}", v) for i, v in enumerate(reals))
        return self.graph

    def reals(self, shape: tuple[int, ...]) -> Array:
        """Numbers of any size, with ties, outliers, zeros of both signs, and samples that are all zero."""
        rng = self.rng
        least, most = self.magnitudes
        low = int(self.pick(rng.integers(least, most), rng.integers(-14, 2) if least < -14 < 2 < most else least))
        spread = int(self.pick(0, 3, 12, 60))
        exponents = np.minimum(rng.integers(low, low + spread + 1, shape), most)
        # Few significant bits, so that most results are ties or exact; or all bits.
        ties = rng.integers(-255, 256, shape) * np.exp2(exponents)
        smooth = rng.normal(0, 1, shape) * np.exp2(exponents)
        x = np.where(rng.random(shape) < rng.choice([0.0, 0.5, 1.0]), ties, smooth)
        if self.maybe(3):
            x = np.where(rng.random(shape) < 0.01, x * 2.0**24, x)
        if self.maybe(3):
            # Next to a power of two, where rounding leaves the mantissa's range.
            x = np.copysign(np.exp2(low + 8) * (1 - np.exp2(-rng.integers(3, 24, shape).astype(np.float64))), x)
        if self.maybe(4):
            # Negative powers of two, which two's complement holds in one bit less, and smaller numbers.
            x = np.exp2(low + 8) * rng.choice([-1.0, -1.0, -0.5, 0.75, 0.0], shape)
        x = np.where(rng.random(shape) < rng.choice([0.0, 0.1, 0.9]), np.copysign(0.0, x), x)
        if shape and shape[0] > 1:
            x[int(rng.integers(shape[0]))] *= rng.integers(0, 2)
        return np.clip(x, -3e38, 3e38).astype(np.float32)

    def feeds(self, samples: int) -> dict[str, Array]:
        """Numbers for the input."""
        type = self.x.type
        symbols = {d.symbol: samples for d in type.shape if isinstance(d, SymbolicDim)}
        return {"x": self.reals(tuple(bind_dim(d, {}) for d in type.bind(symbols).shape))}
