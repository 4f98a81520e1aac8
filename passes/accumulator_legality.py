"""What ``verify-legal`` demands of sums of products: no accumulator of the target can overflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qcompiler.analysis.accumulator_proof import Lack, find_node_lack, widths_of
from qcompiler.analysis.accumulators import Interval
from qcompiler.calibration.accumulator_extremes import measure_sums
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, Value
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantized import is_quantized
from qcompiler.pipeline import Context
from qcompiler.target import Target

_DEMANDS = {
    "forbidden": "must not overflow",
    "saturate": "must not saturate, since the result would depend on the order of summation",
    "wrap": "must hold the whole sum",
}


@dataclass
class AccumulatorLegality:
    """Proves a program's contractions one by one.

    Where the descriptor says ``proof = "calibrated"``, what is not proved for every input is kept, and measured at the
    end by :meth:`measure`.
    """

    target: Target
    unproved: dict[Node, Lack] = field(default_factory=dict)

    def check(self, node: Node, outer: Mapping[Value, Value], ranges: Mapping[Value, Interval]) -> None:
        """Prove that no input makes a contraction's sums leave the integers in which the target keeps them.

        Args:
            node: a node of the program or of a fused body.
            outer: for a node of a fused body, the operand behind each input of the body.
            ranges: the stored integers that values can have.

        Raises:
            QCompilerError: some input could; says by how many bits, and what to do.
        """
        if not isinstance(node.op, Contraction) or not is_quantized([v.type for v in node.operands]):
            return
        limits = self.target.descriptor.limits.accumulator
        if node.op.parts and limits.home is None:
            raise self._error(
                node, "one sum, since limits.accumulator names no home for partial sums",
                f"parts {list(node.op.parts)}", "add the key 'home', or make the program for this target",
            )
        lack = find_node_lack(self.target, node, outer, ranges)
        if lack is None:
            return
        if limits.proof == "calibrated":
            self.unproved[node] = lack
            return
        low, high = lack.bounds
        found = f"sums from {low} to {high}: {lack.missing_bits} bits too many"
        if node.op.parts:
            found = f"{lack.what}: {found}"
        raise self._error(node, self._demand(node, lack), found, self._way_out(node, outer))

    def measure(self, graph: Graph, context: Context) -> None:
        """Show that calibration data do not overflow what is not proved, and warn of inputs that could.

        Raises:
            QCompilerError: there are no data, or a sample overflows.
        """
        if not self.unproved:
            return
        first, lack = next(iter(self.unproved.items()))
        if context.data is None:
            raise self._error(
                first, self._demand(first, lack), f"{lack.missing_bits} bits too many for some input, and no data",
                "give calibration data: the target asks for proof = \"calibrated\"",
            )
        seen = measure_sums(graph, context.data)
        for node, lack in self.unproved.items():
            low, high = seen.get(node.result, (0, 0))
            missing = bits_for(low, high) - lack.bits
            if missing > 0:
                raise self._error(
                    node, self._demand(node, lack),
                    f"partial sums from {low} to {high} on calibration data: {missing} bits too many",
                    self._way_out(node, {}),
                )
        names = ", ".join(f"{node.layer!r} ({lack.missing_bits} bits)" for node, lack in self.unproved.items())
        context.warn(
            f"accumulators of {len(self.unproved)} layers fit on the calibration data, but other inputs could make "
            f"them {self.target.descriptor.limits.accumulator.overflow}, and the target would then compute other "
            f"numbers than the program: {names}"
        )

    def _demand(self, node: Node, lack: Lack) -> str:
        assert isinstance(node.op, Contraction)
        if node.op.parts and lack.what.startswith("the home"):
            return f"partial sums are kept in {lack.bits} bits and must not overflow"
        demand = _DEMANDS[widths_of(self.target, node).overflow]
        return f"accumulators have {lack.bits} bits and {demand}"

    def _way_out(self, node: Node, outer: Mapping[Value, Value]) -> str:
        limits = self.target.descriptor.limits.accumulator
        assert isinstance(node.op, Contraction)
        if limits.home is not None:
            return "run 'narrow-accumulators' behind 'realize', which splits the sum into parts that fit"
        if constant_value(outer.get(node.operands[1], node.operands[1])) is not None:
            return "run 'narrow-accumulators' between 'calibrate' and 'realize', which makes the weights coarser"
        return "both operands are computed: use a target with wider accumulators, or with a home for partial sums"

    def _error(self, node: Node, expected: str, found: str, fix: str) -> QCompilerError:
        return QCompilerError(
            f"{node.op.name} is not legal on target {self.target.name!r}", layer=node.layer, expected=expected,
            found=found, fix=fix,
        )
