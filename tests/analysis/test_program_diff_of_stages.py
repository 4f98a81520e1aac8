"""The difference between two stages of a compilation."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from call_counting import calls_made
from known_edits import Edit
from models import FREE_BATCH, model, samples

import qcompiler
from qcompiler.analysis.op_changes import Change
from qcompiler.analysis.program_comparison import diff_programs
from qcompiler.analysis.program_diff import ProgramDiff
from qcompiler.ir import Builder, Graph, SymbolicDim, TensorType, clone, read_program
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import LeakyRelu, Relu
from qcompiler.ops.binary import Add


@cache
def stages(name: str) -> list[tuple[str, Graph]]:
    """The program after each pass, with the pass's name.

    The target fixes no scales but that of softmax, so that calibrate has no ties to cut.
    """
    with TemporaryDirectory() as folder:
        qcompiler.compile(model(name), target="cpu-int8", data=samples(name, 4), dump_ir=folder)
        return [(path.stem.partition("_")[2], read_program(path)) for path in sorted(Path(folder).glob("*.qir"))]


def across(name: str, wanted: str) -> tuple[Graph, ProgramDiff]:
    """The program behind the last pass called ``wanted``, and what that pass changed."""
    found = stages(name)
    index = max(i for i, (current, _) in enumerate(found) if current == wanted)
    return found[index][1], diff_programs(found[index - 1][1], found[index][1])


@pytest.mark.parametrize("name", FREE_BATCH)
def test_fusing_is_the_only_difference_that_fuse_requantize_makes(name: str) -> None:
    graph, found = across(name, "fuse-requantize")
    kernels = [node for node in graph.nodes if node.op.name == "fused"]
    assert kernels
    assert {op.kind for op in found.ops} == {"added"}
    expected = sorted(
        (tuple(sorted(set(node.loc))), f"fused({', '.join(n.op.name for n in node.op.body.nodes)})")  # type: ignore[attr-defined]
        for node in kernels
    )
    assert sorted((op.summary.layers, op.summary.op) for op in found.ops) == expected
    assert not found.program


@pytest.mark.parametrize("name", FREE_BATCH)
def test_calibrate_changes_scales_and_zero_points_alone(name: str) -> None:
    graph, found = across(name, "calibrate")
    assert {(op.kind, op.summary.op) for op in found.ops} == {("changed", "fake_quant")}
    assert {c.what for op in found.ops for c in op.changes} <= {
        f"attribute {name}" for name in ("scale", "zero_point", "fixed_scale", "fixed_zero_point")
    }
    assert len(found.ops) == sum(node.op.name == "fake_quant" for node in graph.nodes)


@pytest.mark.parametrize("name", FREE_BATCH)
def test_verify_legal_changes_nothing(name: str) -> None:
    assert not across(name, "verify-legal")[1]


def test_realize_keeps_contractions_matched_with_themselves() -> None:
    _, found = across("residual_cnn", "realize")
    convolutions = [op for op in found.ops if op.summary.op == "conv2d"]
    assert convolutions
    for op in convolutions:
        assert op.before
        assert op.after
        assert op.before.layers == op.after.layers
        assert "type" in {change.what for change in op.changes}


def test_an_op_taken_out_of_a_kernel() -> None:
    """A kernel without its last op, which stands behind it: two kernels of other ops, and no other difference."""
    before = stages("residual_cnn")[-1][1]
    after = clone(before)
    kernel = next(n for n in after.nodes if n.op.name == "fused")
    body = kernel.op.body  # type: ignore[attr-defined]
    last = body.outputs[0].value.producer
    assert len(last.operands) == 1
    rest = clone(body)
    ending = rest.outputs[0].value.producer
    assert ending
    rest.set_outputs([("0", ending.operands[0])])
    rest.erase(ending)
    build = Builder(after, before=kernel)
    smaller = build.create(kernel.op.replace(body=rest), kernel.operands, loc=kernel.loc)
    made = last.result
    outside = build.create(last.op, smaller.results, elem=made.type.elem, loc=last.loc, origin=made.origin)
    kernel.result.replace_uses(outside.result)
    layers = tuple(sorted(set(kernel.loc)))
    after.erase(kernel)
    found = diff_programs(before, after)
    names = [node.op.name for node in body.nodes]
    assert [(op.kind, op.summary.layers) for op in found.ops] == [("changed", layers)]
    change = found.ops[0].changes[0]
    assert (change.what, change.before, change.after) == ("ops", ", ".join(names), ", ".join(names[:-1]))
    (back,) = diff_programs(after, before).ops
    assert back.changes[0] == Change("ops", change.after, change.before)


def long_program(count: int) -> Graph:
    graph = Graph()
    x = value = graph.add_input("x", TensorType((SymbolicDim("N"), 4), F32))
    build = Builder(graph)
    for index in range(count // 2):
        value = build(Add(), build(Relu(), value), x, loc=(f"layer {index // 7}",))
    graph.set_outputs([("y", value)])
    return graph


def test_work_is_proportional_to_size() -> None:
    """Six times as many nodes take about six times as many calls; quadratic work would take 36 times as many."""
    calls = []
    for count in (500, 3000):
        before = long_program(count)
        after = clone(before)
        node = next(n for i, n in enumerate(after.nodes) if i == count // 2)
        node.set_op(LeakyRelu(0.5))
        found: list[ProgramDiff] = []
        calls.append(calls_made(lambda: found.append(diff_programs(before, after))))  # noqa: B023 - runs at once
        assert [Edit(op.kind, op.summary.op, ()) for op in found[0].ops] == [Edit("changed", "leaky_relu", ())]
    assert calls[1] < 8 * calls[0]
