"""Every built-in target with an accumulator that is nearly full: the longest sum that fits is compiled and exact in
native code at the ends of the number formats; one term more is refused, or summed up in parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_comparison import assert_native_equals_reference
from numpy.typing import NDArray
from target_programs import Cited, N, node_of, program_of

from qcompiler import plugins
from qcompiler.analysis.accumulators import contraction_sums
from qcompiler.analysis.block_growth import result_bounds
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.selection import select_instruction_set
from qcompiler.compilation import compile
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, Graph, walk
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.program import Program
from qcompiler.target import Target, built_in_targets, check_float_node, load_target, storages

plugins.load()
Array = NDArray[Any]

LONGEST = 1 << 18
"""Sums of more terms take too long here: those of 48-bit accumulators, with 2**24 terms, and of 4-bit weights."""


def dot(length: int) -> Cited:
    """Sums of ``length`` terms, whose weights are all the largest that the format has: 127/128 in 8 bits."""
    return Cited(Matmul(), ((N, length), np.full((length, 1), 32767 / 32768 * 127 / 128, np.float32)))


def compiled(cited: Cited, target: Target) -> Program:
    """A program whose inputs lie within [0, 1], so that a free zero point is the least integer."""
    graph = program_of([cited])
    shape = [2, *(int(str(d)) for d in graph.inputs[0].type.shape[1:])]
    data = np.zeros(shape, np.float32)
    data[1] = 1
    return compile(graph, target=target, data={graph.inputs[0].name: data}, native=False)


def sums(graph: Graph) -> tuple[int, int]:
    """The least and the largest sum of the only contraction."""
    (node,) = (n for n in walk(graph) if isinstance(n.op, Matmul))
    outer = {}
    for fused in graph.nodes:
        if node in list(getattr(getattr(fused.op, "body", None), "nodes", ())):
            outer = dict(zip(fused.op.body.inputs, fused.operands, strict=True))  # type: ignore[attr-defined]
    if isinstance(node.operands[0].type.elem, BlockFloat):
        bounds = result_bounds(node, outer)
        assert bounds is not None
        return bounds
    return contraction_sums(node, outer).whole.interval


def longest(target: Target) -> int | None:
    """Terms of the longest sum that fits; None where sums are real numbers."""
    if target.rows["matmul"].out.choices[0].kind == "scalar":
        return None
    length = 32
    low, high = sums(compiled(dot(length), target).graph)
    limit = 1 << (target.descriptor.limits.accumulator.bits - 1)
    assert low % length == high % length == 0
    return int(min((limit - 1) // (high // length), limit // max(-low // length, 1)))


def extremes(length: int, count: int) -> dict[str, Array]:
    """Inputs far beyond what was calibrated, all to one side, to the other, and mixed."""
    rng = np.random.default_rng()
    x = rng.choice(np.array([-1e6, 1e6], np.float32), (count, length))
    x[0], x[1] = 1e6, -1e6
    return {"matmul0_0": x}


@pytest.mark.parametrize("name", list(built_in_targets()))
def test_the_longest_sum_fits_and_one_term_more_does_not(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    limits = target.descriptor.limits.accumulator
    length = longest(target)
    if length is None:
        pytest.skip("sums are real numbers, which have no width to fill")
    if length > LONGEST:
        weights = target.rows["matmul"].operands[1].choices[0]
        assert limits.bits >= 48 or storages(weights)[0].bits < 8
        pytest.skip(f"it takes {length} terms to fill {limits.bits} bits")
    # A limit of the row itself may come before that of the accumulator.
    stated = [str(c) for c in target.rows["matmul"].conditions if check_float_node(target, node_of(dot(length)))]
    if stated:
        with pytest.raises(QCompilerError) as caught:
            compiled(dot(length), target)
        assert any(text in str(caught.value.expected) for text in stated)
        return
    check_native(compiled(dot(length), target), length, tmp_path)
    if limits.overflow == "forbidden" and limits.home is None:
        with pytest.raises(QCompilerError, match=rf"accumulators have {limits.bits} bits and must not overflow"):
            compiled(dot(length + 1), target)
    else:
        check_native(compiled(dot(length + 1), target), length + 1, tmp_path)


def check_native(program: Program, length: int, folder: Path) -> None:
    assert_native_equals_reference(
        program.graph, lambda count: extremes(length, count), [select_instruction_set()], folder, samples=(3,),
        threads=(1,), kernels=KernelCache(),
    )


@pytest.mark.parametrize("name", [n for n in built_in_targets() if load_target(n).rows["conv2d"].spec.max_weight_sum])
def test_the_largest_sum_of_weights(name: str) -> None:
    target = load_target(name)
    limit = target.rows["conv2d"].spec.max_weight_sum
    assert limit is not None
    most = limit // 127

    def convolution(channels: int) -> Cited:
        weights = np.full((1, 1, 1, channels), 127 / 128, np.float32)
        return Cited(Conv2D(layout="NHWC"), ((N, 1, 1, channels), weights))

    compiled(convolution(most), target)
    with pytest.raises(QCompilerError, match=rf"{limit}"):
        compiled(convolution(most + 1), target)
