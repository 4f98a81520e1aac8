"""Operators on 16-bit activations against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray

from litert.padding import pads_for
from litert.tflite_model import Operator, constant, run_model, variable, write_model
from litert.witness import SCALES, Program, Rng, Scales, assert_equals_litert, integers, seeds
from qcompiler.ir import Affine, ConstantArray, TensorType
from qcompiler.ir.scalar import I8, I16, I64
from qcompiler.ir.types import channel_blocks
from qcompiler.numerics import tabulate_interpolated
from qcompiler.numerics.interpolated_table import interpolate
from qcompiler.ops.activation import Exp, Sigmoid, Tanh, UnaryFunction
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, Matmul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantized import tensor_parameters
from qcompiler.ops.reduction import Mean
from qcompiler.ops.table import LookupTable

Array = NDArray[Any]


def int16(scale: Any) -> Affine:
    """A per-tensor int16 type with zero point 0."""
    return Affine.per_tensor(I16, float(scale), 0)


def contraction_program(
    op: Contraction, x_shape: tuple[int, ...], w_shape: tuple[int, ...], scales: Scales, rng: Rng, per_channel: bool,
    form: str = "i64",
) -> tuple[Program, Any, Any, Any]:
    """int16 through ``op`` with int8 weights and int64 biases, requantized; weights and bias as LiteRT takes them."""
    program = Program()
    x_type = TensorType(x_shape, int16(scales.draw(rng, factor=1 / 256)))
    x = program.input(x_type, integers(rng, x_type))
    axis = op.weight_channel_axis(len(w_shape))
    channels = w_shape[axis]
    weight_scale = np.atleast_1d(scales.draw(rng, channels if per_channel else None))
    if per_channel:
        grid = tuple(channels if i == axis else 1 for i in range(len(w_shape)))
        w_elem = Affine.blocked(I8, weight_scale.reshape(grid), 0, channel_blocks(w_shape, axis), -127, 127)
    else:
        w_elem = Affine.per_tensor(I8, float(weight_scale[0]), 0, -127, 127)
    weights = integers(rng, TensorType(w_shape, w_elem))
    w = program.build(Constant(ConstantArray(weights)), elem=w_elem)
    types = [x.type, w.type]
    (shape,) = op.infer_shapes(types)
    bias_elem = op.accumulator(types, shape, I64, of_bias=True)
    # Beyond 32 bits.
    bias = rng.integers(-(1 << 25), 1 << 25, channels)
    bias[:1] = 1 << 33
    b = program.build(Constant(ConstantArray(bias)), elem=bias_elem)
    acc_elem = op.accumulator(types, shape, I64)
    acc = program.build(op, x, w, b, elem=acc_elem)
    typical = float(np.median(weight_scale)) * float(x_type.elem.scale.array) * 74 * 18918  # type: ignore[union-attr]
    out_scale = typical * op.reduction_length(types) ** 0.5 / 15000
    if scales.name == "ties":
        out_scale = float(np.exp2(np.floor(np.log2(out_scale))))
    inputs = [x_type.elem.scale.array, w_elem.scale.array.reshape(acc_elem.scale.shape)]  # type: ignore[union-attr]
    result = program.requantize(acc, form, inputs, int16(out_scale))
    return program, result, constant(weights, weight_scale), constant(bias, bias_elem.scale.array)


GEOMETRIES = [
    # batch, height, width, channels, outputs, kernel, strides, dilations, padding
    (1, 12, 12, 8, 32, (3, 3), (1, 1), (1, 1), "SAME"),
    (2, 13, 11, 3, 16, (3, 3), (2, 2), (1, 1), "SAME"),
    (1, 12, 13, 4, 16, (3, 2), (1, 1), (2, 3), "VALID"),
    (1, 7, 7, 600, 16, (1, 1), (2, 2), (1, 1), "SAME"),
]


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv2d(geometry: Any, per_channel: bool, scales: Scales) -> None:
    batch, height, width, channels, outputs, kernel, strides, dilations, padding = geometry
    op = Conv2D(strides, dilations, pads_for(padding, (height, width), kernel, strides, dilations), 1, "NHWC")
    fields = {
        "padding": getattr(Padding, padding), "strideH": strides[0], "strideW": strides[1],
        "dilationHFactor": dilations[0], "dilationWFactor": dilations[1],
    }
    for rng in seeds(2):
        program, result, weights, bias = contraction_program(
            op, (batch, height, width, channels), (outputs, *kernel, channels), scales, rng, per_channel
        )
        y = assert_equals_litert(program, result, Operator("CONV_2D", 5, "Conv2D", fields), [weights, bias])
        assert (y.min(), y.max()) == (-32768, 32767)


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_depthwise_conv2d(strides: Any, scales: Scales) -> None:
    pads = pads_for("SAME", (13, 12), (3, 3), strides, (1, 1))
    op = Conv2D(strides, (1, 1), pads, 8, "NHWC")
    fields = {
        "padding": Padding.SAME, "strideH": strides[0], "strideW": strides[1], "dilationHFactor": 1,
        "dilationWFactor": 1, "depthMultiplier": 1,
    }
    for rng in seeds(3):
        program, result, weights, bias = contraction_program(op, (2, 13, 12, 8), (8, 3, 3, 1), scales, rng, True)
        assert weights.data is not None
        depthwise = constant(weights.data.transpose(3, 1, 2, 0).copy(), weights.scale, axis=3)
        operator = Operator("DEPTHWISE_CONV_2D", 5, "DepthwiseConv2D", fields)
        assert_equals_litert(program, result, operator, [depthwise, bias])


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
def test_fully_connected(per_channel: bool, scales: Scales) -> None:
    """As with 8 bits, the reference kernel multiplies in float64; the same product as a convolution does not."""
    for rng in seeds(4):
        program, result, weights, bias = contraction_program(
            Matmul(True), (48, 40), (64, 40), scales, rng, per_channel, "float64-away"
        )
        operator = Operator("FULLY_CONNECTED", 11, "FullyConnected")
        assert_equals_litert(program, result, operator, [weights, bias])


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_batch_matmul(scales: Scales) -> None:
    for rng in seeds(4):
        program = Program()
        types = [TensorType(s, int16(scales.draw(rng, factor=1 / 256))) for s in ((3, 24, 16), (3, 16, 20))]
        a, b = (program.input(t, integers(rng, t)) for t in types)
        elem = Matmul().accumulator(types, (3, 24, 20), I64)
        inputs = [t.elem.scale.array for t in types if isinstance(t.elem, Affine)]
        scale = float(elem.scale.array) * 18918 * 18918 * 4 / 15000
        if scales.name == "ties":
            scale = float(np.exp2(np.floor(np.log2(scale))))
        result = program.requantize(program.build(Matmul(), a, b, elem=elem), "i64", inputs, int16(scale))
        assert_equals_litert(program, result, Operator("BATCH_MATMUL", 4, "BatchMatMul"))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
def test_elementwise(name: str, scales: Scales) -> None:
    op, arithmetic, operator = {
        "add": (Add(), "litert-add{shift=15}", Operator("ADD", 4, "Add", {"potScaleInt16": False})),
        "sub": (Sub(), "litert-add{shift=15}", Operator("SUB", 5, "Sub", {"potScaleInt16": False})),
        "mul": (Mul(), "litert-mul", Operator("MUL", 4, "Mul")),
    }[name]
    for rng in seeds(8):
        program = Program()
        types = [TensorType((4000,), int16(scales.draw(rng, factor=1 / 256))) for _ in range(2)]
        operands = [program.input(t, integers(rng, t)) for t in types]
        first, second = (float(t.elem.scale.array) for t in types if isinstance(t.elem, Affine))
        typical = first * second * 16384 if name == "mul" else max(first, second) / 2
        result = int16(typical * (1.0 if scales.name == "ties" else rng.uniform(0.3, 1.0)))
        y = assert_equals_litert(program, program.cited(op, arithmetic, *operands, elem=result), operator)
        assert (y.min(), y.max()) == (-32768, 32767)


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize(
    ("shape", "axes", "keepdims"),
    [
        ((3, 7, 7, 32), (1, 2), False), ((3, 8, 8, 32), (1, 2), True), ((5, 60), (1,), False),
        ((4, 2, 3, 90), (3,), True),
    ],
)
def test_mean(shape: Any, axes: tuple[int, ...], keepdims: bool, scales: Scales) -> None:
    for rng in seeds(4):
        source = int16(scales.draw(rng, factor=1 / 256))
        result = int16(float(source.scale.array) * (0.5 if scales.name == "ties" else rng.uniform(0.3, 1.0)))
        kept = [1 if i in axes else d for i, d in enumerate(shape)]
        drawn = rng.integers(-40000, 40001, kept) + rng.integers(-9000, 9001, shape)
        data = np.clip(drawn, -32768, 32767).astype(np.int16)
        program = Program()
        x = program.input(TensorType(shape, source), data)
        y = program.cited(Mean(axes, keepdims), "litert-mean", x, elem=result)
        operator = Operator("MEAN", 3, "Reducer", {"keepDims": keepdims})
        assert_equals_litert(program, y, operator, [constant(np.asarray(axes, np.int32))])


@pytest.mark.parametrize("kind", ["average", "max"])
@pytest.mark.parametrize(
    "pool", [(9, 9, (3, 3), (2, 2), "SAME"), (8, 8, (2, 2), (2, 2), "VALID"), (7, 7, (7, 7), (1, 1), "VALID")], ids=str
)
def test_pooling(kind: str, pool: Any) -> None:
    height, width, kernel, strides, padding = pool
    pads = pads_for(padding, (height, width), kernel, strides)
    fields = {
        "filterHeight": kernel[0], "filterWidth": kernel[1], "strideH": strides[0], "strideW": strides[1],
        "padding": getattr(Padding, padding),
    }
    for rng in seeds(4):
        type = TensorType((2, height, width, 24), int16(0.001))
        program = Program()
        x = program.input(type, integers(rng, type))
        if kind == "average":
            y = program.cited(AveragePool2D(kernel, strides, pads, "NHWC"), "average-half-away", x)
        else:
            y = program.build(MaxPool2D(kernel, strides, (1, 1), pads, "NHWC"), x)
        assert_equals_litert(program, y, Operator(f"{kind.upper()}_POOL_2D", 3, "Pool2D", fields))


@pytest.mark.parametrize("shape", [(16, 10), (4, 6, 33), (1, 500), (8, 1), (1, 20000)], ids=str)
def test_softmax(shape: tuple[int, ...]) -> None:
    for rng in seeds(8):
        type = TensorType(shape, int16(np.exp2(rng.uniform(-16, -6))))
        program = Program()
        y = program.cited(Softmax(-1), "table-softmax", program.input(type, integers(rng, type)), elem=int16(2.0**-15))
        assert_equals_litert(program, y, Operator("SOFTMAX", 3, "Softmax", {"beta": 1.0}))


@pytest.mark.parametrize("exponent", range(-16, -5))
def test_softmax_of_every_difference(exponent: int) -> None:
    """Rows of two: the largest number, and each of the 65,535 differences to it."""
    type = TensorType((65536, 2), int16(2.0**exponent))
    data = np.stack([np.full(65536, 32767), np.arange(-32768, 32768)], -1).astype(np.int16)
    program = Program()
    y = program.cited(Softmax(-1), "table-softmax", program.input(type, data), elem=int16(2.0**-15))
    assert_equals_litert(program, y, Operator("SOFTMAX", 3, "Softmax", {"beta": 1.0}))


def assert_table_equals_litert(function: UnaryFunction, operator: Operator, source: Affine, result: Affine) -> Array:
    """Require the same results for every stored input."""
    type = TensorType((65536,), source)
    program = Program()
    x = program.input(type, np.arange(-32768, 32768).astype(np.int16))
    entries = tabulate_interpolated(
        function.tabulated, tensor_parameters(type), tensor_parameters(TensorType((), result)), -32768, -32768, 32767
    )
    y = program.build(LookupTable(ConstantArray(entries.astype(np.int16))), x, elem=result)
    return assert_equals_litert(program, y, operator)


@pytest.mark.parametrize(
    ("function", "name", "most"), [(Sigmoid(), "LOGISTIC", 3), (Tanh(), "TANH", 6)], ids=["logistic", "tanh"]
)
def test_logistic_and_tanh_have_a_table_of_their_own(function: UnaryFunction, name: str, most: int) -> None:
    """LiteRT's two kernels of int16 take another table; ours is some steps away, for every stored input."""
    source, result = int16(2.0**-12), int16(2.0**-15)
    type = TensorType((65536,), source)
    x = np.arange(-32768, 32768).astype(np.int16)
    model = write_model(Operator(name, 3), [variable(type)], variable(TensorType((65536,), result)))
    theirs = run_model(model, [x]).astype(np.int64)
    entries = tabulate_interpolated(
        function.tabulated, tensor_parameters(type), tensor_parameters(TensorType((), result)), -32768, -32768, 32767
    )
    ours = interpolate(entries, x.astype(np.int64) + 32768)
    assert 0 < np.abs(ours - theirs).max() <= most


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_table_of_exp(scales: Scales) -> None:
    for rng in seeds(12):
        source = int16(scales.draw(rng, factor=1 / 512))
        largest = float(np.exp(min(float(source.scale.array) * 32767, 80)))
        result = int16(largest / 32767 * (1.0 if scales.name == "random" else 0.5))
        assert_table_equals_litert(Exp(), Operator("EXP", 2, "Exp"), source, result)
