"""Random float networks as ONNX models: images, tokens and vectors, with what usual networks are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx
from models import ModelWriter
from numpy.typing import NDArray

Array = NDArray[Any]


class Tensor(NamedTuple):
    """A value's name and its shape without the batch: [C, H, W], [L, D] or [D]."""

    name: str
    shape: tuple[int, ...]


def random_network(seed: int) -> onnx.ModelProto:
    """A network with one or two inputs, 3 to 14 layers and one to three outputs."""
    return NetworkWriter(seed).write()


def random_inputs(model: onnx.ModelProto, samples: int, seed: int, extreme: bool = False) -> dict[str, Array]:
    """Normally distributed inputs; extreme ones are huge, tiny, infinite or all the same."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        shape = (samples, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:]))
        x = rng.normal(0, 1, shape)
        if extreme:
            kind = rng.integers(0, 5)
            x = [x * 1e3, np.full(shape, 1e30), np.zeros(shape), x * 1e-38, np.where(x > 1, np.inf, x)][int(kind)]
            x = np.where(rng.integers(0, 50, shape) == 0, rng.choice([np.inf, -np.inf, 3e38, -0.0], shape), x)
        feeds[value.name] = x.astype(np.float32)
    return feeds


class NetworkWriter:
    """Writes one network. Every layer takes one of the newest values that fit it."""

    def __init__(self, seed: int) -> None:
        self.w = ModelWriter(seed)
        self.rng = np.random.default_rng((seed, 1))
        self.values: list[Tensor] = []
        self.used: set[str] = set()

    def write(self) -> onnx.ModelProto:
        inputs: dict[str, list[int | str]] = {}
        for number in range(1 if self.rng.integers(3) else 2):
            shape = (self.size(8), self.size(12) + 2, self.size(12) + 2)
            if self.rng.integers(4) == 0:
                shape = self.rng.choice([1, 4, 9]) * 1, self.size(20)  # type: ignore[assignment]
            inputs[f"x{number}"] = ["batch", *map(int, shape)]
            self.values.append(Tensor(f"x{number}", tuple(map(int, shape))))
        layers, wanted = 0, int(self.rng.integers(3, 15))
        while layers < wanted:
            x = self.recent(lambda _: True)
            makers = {3: IMAGE_LAYERS, 2: TOKEN_LAYERS, 1: VECTOR_LAYERS}[len(x.shape)]
            made = makers[self.rng.integers(len(makers))](self, x)
            if made is not None:
                self.used.add(x.name)
                self.values.extend([made] if isinstance(made, Tensor) else made)
                layers += 1
        ends = [v.name for v in self.values if v.name not in self.used and v.name not in inputs]
        inner = [v.name for v in self.values if v.name in self.used and v.name not in inputs]
        if inner and self.rng.integers(4) == 0:
            ends.append(inner[self.rng.integers(len(inner))])
        return self.w.model(inputs, ends)

    # Choices.

    def size(self, most: int) -> int:
        return int(self.rng.integers(1, most + 1))

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def recent(self, fits: Callable[[Tensor], bool]) -> Tensor:
        """One of the newest values that fit."""
        found = [v for v in self.values if fits(v)]
        return found[-1 - int(min(self.rng.geometric(0.6) - 1, len(found) - 1))]

    def partner(self, x: Tensor) -> Tensor:
        """Another value of the same shape, or the same one."""
        found = self.recent(lambda v: v.shape == x.shape)
        self.used.add(found.name)
        return found

    def make(self, op_type: str, shape: tuple[int, ...], *operands: str, **attributes: Any) -> Tensor:
        return Tensor(self.w.node(op_type, *operands, **attributes), shape)

    def shape_constant(self, *numbers: int) -> str:
        return self.w.constant(numbers, np.int64)


Layer = Callable[[NetworkWriter, Tensor], "Tensor | list[Tensor] | None"]


def convolution(n: NetworkWriter, x: Tensor) -> Tensor | None:
    """Dense, grouped or depthwise; any kernel, strides, dilations, pads."""
    channels, height, width = x.shape
    groups = n.pick(1, 1, channels, 2, 3)
    if channels % groups:
        return None
    outputs = channels if groups == channels else groups * n.size(24 // groups)
    kernel = n.pick((1, 1), (3, 3), (n.size(5), n.size(5)))
    strides, dilations = n.pick([1, 1], [2, 2], [n.size(3), n.size(3)]), n.pick([1, 1], [1, 1], [2, 1])
    pads = n.pick([k // 2 for k in kernel] * 2, [0, 0, 0, 0], [int(p) for p in n.rng.integers(0, 3, 4)])
    sizes = []
    for i, size in enumerate((height, width)):
        sizes.append((size + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1)
    if min(sizes) <= 0:
        return None
    fan_in = channels // groups * math.prod(kernel)
    operands = [n.w.normal(outputs, channels // groups, *kernel, scale=math.sqrt(2 / fan_in))]
    if n.rng.integers(2):
        operands.append(n.w.normal(outputs, scale=0.3))
    y = n.make("Conv", (outputs, *sizes), x.name, *operands, kernel_shape=list(kernel), group=groups, pads=pads,
               strides=strides, dilations=dilations)
    if n.rng.integers(3) == 0:
        y = Tensor(n.w.batch_norm(y.name, outputs), y.shape)
    return activation(n, y) if n.rng.integers(2) else y


def transposed_convolution(n: NetworkWriter, x: Tensor) -> Tensor | None:
    channels, height, width = x.shape
    if height * width > 60:
        return None
    outputs, kernel, stride = n.size(8), n.pick(2, 3), n.pick(1, 2)
    weights = n.w.normal(channels, outputs, kernel, kernel, scale=math.sqrt(2 / (channels * kernel)))
    shape = (outputs, *((s - 1) * stride + kernel for s in (height, width)))
    return n.make("ConvTranspose", shape, x.name, weights, n.w.normal(outputs, scale=0.1),
                  kernel_shape=[kernel, kernel], strides=[stride, stride])


def pool(n: NetworkWriter, x: Tensor) -> Tensor | None:
    channels, *size = x.shape
    kernel = n.pick([2, 2], [3, 3], [n.size(3), n.size(4)])
    strides = n.pick([1, 1], [2, 2], kernel)
    pads = n.pick([0, 0, 0, 0], [k // 2 for k in kernel] * 2)
    out = [(s + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, s in enumerate(size)]
    if min(out) <= 0:
        return None
    return n.make(n.pick("MaxPool", "AveragePool"), (channels, *out), x.name, kernel_shape=kernel, strides=strides,
                  pads=pads)


def global_pool(n: NetworkWriter, x: Tensor) -> Tensor:
    pooled = n.make(n.pick("GlobalAveragePool", "GlobalMaxPool"), (x.shape[0], 1, 1), x.name)
    return pooled if n.rng.integers(2) else n.make("Flatten", (x.shape[0],), pooled.name)


def binary(n: NetworkWriter, x: Tensor) -> Tensor:
    """With another value of the shape, in either order, or with a constant that broadcasts."""
    op = n.pick("Add", "Add", "Sub", "Mul", "Max", "Min")
    if n.rng.integers(3):
        names = [x.name, n.partner(x).name]
        return n.make(op, x.shape, *(names if n.rng.integers(2) else reversed(names)))
    shape = n.pick((), (x.shape[0], *(1 for _ in x.shape[1:])), x.shape[-1:])
    constant = n.w.constant(n.w.rng.uniform(-1.5, 1.5, shape))
    return n.make(op, x.shape, *n.pick((x.name, constant), (constant, x.name)))


def gate(n: NetworkWriter, x: Tensor) -> Tensor:
    """A channel's weight from its average, as squeeze-and-excitation has it."""
    pooled = n.w.node("GlobalAveragePool", x.name)
    weight = n.w.node("Sigmoid", n.w.conv(pooled, x.shape[0], x.shape[0], kernel=1))
    return n.make("Mul", x.shape, x.name, weight)


def activation(n: NetworkWriter, x: Tensor) -> Tensor:
    op = n.pick("Relu", "Relu", "Clip", "Sigmoid", "Tanh", "LeakyRelu", "HardSwish", "Elu", "Silu", "Abs")
    if op == "Clip":
        return n.make(op, x.shape, x.name, n.w.constant(n.pick(0.0, -1.0)), n.w.constant(n.pick(6.0, 1.0)))
    if op == "Silu":
        return n.make("Mul", x.shape, x.name, n.w.node("Sigmoid", x.name))
    return n.make(op, x.shape, x.name)


def concat(n: NetworkWriter, x: Tensor) -> Tensor:
    axis = int(n.rng.integers(1, len(x.shape) + 1))
    others = [x, *(n.recent(lambda v: _fits(v.shape, x.shape, axis)) for _ in range(n.size(2)))]
    n.used.update(v.name for v in others)
    shape = [sum(v.shape[axis - 1] for v in others) if i == axis - 1 else d for i, d in enumerate(x.shape)]
    return n.make("Concat", tuple(shape), *(others[i].name for i in n.rng.permutation(len(others))), axis=axis)


def _fits(shape: tuple[int, ...], other: tuple[int, ...], axis: int) -> bool:
    return len(shape) == len(other) and all(a == b or i == axis - 1 for i, (a, b) in
                                            enumerate(zip(shape, other, strict=True)))


def split(n: NetworkWriter, x: Tensor) -> list[Tensor] | None:
    axis = int(n.rng.integers(1, len(x.shape) + 1))
    size = x.shape[axis - 1]
    if size < 2:
        return None
    first = int(n.rng.integers(1, size))
    names = n.w.node("Split", x.name, n.shape_constant(first, size - first), outputs=2, axis=axis)
    return [
        Tensor(name, tuple(part if i == axis - 1 else d for i, d in enumerate(x.shape)))
        for name, part in zip(names, (first, size - first), strict=True)
    ]


def cut(n: NetworkWriter, x: Tensor) -> Tensor:
    axis = int(n.rng.integers(1, len(x.shape) + 1))
    size = x.shape[axis - 1]
    start, step = int(n.rng.integers(0, size)), n.pick(1, 2)
    constants = [n.shape_constant(number) for number in (start, size, axis, step)]
    shape = tuple(len(range(start, size, step)) if i == axis - 1 else d for i, d in enumerate(x.shape))
    return n.make("Slice", shape, x.name, *constants)


def pad(n: NetworkWriter, x: Tensor) -> Tensor:
    before = [0, *(int(p) for p in n.rng.integers(0, 2, len(x.shape)))]
    after = [0, *(int(p) for p in n.rng.integers(0, 3, len(x.shape)))]
    shape = tuple(d + b + a for d, b, a in zip(x.shape, before[1:], after[1:], strict=True))
    return n.make("Pad", shape, x.name, n.shape_constant(*before, *after))


def resize(n: NetworkWriter, x: Tensor) -> Tensor | None:
    channels, height, width = x.shape
    if height * width > 100:
        return None
    modes = n.pick(
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    )
    factor = n.pick(2, 3)
    shape = (channels, height * factor, width * factor)
    return n.make("Resize", shape, x.name, "", n.w.constant([1, 1, factor, factor]), **modes)


def softmax(n: NetworkWriter, x: Tensor) -> Tensor:
    return n.make("Softmax", x.shape, x.name, axis=n.pick(-1, 1))


def transposed(n: NetworkWriter, x: Tensor) -> Tensor:
    rest = [int(i) for i in n.rng.permutation(len(x.shape))]
    return n.make("Transpose", tuple(x.shape[i] for i in rest), x.name, perm=[0, *(i + 1 for i in rest)])


def as_tokens(n: NetworkWriter, x: Tensor) -> Tensor:
    channels, height, width = x.shape
    flat = n.w.node("Reshape", x.name, n.shape_constant(0, channels, height * width))
    if n.rng.integers(2):
        return Tensor(flat, (channels, height * width))
    return n.make("Transpose", (height * width, channels), flat, perm=[0, 2, 1])


def as_image(n: NetworkWriter, x: Tensor) -> Tensor:
    length, features = x.shape
    rows = next(r for r in (4, 3, 2, 1) if length % r == 0)
    return n.make("Reshape", (features, rows, length // rows),
                  n.w.node("Transpose", x.name, perm=[0, 2, 1]), n.shape_constant(0, features, rows, length // rows))


def linear(n: NetworkWriter, x: Tensor) -> Tensor:
    """A matrix product with constant weights, and a bias at times."""
    inside, outputs = x.shape[-1], n.size(24)
    if len(x.shape) == 1 and n.rng.integers(2):
        return Tensor(n.w.gemm(x.name, inside, outputs), (outputs,))
    y = n.make("MatMul", (*x.shape[:-1], outputs), x.name, n.w.normal(inside, outputs, scale=inside**-0.5))
    return n.make("Add", y.shape, y.name, n.w.normal(outputs, scale=0.2)) if n.rng.integers(2) else y


def attention(n: NetworkWriter, x: Tensor) -> Tensor | None:
    """One head: products of computed values."""
    length, features = x.shape
    if length > 80:
        return None
    query, key, value = (
        n.w.node("MatMul", x.name, n.w.normal(features, 8, scale=features**-0.5)) for _ in range(3)
    )
    scores = n.w.node("MatMul", query, n.w.node("Transpose", key, perm=[0, 2, 1]))
    weights = n.w.node("Softmax", n.w.node("Mul", scores, n.w.constant(8**-0.5)), axis=-1)
    return n.make("MatMul", (length, 8), weights, value)


def mean(n: NetworkWriter, x: Tensor) -> Tensor:
    axis = int(n.rng.integers(1, len(x.shape) + 1))
    keep = int(n.rng.integers(2)) or int(len(x.shape) == 1)
    shape = tuple(1 if i == axis - 1 else d for i, d in enumerate(x.shape) if keep or i != axis - 1)
    if n.rng.integers(2):
        return n.make("ReduceMean", shape, x.name, axes=[axis], keepdims=keep)
    return n.make("ReduceMax", shape, x.name, axes=[axis], keepdims=keep)


def flat(n: NetworkWriter, x: Tensor) -> Tensor:
    return n.make("Flatten", (math.prod(x.shape),), x.name)


SHARED: tuple[Layer, ...] = (binary, binary, activation, concat, split, cut, pad, softmax, mean)
IMAGE_LAYERS: tuple[Layer, ...] = (
    convolution, convolution, convolution, convolution, convolution, transposed_convolution, pool, pool, global_pool,
    gate, resize, transposed, as_tokens, *SHARED,
)
TOKEN_LAYERS: tuple[Layer, ...] = (linear, linear, linear, attention, transposed, as_image, flat, *SHARED)
VECTOR_LAYERS: tuple[Layer, ...] = (linear, linear, linear, *SHARED)
