"""Hypothesis strategies for random valid programs: float ones, quantized ones, and those of block floating point.

They aim at what text, hashing and copying may get wrong: odd names, attributes of every kind, types with per-channel
and grouped scales, results in several, fused bodies, and arrays with special numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from block_float.block_tensors import mantissas_of
from hypothesis import strategies as st
from numerics.block_cases import element_formats
from numerics.block_cases import formats as block_formats
from numpy.typing import NDArray

from qcompiler.ir import (
    SCALARS,
    Affine,
    Arithmetic,
    BlockFloat,
    Builder,
    ConstantArray,
    Constants,
    Dim,
    Graph,
    Origin,
    Original,
    Scalar,
    SymbolicDim,
    TensorType,
    Untraced,
    Value,
)
from qcompiler.ir.scalar import F32, I8, I32, I64, U8
from qcompiler.ir.types import fixed_exponents_shape
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Clip, Elu, Gelu, LeakyRelu, Relu, Sigmoid
from qcompiler.ops.binary import Add, Maximum, Mul
from qcompiler.ops.block_conversion import FakeBlock, FromBlock, Normalize, ToBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Cast, Clamp, Dequantize, FakeQuant, Quantize, Requantize
from qcompiler.ops.reduction import ArgMax, Mean
from qcompiler.ops.shape import Concat, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split
from qcompiler.ops.table import LookupTable

Array = NDArray[Any]
Draw = st.DrawFn

ODD_NAMES = (
    "x", "a/b:0", "0", "with space", 'quo"te', "back\\slash", "ünï", "nan", "inf", "none", "true", "return", "target",
    "f32", "i8", "a.b", "%", "@", "", "//", "tab\t", "new\nline", "-1", "1e5", "4*N", "q<i8, 1.0:0>[1]",
)
names = st.sampled_from(ODD_NAMES) | st.text(max_size=5)

_SPECIAL = np.array(
    [np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e-40, 3.4028235e38, 1.1754944e-38, 0.1, 1 / 3, 16777217.0]
)


@st.composite
def arrays(draw: Draw, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """Random numbers of any dtype; floats with a few special numbers among them, integers over their whole range."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    values = np.asarray(rng.normal(0, 10.0 ** draw(st.integers(-3, 3)), shape))
    if draw(st.booleans()):
        special = rng.random(shape) < 0.4
        values = np.where(special, rng.choice(_SPECIAL, shape), values)
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(dtype))


@st.composite
def origins(draw: Draw, rank: int) -> Origin:
    """Traced or not, with or without a permutation and a factor."""
    if draw(st.booleans()):
        return Untraced(draw(names | st.just("graph input")))
    permutation = tuple(draw(st.permutations(range(rank)))) if draw(st.booleans()) else None
    factor = None
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(), (3,), (1, 9, 1)]))
        factor = ConstantArray(draw(arrays(shape)))
    return Original(draw(names), permutation, factor)


locations = st.lists(names, max_size=2).map(tuple)
scales = (st.floats(2**-100, 2.0**100, width=32) | st.sampled_from([0.1, 1 / 256, 1e-45, 1.0])).map(np.float32)
batches: st.SearchStrategy[Dim] = st.sampled_from([SymbolicDim("N"), SymbolicDim("batch", 2), 1, 3])


@st.composite
def affine_types(draw: Draw, shape: tuple[Dim, ...], storage: Scalar = I8) -> Affine:
    """Per tensor, per axis, or in groups along an axis; full or narrowed range."""
    qmin = draw(st.integers(storage.minimum, storage.minimum + 2))
    qmax = draw(st.integers(storage.maximum - 2, storage.maximum))
    axes = [i for i, d in enumerate(shape) if isinstance(d, int)]
    if not axes or draw(st.booleans()):
        return Affine.per_tensor(storage, draw(scales), draw(st.integers(qmin, qmax)), qmin, qmax)
    axis = draw(st.sampled_from(axes))
    size = int(str(shape[axis]))
    length = draw(st.integers(1, size))
    blocks = tuple(length if i == axis else d for i, d in enumerate(shape))
    grid = tuple(-(-size // length) if i == axis else 1 for i in range(len(shape)))
    count = math.prod(grid)
    scale = np.array([draw(scales) for _ in range(count)], np.float32).reshape(grid)
    zero_point = np.array([draw(st.integers(qmin, qmax)) for _ in range(count)]).reshape(grid)
    return Affine.blocked(storage, scale, draw(st.sampled_from([0, zero_point])), blocks, qmin, qmax)


@st.composite
def block_types(draw: Draw, shape: tuple[Dim, ...], block_format: BlockFormat | None = None) -> BlockFloat:
    """Any format; blocks that may leave a shorter last one; exponents found, or fixed: one, or one for each block."""
    chosen = block_format or draw(block_formats)
    lengths = [st.integers(1, d + 2) if isinstance(d, int) else st.sampled_from([1, d.coefficient]) for d in shape]
    blocks = tuple(draw(length) for length in lengths)
    kind = draw(st.sampled_from(["found", "one", "each"]))
    if kind == "found":
        return BlockFloat(chosen, blocks)
    grid = fixed_exponents_shape(shape, blocks) if kind == "each" else (1,) * len(shape)
    low, high = chosen.exponent_range
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    return BlockFloat(chosen, blocks, ConstantArray(rng.integers(low, high + 1, grid).astype(np.int32)))


class GraphWriter:
    """Builds one random graph; every created value gets a random location and origin."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.graph = Graph(draw(names), draw(names), draw(st.sampled_from(["", "a,b{x=1 y=mse}"])))
        self.build = Builder(self.graph)
        self.unused_names = list(ODD_NAMES)

    def input(self, type: TensorType) -> Value:
        """A graph input under a name of its own."""
        name = self.draw(st.sampled_from(self.unused_names))
        self.unused_names.remove(name)
        return self.graph.add_input(name, type, self.draw(origins(type.rank)))

    def make(self, op: Any, *operands: Value, elem: Any = None) -> list[Value]:
        """The results of a new node."""
        node = self.build.create(op, operands, elem=elem, loc=self.draw(locations))
        for value in node.results:
            value.origin = self.draw(origins(value.type.rank))
        return list(node.results)

    def constant(self, shape: tuple[int, ...], dtype: Any = np.float32, elem: Any = None) -> Value:
        """A constant of random numbers; quantized ones keep within the bounds of their type."""
        from qcompiler.ir import scalar_of

        array = self.draw(arrays(shape, dtype))
        if isinstance(elem, Affine):
            array = np.clip(array, elem.qmin, elem.qmax).astype(dtype)
        return self.make(Constant(ConstantArray(array)), elem=elem or scalar_of(np.dtype(dtype)))[0]

    def block_constant(self, shape: tuple[int, ...], elem: BlockFloat) -> Value:
        """A constant of random mantissas and exponents, those that its type fixes."""
        rng = np.random.default_rng(self.draw(st.integers(0, 1 << 30)))
        block_format, (low, high) = elem.format, elem.format.exponent_range
        if block_format.element == "integer":
            mantissas = rng.integers(block_format.smallest, block_format.largest + 1, shape)
        else:
            mantissas = rng.choice(mantissas_of(block_format), shape)
        grid = fixed_exponents_shape(shape, elem.blocks)
        exponents = rng.integers(low, high + 1, grid)
        if elem.exponents is not None:
            exponents = np.broadcast_to(elem.exponents.array, grid)
        op = Constant(
            ConstantArray(mantissas.astype(block_format.mantissa_dtype)), ConstantArray(exponents.astype(np.int32))
        )
        return self.make(op, elem=elem)[0]

    def finish(self, candidates: list[Value]) -> Graph:
        """Return a few of the values, some perhaps twice."""
        chosen = self.draw(st.lists(st.sampled_from(candidates), max_size=3)) if candidates else []
        output_names = self.draw(st.lists(names, min_size=len(chosen), max_size=len(chosen), unique=True))
        self.graph.set_outputs(zip(output_names, chosen, strict=True))
        return self.graph


FLOAT_UNARY = st.one_of(
    st.sampled_from([Relu(), Sigmoid(), Gelu(), Gelu("tanh"), Elu(), Elu(0.5), Clip(), Clip(0.0, 6.0)]),
    st.sampled_from([Clip(-0.0, 1.0), Clip(minimum=-0.0), Clip(maximum=0.0)]),
    st.floats(allow_nan=False, allow_infinity=False).map(LeakyRelu),
)


KINDS = ("unary", "add", "conv", "concat", "shape", "reduce", "pad", "fake", "fake block", "cast", "gather")


@st.composite
def float_graphs(draw: Draw, steps: int = 6) -> Graph:
    """Float programs on images ``[N, 4, 6, 6]``, with constants of every dtype beside them."""
    w = GraphWriter(draw)
    batch = draw(batches)
    images = [w.input(TensorType((batch, 4, 6, 6), F32)) for _ in range(draw(st.integers(0, 2)))]
    others: list[Value] = []
    if draw(st.booleans()):
        others.append(w.input(TensorType((batch, 8, 32), BlockFloat(BlockFormat(8, 8), (1, 1, 32)))))
    if draw(st.booleans()):
        scalar = SCALARS[draw(st.sampled_from([n for n in SCALARS if n not in ("i4", "u4")]))]
        others.append(w.constant(draw(st.sampled_from([(), (0, 3), (3,), (2, 9)])), scalar.dtype))
    for _ in range(draw(st.integers(0, steps)) if images else 0):
        x = draw(st.sampled_from(images))
        kind = draw(st.sampled_from(KINDS))
        if kind == "unary":
            images += w.make(draw(FLOAT_UNARY), x)
        elif kind == "add":
            images += w.make(draw(st.sampled_from([Add(), Mul(), Maximum()])), x, draw(st.sampled_from(images)))
        elif kind == "conv":
            groups = draw(st.sampled_from([1, 2, 4]))
            weights = w.constant((4, 4 // groups, 3, 3))
            bias = [w.constant((4,))] if draw(st.booleans()) else []
            images += w.make(Conv2D(pads=(1, 1, 1, 1), groups=groups), x, weights, *bias)
        elif kind == "concat":
            both = w.make(Concat(draw(st.sampled_from([1, -3]))), x, draw(st.sampled_from(images)))[0]
            images += w.make(Split(1, (4, 4)), both)
            images += w.make(Slice((1,), (7,), (-1,), (-2,)), both)
        elif kind == "shape":
            moved = w.make(Transpose((0, 2, 3, 1)), x)[0]
            others += w.make(Reshape((batch, 144)), moved)
        elif kind == "reduce":
            others += w.make(draw(st.sampled_from([Mean((2, 3)), Mean((1,), False), ArgMax(1, False), Softmax(1)])), x)
        elif kind == "pad":
            value = draw(st.sampled_from([0.0, -0.0, math.inf, 0.1]))
            others += w.make(Pad((0, 0, 1, 0), (0, 0, 0, 2), "constant", value), x)
            images += w.make(MaxPool2D((3, 3), pads=(1, 1, 1, 1)), x)
        elif kind == "fake":
            images += w.make(_fake_quant(draw, x.type.shape), x)
        elif kind == "fake block":
            held = draw(block_types(x.type.shape))
            is_fixed = held.exponents is not None or draw(st.booleans())
            images += w.make(FakeBlock(TensorType(x.type.shape, held), is_fixed), x)
        elif kind == "cast":
            others += w.make(Cast(SCALARS[draw(st.sampled_from(sorted(SCALARS)))]), x)
        else:
            indices = w.make(Constant(ConstantArray(np.array([3, 0, -1, 1]))), elem=I64)[0]
            images += w.make(Gather(1), x, indices)
    return w.finish(images + others)


def _fake_quant(draw: Draw, shape: tuple[Dim, ...]) -> FakeQuant:
    elem = draw(affine_types(shape))
    known = draw(st.booleans())
    multipliers = ConstantArray(np.full(elem.scale.shape, draw(st.integers(1, 15)), np.uint8))
    return FakeQuant(
        elem.storage, elem.qmin, elem.qmax, elem.blocks, draw(st.integers(-1, 5)),
        draw(st.sampled_from([None, 0.00390625, 1e-8])), draw(st.sampled_from([None, 0, -128])),
        draw(st.booleans()), elem.scale if known else None, elem.zero_point if known else None,
        draw(st.sampled_from([None, (1, 15)])),
        multipliers if known and draw(st.booleans()) else None,
    )


@st.composite
def quantized_graphs(draw: Draw, steps: int = 5) -> Graph:
    """Integer programs on images ``[N, 6, 6, C]``: kernels with per-channel weights, tables, adds, tied ops."""
    w = GraphWriter(draw)
    batch = draw(batches)
    x = w.input(TensorType((batch, 6, 6, 4), F32))
    values = w.make(Quantize(Arithmetic.parse("affine{rounding=half-away}")), x, elem=_activation(draw))
    others: list[Value] = []
    for _ in range(draw(st.integers(1, steps))):
        x = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["conv", "lut", "add", "tied", "clamp", "dequantize", "plain"]))
        if kind == "conv":
            values += [_kernel(w, x)]
        elif kind == "lut":
            elem = _activation(draw)
            table = ConstantArray(draw(arrays((256,), np.int8)))
            values += w.make(LookupTable(table, draw(names)), x, elem=elem)
        elif kind == "add":
            y, elem = draw(st.sampled_from(values)), _activation(draw)
            result = TensorType(x.type.shape, elem)
            op = Add().citing(Arithmetic.parse("litert-add{shift=20}"), [x.type, y.type], [result])
            values += w.make(op, x, y, elem=elem)
        elif kind == "tied":
            pool = AveragePool2D((2, 2), layout="NHWC", arithmetic=Arithmetic("average-half-away"))
            others += w.make(pool, x)
            parts = w.make(Split(-1, (1, 3)), x)
            values += w.make(Concat(3), *parts)
        elif kind == "clamp":
            values += w.make(Clamp(-5, draw(st.integers(-5, 127))), x)
        elif kind == "dequantize":
            others += w.make(Dequantize(), x)
        else:
            shape = (2, 12)
            others.append(w.constant(shape, np.uint8, draw(affine_types(shape, U8))))
            others.append(w.constant(shape, np.int32, draw(affine_types(shape, I32))))
    return w.finish(values + others)


def _activation(draw: Draw) -> Affine:
    return Affine.per_tensor(I8, np.float32(draw(st.floats(2**-7, 0.5, width=32))), draw(st.integers(-128, 127)))


def _kernel(w: GraphWriter, x: Value) -> Value:
    """A convolution or matrix product with its requantize, as one fused node or as three nodes."""
    draw = w.draw
    op: Any = draw(st.sampled_from([Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), Matmul(), Matmul(True)]))
    shape = (4, 3, 3, 4) if isinstance(op, Conv2D) else (4, 4)
    axis = op.weight_channel_axis(len(shape))
    grid = tuple(4 if i == axis else 1 for i in range(len(shape)))
    blocks = tuple(1 if i == axis else d for i, d in enumerate(shape))
    scale = np.array([draw(st.floats(2**-10, 2**-3, width=32)) for _ in range(4)], np.float32).reshape(grid)
    weights = w.constant(shape, np.int8, Affine.blocked(I8, scale, 0, blocks, -127, 127))
    elem = op.accumulator([x.type, weights.type], x.type.shape, I32)
    bias = op.accumulator([x.type, weights.type], x.type.shape, I32, of_bias=True)
    operands = [x, weights, *([w.constant((4,), np.int32, bias)] if draw(st.booleans()) else [])]
    result = _activation(draw)
    requantize = Requantize(Arithmetic("double"))
    scales_behind = [elem.scale.array]
    requantize = requantize.replace(constants=Constants(requantize.form().constants(scales_behind, result.scale.array)))
    if draw(st.booleans()):
        return w.make(requantize, *w.make(op, *operands, elem=elem), elem=result)[0]
    body = Graph("body")
    inside = [body.add_input(str(i), v.type) for i, v in enumerate(operands)]
    inner = GraphWriter(draw)
    inner.graph, inner.build = body, Builder(body)
    body.set_outputs([("0", inner.make(requantize, *inner.make(op, *inside, elem=elem), elem=result)[0])])
    return w.make(Fused(body), *operands)[0]


BLOCK_KINDS = ("normalize", "read", "add", "limit", "move", "parts", "kernel", "table", "constant")


@st.composite
def block_graphs(draw: Draw, steps: int = 5) -> Graph:
    """Programs of block floating point on images ``[N, 6, 6, 4]``: conversions, sums, kernels, tables, movement."""
    w = GraphWriter(draw)
    batch = draw(batches)
    shape = (batch, 6, 6, 4)
    values = [w.input(TensorType(shape, draw(block_types(shape))))]
    values += w.make(ToBlock(), w.input(TensorType(shape, F32)), elem=draw(block_types(shape)))
    others: list[Value] = []
    for _ in range(draw(st.integers(1, steps))):
        x = draw(st.sampled_from(values))
        elem = x.type.elem
        assert isinstance(elem, BlockFloat)
        kind = draw(st.sampled_from(BLOCK_KINDS))
        if kind == "normalize":
            values += w.make(Normalize(), x, elem=draw(block_types(shape)))
        elif kind == "read":
            others += w.make(FromBlock(), x)
        elif kind == "add":
            op = Add(arithmetic=Arithmetic("align-larger"))
            values += w.make(op, x, draw(st.sampled_from(values)), elem=_found(draw, shape, BlockFormat(40, 10)))
        elif kind == "limit":
            values += w.make(draw(st.sampled_from([Relu(), Clip(-0.0, 6.0), Clip(-1.5), Clip(maximum=0.1)])), x)
        elif kind == "move":
            turned = (batch, 4, 6, 6)
            others += w.make(Transpose((0, 3, 1, 2)), x, elem=_found(draw, turned, elem.format))
        elif kind == "parts":
            # Parts have blocks of one kind each: the lengths fit both.
            of_parts = BlockFloat(elem.format, (1, 6, 2, 1))
            parts = w.make(Split(-1, (1, 3)), x, elem=of_parts)
            values += w.make(Concat(3), *parts, elem=_found(draw, shape, elem.format))
        elif kind == "kernel":
            others.append(_block_kernel(w, batch))
        elif kind == "table":
            of_8_bits = BlockFloat(BlockFormat(8), (1, 6, 6, 4), ConstantArray(np.full((1,) * 4, -3, np.int32)))
            source = w.make(Normalize(), x, elem=of_8_bits)[0]
            table = LookupTable(ConstantArray(draw(arrays((256,), np.int8))), draw(names))
            values += w.make(table, source, elem=of_8_bits)
        else:
            fixed_shape = draw(st.sampled_from([(2, 9), (0, 3), (5,), ()]))
            others.append(w.block_constant(fixed_shape, draw(block_types(fixed_shape))))
            element = draw(block_types((3, 8), draw(element_formats())))
            others.append(w.block_constant((3, 8), element))
    return w.finish(values + others)


def _found(draw: Draw, shape: tuple[Dim, ...], block_format: BlockFormat) -> BlockFloat:
    """A type of this format whose exponents are found at run time."""
    return BlockFloat(block_format, draw(block_types(shape, block_format)).blocks)


def _block_kernel(w: GraphWriter, batch: Dim) -> Value:
    """A matrix product with its normalize, as one fused node."""
    draw = w.draw
    rounding = draw(st.sampled_from(["half-even", "floor"]))
    x = w.make(
        ToBlock(), w.input(TensorType((batch, 8), F32)), elem=BlockFloat(BlockFormat(8, rounding=rounding), (1, 4))
    )[0]
    weights = w.block_constant((8, 3), BlockFloat(BlockFormat(8), (4, 1)))
    bias = [w.block_constant((3,), BlockFloat(BlockFormat(24), (3,)))] if draw(st.booleans()) else []
    operands = [x, weights, *bias]
    body = Graph("body")
    inside = [body.add_input(str(i), v.type) for i, v in enumerate(operands)]
    inner = GraphWriter(draw)
    inner.graph, inner.build = body, Builder(body)
    product = Matmul(arithmetic=Arithmetic("fixed-point", (("fraction", draw(st.integers(0, 3))),)))
    total = inner.make(product, *inside, elem=BlockFloat(BlockFormat(32, 10), (1, 1)))
    normalized = inner.make(Normalize(), *total, elem=draw(block_types((batch, 3))))
    body.set_outputs([("0", normalized[0])])
    return w.make(Fused(body), *operands)[0]


graphs = float_graphs() | quantized_graphs() | block_graphs()
