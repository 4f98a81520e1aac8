"""Contractions with requantize, against LiteRT's reference CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV,
FULLY_CONNECTED and BATCH_MATMUL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray

from litert.padding import pads_for
from litert.tflite_model import Operator, constant, run_model, variable, write_model
from litert.witness import SCALES, Program, Rng, Scales, assert_equals_litert, int8, integers, seeds
from qcompiler import numerics
from qcompiler.ir import Affine, ConstantArray, TensorType, Value
from qcompiler.ir.scalar import I8, I32
from qcompiler.ir.types import channel_blocks
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.slicing import Pad

Array = NDArray[Any]


@dataclass
class Case:
    """A contraction built in our IR, with what LiteRT needs to build the same."""

    program: Program
    x: Value
    weights: Array
    weight_scale: Array
    bias: Array
    bias_scale: Array
    result: Value


def contraction_case(
    op: Contraction,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    scales: Scales,
    rng: Rng,
    *,
    per_channel: bool = True,
    form: str = "double",
    before: Any = None,
) -> Case:
    """Random numbers through ``op`` and a requantize.

    The output scale leaves the results spread over, and beyond, the int8 range. ``before`` wraps the input.
    """
    program = Program()
    x_elem = int8(rng, scales.draw(rng))
    x_type = TensorType(x_shape, x_elem)
    x = program.input(x_type, integers(rng, x_type))
    source = before(program, x) if before else x

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

    types = [source.type, w.type]
    (shape,) = op.infer_shapes(types)
    bias_elem = op.accumulator(types, shape, I32, of_bias=True)
    bias = rng.integers(-3000, 3000, channels).astype(np.int32)
    b = program.build(Constant(ConstantArray(bias)), elem=bias_elem)
    acc_elem = op.accumulator(types, shape, I32)
    acc = program.build(op, source, w, b, elem=acc_elem)

    terms = op.reduction_length(types)
    typical = float(np.median(weight_scale)) * float(x_elem.scale.array) * 74 * 74 * terms**0.5
    out_scale = typical / 60
    if scales.name == "ties":
        out_scale = float(np.exp2(np.floor(np.log2(out_scale))))
    out_elem = int8(rng, out_scale)
    inputs = [x_elem.scale.array, w_elem.scale.array.reshape(acc_elem.scale.shape)]
    result = program.requantize(acc, form, inputs, out_elem)
    return Case(program, x, weights, weight_scale, bias, bias_elem.scale.array, result)


def convolution_fields(padding: str, strides: Any, dilations: Any) -> dict[str, Any]:
    return {
        "padding": getattr(Padding, padding), "strideH": strides[0], "strideW": strides[1],
        "dilationHFactor": dilations[0], "dilationWFactor": dilations[1],
    }


def assert_saturates(y: Array) -> None:
    """A case that never clamps would not test clamping."""
    assert y.min() == -128
    assert y.max() == 127


GEOMETRIES = [
    # batch, height, width, channels, outputs, kernel, strides, dilations, padding
    (1, 12, 12, 8, 32, (3, 3), (1, 1), (1, 1), "SAME"),
    (2, 13, 11, 3, 16, (3, 3), (2, 2), (1, 1), "SAME"),
    (1, 14, 10, 5, 16, (3, 5), (2, 1), (1, 1), "VALID"),
    (1, 12, 12, 4, 16, (3, 3), (1, 1), (2, 2), "SAME"),
    (1, 12, 13, 4, 16, (3, 2), (1, 1), (2, 3), "VALID"),
    (2, 16, 16, 64, 16, (1, 1), (1, 1), (1, 1), "VALID"),
    (1, 16, 16, 2, 16, (5, 5), (3, 3), (1, 1), "SAME"),
    (1, 7, 7, 200, 16, (1, 1), (2, 2), (1, 1), "SAME"),
]


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_conv2d(geometry: Any, per_channel: bool, scales: Scales) -> None:
    batch, height, width, channels, outputs, kernel, strides, dilations, padding = geometry
    op = Conv2D(strides, dilations, pads_for(padding, (height, width), kernel, strides, dilations), 1, "NHWC")
    for rng in seeds(3):
        case = contraction_case(
            op, (batch, height, width, channels), (outputs, *kernel, channels), scales, rng, per_channel=per_channel
        )
        operator = Operator("CONV_2D", 3, "Conv2D", convolution_fields(padding, strides, dilations))
        operands = [constant(case.weights, case.weight_scale), constant(case.bias, case.bias_scale)]
        assert_saturates(assert_equals_litert(case.program, case.result, operator, operands))


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_conv2d_with_explicit_padding_is_pad_and_valid_conv2d(scales: Scales) -> None:
    """LiteRT has no explicit padding: its exporter writes PAD, whose result our conv2d never materializes."""
    pads = (2, 0, 1, 3)
    for rng in seeds(3):
        fused = contraction_case(
            Conv2D((2, 2), (1, 1), pads, 1, "NHWC"), (1, 9, 9, 6), (16, 3, 3, 6), scales, rng
        )
        ours = fused.program.run(fused.result)
        pad = write_model(
            Operator("PAD", 2, "Pad"),
            [variable(fused.x.type), constant(np.array([[0, 0], [2, 1], [0, 3], [0, 0]], np.int32))],
            variable(fused.x.type.with_shape((1, 12, 12, 6))),
        )
        convolution = write_model(
            Operator("CONV_2D", 3, "Conv2D", convolution_fields("VALID", (2, 2), (1, 1))),
            [
                variable(fused.x.type.with_shape((1, 12, 12, 6))), constant(fused.weights, fused.weight_scale),
                constant(fused.bias, fused.bias_scale),
            ],
            variable(fused.result.type),
        )
        theirs = run_model(convolution, [run_model(pad, fused.program.feeds)])
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_pad_op_then_conv2d_equals_conv2d_with_pads(scales: Scales) -> None:
    """The two forms of padding of our own IR mean the same."""
    rng_pair = [next(seeds(1)), next(seeds(1))]
    pads = (2, 0, 1, 3)

    def pad(program: Program, x: Value) -> Value:
        return program.build(Pad((0, 2, 0, 0), (0, 1, 3, 0)), x)

    shapes = (1, 9, 9, 6), (16, 3, 3, 6)
    inside = contraction_case(Conv2D((2, 2), pads=pads, layout="NHWC"), *shapes, scales, rng_pair[0])
    outside = contraction_case(Conv2D((2, 2), layout="NHWC"), *shapes, scales, rng_pair[1], before=pad)
    np.testing.assert_array_equal(inside.program.run(inside.result), outside.program.run(outside.result))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize(
    ("multiplier", "strides", "dilations", "padding"),
    [
        (1, (1, 1), (1, 1), "SAME"), (1, (2, 2), (1, 1), "SAME"), (2, (1, 1), (1, 1), "VALID"),
        (3, (2, 2), (1, 1), "SAME"), (1, (1, 1), (2, 2), "SAME"),
    ],
)
def test_depthwise_conv2d(multiplier: int, strides: Any, dilations: Any, padding: str, scales: Scales) -> None:
    channels = 8
    outputs = channels * multiplier
    pads = pads_for(padding, (13, 12), (3, 3), strides, dilations)
    op = Conv2D(strides, dilations, pads, channels, "NHWC")
    for rng in seeds(3):
        case = contraction_case(op, (2, 13, 12, channels), (outputs, 3, 3, 1), scales, rng)
        fields = convolution_fields(padding, strides, dilations) | {"depthMultiplier": multiplier}
        operator = Operator("DEPTHWISE_CONV_2D", 3, "DepthwiseConv2D", fields)
        # LiteRT holds depthwise weights as [1, KH, KW, O].
        weights = constant(case.weights.transpose(3, 1, 2, 0).copy(), case.weight_scale, axis=3)
        operands = [weights, constant(case.bias, case.bias_scale)]
        assert_saturates(assert_equals_litert(case.program, case.result, operator, operands))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
def test_transposed_convolution(strides: Any, padding: str, scales: Scales) -> None:
    sizes, kernel = (5, 6), (3, 4)
    if padding == "VALID":
        result = [(n - 1) * s + k for n, s, k in zip(sizes, strides, kernel, strict=True)]
        pads, extra = (0, 0, 0, 0), (0, 0)
    else:
        result = [n * s for n, s in zip(sizes, strides, strict=True)]
        pads = pads_for("SAME", result, kernel, strides)
        spans = [(n - 1) * s + k for n, s, k in zip(sizes, strides, kernel, strict=True)]
        # Strides beyond the kernel leave cells at the end that no product reaches.
        extra = (result[0] - spans[0] + pads[0] + pads[2], result[1] - spans[1] + pads[1] + pads[3])
    op = ConvTranspose2D(strides, (1, 1), pads, extra, 1, "NHWC")
    for rng in seeds(3):
        case = contraction_case(op, (1, *sizes, 6), (16, *kernel, 6), scales, rng)
        assert case.result.type.shape == (1, *result, 16)
        fields = {k: v for k, v in convolution_fields(padding, strides, (1, 1)).items() if "dilation" not in k}
        model = write_model(
            Operator("TRANSPOSE_CONV", 3, "TransposeConv", fields),
            [
                constant(np.array([1, *result, 16], np.int32)), constant(case.weights, case.weight_scale),
                variable(case.x.type), constant(case.bias, case.bias_scale),
            ],
            variable(case.result.type),
        )
        theirs = run_model(model, case.program.feeds)
        np.testing.assert_array_equal(case.program.run(case.result), theirs)


def as_1x1_conv2d(case: Case) -> Array:
    """LiteRT's result for a ``[96, 40] x [32, 40]`` matmul case, computed by CONV_2D."""
    model = write_model(
        Operator("CONV_2D", 3, "Conv2D", convolution_fields("VALID", (1, 1), (1, 1))),
        [
            variable(case.x.type.with_shape((1, 96, 1, 40))),
            constant(case.weights.reshape(32, 1, 1, 40), case.weight_scale),
            constant(case.bias, case.bias_scale),
        ],
        variable(case.result.type.with_shape((1, 96, 1, 32))),
    )
    return run_model(model, [case.program.feeds[0].reshape(1, 96, 1, 40)]).reshape(96, 32)


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
def test_matmul_is_1x1_conv2d(per_channel: bool, scales: Scales) -> None:
    for rng in seeds(4):
        case = contraction_case(Matmul(True), (96, 40), (32, 40), scales, rng, per_channel=per_channel)
        np.testing.assert_array_equal(case.program.run(case.result), as_1x1_conv2d(case))


# double-f32-product rounds alike; its multipliers differ in their last bits, which test_litert_scale_products tells.
WRONG_FORMS = sorted(
    {name for op, name in numerics.ARITHMETIC if op == "requantize"} - {"double", "double-f32-product"}
)


@pytest.mark.parametrize("form", WRONG_FORMS)
def test_conv2d_contradicts_every_other_form(form: str) -> None:
    """The cases above can tell ``double`` from all else: LiteRT differs from each other form, and by one step."""
    scales = SCALES[0]
    mismatches = 0
    for rng, again in zip(seeds(10), seeds(10), strict=True):
        wrong = contraction_case(Matmul(True), (96, 40), (32, 40), scales, rng, form=form)
        right = contraction_case(Matmul(True), (96, 40), (32, 40), scales, again)
        ours, theirs = wrong.program.run(wrong.result).astype(int), as_1x1_conv2d(right).astype(int)
        assert np.abs(ours - theirs).max() <= 1
        mismatches += int((ours != theirs).sum())
    assert mismatches > 0


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
def test_fully_connected_is_float64_away(per_channel: bool, scales: Scales) -> None:
    for rng in seeds(6):
        case = contraction_case(
            Matmul(True), (64, 40), (64, 40), scales, rng, per_channel=per_channel, form="float64-away"
        )
        operator = Operator("FULLY_CONNECTED", 5 if per_channel else 4, "FullyConnected")
        operands = [constant(case.weights, case.weight_scale), constant(case.bias, case.bias_scale)]
        assert_equals_litert(case.program, case.result, operator, operands)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_batch_matmul_is_double_of_a_float32_product(scales: Scales) -> None:
    for rng in seeds(6):
        program = Program()
        types = [TensorType(s, int8(rng, scales.draw(rng))) for s in ((3, 24, 16), (3, 16, 20))]
        a, b = (program.input(t, integers(rng, t)) for t in types)
        op = Matmul()
        elem = op.accumulator(types, (3, 24, 20), I32)
        ratio = float(elem.scale.array) * 74 * 74 * 4 / 60
        if scales.name == "ties":
            ratio = float(np.exp2(np.floor(np.log2(ratio))))
        inputs = [t.elem.scale.array for t in types if isinstance(t.elem, Affine)]
        acc = program.build(op, a, b, elem=elem)
        result = program.requantize(acc, "double-f32-product", inputs, int8(rng, ratio))
        operator = Operator("BATCH_MATMUL", 2, "BatchMatMul")
        assert_saturates(assert_equals_litert(program, result, operator))
