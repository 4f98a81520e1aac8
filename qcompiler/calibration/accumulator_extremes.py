"""How large the partial sums of a program's contractions get on data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.accumulators import Interval
from qcompiler.backends import reference
from qcompiler.ir import Affine, Graph, Node, Tensor, Value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantized import affine
from qcompiler.pipeline import CalibrationSource

MEASURED_SAMPLES = 32
"""Sums hardly grow beyond what a few samples show; measuring takes four contractions for each one of the program."""
_BATCH = 8


def measure_sums(graph: Graph, data: CalibrationSource, samples: int = MEASURED_SAMPLES) -> dict[Value, Interval]:
    """The least and the largest partial sum that each quantized contraction forms on data, in any order of summation.

    For each result element, all positive products are summed, and all negative ones; the bias counts with those of
    its sign.

    Args:
        graph: an integer program.
        data: inputs of the program.
        samples: how many of them to run, at least.

    Returns:
        An interval for each contraction, by its result; those of fused bodies included. Numbers are exact.
    """
    contractions = dict(_contractions(graph, {}))
    wanted = {v for operands in contractions.values() for v in operands}
    seen: dict[Value, Interval] = {}
    done = 0
    for feeds in data.batches(_BATCH):
        held: dict[Value, Tensor] = {}

        def observe(value: Value, tensor: Tensor, held: dict[Value, Tensor] = held) -> None:
            if value in wanted:
                held[value] = tensor
            operands = contractions.get(value)
            if operands is not None:
                producer = value.producer
                assert producer is not None
                low, high = seen.get(value, (0, 0))
                least, most = _extremes(producer, [held[v] for v in operands])
                seen[value] = min(low, least), max(high, most)

        reference.run(graph, feeds, observe)
        done += len(next(iter(feeds.values()))) if feeds else 1
        if done >= samples:
            break
    return seen


def _contractions(graph: Graph, outer: Mapping[Value, Value]) -> list[tuple[Value, tuple[Value, ...]]]:
    """Results of quantized contractions with their operands as they are outside of any kernel."""
    found = []
    for node in graph.nodes:
        operands = tuple(outer.get(v, v) for v in node.operands)
        if isinstance(node.op, Fused):
            found += _contractions(node.op.body, dict(zip(node.op.body.inputs, operands, strict=True)))
        elif isinstance(node.op, Contraction) and isinstance(node.result.type.elem, Affine):
            found.append((node.result, operands))
    return found


def _extremes(node: Node, operands: list[Tensor]) -> Interval:
    """The least sum of negative products, and the largest of positive ones, over all result elements."""
    op = node.op
    assert isinstance(op, Contraction)
    x = operands[0].data.astype(np.int64) - affine(operands[0].type).zero_point.array
    w = op.integer_weights(operands[1].type, operands[1].data)
    (x_above, x_below), (w_above, w_below) = ((np.maximum(a, 0), np.minimum(a, 0)) for a in (x, w))
    positive = op.contract(x_above, w_above).astype(np.int64) + op.contract(x_below, w_below)
    negative = op.contract(x_above, w_below).astype(np.int64) + op.contract(x_below, w_above)
    bias = _bias(op, operands, positive.ndim)
    return (
        min(int((negative + np.minimum(bias, 0)).min(initial=0)), 0),
        max(int((positive + np.maximum(bias, 0)).max(initial=0)), 0),
    )


def _bias(op: Contraction, operands: list[Tensor], rank: int) -> NDArray[np.int64]:
    if len(operands) < 3:
        return np.zeros((), np.int64)
    shape = [1] * rank
    shape[op.result_channel_axis(rank)] = -1
    return operands[2].data.astype(np.int64).reshape(shape)
