"""The pass ``verify-legal``."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import pairwise

import numpy as np

from qcompiler.analysis.accumulators import Interval, accumulator_bounds
from qcompiler.analysis.block_growth import missing_bits, result_bounds
from qcompiler.analysis.requantization import requantize_constants
from qcompiler.analysis.stored_ranges import body_ranges, narrowed, stored_ranges
from qcompiler.errors import QCompilerError
from qcompiler.ir import SCALARS, Affine, BlockFloat, Constants, Graph, Node, Scalar, Value, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.block_conversion import FromBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantization import Dequantize, Requantize
from qcompiler.ops.quantized import ArithmeticOp, tensor_parameters
from qcompiler.ops.reduction import SummingReduction
from qcompiler.passes.accumulator_legality import AccumulatorLegality
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass
from qcompiler.target import Target, Violation, check_boundary, check_quantized_node, host_nodes


@compiler_pass("verify-legal")
class VerifyLegal(Pass):
    """Prove that the program holds nothing but what the target can do. Changes nothing.

    The program is well formed, so every type is true. Every node is judged by the storage types, parameters,
    attributes and arithmetic that it has, not by names: real numbers occur only before ``quantize``, behind
    ``dequantize``, and in ops that the descriptor leaves to the host, since the target cannot run them, or since they
    were placed there to save crossings (contractions never are); requantize constants are those of the scales behind
    them; no input can overflow an accumulator where the descriptor forbids it, nor a number inside an arithmetic.
    """

    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        verify(graph)
        for value in (*graph.inputs, *(o.value for o in graph.outputs)):
            violation = check_boundary(target, value)
            if violation:
                raise QCompilerError(
                    f"an input or output is not legal on target {target.name!r}",
                    layer=value.producer.layer if value.producer else f"input {value.name}",
                    expected=violation.constraint, found=violation.found,
                )
        on_host = {node for node, _ in host_nodes(target, graph)}
        on_target = [node for node in graph.nodes if node not in on_host]
        ranges, accumulators = stored_ranges(graph), AccumulatorLegality(target)
        for node in on_target:
            _check(target, node, {}, ranges, accumulators)
            if isinstance(node.op, Fused):
                outer = dict(zip(node.op.body.inputs, node.operands, strict=True))
                inner = ChainMap(body_ranges(node, ranges), ranges)
                for part in node.op.body.nodes:
                    _check(target, part, outer, inner, accumulators)
        accumulators.measure(graph, context)
        outside = {*on_host, graph.terminator}
        for node in on_target:
            _check_real_numbers(target, node, outside)
        return PassResult(graph, False)


def _check(
    target: Target, node: Node, outer: Mapping[Value, Value], ranges: Mapping[Value, Interval],
    accumulators: AccumulatorLegality,
) -> None:
    violation = _violation(target, node, outer, ranges)
    if violation:
        raise QCompilerError(
            f"{node.op.name} is not legal on target {target.name!r}", layer=node.layer,
            expected=violation.constraint, found=violation.found, fix=_way_out(violation),
        )
    accumulators.check(node, outer, ranges)


def _way_out(violation: Violation) -> str | None:
    """What to do where an entry of the descriptor decides; a program of another target breaks any constraint."""
    if not violation.entry:
        return None
    return f"change {violation.entry} in the descriptor if the hardware allows it, or use another target"


def _violation(
    target: Target, node: Node, outer: Mapping[Value, Value], ranges: Mapping[Value, Interval]
) -> Violation | None:
    if isinstance(node.op, Constant):
        return None
    if isinstance(node.op, Fused):
        return _kernel_violation(target, node.op)
    violation = check_quantized_node(target, node, outer)
    if violation is None and isinstance(node.op, Requantize):
        violation = _constants_violation(node, node.op, outer) or _shift_overflow(node, node.op, outer, ranges)
    if violation is None and any(isinstance(v.type.elem, BlockFloat) for v in node.operands):
        return _block_overflow(target, node, outer)
    if violation is None and isinstance(node.op, ArithmeticOp) and node.op.arithmetic is not None:
        violation = _inner_overflow(target, node, node.op, ranges)
    return violation


def _kernel_violation(target: Target, fused: Fused) -> Violation | None:
    """A kernel is one op and a chain of ops behind it that the descriptor marks with ``fuse``."""
    nodes = list(fused.body.nodes)
    if not nodes or any(isinstance(n.op, Fused) for n in nodes):
        return Violation("a fused kernel holds ops, and no other kernel", f"{len(nodes)} nodes")
    for before, node in pairwise(nodes):
        row = target.row_of(node)
        if row is None or not row.spec.fuse:
            return Violation("a fused kernel ends in ops marked with 'fuse'", node.op.name)
        if not row.may_end(nodes[0].op.name):
            return Violation(f"{row.name} may end kernels of {', '.join(row.spec.fuse_after)}", nodes[0].op.name)
        if before.result not in node.operands:
            return Violation("each op of a fused kernel takes in the one before it", node.op.name)
    if [o.value for o in fused.body.outputs] != list(nodes[-1].results):
        return Violation("a fused kernel gives the results of its last op", f"{len(fused.body.outputs)} results")
    return None


def _constants_violation(node: Node, op: Requantize, outer: Mapping[Value, Value]) -> Violation | None:
    elem = node.result.type.elem
    assert isinstance(elem, Affine)
    expected = Constants(requantize_constants(op.form(), node.operands[0], elem, outer))
    if expected == op.constants:
        return None
    name = next((k for k in expected if expected[k] != op.constants.get(k)), "constants")
    return Violation(f"{name} must follow from the scales multiplied", str(op.constants[name].array.reshape(-1)[:4]))


def _shift_overflow(
    node: Node, op: Requantize, outer: Mapping[Value, Value], ranges: Mapping[Value, Interval]
) -> Violation | None:
    """An operand must fit the form's register, also once it is shifted left: else the highest bits are lost."""
    largest = op.form().largest_operand(op.constants.arrays())
    if largest is None:
        return None
    operand = node.operands[0]
    producer = outer.get(operand, operand).producer
    if producer is not None and isinstance(producer.op, Contraction):
        bounds = accumulator_bounds(producer, outer, ranges)
    else:
        bounds = np.array([tensor_parameters(narrowed(operand, ranges)).largest_difference])
    if bool((bounds <= largest.reshape(-1)).all()):
        return None
    return Violation(
        f"operands of {op.arithmetic} must fit its register, once they are shifted left",
        f"numbers up to {int(bounds.max())}, the limit is {int(largest.min())}",
    )


def _block_overflow(target: Target, node: Node, outer: Mapping[Value, Value]) -> Violation | None:
    """No sum of block floating point may leave its mantissa, where the target forbids overflow."""
    if isinstance(node.op, Contraction) and target.descriptor.limits.accumulator.overflow != "forbidden":
        return None
    bounds = result_bounds(node, outer)
    missing = missing_bits(bounds, node.result.type) if bounds else 0
    if bounds is None or missing <= 0:
        return None
    elem = node.result.type.elem
    assert isinstance(elem, BlockFloat)
    return Violation(
        f"accumulators have {elem.format.mantissa} bits and must not overflow",
        f"sums from {bounds[0]} to {bounds[1]}: {missing} bits too many", "limits.accumulator",
    )


def _inner_overflow(
    target: Target, node: Node, op: ArithmeticOp, ranges: Mapping[Value, Interval]
) -> Violation | None:
    """No number inside an arithmetic may leave its format, no sum of many the target's accumulator, or its home."""
    limits = target.descriptor.limits.accumulator
    bits = SCALARS[limits.home].bits if limits.home else limits.bits
    # An accumulator sums any number of values; the sum of two, inside add, is a step of its arithmetic.
    widest = (1 << (bits - 1)) - 1 if isinstance(op, SummingReduction | AveragePool2D) else None
    for what, bound, limit in op.intermediates([narrowed(v, ranges) for v in node.operands], [node.result.type]):
        if widest is not None and what == "the sum":
            limit = min(limit, widest)
        if bound > limit:
            found = f"numbers up to {bound}, the limit is {limit}"
            return Violation(f"{what} of {op.arithmetic} must not overflow", found)
    return None


def _check_real_numbers(target: Target, node: Node, outside: AbstractSet[Node]) -> None:
    """Real numbers come from inputs, the host and float accumulators, and go where the descriptor's rows take them.

    What ``dequantize`` and ``from_block`` give goes to outputs and the host alone.

    Args:
        target: the target.
        node: a node that it runs.
        outside: the nodes that it does not run, the terminator among them.
    """
    for index, value in enumerate(node.operands):
        if _is_real(value) and not isinstance(node.op, Fused) and not _takes_real(target, node, index):
            raise _real_number(node, target, "an operand")
    for value in node.results:
        if not _is_real(value):
            continue
        leaves = isinstance(node.op, Dequantize | FromBlock)
        for user, index in value.uses:
            if user not in outside and (leaves or not _takes_real(target, user, index)):
                raise _real_number(node, target, "a result")


def _takes_real(target: Target, node: Node, index: int) -> bool:
    """Whether the descriptor lets a node take real numbers as this operand."""
    if isinstance(node.op, Fused):
        inside = node.op.body.inputs[index]
        return all(_takes_real(target, user, i) for user, i in inside.uses)
    row = target.row_of(node)
    operand = row.operand(index) if row else None
    return operand is not None and any(s.kind == "scalar" and F32.name in s.storages for s in operand.choices)


def _is_real(value: Value) -> bool:
    return isinstance(value.type.elem, Scalar) and value.type.storage.is_float


def _real_number(node: Node, target: Target, what: str) -> QCompilerError:
    return QCompilerError(
        f"{node.op.name} has {what} of real numbers inside the program", layer=node.layer,
        expected=f"integers only, on target {target.name!r}", found="f32",
    )
