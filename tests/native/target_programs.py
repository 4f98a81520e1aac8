"""Float programs that use every op row of a target's descriptor, and nodes at its limits and one beyond them.

All of it follows from the descriptor. A row, a limit or a predicate that nothing here knows is a LookupError, so that a
new one gets a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import (
    OPS,
    Builder,
    ConstantArray,
    Dim,
    Fact,
    Graph,
    Node,
    Op,
    Original,
    SymbolicDim,
    TensorType,
    Value,
    scalar_of,
)
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Relu, Softplus
from qcompiler.ops.binary import Add, Maximum, Minimum, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceMin, ReduceSum
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split
from qcompiler.target import Target, check_float_node

Array = NDArray[Any]
N = SymbolicDim("N")

INPUTS: dict[str, tuple[Dim, ...]] = {
    "image": (N, 6, 6, 8), "row": (N, 16), "other": (N, 16), "one": (N, 1, 16), "left": (N, 3, 8), "right": (N, 5, 8),
}
"""Names and shapes that operands may cite; images are channels-last."""

CONVERSIONS = ("quantize", "dequantize", "requantize", "to_block", "from_block", "normalize")
"""Rows that no float op stands for; realize writes them around others."""

RNG = np.random.default_rng(20)


class Cited(NamedTuple):
    """A node of a float program.

    Attributes:
        op: what it does.
        operands: names of inputs, shapes of inputs of its own, or constants.
    """

    op: Op
    operands: tuple[str | tuple[Dim, ...] | Array, ...]


def weights(*shape: int) -> Array:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def programs_of(name: str) -> list[Cited]:
    """Nodes that run under the row of an op; a target may lack the one or the other.

    Raises:
        LookupError: nothing is known of the op.
    """
    known: dict[str, list[Cited]] = {
        "conv2d": [
            Cited(Conv2D((2, 1), (1, 1), (1, 1, 1, 1), 1, "NHWC"), ("image", weights(4, 3, 3, 8), weights(4))),
            Cited(Conv2D((1, 1), (1, 1), (0, 1, 1, 0), 8, "NHWC"), ("image", weights(8, 3, 2, 1))),
            Cited(Conv2D((1, 1), (2, 2), (0, 0, 0, 0), 2, "NHWC"), ("image", weights(4, 2, 2, 4))),
        ],
        "conv_transpose2d": [
            Cited(ConvTranspose2D(strides=(2, 2), layout="NHWC"), ("image", weights(4, 3, 2, 8), weights(4)))
        ],
        "matmul": [
            Cited(Matmul(), ("row", weights(16, 4), weights(4))), Cited(Matmul(), ("row", weights(16, 3))),
            Cited(Matmul(True), ("left", "right")),
        ],
        "add": [Cited(Add(), ("row", "other")), Cited(Add(), ("one", "one"))],
        "sub": [Cited(Sub(), ("row", "other"))],
        "mul": [Cited(Mul(), ("row", "other"))],
        "maximum": [Cited(Maximum(), ("row", "other"))],
        "minimum": [Cited(Minimum(), ("row", "other"))],
        "mean": [Cited(Mean((1, 2), False), ("image",))],
        "reduce_sum": [Cited(ReduceSum((1, 2), False), ("image",))],
        "reduce_max": [Cited(ReduceMax((1, 2), False), ("image",))],
        "reduce_min": [Cited(ReduceMin((1, 2), False), ("image",))],
        "average_pool2d": [Cited(AveragePool2D((3, 2), (2, 2), (1, 0, 1, 0), "NHWC"), ("image",))],
        "max_pool2d": [Cited(MaxPool2D((3, 2), (2, 2), (1, 1), (1, 0, 1, 0), "NHWC"), ("image",))],
        "resize": [
            Cited(Resize((1, 2), (12, 12), "linear", "half_pixel"), ("image",)),
            Cited(Resize((1, 2), (12, 12), "nearest", "asymmetric", "floor"), ("image",)),
        ],
        "concat": [Cited(Concat(1), ("row", "other"))],
        "split": [Cited(Split(1, (6, 10)), ("row",))],
        "slice": [Cited(Slice((1,), (1,), (14,), (3,)), ("row",))],
        "pad": [Cited(Pad((0, 1), (0, 2), "constant", 0.0), ("row",))],
        "reshape": [Cited(Reshape((N, 4, 4)), ("row",))],
        "transpose": [Cited(Transpose((0, 2, 1)), ("left",))],
        "expand": [Cited(Expand((N, 3, 16)), ("one",))],
        "gather": [Cited(Gather(1), ("row", np.array([3, 0, 15], np.int64)))],
        "softmax": [Cited(Softmax(-1), ("row",))],
        "argmax": [Cited(ArgMax(1, False), ("row",))],
        "clamp": [Cited(Relu(), ("row",)), Cited(Clip(-0.5, 1.0), ("image",))],
        "lut": [Cited(Softplus(), ("row",))],
    }
    if name in known:
        return known[name]
    if Fact.UNARY in OPS[name].facts:
        return [Cited(OPS[name](), ("row",))]
    raise LookupError(f"op {name!r} has no program: add one to programs_of")


def node_of(cited: Cited) -> Node:
    """The node in a graph of its own."""
    return _append(Graph("case"), {}, cited, "layer")


def program_of(cases: Sequence[Cited]) -> Graph:
    """A float program in which each node reads inputs and gives outputs."""
    graph, inputs = Graph("limits"), dict[str, Value]()
    results = [
        value for index, cited in enumerate(cases)
        for value in _append(graph, inputs, cited, f"{cited.op.name}{index}").results
    ]
    graph.set_outputs((f"y{index}", value) for index, value in enumerate(results))
    return graph


def _append(graph: Graph, inputs: dict[str, Value], cited: Cited, layer: str) -> Node:
    build, operands = Builder(graph, loc=(layer,)), []
    for index, operand in enumerate(cited.operands):
        if isinstance(operand, np.ndarray):
            operands.append(build(Constant(ConstantArray(operand)), elem=scalar_of(operand.dtype)))
            continue
        name, shape = (operand, INPUTS[operand]) if isinstance(operand, str) else (f"{layer}_{index}", operand)
        if name not in inputs:
            inputs[name] = graph.add_input(name, TensorType(shape, F32), Original(name))
        operands.append(inputs[name])
    node = build.create(cited.op, operands)
    for number, value in enumerate(node.results):
        value.origin = Original(f"{layer}_out{number}")
    return node


def every_row(target: Target) -> list[Cited]:
    """A node for each op row of a target, conversions left out.

    Raises:
        LookupError: a row has no program that is legal.
    """
    found = []
    for name in target.rows:
        if name in CONVERSIONS:
            continue
        legal = [cited for cited in programs_of(name) if check_float_node(target, node_of(cited)) is None]
        if not legal:
            raise LookupError(f"no program for {name!r} is legal on {target.name!r}: add one to programs_of")
        found.extend(legal)
    return found


class Limit(NamedTuple):
    """A limit of a descriptor.

    Attributes:
        name: for the test's name.
        at: a node at the limit.
        beyond: the same node one beyond it.
        constraint: what the refusal says, a regular expression.
    """

    name: str
    at: Cited
    beyond: Cited
    constraint: str


def limits_of(target: Target) -> list[Limit]:
    """Every limit on ranks, attributes and lengths that a descriptor states.

    Raises:
        LookupError: one is of a kind that has no nodes here.
    """
    found: list[Limit] = []
    rank = target.descriptor.limits.max_rank
    if rank is not None:
        at, beyond = (Cited(Relu(), ((N, *[1] * (r - 2), 4),)) for r in (rank, rank + 1))
        found.append(Limit("rank", at, beyond, f"rank at most {rank}"))
    for name, row in target.rows.items():
        for key in ("kernel", "strides", "dilations"):
            limits: list[int] | None = getattr(row.spec, key)
            if limits:
                at, beyond = (window(name, **{key: (size, max(1, limits[0]))}) for size in (limits[1], limits[1] + 1))
                found.append(Limit(f"{name} {key}", at, beyond, f"{key} of {name} must lie within"))
        if row.spec.last_axis:
            at, beyond = along(name, 7, last=True), along(name, 7, last=False)
            found.append(Limit(f"{name} last axis", at, beyond, "along the last axis only"))
        if row.spec.max_axis_length is not None:
            at, beyond = (along(name, row.spec.max_axis_length + more) for more in (0, 1))
            found.append(Limit(f"{name} length", at, beyond, f"at most {row.spec.max_axis_length} elements"))
        for key in row.spec.attributes:
            at, beyond = _attribute(name, key)
            found.append(Limit(f"{name} {key}", at, beyond, f"{key} of {name} must be one of"))
        if row.spec.max_rank is not None:
            raise LookupError(f"row {name!r} has max_rank, for which limits_of has no nodes")
        for condition in row.conditions:
            cited = condition.citation.partition("{")[0]
            if cited not in PREDICATES:
                raise LookupError(f"predicate {cited!r} has no nodes: add them to PREDICATES")
            at, beyond = PREDICATES[cited](name, dict(condition.parameters))
            found.append(Limit(f"{name} {cited}", at, beyond, str(condition)))
    return found


def window(name: str, **attributes: Any) -> Cited:
    """A convolution or pool whose input its window just fits."""
    kernel = attributes.pop("kernel", (1, 1))
    dilations = attributes.get("dilations", (1, 1))
    groups = attributes.pop("groups", 1)
    size = [max(2, (k - 1) * d + 1) for k, d in zip(kernel, dilations, strict=True)]
    channels = attributes.pop("channels", 2)
    image = (N, *size, channels)
    pools: dict[str, type[Op]] = {"max_pool2d": MaxPool2D, "average_pool2d": AveragePool2D}
    if name in pools:
        return Cited(pools[name](kernel=kernel, layout="NHWC", **attributes), (image,))  # type: ignore[call-arg]
    op = {"conv2d": Conv2D, "conv_transpose2d": ConvTranspose2D}[name](groups=groups, layout="NHWC", **attributes)
    return Cited(op, (image, weights(channels, *kernel, channels // groups)))


def along(name: str, length: int, last: bool = True) -> Cited:
    """Softmax or argmax along an axis of some length."""
    axis, shape = (2, (N, 1, length)) if last else (1, (N, length, 2))
    return Cited(Softmax(axis) if name == "softmax" else ArgMax(axis, False), (shape,))


def _attribute(name: str, key: str) -> tuple[Cited, Cited]:
    """A value that is allowed, and one that is not."""
    image = ("image",)
    known = {
        ("resize", "coordinates"): [
            Cited(Resize((1, 2), (12, 12), "linear", c), image) for c in ("half_pixel", "pytorch_half_pixel")
        ],
        ("resize", "mode"): [Cited(Resize((1, 2), (12, 12), mode), image) for mode in ("nearest", "linear")],
        ("pad", "value"): [Cited(Pad((0, 1), (0, 2), "constant", value), ("row",)) for value in (0.0, 1.0)],
    }
    if (name, key) not in known:
        raise LookupError(f"attribute {key!r} of {name!r} has no nodes: add them to _attribute")
    at, beyond = known[name, key]
    return at, beyond


def _each(values: Sequence[Any], make: Callable[[Any], Cited]) -> tuple[Cited, Cited]:
    at, beyond = map(make, values)
    return at, beyond


PREDICATES: dict[str, Callable[[str, dict[str, Any]], tuple[Cited, Cited]]] = {
    "large-stride-only-unpadded": lambda op, p: _each(
        (p["largest"], p["largest"] + 1),
        lambda s: window(op, kernel=(2, 2), strides=(s, 1), pads=(1, 0, 0, 0)),
    ),
    "large-kernel-only-unpadded": lambda op, p: _each(
        (p["largest"], p["largest"] + 1), lambda k: window(op, kernel=(k, 1), pads=(1, 0, 0, 0))
    ),
    "kernel-height-at-most": lambda op, p: _each(
        (p["largest"], p["largest"] + 1), lambda k: window(op, kernel=(k, 1))
    ),
    "kernel-area-at-most": lambda op, p: _each(
        ((256, p["largest"] // 256), (256, p["largest"] // 256 + 1)), lambda k: window(op, kernel=k)
    ),
    "depthwise-strides-at-most": lambda op, p: _each(
        (p["largest"], p["largest"] + 1), lambda s: window(op, strides=(s, s), groups=2)
    ),
    "strides-in": lambda op, p: _each(
        (tuple(map(int, p["sizes"].split("/")[-1].split("x"))), (7, 1)), lambda s: window(op, strides=s)
    ),
    "kernel-in": lambda op, p: _each(
        (tuple(map(int, p["sizes"].split("/")[-1].split("x"))), (1, 13)), lambda k: window(op, kernel=k)
    ),
    "reduced-axes-shorter-than": lambda op, p: _each(
        (p["length"] - 1, p["length"]), lambda n: Cited(Mean((1,), False), ((N, n, 1),))
    ),
    "reduction-at-most": lambda op, p: _each(
        (p["length"], p["length"] + 1), lambda n: Cited(Matmul(), ((N, n), weights(n, 1)))
    ),
    "upsamples-by": lambda op, p: _each((12, 18), lambda n: Cited(Resize((1, 2), (n, n), "linear"), ("image",))),
    "channels-multiple-of": lambda op, p: _each(
        (p["factor"], p["factor"] + 1), lambda n: window(op, channels=n)
    ),
    "symmetric-pads": lambda op, p: _each(
        ((1, 0, 1, 0), (1, 0, 0, 0)), lambda pads: window(op, kernel=(2, 2), pads=pads)
    ),
    "dense-or-depthwise": lambda op, p: _each((4, 2), lambda groups: window(op, channels=4, groups=groups)),
}
"""Nodes at the limit of a predicate and one beyond, from the op of the row and the predicate's parameters."""
