"""Every op with a float meaning: ONNX Runtime against the reference interpreter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

import qcompiler.ops  # noqa: F401 - registers the ops
from qcompiler.backends import reference
from qcompiler.backends.ort import FloatSession
from qcompiler.ir import OPS, BlockFloat, Builder, ConstantArray, Graph, Op, Scalar, Shape, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32, I8, I32, I64
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Celu, Clip, Elu, Gelu, HardSigmoid, LeakyRelu, Power, Selu
from qcompiler.ops.binary import Prelu
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.layer_norm import LayerNorm
from qcompiler.ops.normalization import BatchNorm, Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Cast, FakeQuant
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceMin, ReduceProduct, ReduceSum
from qcompiler.ops.resize import COORDINATES, NEAREST, Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split

Array = NDArray[Any]

N = SymbolicDim("N")
SEEDS = 24
INTEGER_ONLY = {
    "quantize", "dequantize", "requantize", "clamp", "lut", "fused", "to_block", "from_block", "normalize",
}
"""Ops that compute on quantized numbers alone; they appear at realize, after the last simulation."""


@dataclass(frozen=True)
class Operand:
    """One operand of the op under test; ``fixed`` makes it a constant, else it is a graph input."""

    shape: Shape
    fixed: bool = False
    elem: Scalar = F32
    low: float = -3.0
    high: float = 3.0

    def draw(self, rng: Generator, batch: int) -> Array:
        shape = [d if isinstance(d, int) else d.coefficient * batch for d in self.shape]
        if self.elem.is_integer:
            return rng.integers(int(self.low), int(self.high), shape).astype(self.elem.dtype)
        return rng.uniform(self.low, self.high, shape).astype(self.elem.dtype)


@dataclass(frozen=True)
class Case:
    """An op with its operands; ``exact`` where results must agree in every bit."""

    op: Op
    operands: list[Operand] = field(default_factory=list)
    exact: bool = False


def sizes(rng: Generator, count: int, low: int = 1, high: int = 7) -> tuple[int, ...]:
    return tuple(int(v) for v in rng.integers(low, high, count))


def pair(rng: Generator, low: int, high: int) -> tuple[int, int]:
    """Two integers in [low, high)."""
    first, second = sizes(rng, 2, low, high)
    return first, second


def coin(rng: Generator) -> bool:
    return bool(rng.integers(2))


def batched(rng: Generator, high: int = 5) -> Shape:
    """A shape of rank 1 to ``high - 1`` behind a free batch."""
    return (N, *sizes(rng, int(rng.integers(0, high - 1))))


def unary(name: str, low: float, high: float) -> Callable[[Generator], Case]:
    return lambda rng: Case(OPS[name](), [Operand(batched(rng), low=low, high=high)])


def binary(name: str, low: float = -3.0, exact: bool = False) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        full = sizes(rng, 3)
        thinned = tuple(d if coin(rng) else 1 for d in full)[int(rng.integers(3)) :]
        operands = [Operand((N, *full), low=low), Operand(thinned, fixed=coin(rng), low=low)]
        return Case(OPS[name](), operands[:: 1 if coin(rng) else -1], exact)

    return case


def equal(rng: Generator) -> Case:
    """Numbers of two kinds, so that about half of the pairs are equal."""
    elem = (I32, I64)[rng.integers(2)]
    length = int(rng.integers(1, 6))
    operands = [Operand((N, length), elem=elem, low=-1, high=1), Operand((length,), coin(rng), elem, -1, 1)]
    return Case(OPS["equal"](), operands, True)


def clip(rng: Generator) -> Case:
    limits = ((-1.0, 2.0), (-np.inf, 0.5), (0.25, np.inf), (-np.inf, np.inf))[rng.integers(4)]
    return Case(Clip(*limits), [Operand(batched(rng))], True)


def prelu(rng: Generator) -> Case:
    full = sizes(rng, 3)
    thinned = tuple(d if coin(rng) else 1 for d in full)
    shapes: list[Shape] = [(N, *full), thinned] if coin(rng) else [(N, *thinned), full]
    return Case(Prelu(), [Operand(shapes[0]), Operand(shapes[1], fixed=coin(rng))])


def conv2d(rng: Generator) -> Case:
    layout = "NHWC" if coin(rng) else "NCHW"
    groups, inputs, multiplier = sizes(rng, 3, 1, 4)
    if coin(rng):
        inputs = 1
    kernel, strides, dilations = pair(rng, 1, 4), pair(rng, 1, 3), pair(rng, 1, 3)
    pads = sizes(rng, 4, 0, 4)
    height, width = pair(rng, 5, 10)
    weights = arranged(layout, groups * multiplier, kernel, inputs)
    operands = [Operand(arranged(layout, N, (height, width), groups * inputs)), Operand(weights, fixed=coin(rng))]
    if coin(rng):
        operands.append(Operand((groups * multiplier,), fixed=coin(rng)))
    top, left, bottom, right = pads
    return Case(Conv2D(strides, dilations, (top, left, bottom, right), groups, layout), operands)


def arranged(layout: str, first: int | SymbolicDim, spatial: tuple[int, int], channels: int) -> Shape:
    return (first, *spatial, channels) if layout == "NHWC" else (first, channels, *spatial)


def conv_transpose2d(rng: Generator) -> Case:
    layout = "NHWC" if coin(rng) else "NCHW"
    groups, inputs, multiplier = sizes(rng, 3, 1, 4)
    kernel, strides, dilations = pair(rng, 1, 4), pair(rng, 1, 4), pair(rng, 1, 3)
    padding = tuple(int(rng.integers(max(s, d))) for s, d in zip(strides, dilations, strict=True))
    top, left, bottom, right = sizes(rng, 4, 0, 3)
    weights = arranged(layout, groups * multiplier, kernel, inputs)
    x = arranged(layout, N, pair(rng, 5, 8), groups * inputs)
    op = ConvTranspose2D(strides, dilations, (top, left, bottom, right), (padding[0], padding[1]), groups, layout)
    operands = [Operand(x), Operand(weights, fixed=coin(rng))]
    return Case(op, operands + [Operand((groups * multiplier,), fixed=True)] * int(rng.integers(2)))


def matmul(rng: Generator) -> Case:
    rows, terms, outputs, heads = sizes(rng, 4, 1, 6)
    transposed = coin(rng)
    matrix = (outputs, terms) if transposed else (terms, outputs)
    x, w = [
        ((N, terms), matrix),
        ((N, rows, terms), matrix),
        ((N, heads, rows, terms), (heads, *matrix)),
        ((N, heads, rows, terms), (N, heads, *matrix)),
    ][rng.integers(4)]
    operands = [Operand(x), Operand(w, fixed=N not in w and coin(rng))]
    return Case(Matmul(transposed), operands + [Operand((outputs,), fixed=coin(rng))] * int(rng.integers(2)))


def max_pool2d(rng: Generator) -> Case:
    layout, kernel, dilations = "NHWC" if coin(rng) else "NCHW", pair(rng, 1, 4), pair(rng, 1, 3)
    shape = arranged(layout, N, pair(rng, 6, 10), 3)
    # No window lies in the padding alone: its largest value would be that of an empty set.
    top, left = (int(rng.integers(min(k, 2) if d > 1 else k)) for k, d in zip(kernel, dilations, strict=True))
    op = MaxPool2D(kernel, pair(rng, 1, 4), dilations, (top, left, left if kernel[0] > left else 0, 0), layout)
    return Case(op, [Operand(shape)], exact=True)


def average_pool2d(rng: Generator) -> Case:
    layout, kernel = "NHWC" if coin(rng) else "NCHW", pair(rng, 1, 4)
    top, left, bottom, right = (int(rng.integers(k)) for k in (*kernel, *kernel))
    op = AveragePool2D(kernel, pair(rng, 1, 4), (top, left, bottom, right), layout)
    return Case(op, [Operand(arranged(layout, N, pair(rng, 5, 10), 3))])


def resize(rng: Generator) -> Case:
    rank = int(rng.integers(3, 6))
    first = int(rng.integers(1, rank - 1))
    mode = "linear" if coin(rng) else "nearest"
    op = Resize(
        (first, first + 1), pair(rng, 1, 14), mode, COORDINATES[rng.integers(4)], NEAREST[rng.integers(4)]
    )
    return Case(op, [Operand((N, *sizes(rng, rank - 1)))], exact=mode == "nearest")


def resize_by_whole_factor(rng: Generator) -> Case:
    length, factor = pair(rng, 1, 6)
    coordinates = COORDINATES[rng.integers(4)]
    op = Resize((1, 2), (length * factor, length), "nearest", coordinates, NEAREST[rng.integers(4)])
    return Case(op, [Operand((N, length, length, 2))], exact=True)


def reduced_axes(rng: Generator, rank: int) -> tuple[int, ...]:
    chosen = [a for a in range(1, rank) if coin(rng)]
    return tuple(chosen or [rank - 1])


def reduce_by(op: Callable[[tuple[int, ...], bool], Op], exact: bool) -> Callable[[Generator], Case]:
    def case(rng: Generator) -> Case:
        rank = int(rng.integers(2, 5))
        return Case(op(reduced_axes(rng, rank), coin(rng)), [Operand((N, *sizes(rng, rank - 1)))], exact)

    return case


def argmax(rng: Generator) -> Case:
    # Few distinct numbers: ties are common, and the first of equals must win.
    operand = Operand((N, *sizes(rng, 2)), elem=I32, low=0, high=3)
    return Case(ArgMax(int(rng.integers(1, 3)), coin(rng)), [operand], True)


def softmax(rng: Generator) -> Case:
    axis = int(rng.integers(1, 4)) - (4 if coin(rng) else 0)
    return Case(Softmax(axis), [Operand((N, *sizes(rng, 3)), low=-9, high=9)])


def batch_norm(rng: Generator) -> Case:
    channels = int(rng.integers(1, 5))
    parameters = [Operand((channels,), fixed=True)] * 3 + [Operand((channels,), fixed=True, low=0.1)]
    return Case(BatchNorm(1e-3), [Operand((N, channels, *sizes(rng, int(rng.integers(3))))), *parameters])


def layer_norm(rng: Generator) -> Case:
    a, b, c = sizes(rng, 3)
    axes = [(1,), (3,), (1, 2), (2, 3)][int(rng.integers(4))]
    parameters = [Operand((b, 1), fixed=True), Operand((a, 1, c), fixed=True)]
    return Case(LayerNorm(axes, 1e-2), [Operand((N, a, b, c)), *parameters])


def reshape(rng: Generator) -> Case:
    a, b, c = sizes(rng, 3)
    target: list[Shape] = [(N, a * b * c), (a * N, b, c), (N, c, 1, b * a), (a * b * c * N,)]
    return Case(Reshape(target[rng.integers(4)]), [Operand((N, a, b, c))], True)


def transpose(rng: Generator) -> Case:
    rank = int(rng.integers(1, 5))
    permutation = tuple(int(p) for p in rng.permutation(rank))
    return Case(Transpose(permutation), [Operand((N, *sizes(rng, rank - 1)))], True)


def expand(rng: Generator) -> Case:
    a, b, c = sizes(rng, 3)
    # The batch comes from the operand, or from another input of the graph.
    if coin(rng):
        return Case(Expand((a, b, c)), [Operand((N, 1, b, 1))], True)
    return Case(Expand((N, a, b)), [Operand((a, 1) if coin(rng) else (1, 1, b))], True)


def concat(rng: Generator) -> Case:
    shape, axis = sizes(rng, 3), int(rng.integers(1, 4))
    parts = [tuple(int(rng.integers(1, 5)) if i + 1 == axis else d for i, d in enumerate(shape)) for _ in range(3)]
    return Case(Concat(axis - (4 if coin(rng) else 0)), [Operand((N, *part)) for part in parts], True)


def slices(rng: Generator) -> Case:
    lengths = sizes(rng, 3, 2, 9)
    starts, ends, steps = [], [], []
    for length in lengths:
        first, last = sorted(rng.choice(length, 2, replace=False))
        backwards = coin(rng)
        starts.append(int(last if backwards else first))
        # A backward slice down to element 0 ends before it, at -1.
        ends.append((-1 if coin(rng) else int(first)) if backwards else int(last) + 1)
        steps.append(int(rng.integers(1, 4)) * (-1 if backwards else 1))
    return Case(Slice((1, 2, 3), tuple(starts), tuple(ends), tuple(steps)), [Operand((N, *lengths))], True)


def split(rng: Generator) -> Case:
    parts, axis = sizes(rng, 3, 1, 5), int(rng.integers(1, 3))
    shape = tuple(sum(parts) if i + 1 == axis else d for i, d in enumerate(sizes(rng, 2)))
    return Case(Split(axis, parts), [Operand((N, *shape))], True)


def pad(rng: Generator) -> Case:
    before, after = sizes(rng, 3, 0, 3), sizes(rng, 3, 0, 3)
    mode = ("constant", "reflect", "edge")[rng.integers(3)]
    return Case(Pad((0, *before), (0, *after), mode, 1.5), [Operand((N, *sizes(rng, 3, 3)))], True)


def gather(rng: Generator) -> Case:
    shape, axis = sizes(rng, 3), int(rng.integers(1, 4))
    length = shape[axis - 1]
    indices = Operand(sizes(rng, int(rng.integers(3))), True, (I8, I32, I64)[rng.integers(3)], -length, length)
    return Case(Gather(axis - (4 if coin(rng) else 0)), [Operand((N, *shape)), indices], True)


def cast(rng: Generator) -> Case:
    operand = Operand(batched(rng), low=-99, high=99, elem=(F32, I32, I8)[rng.integers(3)])
    return Case(Cast((F32, I8, I32, I64)[rng.integers(4)]), [operand], True)


def fake_quant(rng: Generator) -> Case:
    scale, zero_point = ConstantArray(np.float32(rng.uniform(0.01, 0.05))), ConstantArray(rng.integers(-128, 128))
    return Case(FakeQuant(I8, -128, 127, scale=scale, zero_point=zero_point), [Operand(batched(rng))], True)


def fake_block(rng: Generator) -> Case:
    operand = Operand(batched(rng))
    blocks = tuple(int(rng.integers(1, d + 1)) if isinstance(d, int) else 1 for d in operand.shape)
    held = TensorType(operand.shape, BlockFloat(BlockFormat(int(rng.integers(3, 20))), blocks))
    return Case(FakeBlock(held), [operand], True)


def constant(rng: Generator) -> Case:
    return Case(Constant(ConstantArray(rng.normal(size=sizes(rng, 2)).astype(np.float32))), [], True)


CASES: dict[str, Callable[[Generator], Case]] = {
    **{
        name: unary(name, -8, 8)
        for name in (
            "relu", "sigmoid", "tanh", "hard_swish", "silu", "mish", "softplus", "softsign", "erf", "exp", "abs",
            "negate", "floor", "ceil",
        )
    },
    **{name: unary(name, 0.05, 8) for name in ("log", "sqrt", "reciprocal")},
    "clip": clip,
    "leaky_relu": lambda rng: Case(LeakyRelu(float(rng.uniform(-1, 1))), [Operand(batched(rng))]),
    "elu": lambda rng: Case(Elu(float(rng.uniform(0.1, 2))), [Operand(batched(rng))]),
    "celu": lambda rng: Case(Celu(float(rng.uniform(0.1, 2))), [Operand(batched(rng))]),
    "selu": lambda rng: Case(Selu(1.5, float(rng.uniform(0.1, 2))), [Operand(batched(rng))]),
    "hard_sigmoid": lambda rng: Case(HardSigmoid(float(rng.uniform(0.1, 1)), 0.4), [Operand(batched(rng))]),
    "gelu": lambda rng: Case(Gelu("tanh" if coin(rng) else "none"), [Operand(batched(rng), low=-6, high=6)]),
    "power": lambda rng: Case(Power(float(rng.uniform(-2, 3))), [Operand(batched(rng), low=0.1)]),
    **{name: binary(name) for name in ("add", "sub", "mul")},
    "div": binary("div", low=0.2),
    "pow": binary("pow", low=0.1),
    **{name: binary(name, exact=True) for name in ("maximum", "minimum")},
    "prelu": prelu,
    "equal": equal,
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "matmul": matmul,
    "max_pool2d": max_pool2d,
    "average_pool2d": average_pool2d,
    "resize": lambda rng: resize_by_whole_factor(rng) if rng.integers(3) == 0 else resize(rng),
    "mean": reduce_by(Mean, False),
    "reduce_sum": reduce_by(ReduceSum, False),
    "reduce_product": reduce_by(ReduceProduct, False),
    "reduce_max": reduce_by(ReduceMax, True),
    "reduce_min": reduce_by(ReduceMin, True),
    "argmax": argmax,
    "softmax": softmax,
    "batch_norm": batch_norm, "layer_norm": layer_norm,
    "reshape": reshape,
    "transpose": transpose,
    "expand": expand,
    "concat": concat,
    "slice": slices,
    "split": split,
    "pad": pad,
    "gather": gather,
    "cast": cast,
    "fake_quant": fake_quant,
    "fake_block": fake_block,
    "constant": constant,
}


def build(case: Case, rng: Generator) -> tuple[Graph, dict[str, Operand]]:
    """A graph of the one op, and its inputs by name."""
    graph = Graph()
    build_node = Builder(graph, loc=("layer",))
    inputs = {"batch": Operand((N,))}
    graph.add_input("batch", TensorType((N,), F32))
    values = []
    for index, operand in enumerate(case.operands):
        type = TensorType(operand.shape, operand.elem)
        if operand.fixed:
            values.append(build_node(Constant(ConstantArray(operand.draw(rng, 1))), elem=operand.elem))
        else:
            inputs[f"x{index}"] = operand
            values.append(graph.add_input(f"x{index}", type))
    node = build_node.create(case.op, values, elem=F32)
    graph.set_outputs((f"y{i}", value) for i, value in enumerate(node.results))
    return graph, inputs


def assert_agree(actual: Array, expected: Array, exact: bool, context: str) -> None:
    assert actual.dtype == expected.dtype, context
    assert actual.shape == expected.shape, context
    if exact:
        np.testing.assert_array_equal(actual, expected, context)
    else:
        # Sums in float32 in another order: a few units in the last place of the largest term.
        np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5, err_msg=context)


FLOAT_OPS = sorted(
    name for name, cls in OPS.items() if cls.__module__.startswith("qcompiler.") and name not in INTEGER_ONLY
)


@pytest.mark.parametrize("name", FLOAT_OPS)
def test_op_agrees_with_the_reference_at_any_batch(name: str) -> None:
    assert name in CASES, f"op {name} has no case here; give it an ONNX form and a case"
    for seed in range(SEEDS):
        rng = np.random.default_rng([seed, *name.encode()])
        case = CASES[name](rng)
        graph, inputs = build(case, rng)
        session = FloatSession(graph)
        for batch in (1, 3):
            feeds = {key: operand.draw(rng, batch) for key, operand in inputs.items()}
            expected = reference.run(graph, feeds)
            actual = session.run(feeds)
            for got, want in zip(actual, expected.values(), strict=True):
                assert_agree(got, want, case.exact, f"seed {seed} batch {batch}\n{graph}")


def test_every_case_belongs_to_an_op() -> None:
    assert set(CASES) == set(FLOAT_OPS)
