"""Writes random legal nodes of quantized programs, and numbers to feed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.analysis.requantization import requantize_constants
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Arithmetic, Builder, ConstantArray, Constants, Graph, Op, Scalar, TensorType, Value
from qcompiler.ir.dimension import Dim, SymbolicDim, bind_dim
from qcompiler.ir.scalar import I8, I16, U8, U16
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Requantize
from qcompiler.ops.quantized import ArithmeticOp, affine

Array = NDArray[Any]

FORMS = (
    "double", "double-f32-product", "ruy", "single", "i64", "float-rne", "float64-away", "shift",
    "shift{rounding=half-away}", "shift{rounding=half-even}", "shift{rounding=toward-zero}", "shift{rounding=floor}",
)
"""Every requantize arithmetic."""

SHARED_FORMS = ("double", "ruy", "single", "i64", "float-rne", "float64-away", "shift")
"""Those that add, mul, mean and sum may cite."""


class Illegal(Exception):
    """The drawn node could overflow, so no target would take it."""


class OpWriter:
    """Builds one graph out of random nodes.

    Args:
        rng: decides everything.
        batch: the first dimension of the graph's inputs.
        graph: what to build in; a new graph by default.
    """

    def __init__(self, rng: np.random.Generator, batch: Dim, graph: Graph | None = None) -> None:
        self.rng = rng
        self.batch = batch
        self.graph = Graph("random ops: 1.5 % \"quoted\"") if graph is None else graph
        self.build = Builder(self.graph)
        self.outputs: list[Value] = []

    # Choices.

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return options[self.rng.integers(len(options))]

    def size(self, most: int) -> int:
        """1 to ``most``; small ones, powers of two and their neighbours are likelier than the rest."""
        near = [s + d for s in (1, 2, 4, 8, 16, 32, 64) for d in (-1, 0, 1) if 1 <= s + d <= most]
        return int(self.rng.choice(near)) if self.rng.integers(2) else int(self.rng.integers(1, most + 1))

    def maybe(self, one_in: int = 2) -> bool:
        return int(self.rng.integers(one_in)) == 0

    def scale(self) -> np.float32:
        """A power of two, so that ties are frequent, or anything."""
        exponent = self.rng.integers(-7, 0)
        return np.float32(2.0**exponent * self.pick(1.0, 1.0, 1.0, 1.0, 1.5, self.rng.uniform(1, 2)))

    def storage(self, wide: bool = True) -> Scalar:
        """The format of an activation."""
        found: Scalar = self.pick(I8, I8, I8, U8, U8, U8, I16, I16, U16) if wide else self.pick(I8, U8)
        return found

    def activation(self, storage: Scalar | None = None, scale: Any = None) -> Affine:
        """A per-tensor type: any zero point, sometimes a narrowed range."""
        storage = storage or self.storage()
        low, high = storage.minimum, storage.maximum
        if self.maybe(4):
            low, high = low + int(self.rng.integers(0, 20)), high - int(self.rng.integers(0, 20))
        zero_point = self.pick(low, high, 0 if low <= 0 else low, int(self.rng.integers(low, high + 1)))
        return Affine.per_tensor(storage, self.scale() if scale is None else scale, zero_point, low, high)

    def arithmetic(self, name: str, rounding: bool = False, **options: Any) -> Arithmetic:
        """A citation; with ``rounding`` one of the requantize forms is chosen for it."""
        if rounding:
            options["rounding"] = self.pick(*SHARED_FORMS, "double", "double", "float-rne", "float-rne")
        parameters = " ".join(f"{key}={value}" for key, value in options.items())
        return Arithmetic.parse(f"{name}{{{parameters}}}" if options else name)

    def shuffled(self, *values: Value) -> list[Value]:
        """The values in any order."""
        return [values[i] for i in self.rng.permutation(len(values))]

    # Numbers.

    def numbers(self, elem: Any, shape: Sequence[int]) -> Array:
        """Stored numbers: over the whole range, near the zero point, or at the ends of the range."""
        shape = tuple(shape)
        if not isinstance(elem, Affine):
            return self.plain_numbers(elem, shape)
        middle = elem.zero_point_for(shape) if elem.blocks else elem.zero_point.array
        kind = self.rng.integers(0, 6)
        if elem.storage.bits >= 32 and kind < 5:
            # Halves of powers of two, so that sums which are scaled down to 8 bits meet ties.
            halves = self.rng.integers(-600, 601, shape) << self.rng.integers(0, 24, shape)
            return np.clip(middle + halves, elem.qmin, elem.qmax).astype(elem.storage.dtype)
        everywhere = self.rng.integers(elem.qmin, elem.qmax, shape, np.int64, endpoint=True)
        near = middle + self.rng.integers(-40, 41, shape)
        ends = np.where(self.rng.integers(0, 2, shape) > 0, elem.qmax, elem.qmin)
        chosen = {0: near, 1: ends, 2: np.broadcast_to(elem.qmax, shape)}.get(int(kind), everywhere)
        mixed = np.where(self.rng.integers(0, 8, shape) == 0, ends, chosen)
        return np.clip(mixed, elem.qmin, elem.qmax).astype(elem.storage.dtype)

    def plain_numbers(self, scalar: Scalar, shape: tuple[int, ...]) -> Array:
        """Floats with ties for steps of powers of two, large ones, infinities and zeros of both signs; or integers."""
        if scalar.is_float:
            steps = self.rng.integers(-600, 600, shape) * np.exp2(self.rng.integers(-9, 2, shape))
            special = self.rng.choice([0.0, -0.0, np.inf, -np.inf, 1e30, -1e-40, 3.4e38, 0.5, -0.5], shape)
            smooth = self.rng.normal(0, 8, shape)
            kind = self.rng.integers(0, 20, shape)
            return np.where(kind == 0, special, np.where(kind < 10, steps, smooth)).astype(scalar.dtype)
        return self.rng.integers(-(1 << 20), 1 << 20, shape).astype(scalar.dtype)

    def feeds(self, samples: int) -> dict[str, Array]:
        """Numbers for every input."""
        found = {}
        for value in self.graph.inputs:
            symbols = {d.symbol: samples for d in value.type.shape if isinstance(d, SymbolicDim)}
            bound = value.type.bind(symbols)
            found[value.name] = self.numbers(bound.elem, [bind_dim(d, {}) for d in bound.shape])
        return found

    # Values.

    def input(self, shape: Sequence[Dim], elem: Any) -> Value:
        """A graph input with an odd name."""
        return self.graph.add_input(f'in/{len(self.graph.inputs)}:"\\ñ"', TensorType(tuple(shape), elem))

    def constant(self, elem: Any, shape: Sequence[int], array: Array | None = None) -> Value:
        """A constant of random numbers, or of the given ones."""
        array = self.numbers(elem, shape) if array is None else array
        return self.build(Constant(ConstantArray(array)), elem=elem)

    def make(self, op: Op, *operands: Value, elem: Any = None) -> Value:
        """The result of a new node.

        Raises:
            Illegal: numbers inside could overflow.
        """
        return self.make_all(op, *operands, elem=elem)[0]

    def make_all(self, op: Op, *operands: Value, elem: Any = None) -> tuple[Value, ...]:
        """The results of a new node. See :meth:`make`."""
        node = self.build.create(op, operands, elem=elem, loc=(f"layer {len(self.graph)}",))
        if isinstance(op, ArithmeticOp) and op.arithmetic is not None:
            types = [v.type for v in operands], [v.type for v in node.results]
            if any(bound > limit for _, bound, limit in op.intermediates(*types)):
                raise Illegal
        if isinstance(op, Contraction) and accumulator_bounds(node).max(initial=0) > node.result.type.storage.maximum:
            raise Illegal
        return node.results

    def cite(self, op: Any, citation: Arithmetic, operands: Sequence[Value], elem: Any) -> Value:
        """The result of an op with an arithmetic and the constants that follow from the types."""
        shapes = op.infer_shapes([v.type for v in operands])
        try:
            cited = op.citing(citation, [v.type for v in operands], [TensorType(s, elem) for s in shapes])
        except Exception as error:
            raise Illegal from error
        return self.make(cited, *operands, elem=elem)

    def requantize(self, x: Value, form: str | None = None, storage: Scalar | None = None) -> Value:
        """Integers at another scale, by any form."""
        form = form or self.pick(*FORMS)
        source = affine(x.type).scale.array
        if form.startswith("shift"):
            if len({float(np.frexp(s)[0]) for s in source.reshape(-1)}) > 1:
                raise Illegal
            scale = np.float32(float(source.reshape(-1)[0]) * 2.0 ** int(self.rng.integers(-2, 16)))
        else:
            # Numbers of any size come to fill the result's format.
            wide = affine(x.type).qmax - affine(x.type).qmin
            target = storage or self.storage()
            storage = target
            factor = self.pick(1.0, 2.0, 4.0, float(self.rng.uniform(0.3, 3)), float(self.rng.uniform(1, 500)))
            if wide > 1 << 20:
                factor *= 2.0 ** int(self.rng.integers(0, 28))
            scale = np.float32(float(source.reshape(-1)[0]) * factor)
        return self.requantize_to(x, form, self.activation(storage, scale))

    def requantize_to(self, x: Value, form: str, elem: Affine) -> Value:
        """``x`` in the type ``elem``, by a form.

        Raises:
            Illegal: the form does not fit the scales, or could overflow.
        """
        op = Requantize(Arithmetic.parse(form))
        try:
            constants = Constants(requantize_constants(op.form(), x, elem))
        except QCompilerError as error:
            raise Illegal from error
        op = op.replace(constants=constants)
        largest = op.form().largest_operand(constants.arrays())
        if largest is not None:
            producer = x.producer
            bounds = (
                accumulator_bounds(producer)
                if producer is not None and isinstance(producer.op, Contraction)
                else np.array([_largest_difference(affine(x.type))])
            )
            if (bounds > largest.reshape(-1)).any():
                raise Illegal
        return self.make(op, x, elem=elem)

    def fused(self, operands: Sequence[Value], write: Callable[[OpWriter, list[Value]], Value]) -> Value:
        """A kernel whose body is what ``write`` makes."""
        body = Graph("body")
        inner = OpWriter(self.rng, self.batch, body)
        inside = [body.add_input(str(i), v.type) for i, v in enumerate(operands)]
        body.set_outputs([("0", write(inner, inside))])
        return self.make(Fused(body), *operands)

    # Cases.

    def retried(self, make: Callable[[], Value | Sequence[Value]]) -> Any:
        """What ``make`` returns; it draws again while its nodes could overflow, and leaves none of those behind."""
        for _ in range(200):
            before = len(self.graph)
            try:
                return make()
            except Illegal:
                for node in list(islice(self.graph.reversed_nodes, len(self.graph) - before)):
                    self.graph.erase(node)
        raise AssertionError("nothing legal found")

    def add_case(self, case: Callable[[OpWriter], Value | Sequence[Value]]) -> None:
        """Append a case's nodes; its values become outputs."""
        made = self.retried(lambda: case(self))
        self.outputs.extend([made] if isinstance(made, Value) else made)

    def finish(self) -> Graph:
        """The graph, with every case's values as outputs."""
        self.graph.set_outputs((f"out {i}: {v.type.elem}"[:40], v) for i, v in enumerate(self.outputs))
        return self.graph


def per_channel(storage: Scalar, scales: Array, axis: int, shape: Sequence[int], **bounds: int) -> Affine:
    """One scale for each index along an axis, zero point 0."""
    grid = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    blocks = tuple(1 if i == axis else d for i, d in enumerate(shape))
    return Affine.blocked(storage, scales.astype(np.float32).reshape(grid), 0, blocks, *bounds.values())


def _largest_difference(elem: Affine) -> int:
    zero_points = elem.zero_point.array
    return int(max((elem.qmax - zero_points).max(), (zero_points - elem.qmin).max()))
