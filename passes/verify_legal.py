"""The pass ``verify-legal``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.analysis.requantization import requantize_constants
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Constants, Graph, Node, Value, verify
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Dequantize, Requantize
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass
from qcompiler.target import Target, Violation, check_quantized_node


@compiler_pass("verify-legal")
class VerifyLegal(Pass):
    """Prove that the program holds nothing but what the target can do. Changes nothing.

    The program is well formed, so every type is true. Every node is judged by the storage types, parameters,
    attributes and arithmetic that it has, not by names: real numbers occur only before ``quantize`` and behind
    ``dequantize``; requantize constants are those of the scales behind them; no input can overflow an accumulator
    where the descriptor forbids it.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        verify(graph)
        for node in graph.nodes:
            _check(target, node, {})
            if isinstance(node.op, Fused):
                outer = dict(zip(node.op.body.inputs, node.operands, strict=True))
                for part in node.op.body.nodes:
                    _check(target, part, outer)
            _check_real_numbers(graph, node, target)
        return PassResult(graph, False)


def _check(target: Target, node: Node, outer: Mapping[Value, Value]) -> None:
    violation = _violation(target, node, outer)
    if violation:
        raise QCompilerError(
            f"{node.op.name} is not legal on target {target.name!r}", layer=node.layer,
            expected=violation.constraint, found=violation.found,
        )


def _violation(target: Target, node: Node, outer: Mapping[Value, Value]) -> Violation | None:
    if isinstance(node.op, Constant):
        return None
    if isinstance(node.op, Fused):
        return _kernel_violation(target, node.op)
    violation = check_quantized_node(target, node, outer)
    if violation is None and isinstance(node.op, Requantize):
        violation = _constants_violation(node, node.op) or _shift_overflow(node, node.op, outer)
    if violation is None and isinstance(node.op, Contraction):
        violation = _overflow(target, node, outer)
    return violation


def _kernel_violation(target: Target, fused: Fused) -> Violation | None:
    """A fused kernel is one op, no kernel itself, followed by ops that the descriptor marks with ``fuse``."""
    for index, node in enumerate(fused.body.nodes):
        if isinstance(node.op, Fused):
            return Violation("a fused kernel holds no other", node.op.name)
        row = target.rows.get(node.op.name)
        if index and (row is None or not row.spec.fuse):
            return Violation("a fused kernel ends in ops marked with 'fuse'", node.op.name)
    return None


def _constants_violation(node: Node, op: Requantize) -> Violation | None:
    elem = node.result.type.elem
    assert isinstance(elem, Affine)
    expected = Constants(requantize_constants(op.form(), node.operands[0], elem))
    if expected == op.constants:
        return None
    name = next((k for k in expected if expected[k] != op.constants.get(k)), "constants")
    return Violation(f"{name} must follow from the scales multiplied", str(op.constants[name].array.reshape(-1)[:4]))


def _shift_overflow(node: Node, op: Requantize, outer: Mapping[Value, Value]) -> Violation | None:
    """A form that shifts accumulators left before it multiplies must not lose their highest bits."""
    largest = op.form().largest_operand(op.constants.arrays())
    producer = node.operands[0].producer
    if largest is None or producer is None or not isinstance(producer.op, Contraction):
        return None
    bounds = accumulator_bounds(producer, outer)
    if bool((bounds <= largest.reshape(-1)).all()):
        return None
    return Violation(
        f"what {op.arithmetic} shifts left must fit 32 bits",
        f"sums up to {int(bounds.max())}, the limit is {int(largest.min())}",
    )


def _overflow(target: Target, node: Node, outer: Mapping[Value, Value]) -> Violation | None:
    limits = target.descriptor.limits.accumulator
    if limits.overflow != "forbidden":
        return None
    bound = int(accumulator_bounds(node, outer).max(initial=0))
    largest = (1 << (limits.bits - 1)) - 1
    if bound <= largest:
        return None
    excess = int(np.ceil(np.log2((bound + 1) / (largest + 1))))
    return Violation(
        f"accumulators have {limits.bits} bits and must not overflow", f"sums up to {bound}: {excess} bits too many"
    )


def _check_real_numbers(graph: Graph, node: Node, target: Target) -> None:
    """Real numbers come from inputs into quantize, and go from dequantize or constants into outputs."""
    for value in node.operands:
        if _is_real(value) and not (node.op.name == "quantize" and value.producer is None):
            raise _real_number(node, target, "an operand")
    for value in node.results:
        outputs_only = all(user is graph.terminator for user in value.users)
        if _is_real(value) and not (isinstance(node.op, Dequantize | Constant) and outputs_only):
            raise _real_number(node, target, "a result")


def _is_real(value: Value) -> bool:
    return not isinstance(value.type.elem, Affine) and value.type.storage.is_float


def _real_number(node: Node, target: Target, what: str) -> QCompilerError:
    return QCompilerError(
        f"{node.op.name} has {what} of real numbers inside the program", layer=node.layer,
        expected=f"integers only, on target {target.name!r}", found="f32",
    )
