"""The pass ``realize``."""

from __future__ import annotations

import numpy as np

from qcompiler.analysis.requantization import requantize_constants
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    SCALARS,
    Affine,
    Arithmetic,
    Builder,
    ConstantArray,
    Constants,
    Fact,
    Graph,
    Node,
    Op,
    OpTypeError,
    Origin,
    Untraced,
    Value,
)
from qcompiler.ir.builder import infer_types
from qcompiler.ir.types import TensorType
from qcompiler.numerics import AffineQuantize, tabulate, tabulate_interpolated
from qcompiler.ops.activation import ClampFunction, UnaryFunction
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import Clamp, Dequantize, FakeQuant, Quantize, Requantize
from qcompiler.ops.quantized import ArithmeticOp, tensor_parameters
from qcompiler.ops.resize import Resize
from qcompiler.ops.table import LookupTable, is_interpolated
from qcompiler.passes.block_realization import BlockRealization
from qcompiler.passes.stored_constants import stored_bias, stored_constant
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.target import Row, Target, runs_on_host

_LIMITED = "limited to the range of the following activation"


@compiler_pass("realize")
class Realize(Pass):
    """Turn the annotated float program into the integer program that the hardware runs.

    Contractions accumulate in wide integers and are requantized; biases become integers at the accumulator's scale;
    activations that limit values become clamps, other functions of one number become tables; add, mul, mean, softmax
    and pools take the arithmetic that the descriptor cites. All types stay true: dequantizing any value gives its
    real meaning. What the host runs stays as it is, with a dequantize before it and a quantize behind it where it
    meets the target's values.

    Programs of block floating point keep their ops, with the arithmetic that the descriptor cites: contractions
    accumulate and are normalized, functions of one number become tables on fixed exponents.
    """

    needs = Stage.CALIBRATED
    leaves = Stage.INTEGER
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        realization = BlockRealization(graph, target) if target.has_blocks else _Realization(graph, target)
        return PassResult(realization.run(), True)


class _Realization:
    def __init__(self, graph: Graph, target: Target) -> None:
        self.source = graph
        self.target = target
        self.result = Graph(graph.name, target.name, graph.pipeline)
        self.build = Builder(self.result)
        self.values: dict[Value, Value] = {}
        self.dequantized: dict[Value, Value] = {}

    def run(self) -> Graph:
        for value in self.source.inputs:
            self.values[value] = self.result.add_input(value.name, value.type, value.origin)
        for node in self.source.nodes:
            self.build.loc = node.loc
            if isinstance(node.op, FakeQuant):
                self.quantized_value(node)
            elif not isinstance(node.op, Constant):
                self.operation(node)
        self.result.set_outputs((o.name, self.output(o.value)) for o in self.source.outputs)
        return self.result

    # Values

    def quantized_value(self, node: Node) -> None:
        """The integer counterpart of a fake_quant's result."""
        op, operand = node.op, node.operands[0]
        assert isinstance(op, FakeQuant)
        if not op.is_calibrated:
            raise QCompilerError("a value has no scale yet", layer=node.layer, fix="run 'calibrate' before 'realize'")
        array = constant_value(operand)
        if array is not None:
            self.values[node.result] = self.constant(array, op.elem, operand.origin)
        elif operand not in self.values:
            raise QCompilerError("a quantized value has no producer", layer=node.layer)
        elif not isinstance(self.values[operand].type.elem, Affine):
            row = self.row("quantize", node)
            self.values[node.result] = self.build(
                Quantize(row.arithmetic or _no_arithmetic(row)), self.values[operand], elem=op.elem,
                origin=operand.origin,
            )
        else:
            self.values[node.result] = self.requantized(self.values[operand], op.elem, operand.origin)

    def constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]], elem: Affine, origin: Origin) -> Value:
        """A float constant as stored integers, as calibration assumed."""
        q = stored_constant(array, elem)
        return self.build(Constant(ConstantArray.adopt(q.astype(elem.storage.dtype))), elem=elem, origin=origin)

    def requantized(self, value: Value, elem: Affine, origin: Origin) -> Value:
        """``value`` at the scale of ``elem``; itself where it has it already."""
        if value.type.elem == elem:
            return value
        row = self.row("requantize", value.producer)
        op = Requantize(row.arithmetic or _no_arithmetic(row))
        constants = Constants(requantize_constants(op.form(), value, elem))
        return self.build(op.replace(constants=constants), value, elem=elem, origin=origin)

    def output(self, value: Value) -> Value:
        """A program output: real numbers again where p gave real numbers."""
        if value not in self.values:
            array = constant_value(value)
            if array is None:
                raise QCompilerError("a program output was not computed")
            return self.build(Constant(ConstantArray(array)), elem=value.type.elem, origin=value.origin)
        return self.outside(value)

    def outside(self, value: Value) -> Value:
        """What stands for a value outside of the target: real numbers, or plain integers as they are."""
        realized = self.values[value]
        if not isinstance(realized.type.elem, Affine):
            return realized
        if realized not in self.dequantized:
            self.dequantized[realized] = self.build(
                Dequantize(), realized, origin=value.origin, loc=_loc(realized)
            )
        return self.dequantized[realized]

    # Operations

    def operation(self, node: Node) -> None:
        if runs_on_host(self.target, node):
            self.on_host(node)
            return
        row = self.target.row_for(node.op)
        if row is None:
            raise QCompilerError(
                f"target {self.target.name!r} has no op {node.op.name!r}", layer=node.layer, fix="run 'legalize' before"
            )
        try:
            self.realize_as(row, node)
        except OpTypeError as error:
            raise QCompilerError(f"{node.op.name}: {error}", layer=node.layer) from error

    def realize_as(self, row: Row, node: Node) -> None:
        if isinstance(node.op, Contraction):
            self.contraction(node)
        elif row.name == "clamp":
            self.clamp(node)
        elif row.name == "lut" or isinstance(node.op, UnaryFunction):
            self.table(node)
        elif isinstance(node.op, ArithmeticOp) and _needs_arithmetic(node.op):
            self.arithmetic(row, node)
        else:
            self.same_op(node)

    def on_host(self, node: Node) -> None:
        """The op as it is, on plain numbers."""
        for value in node.operands:
            array = constant_value(value)
            if value not in self.values and array is not None:
                self.values[value] = self.build(
                    Constant(ConstantArray(array)), elem=value.type.elem, origin=value.origin
                )
        made = self.build.create(node.op, [self.outside(v) for v in node.operands], loc=node.loc)
        made.on_host = True
        self.adopt(node, made)

    def contraction(self, node: Node) -> None:
        """Accumulate in wide integers, then requantize."""
        op = node.op
        assert isinstance(op, Contraction)
        operands = [self.operand(v, node) for v in node.operands[:2]]
        op = op.replace(group_multipliers=_group_multipliers(node.operands[1]))
        types = [v.type for v in operands]
        storage = SCALARS[self.row(op.name, node).out.choices[0].storages[0]]
        elem = op.accumulator(types, node.result.type.shape, storage)
        if len(node.operands) == 3:
            operands.append(self.bias(node, op.accumulator(types, node.result.type.shape, storage, of_bias=True)))
        held = self.held_elem(node.result)
        alone = _is_held_behind_clamp(node.result)
        accumulator = self.build(
            op, *operands, elem=elem, origin=node.result.origin if alone else Untraced("accumulator")
        )
        self.values[node.result] = self.requantized(
            accumulator, held, Untraced(_LIMITED) if alone else node.result.origin
        )

    def bias(self, node: Node, elem: Affine) -> Value:
        """The bias at the accumulator's scale, nearest integers."""
        value = node.operands[2]
        array = constant_value(value)
        if array is None:
            raise QCompilerError("the bias must be a constant", layer=node.layer)
        q = stored_bias(array, elem)
        largest = float(np.abs(q).max(initial=0))
        if largest > elem.storage.maximum:
            raise QCompilerError(
                f"the bias does not fit {elem.storage}", layer=node.layer, expected=f"at most {elem.storage.maximum}",
                found=f"{largest:.0f}", fix="raise the weight scale of the channel",
            )
        return self.build(
            Constant(ConstantArray.adopt(q.astype(elem.storage.dtype))), elem=elem, origin=value.origin
        )

    def clamp(self, node: Node) -> None:
        """An activation that limits values, on stored integers.

        Bounds are zero_point + round_half_away(float32(limit / scale)), as LiteRT's CalculateActivationRangeQuantized.
        """
        op = node.op
        assert isinstance(op, ClampFunction)
        elem = self.held_elem(node.result)
        source = self.requantized(
            self.operand(node.operands[0], node), elem, Untraced(_LIMITED)
        )
        limits = np.array(op.limits, np.float32)
        minimum, maximum = AffineQuantize("half-away").apply(limits, tensor_parameters(source.type))
        self.values[node.result] = self.build(Clamp(int(minimum), int(maximum)), source, origin=node.result.origin)

    def table(self, node: Node) -> None:
        """A function of one number, evaluated for every stored input."""
        op = node.op
        assert isinstance(op, UnaryFunction)
        source = self.operand(node.operands[0], node)
        elem = self.held_elem(node.result)
        result_type = TensorType(node.result.type.shape, elem)
        storage = source.type.storage
        inside, outside = tensor_parameters(source.type), tensor_parameters(result_type)
        if is_interpolated(source.type):
            results = elem.storage
            entries = tabulate_interpolated(
                op.tabulated, inside, outside, storage.minimum, results.minimum, results.maximum
            )
        else:
            entries = tabulate(op.tabulated, inside, outside, storage.minimum, storage.maximum)
        table = ConstantArray.adopt(entries.astype(elem.storage.dtype))
        self.values[node.result] = self.build(
            LookupTable(table, op.name), source, elem=elem, origin=node.result.origin
        )

    def arithmetic(self, row: Row, node: Node) -> None:
        """An op whose integer form the descriptor cites."""
        op = node.op
        assert isinstance(op, ArithmeticOp)
        operands = [self.operand(v, node) for v in node.operands]
        elem = self.held_elem(node.result)
        types = [v.type for v in operands]
        results = infer_types(op, types, elem)
        cited = op.citing(row.arithmetic or _no_arithmetic(row), types, results)
        self.values[node.result] = self.build(cited, *operands, elem=elem, origin=node.result.origin)

    def same_op(self, node: Node) -> None:
        """An op that means the same on stored integers, since operands and result share their type."""
        operands = [self.operand(v, node) for v in node.operands]
        self.adopt(node, self.build.create(node.op, operands, loc=node.loc))

    def adopt(self, node: Node, made: Node) -> None:
        """Let the results of ``made`` stand for those of ``node``."""
        for old, new in zip(node.results, made.results, strict=True):
            new.origin = old.origin
            self.values[old] = new

    def operand(self, value: Value, node: Node) -> Value:
        """The integer counterpart of an operand; a constant of plain numbers is copied."""
        if value in self.values:
            return self.values[value]
        array = constant_value(value)
        if array is None or value.type.storage.is_float:
            raise QCompilerError(f"an operand of {node.op.name} is not quantized", layer=node.layer)
        copied = self.build(Constant(ConstantArray(array)), elem=value.type.elem, origin=value.origin)
        self.values[value] = copied
        return copied

    def held_elem(self, value: Value) -> Affine:
        """The quantized type in which a float value is held: its fake_quant's, or that of the activation behind it."""
        for user in value.users:
            if isinstance(user.op, FakeQuant):
                return user.op.elem
        if _is_held_behind_clamp(value):
            return self.held_elem(value.users[0].result)
        producer = value.producer
        raise QCompilerError("a value is not annotated", layer=producer.layer if producer else None)

    def row(self, name: str, node: Node | None) -> Row:
        row = self.target.rows.get(name)
        if row is None:
            raise QCompilerError(f"target {self.target.name!r} has no op {name!r}", layer=node.layer if node else None)
        return row


def _is_held_behind_clamp(value: Value) -> bool:
    """Whether annotate left the value to the activation behind it, which is then its only user."""
    users = value.users
    return len(users) == 1 and Fact.CLAMP in users[0].op.facts


def _group_multipliers(weights: Value) -> ConstantArray | None:
    """The multipliers of weights in groups, as calibration chose them."""
    mark = weights.producer.op if weights.producer else None
    return mark.multipliers if isinstance(mark, FakeQuant) else None


def _needs_arithmetic(op: Op) -> bool:
    return not (isinstance(op, Resize) and op.mode == "nearest")


def _no_arithmetic(row: Row) -> Arithmetic:
    raise QCompilerError(f"the target's row for {row.name!r} cites no arithmetic")


def _loc(value: Value) -> tuple[str, ...]:
    return value.producer.loc if value.producer else ()


