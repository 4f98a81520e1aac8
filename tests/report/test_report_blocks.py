"""What the page shows of block floating point: formats, exponents, and how many blocks have which."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from stages import cnn_float

import qcompiler
from qcompiler.compare import compare
from qcompiler.ir import BlockArray, BlockFloat, ConstantArray, Graph, clone
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import constant_tensor
from qcompiler.pipeline import Context, Pipeline
from qcompiler.report import collect_stage, mark_changes
from qcompiler.report.constant_text import describe_constant, describe_quantization
from qcompiler.report.page_data import ErrorFigure, NodeData, Stage
from qcompiler.target import load_target

TARGETS = ["dsp-bfp16", "npu-bfp16"]


def images(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(5).normal(size=(count, 3, 12, 12)).astype(np.float32)


@cache
def program(target: str) -> Graph:
    return qcompiler.compile(cnn_float(), target=target, data={"image": images(8)}, native=False).graph


@cache
def annotated() -> Graph:
    passes = Pipeline.parse("simplify,legalize,simplify,annotate")
    return passes.run(clone(cnn_float()), Context(target=load_target("npu-bfp16")))


def boxes(stage: Stage) -> list[NodeData]:
    return [box for box in stage.nodes if box.ops not in (["input"], ["output"])]


@pytest.mark.parametrize("target", TARGETS)
def test_formats_and_exponents_of_constants_are_shown(target: str) -> None:
    graph = program(target)
    nodes = [node for node in graph.nodes if node.op.name != "constant"]
    seen = 0
    for node, box in zip(nodes, boxes(collect_stage(graph, "p")), strict=True):
        for value, shown in zip(node.results, box.results, strict=True):
            assert ("format" in dict(shown.facts)) == isinstance(value.type.elem, BlockFloat)
        constants = [t for v in node.operands if (t := constant_tensor(v)) is not None and t.exponents is not None]
        tables = [dict(c.facts) for c in box.constants if "blocks by exponent" in dict(c.facts)]
        for tensor, facts in zip(constants, tables, strict=True):
            mantissas, exponents = tensor.block
            assert facts["mantissas"] == f"{mantissas.min()} to {mantissas.max()}"
            assert (facts["elements"], facts["exponents"]) == (f"{mantissas.size:,}", f"{exponents.size:,}")
            if np.unique(exponents).size <= 8:
                counted = [item.split(": ") for item in facts["blocks by exponent"].split(", ")]
                assert {int(e): int(n) for e, n in counted} == {
                    int(e): int((exponents == e).sum()) for e in np.unique(exponents)
                }
            seen += 1
    assert seen > 6


def test_facts_of_a_format() -> None:
    free = dict(describe_quantization(BlockFloat(BlockFormat(16, scale="headroom"), (1, 4))))
    assert free == {
        "format": "m16e8, scale=headroom", "mantissas can be": "-32768 to 32767", "blocks": "[1,4]",
        "exponents can be": "found at run time, -128 to 127",
    }
    fixed = BlockFloat(BlockFormat.mx("e2m1"), (1, 32), ConstantArray(np.array([[-4, 2]], np.int32)))
    facts = dict(describe_quantization(fixed))
    assert (facts["mantissas can be"], facts["exponents can be"]) == ("-12 to 12", "fixed, [-4, 2]")


def test_many_different_exponents_are_given_by_their_range() -> None:
    exponents = np.array([*range(-6, 6), 3], np.int32)
    facts = dict(describe_constant(BlockArray(np.arange(26, dtype=np.int8), exponents)))
    assert facts["blocks by exponent"] == "-6 to 5, most often 3"
    few = dict(describe_constant(BlockArray(np.arange(6, dtype=np.int8), np.array([2, -1, 2], np.int32))))
    assert few["blocks by exponent"] == "-1: 1, 2: 2"
    empty = describe_constant(BlockArray(np.zeros((0,), np.int8), np.zeros((0,), np.int32)))
    assert dict(empty) == {"elements": "0", "exponents": "0"}


def test_marks_show_the_format_that_they_stand_for() -> None:
    graph = annotated()
    nodes = [node for node in graph.nodes if node.op.name != "constant"]
    marks = 0
    for node, box in zip(nodes, boxes(collect_stage(graph, "p")), strict=True):
        assert ("format" in dict(box.results[0].facts)) == isinstance(node.op, FakeBlock)
        assert (box.kind == "quantization") == isinstance(node.op, FakeBlock)
        marks += isinstance(node.op, FakeBlock)
    assert marks > 10


def test_conversions_have_the_colour_of_quantization() -> None:
    stage = collect_stage(program("dsp-bfp16"), "p")
    kinds = {box.ops[0]: box.kind for box in boxes(stage) if len(box.ops) == 1}
    assert kinds["to_block"] == kinds["from_block"] == "quantization"


@pytest.mark.parametrize("target", TARGETS)
def test_errors_stand_at_the_values_they_belong_to(target: str) -> None:
    differences = compare(cnn_float(), program(target), {"image": images(4)})
    by_name = {d.name: d for d in differences}
    stage = collect_stage(program(target), "p", differences)
    seen = 0
    for box in stage.nodes:
        for result in box.results:
            if box.ops == ["input"]:
                assert result.error == ErrorFigure(None, 0.0, False)
            elif result.original in by_name:
                assert result.error is not None
                assert result.error.max_error == by_name[result.original].max_error > 0
                seen += 1
    assert seen > 8


def test_a_program_is_the_same_as_itself() -> None:
    for graph in (program("dsp-bfp16"), annotated()):
        before, after = collect_stage(graph, "a"), collect_stage(graph, "b")
        mark_changes(before, after)
        assert {box.change for box in before.nodes + after.nodes} == {"same"}
