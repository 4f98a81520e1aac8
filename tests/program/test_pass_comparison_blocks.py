"""Compare on targets of block floating point: it names the pass and the layer that moved mantissas or exponents."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import models
import numpy as np
import pytest
from block_sabotage import (
    Rng,
    Spoil,
    Spoiled,
    coarse_mark,
    coarse_normalize,
    other_rounding,
    shift_weights,
    swap_channels,
)

from qcompiler import plugins
from qcompiler.calibration.data import open_data
from qcompiler.compilation import read_model
from qcompiler.ir import BlockArray, BlockFloat, Builder, Graph, Original, clone, verify
from qcompiler.ir.scalar import F32
from qcompiler.ir.types import TensorType
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FromBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.shape import Reshape, Transpose
from qcompiler.pass_comparison import Compare, ComparisonReport, IntegerChange
from qcompiler.pipeline import Context, Pass, PassResult, Pipeline
from qcompiler.target import load_target

plugins.load()
TARGETS = ["dsp-bfp16", "npu-bfp16", "mx-int8"]
NETWORKS = ["residual_cnn", "depthwise_net"]
"""Networks without a table."""
WITH_TABLES = [("token_mixer", "dsp-bfp16"), ("branching_net", "npu-bfp16"), ("branching_net", "mx-int8")]


@cache
def original(name: str) -> Graph:
    return read_model(models.model(name))


def passes_with(extra: Pass | None, after: str) -> list[Pass]:
    """The pipeline of ``dsp-bfp16`` with a pass behind the last one called ``after``; then without ``verify-legal``.

    It compiles for the other targets, too. Their own have passes that are there to move values.
    """
    passes = list(Pipeline.parse(load_target("dsp-bfp16").descriptor.pipeline).passes)
    if extra:
        passes = [current for current in passes if current.name != "verify-legal"]
        last = max(i for i, current in enumerate(passes) if current.name == after)
        passes.insert(last + 1, extra)
    return passes


def watch(name: str, target: str, passes: list[Pass]) -> ComparisonReport:
    """Run passes under Compare, without the verifier."""
    data = models.samples(name, 24)
    context = Context(load_target(target), open_data(data, original(name)))
    graph, comparison = clone(original(name)), Compare(data)
    comparison.begin(graph, passes)
    for index, current in enumerate(passes):
        result = current.run(graph, context)
        graph = result.graph
        comparison.after_pass(index, current, graph, result.changed)
    return comparison.report


def sabotage(spoil: Spoil, rng: Rng, done: list[Spoiled]) -> Pass:
    @dataclass(frozen=True)
    class Sabotage(Pass):
        name = "sabotage"

        def run(self, graph: Graph, context: Context) -> PassResult:
            done.append(spoil(graph, rng))
            return PassResult(graph, True)

    return Sabotage()


@cache
def clean(name: str, target: str) -> ComparisonReport:
    """What Compare finds of passes that nobody spoiled."""
    return watch(name, target, passes_with(None, ""))


@pytest.mark.parametrize("name", NETWORKS)
def test_of_the_passes_of_a_dsp_only_annotate_moves_anything(name: str) -> None:
    """It puts the marks that round; where no exponent is fixed, nothing is left for calibrate."""
    report = clean(name, "dsp-bfp16")
    (entry,) = report.moving
    assert entry.name == "annotate"
    assert all(60 < v.after_db < 80 < v.before_db for v in entry.roots)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_comes_with_annotate_and_becomes_real_in_realize(name: str, target: str) -> None:
    report = clean(name, target)
    assert [p.name for p in report.passes if p.introduces_rounding] == ["annotate", "realize"]
    entries = {p.name: p for p in report.moving}
    # Merging two roundings moves values, and an integer softmax is not what its simulation is.
    assert {"annotate"} <= set(entries) <= {"annotate", "realize", "fuse-requantize"}
    if "realize" in entries:
        assert all(v.name.startswith("softmax") for v in entries["realize"].moved)
    least = 60 if target == "dsp-bfp16" else 25
    assert all(least < v.after_db < 80 < v.before_db for v in entries["annotate"].roots)
    outputs = {o.value.origin.name for o in original(name).outputs if isinstance(o.value.origin, Original)}
    assert outputs <= {v.name for v in report.passes[-1].values}


@pytest.mark.parametrize(("name", "target"), WITH_TABLES)
def test_a_rounding_that_is_saved_in_front_of_a_table_is_named(name: str, target: str) -> None:
    """fuse-requantize merges two normalizes: the operand of the table is rounded once, and comes closer to float."""
    (entry,) = (p for p in clean(name, target).moving if p.name == "fuse-requantize")
    assert entry.roots
    assert all(v.after_db > v.before_db for v in entry.roots)
    assert all(v.integers is not None and v.integers.count > 0 for v in entry.roots)


UNDONE_LATER: set[tuple[str, Spoil]] = {
    ("annotate", coarse_mark), ("realize", coarse_normalize), ("realize", other_rounding),
}
"""What the passes behind them would repair, since they merge two normalizes, or could not compile."""
CASES: list[tuple[str, Spoil]] = [
    ("annotate", coarse_mark), ("annotate", swap_channels), ("calibrate", swap_channels),
    ("realize", swap_channels), ("realize", shift_weights), ("realize", coarse_normalize), ("realize", other_rounding),
    ("fuse-requantize", swap_channels), ("fuse-requantize", shift_weights), ("fuse-requantize", coarse_normalize),
    ("fuse-requantize", other_rounding),
]


@pytest.mark.parametrize(("after", "spoil"), CASES, ids=[f"{a}-{s.__name__}" for a, s in CASES])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_sabotaging_pass_and_its_layer_are_named_and_no_other(
    name: str, target: str, after: str, spoil: Spoil
) -> None:
    done: list[Spoiled] = []
    rng = np.random.default_rng([*f"{name}{target}{after}{spoil.__name__}".encode()])
    passes = passes_with(sabotage(spoil, rng, done), after)
    if (after, spoil) in UNDONE_LATER:
        passes = passes[: 1 + next(i for i, current in enumerate(passes) if current.name == "sabotage")]
    report = watch(name, target, passes)
    moving = {p.name for p in report.moving}
    unspoiled = {p.name for p in clean(name, target).moving}
    assert {"annotate", "sabotage"} <= moving <= {"sabotage", *unspoiled}, str(report)
    (entry,) = (p for p in report.moving if p.name == "sabotage")
    (root,) = entry.roots
    assert root.name == done[0].value
    assert set(done[0].layers) <= set(root.layers)
    assert not entry.introduces_rounding
    if after in ("realize", "fuse-requantize"):
        assert root.integers is None or root.integers.count > 0


@pytest.mark.parametrize(("mantissas", "exponents", "expected"), [
    ([[100, 50, 3, 4]], [[0, 0]], IntegerChange(0, 4, 0)),
    ([[100, 51, 3, 6]], [[0, 0]], IntegerChange(2, 4, 2)),
    # The second block doubles: each of its numbers moves by as many steps as it had.
    ([[100, 50, 3, 4]], [[0, 1]], IntegerChange(2, 4, 4)),
    # Half of three steps is one and a half, which two hold.
    ([[100, 50, 3, 8]], [[0, -1]], IntegerChange(2, 4, 2)),
    # The same numbers, written otherwise.
    ([[100, 25, 3, 4]], [[0, 1, 0, 0]], IntegerChange(1, 4, 0)),
    ([[100, 50, 3, 4]], [[0, 0, 0, 120]], IntegerChange(1, 4, 1 << 62)),
])
def test_mantissas_and_exponents_that_changed_are_counted(
    mantissas: list[list[int]], exponents: list[list[int]], expected: IntegerChange
) -> None:
    """A transpose hands a constant on as it is; it is compared in the axis order of the original."""
    block = 4 // len(exponents[0])
    before = BlockArray(np.array([[100, 50, 3, 4]], np.int16), np.zeros((1, len(exponents[0])), np.int32))
    after = BlockArray(np.array(mantissas, np.int16), np.array(exponents, np.int32))
    graph = Graph()
    build = Builder(graph)
    graph.add_input("x", TensorType((1,), F32))
    source = build(Constant.of(before), elem=BlockFloat(BlockFormat(16), (1, block)))
    moved = build(
        Transpose((1, 0)), source, elem=BlockFloat(BlockFormat(16), (block, 1)),
        origin=Original("v").transposed((1, 0)), loc=("layer",),
    )
    graph.set_outputs([("y", build(FromBlock(), moved, origin=Original("y")))])
    verify(graph)
    comparison = Compare({"x": np.zeros((1,), np.float32)}, samples=1)
    comparison.begin(graph, [])
    assert source.producer is not None
    source.producer.set_op(Constant.of(after))
    comparison.after_pass(0, Pipeline.parse("dce").passes[0], graph, True)
    (value,) = (v for v in comparison.report.passes[0].values if v.name == "v")
    assert value.integers == expected
    assert value.moved == (expected.count > 0)


def test_blocks_are_compared_in_the_axis_order_of_the_original() -> None:
    """A pass that holds the same numbers transposed moves nothing."""
    rng = np.random.default_rng()
    elem = BlockFloat(BlockFormat(8), (1, 1))
    pair = BlockArray(rng.integers(-128, 128, (3, 4)).astype(np.int8), rng.integers(-9, 9, (3, 4)).astype(np.int32))
    graph = Graph()
    build = Builder(graph)
    graph.add_input("x", TensorType((1,), F32))
    source = build(Constant.of(pair), elem=elem)
    held = build(Reshape((3, 4)), source, elem=elem, origin=Original("v"))
    graph.set_outputs([("y", build(FromBlock(), held))])
    comparison = Compare({"x": np.zeros((1,), np.float32)}, samples=1)
    comparison.begin(graph, [])
    moved = build(Transpose((1, 0)), held, elem=elem, origin=Original("v").transposed((1, 0)))
    graph.set_outputs([("y", build(FromBlock(), moved))])
    verify(graph)
    comparison.after_pass(0, Pipeline.parse("dce").passes[0], graph, True)
    (value,) = comparison.report.passes[0].values
    assert value.integers == IntegerChange(0, 12, 0)
    assert not value.moved
