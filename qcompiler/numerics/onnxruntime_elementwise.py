"""Addition, subtraction and multiplication as ONNX Runtime's QLinear kernels compute them, in float32.

Source: ONNX Runtime 1.31, ``core/mlas/lib/intrinsics/avx2/qladd_avx2.cpp`` (QLinearAdd), ``core/mlas/lib/qlmul.cpp``
(QLinearMul, the SSE2 form, which x86 processors run). The C++ leaves open which products fuse with the addition behind
them; what stands here is what the published x86-64 builds do. Tails of arrays go through the same vector code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.elementwise import BinaryArithmetic
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.numerics.fused_multiply_add import fused_multiply_add
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.requantize_forms import Arrays
from qcompiler.numerics.rounding import Int64


class _OnnxRuntimeSum(BinaryArithmetic):
    sign = 1

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, NDArray[Any]]:
        """Both ratios to the output scale, and what the zero points add up to."""
        left = (inputs[0].scale / output.scale).astype(np.float32)
        right = (np.float32(self.sign) * (inputs[1].scale / output.scale)).astype(np.float32)
        zero_a, zero_b, zero_y = (q.zero_point.astype(np.float32) for q in (*inputs, output))
        zeros = fused_multiply_add(left, zero_a, (right * zero_b).astype(np.float32))
        return {
            "left_ratio": left, "right_ratio": right, "offset": np.asarray(zero_y - zeros, np.float32),
        }

    def intermediates(self, inputs: Sequence[Quantization], constants: Arrays) -> list[Intermediate]:
        """The float32 sum is converted to 32 bits before it saturates."""
        bound = abs(float(constants["offset"]))
        for side, q in zip(("left_ratio", "right_ratio"), inputs, strict=True):
            bound += abs(float(constants[side])) * q.largest_magnitude
        return [_converted("the scaled sum", bound)]

    def apply(
        self, a: Int64, b: Int64, inputs: Sequence[Quantization], output: Quantization, constants: Arrays
    ) -> Int64:
        total = fused_multiply_add(b, constants["right_ratio"], constants["offset"])
        total = fused_multiply_add(a, constants["left_ratio"], total)
        return output.clamp(np.rint(total).astype(np.int64))


@arithmetic("add", "onnxruntime-add")
class OnnxRuntimeAdd(_OnnxRuntimeSum):
    """rint(fma(a, s1/so, fma(b, s2/so, offset))) in float32, ties to even: QLinearAdd of ONNX Runtime on x86.

    a and b are the stored integers. The zero points enter before rounding, so a tie depends on them:
    offset = zo - fma(s1/so, z1, (s2/so) * z2). This is what the kernel does for two tensors and for a tensor plus a
    number. A number plus a tensor it adds in another order, which can move a tie by one step.
    """


@arithmetic("sub", "onnxruntime-add")
class OnnxRuntimeSub(_OnnxRuntimeSum):
    """As for add, with the second ratio negated; ONNX Runtime has no kernel of its own for it."""

    sign = -1


@arithmetic("mul", "onnxruntime-mul")
class OnnxRuntimeMul(BinaryArithmetic):
    """rint(f32((a - z1) * (b - z2)) * ratio + zo) in float32, ties to even: QLinearMul of ONNX Runtime on x86.

    ratio = (s1 * s2) / so, each step rounded to float32. Product and zero point are added in two roundings, without
    a fused multiply-add.
    """

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, NDArray[Any]]:
        product = (inputs[0].scale * inputs[1].scale).astype(np.float32)
        return {"ratio": (product / output.scale).astype(np.float32)}

    def intermediates(self, inputs: Sequence[Quantization], constants: Arrays) -> list[Intermediate]:
        bound = inputs[0].largest_difference * inputs[1].largest_difference
        scaled = bound * float(constants["ratio"])
        return [Intermediate("the product", bound, INT32_MAX), _converted("the scaled product", scaled)]

    def apply(
        self, a: Int64, b: Int64, inputs: Sequence[Quantization], output: Quantization, constants: Arrays
    ) -> Int64:
        product = ((a - inputs[0].zero_point) * (b - inputs[1].zero_point)).astype(np.float32)
        scaled = (product * constants["ratio"]).astype(np.float32) + output.zero_point.astype(np.float32)
        return output.clamp(np.rint(scaled).astype(np.int64))


def _converted(what: str, bound: float) -> Intermediate:
    """A float32 number that hardware converts to 32-bit integers; the margin holds the rounding of three float32 steps
    and a zero point of up to 16 bits."""
    largest = float(np.finfo(np.float32).max)
    return Intermediate(what, int(min(bound, largest) * (1 + 2.0**-20)) + (1 << 16), INT32_MAX)
