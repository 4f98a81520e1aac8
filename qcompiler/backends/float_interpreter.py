"""Runs float and simulated programs in numpy, op by op: for those with an op that has no ONNX form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.fake_quant_simulation import Bypass, Grid, is_identity, simulated_block, simulated_grid
from qcompiler.errors import QCompilerError
from qcompiler.ir import Node, Op, OpTypeError, Tensor, TensorType, Value
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.quantization import FakeQuant

Array = NDArray[Any]


@dataclass(frozen=True)
class _Step:
    """A node as it was when the program was loaded.

    Attributes:
        op: what to evaluate; a fake_block at the width that is asked for.
        grid: what a calibrated fake_quant rounds to; None for other ops.
        is_identity: whether it is a fake_quant or fake_block that does nothing.
    """

    op: Op
    layer: str
    operands: tuple[Value, ...]
    results: tuple[tuple[Value, TensorType], ...]
    grid: Grid | None
    is_identity: bool


class FloatInterpreter:
    """Some values of a float graph, computed by each op's own ``evaluate``.

    Args:
        nodes: the nodes that ``fetch`` depends on, in order.
        fetch: values to return.
        bypass: which fake_quants and fake_blocks act as the identity.
        bits: width of every other one; None keeps it.
    """

    def __init__(self, nodes: Sequence[Node], fetch: Sequence[Value], bypass: Bypass, bits: int | None) -> None:
        self._steps = [_step(node, bypass, bits) for node in nodes]
        self._fetch = list(fetch)
        self._uses = Counter(v for step in self._steps for v in step.operands) + Counter(self._fetch)

    def run(self, inputs: Mapping[Value, Tensor], symbols: dict[str, int]) -> list[Array]:
        """The fetched values.

        Args:
            inputs: the graph inputs that they depend on.
            symbols: the size of each free dimension.

        Raises:
            QCompilerError: an op refuses its operands; names the layer.
        """
        values = dict(inputs)
        remaining = self._uses.copy()
        for step in self._steps:
            types = [type.bind(symbols) for _, type in step.results]
            arrays = _evaluate(step, values, types, symbols)
            for (value, _), type, array in zip(step.results, types, arrays, strict=True):
                if remaining[value]:
                    values[value] = Tensor(type, array)
            for value in step.operands:
                remaining[value] -= 1
                if not remaining[value]:
                    del values[value]
        return [values[value].data for value in self._fetch]


def _step(node: Node, bypass: Bypass, bits: int | None) -> _Step:
    op, grid, does_nothing = node.op, None, is_identity(node, bypass)
    if isinstance(op, FakeBlock):
        op = simulated_block(op, bits)
    elif isinstance(op, FakeQuant) and not does_nothing:
        operand = node.operands[0].type
        grid = simulated_grid(op, operand.shape, operand.storage.dtype, bits)
    return _Step(op, node.layer, tuple(node.operands), tuple((v, v.type) for v in node.results), grid, does_nothing)


def _evaluate(
    step: _Step, values: Mapping[Value, Tensor], types: Sequence[TensorType], symbols: dict[str, int]
) -> Sequence[Array]:
    operands = [values[v] for v in step.operands]
    if step.is_identity:
        return [operands[0].data]
    try:
        # Float programs may overflow and divide by 0: ONNX Runtime does so in silence.
        with np.errstate(all="ignore"):
            if step.grid is not None:
                return [step.grid.evaluate(operands[0].data)]
            computed = step.op.bind(symbols).evaluate(operands, types)
            return [Tensor.of(t, stored).data for t, stored in zip(types, computed, strict=True)]
    except OpTypeError as error:
        raise QCompilerError(f"{step.op.name}: {error}", layer=step.layer) from error
