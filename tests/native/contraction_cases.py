"""Random convolutions and matrix products, alone and with what may follow them in a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from op_writer import Illegal, OpWriter, per_channel

from qcompiler.ir import Affine, Arithmetic, ConstantArray, Scalar, Value
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import I8, I16, I32, I64, U8, U16
from qcompiler.numerics.interpolated_table import INTERPOLATED_ENTRIES, LARGEST_SLOPE
from qcompiler.ops.binary import Add, Maximum, Mul, Sub
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.quantization import Clamp, Dequantize
from qcompiler.ops.quantized import affine
from qcompiler.ops.table import LookupTable


def weights_of(w: OpWriter, op: Contraction, shape: tuple[int, ...]) -> Value:
    """Constant weights: by channel and symmetric as targets have them, or of any zero point and format."""
    axis = op.weight_channel_axis(len(shape))
    kind = w.rng.integers(0, 8)
    if kind == 0:
        elem = w.activation(w.pick(I8, U8, I16))
    elif kind == 1:
        elem = Affine.per_tensor(I8, w.scale(), 0, -127, 127)
    else:
        scales = w.rng.uniform(0.2, 1.8, shape[axis]) if w.maybe() else 2.0 ** w.rng.integers(-3, 1, shape[axis])
        elem = per_channel(I8, scales * 2.0**-6, axis, shape, qmin=-127, qmax=127)
    return w.constant(elem, shape)


def contraction(w: OpWriter, op: Contraction, x: Value, weights: Value) -> Value:
    """The sums, with or without bias."""
    types = [x.type, weights.type]
    shape = op.infer_shapes(types)[0]
    storage = sum_storage(w, x, weights)
    elem = op.accumulator(types, shape, storage)
    bias = []
    if w.maybe(3):
        of_bias = op.accumulator(types, shape, storage, of_bias=True)
        channels = weights.type.shape[op.weight_channel_axis(weights.type.rank)]
        assert isinstance(channels, int)
        most = int(w.pick(100, 100_000, 1 << 30, 1 << (40 if storage is I64 else 30)))
        bias = [w.constant(of_bias, (channels,), w.rng.integers(-most, most, channels).astype(storage.dtype))]
    return w.make(op, x, weights, *bias, elem=elem)


def sum_storage(w: OpWriter, *operands: Value) -> Scalar:
    """The format of sums of products: 64 bits where two operands of 16 meet, either where one does."""
    wide = sum(v.type.storage.bits > 8 for v in operands)
    found: Scalar = (I32, w.pick(I32, I64, I64), I64)[wide]
    return found


def filled(w: OpWriter, sums: Value, storage: Scalar | None = None) -> Value:
    """A requantize of sums whose results fill the result's format, and leave it at times."""
    sum_type = affine(sums.type)
    node = sums.producer
    assert node is not None
    weights = constant_value(node.operands[1])
    terms = 1 if weights is None else max(weights.size // weights.shape[0], 1)
    spread = float(np.sqrt(terms)) * 70 * 70 * 2.0 ** (node.operands[0].type.storage.bits - 8)
    storage = storage or w.storage()
    target = (storage.maximum - storage.minimum) / 2
    factor = float(2.0 ** np.round(np.log2(spread / target)) * w.pick(0.5, 1.0, 1.0, 2.0, w.rng.uniform(0.3, 3.0)))
    form = w.pick("double", "ruy", "single", "i64", "float-rne", "float-rne", "float64-away", "double-f32-product")
    return w.requantize_to(sums, form, w.activation(storage, np.float32(sum_type.scale.array.max() * factor)))


def tail(w: OpWriter, y: Value) -> Value:
    """Nothing, or element-wise steps: clamp, table, residual operands of either order, another scale."""
    for _ in range(int(w.rng.integers(0, 3))):
        kind = w.rng.integers(0, 6)
        elem = affine(y.type)
        if kind == 0:
            low = int(w.rng.integers(elem.qmin, elem.qmax + 1))
            y = w.make(Clamp(low, int(w.rng.integers(low, elem.qmax + 1))), y)
        elif kind == 1:
            y = table(w, y)
        elif kind == 2:
            y = w.make(w.pick(Maximum(), Maximum()), *w.shuffled(y, w.input(y.type.shape, elem)))
        elif kind == 3:
            y = w.requantize(y)
        elif elem.storage.bits <= 8:
            other = w.input(y.type.shape, w.activation(w.storage(wide=False)))
            if w.maybe(4):
                shape = [1 if i == 0 else d for i, d in enumerate(y.type.shape)]
                other = w.constant(w.activation(w.storage(wide=False)), [d for d in shape if isinstance(d, int)])
            y = binary(w, *w.shuffled(y, other))
    return y


def binary(w: OpWriter, a: Value, b: Value) -> Value:
    """A sum, difference or product in any arithmetic."""
    op: Any = w.pick(Add(), Sub(), Mul())
    wide = max(a.type.storage.bits, b.type.storage.bits) > 8
    if isinstance(op, Mul):
        citation = w.pick(Arithmetic("onnxruntime-mul"), w.arithmetic("litert-mul", rounding=True))
    else:
        shift = w.pick(12, 15) if wide else w.pick(20, 20, 15, 0)
        citation = w.pick(Arithmetic("onnxruntime-add"), w.arithmetic("litert-add", rounding=True, shift=shift))
    scales = [float(affine(v.type).scale.array) for v in (a, b)]
    base = scales[0] * scales[1] if isinstance(op, Mul) else max(scales)
    scale = np.float32(base * w.pick(0.5, 1.0, 2.0, 2.0, w.rng.uniform(0.3, 4)))
    if isinstance(op, Mul):
        scale = np.float32(scale * w.pick(1, 32, 64))
    if "rounding=shift" in str(citation):
        scale = np.float32(2.0 ** np.round(np.log2(scale)))
    return w.cite(op, citation, [a, b], w.activation(w.storage(), scale))


def table(w: OpWriter, x: Value) -> Value:
    """Any function of 8-bit numbers, or of 16-bit numbers, whose entries are as far apart as they may be at times."""
    elem = w.activation(w.pick(I8, U8, I16, U16))
    wide = x.type.storage.bits == 16
    entries = w.rng.integers(elem.qmin, elem.qmax, INTERPOLATED_ENTRIES if wide else 256, endpoint=True)
    if wide:
        low = int(w.rng.integers(elem.qmin, elem.qmax, endpoint=True))
        entries = np.clip(entries, low, low + LARGEST_SLOPE)
    return w.make(LookupTable(ConstantArray(entries.astype(elem.storage.dtype))), x, elem=elem)


def finished(w: OpWriter, sums: Value) -> Value:
    """The sums as they are, or requantized with a tail, dequantized at times."""
    if w.maybe(8):
        return sums
    y = tail(w, filled(w, sums))
    return w.make(Dequantize(), y) if w.maybe(3) else y


def convolution(w: OpWriter) -> Value:
    """Any kernel, strides, dilations, pads, groups and layout."""
    inside = w.size(40)
    kind = w.rng.integers(0, 4)
    if kind == 0:
        groups, channels, outputs = inside, inside, inside
    elif kind == 1:
        groups = int(w.rng.integers(2, 5))
        channels, outputs = groups * w.size(9), groups * w.size(9)
    else:
        groups, channels, outputs = 1, inside, w.size(70)
    if kind == 0 and w.maybe(4):
        outputs *= 2
    kernel = (w.size(5), w.size(5)) if w.maybe() else w.pick((1, 1), (3, 3))
    dilations = w.pick((1, 1), (1, 1), (2, 1), (2, 3))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = tuple(int(w.rng.integers(0, 4)) for _ in range(4)) if w.maybe() else (0, 0, 0, 0)
    height, width = (max(w.size(13), reach[i] - pads[i] - pads[i + 2]) for i in (0, 1))
    layout = w.pick("NHWC", "NHWC", "NHWC", "NCHW")
    op = Conv2D((w.size(3), w.size(3)), dilations, pads, groups, layout)  # type: ignore[arg-type]
    return finished(w, _images(w, op, (height, width, channels), kernel, outputs))


def transposed_convolution(w: OpWriter) -> Value:
    """Any kernel, strides, dilations, cuts and groups."""
    groups = w.pick(1, 1, 2, 3)
    channels, outputs = groups * w.size(8), groups * w.size(12)
    kernel, strides = (w.size(4), w.size(4)), (w.size(3), w.size(3))
    pads = tuple(int(w.rng.integers(0, 3)) for _ in range(4)) if w.maybe() else (0, 0, 0, 0)
    op = ConvTranspose2D(
        strides, (w.size(2), w.size(2)), pads, (int(w.rng.integers(0, 2)), 0), groups,  # type: ignore[arg-type]
        w.pick("NHWC", "NCHW"),
    )
    height, width = w.size(6) + 2, w.size(6) + 2
    if min(op.spatial_result(i, size, kernel[i]) for i, size in enumerate((height, width))) <= 0:
        raise Illegal
    return finished(w, _images(w, op, (height, width, channels), kernel, outputs))


def _images(w: OpWriter, op: Any, size: tuple[int, int, int], kernel: tuple[int, int], outputs: int) -> Value:
    height, width, channels = size
    inside = channels // op.groups
    last = op.layout == "NHWC"
    shape: tuple[Dim, ...] = (w.batch, *size) if last else (w.batch, channels, height, width)
    x = w.input(shape, w.activation())
    return contraction(w, op, x, weights_of(w, op, (outputs, *kernel, inside) if last else (outputs, inside, *kernel)))


def static_matmul(w: OpWriter) -> Value:
    """Constant right-hand side of rank 2, or of higher rank with broadcasting."""
    leading: tuple[Dim, ...] = (w.batch, *(w.size(3) for _ in range(int(w.rng.integers(0, 3)))))
    rows = () if len(leading) == 1 and w.maybe() else (w.size(9),)
    terms, columns = w.size(70), w.size(70)
    op = Matmul(w.maybe())
    x = w.input((*leading, *rows, terms), w.activation())
    matrix = (columns, terms) if op.transpose_b else (terms, columns)
    before = tuple(w.pick(1, d) for d in leading[1:]) if rows and w.maybe(4) else ()
    numbers = tuple(d for d in (*before, *matrix) if isinstance(d, int))
    return finished(w, contraction(w, op, x, weights_of(w, op, numbers)))


def dynamic_matmul(w: OpWriter) -> Value:
    """Both sides computed, leading axes broadcast both ways."""
    extra = tuple(w.size(3) for _ in range(int(w.rng.integers(0, 3))))
    rows, terms, columns = w.size(9), w.size(40), w.size(30)
    op = Matmul(w.maybe())
    matrix = (columns, terms) if op.transpose_b else (terms, columns)
    left, right = ([w.batch, *(w.pick(1, d) for d in extra)] for _ in range(2))
    if w.maybe(4):
        right = right[int(w.rng.integers(0, len(right) + 1)) :]
    both = (*left, rows, terms), (*right, *matrix)
    x, y = (w.input(shape, w.activation(w.storage())) for shape in both)
    types = [x.type, y.type]
    shape = op.infer_shapes(types)[0]
    return finished(w, w.make(op, x, y, elem=op.accumulator(types, shape, sum_storage(w, x, y))))


def fused_kernel(w: OpWriter) -> Value:
    """A convolution or matrix product with bias, requantize and clamp in the body of one node."""
    op: Any = w.pick(Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), Matmul(), Matmul(True))
    inside, outputs = w.size(20), w.size(20)
    shape: tuple[int, ...]
    if isinstance(op, Conv2D):
        x, shape = w.input((w.batch, 5, 6, inside), w.activation()), (outputs, 3, 3, inside)
    else:
        x = w.input((w.batch, 4, inside), w.activation())
        shape = (outputs, inside) if op.transpose_b else (inside, outputs)
    weights = weights_of(w, op, shape)
    types = [x.type, weights.type]
    storage = sum_storage(w, x, weights)
    of_bias = op.accumulator(types, op.infer_shapes(types)[0], storage, of_bias=True)
    bias = w.constant(of_bias, (outputs,), w.rng.integers(-9000, 9000, outputs).astype(storage.dtype))

    def body(inner: OpWriter, operands: list[Value]) -> Value:
        elem = op.accumulator(types, op.infer_shapes(types)[0], storage)
        y = inner.requantize(inner.make(op, *operands, elem=elem), inner.pick("double", "float-rne", "single", "i64"))
        kept = affine(y.type)
        return inner.make(Clamp(kept.qmin, (kept.qmin + kept.qmax) // 2), y) if inner.maybe() else y

    return w.fused([x, weights, bias], body)


CASES = (convolution, convolution, convolution, transposed_convolution, static_matmul, static_matmul, dynamic_matmul,
         fused_kernel)
