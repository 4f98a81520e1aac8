"""What the page shows of a program agrees with the program."""

from __future__ import annotations

import numpy as np
import pytest
from stages import cnn_annotated, cnn_float, cnn_integer, demo_float, demo_images, demo_integer

from qcompiler.compare import compare
from qcompiler.ir import Graph, Node
from qcompiler.ops.constant import constant_value
from qcompiler.report import Stage, collect_stage, mark_changes
from qcompiler.report.page_data import ErrorFigure

PROGRAMS = [cnn_float, cnn_annotated, cnn_integer, demo_float, demo_integer]


def _computing(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.op.name != "constant"]


def _boxes(stage: Stage) -> list[int]:
    return [i for i, box in enumerate(stage.nodes) if box.ops not in (["input"], ["output"])]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_node_is_a_box_with_its_text_and_types(program: object) -> None:
    assert callable(program)
    graph: Graph = program()
    stage = collect_stage(graph, "p")
    boxes = [stage.nodes[i] for i in _boxes(stage)]
    text = str(graph)
    for node, box in zip(_computing(graph), boxes, strict=True):
        assert box.title == node.op.name
        assert box.layers == list(node.loc)
        assert [r.type for r in box.results] == [str(v.type) for v in node.results]
        assert len(box.constants) + len(box.operands) == len(node.operands)
        lines = box.line.splitlines()
        assert all(line in text for line in lines)
        assert f"= {node.op.name} " in lines[0]
        assert lines[0].startswith(box.results[0].name + " = ")
        assert len(lines) == (1 if node.op.name != "fused" else len(box.ops) + 3)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_edge_is_a_value_handed_on(program: object) -> None:
    assert callable(program)
    graph: Graph = program()
    stage = collect_stage(graph, "p")
    number = dict(zip(_computing(graph), _boxes(stage), strict=True))
    expected = set()
    for index, value in enumerate(graph.inputs):
        expected |= {(index, number[user]) for user in value.users if user in number}
    for node, box in number.items():
        expected |= {(box, number[user]) for value in node.results for user in value.users if user in number}
    inside = {(e.source, e.destination) for e in stage.edges if stage.nodes[e.destination].ops != ["output"]}
    assert inside == expected
    outputs = [e for e in stage.edges if stage.nodes[e.destination].ops == ["output"]]
    assert len(outputs) == len(graph.outputs)


@pytest.mark.parametrize("program", PROGRAMS)
def test_boxes_of_a_layer_stand_together(program: object) -> None:
    assert callable(program)
    stage = collect_stage(program(), "p")
    held = sorted(node for group in stage.groups for node in group.nodes)
    assert held == list(range(len(stage.nodes)))
    for group in stage.groups:
        assert len({tuple(stage.nodes[n].layers[:1]) for n in group.nodes}) == 1
        for node in group.nodes:
            assert abs(stage.nodes[node].x) <= group.width / 2
            assert 0 <= stage.nodes[node].y < group.height


def test_fewer_boxes_while_folded() -> None:
    stage = collect_stage(cnn_annotated(), "p")
    assert len(stage.groups) < 0.7 * len(stage.nodes)


def test_scales_zero_points_and_ranges_of_constants_are_shown() -> None:
    graph = demo_integer()
    stage = collect_stage(graph, "p")
    node = next(n for n in _computing(graph) if n.op.name == "fused")
    box = stage.nodes[_boxes(stage)[_computing(graph).index(node)]]
    facts = dict(box.results[0].facts)
    elem = node.result.type.elem
    assert facts["scale"] == str(elem.scale.array)  # type: ignore[union-attr]
    assert facts["zero point"] == str(int(elem.zero_point.array))  # type: ignore[union-attr]
    weights = constant_value(node.operands[1])
    assert weights is not None
    shown = dict(box.constants[0].facts)
    assert shown["stored range"] == f"{weights.min()} to {weights.max()}"
    assert shown["elements"] == f"{weights.size:,}"
    assert box.ops == [part.op.name for part in node.op.body.nodes]  # type: ignore[attr-defined]


def test_errors_stand_at_the_values_they_belong_to() -> None:
    differences = compare(demo_float(), demo_integer(), {"x": demo_images()[:4]})
    stage = collect_stage(demo_integer(), "p", differences)
    by_name = {d.name: d for d in differences}
    seen = 0
    for box in stage.nodes:
        for result in box.results:
            if box.ops == ["input"]:
                # The error under the input's name is that of the quantized value, which is another box.
                assert by_name[result.original].max_error > 0
                assert result.error == ErrorFigure(None, 0.0, False)
            elif result.original in by_name:
                assert result.error is not None
                assert result.error.max_error == by_name[result.original].max_error
                seen += 1
            else:
                assert result.error is None
    assert seen > 10


def test_exact_values_have_no_ratio() -> None:
    differences = compare(demo_float(), demo_float(), {"x": demo_images()[:2]})
    stage = collect_stage(demo_float(), "p", differences)
    errors = [r.error for box in stage.nodes for r in box.results if r.error is not None]
    assert errors
    assert all(e.sqnr_db is None and e.max_error == 0 for e in errors)


def test_a_program_is_the_same_as_itself() -> None:
    for program in (demo_float(), demo_integer(), cnn_annotated()):
        before, after = collect_stage(program, "a"), collect_stage(program, "b")
        mark_changes(before, after)
        assert {box.change for box in before.nodes + after.nodes} == {"same"}
        assert [box.matches for box in before.nodes] == [[i] for i in range(len(before.nodes))]


def test_added_removed_and_changed_boxes() -> None:
    before, after = collect_stage(cnn_float(), "a"), collect_stage(cnn_integer(), "b")
    mark_changes(before, after)
    changes = {op: {box.change for box in before.nodes if box.ops == [op]} for op in ("conv2d", "input")}
    assert changes == {"conv2d": {"changed"}, "input": {"same"}}
    assert {box.change for box in after.nodes if box.ops == ["quantize"]} == {"added"}
    assert "removed" in {box.change for box in before.nodes if box.ops == ["batch_norm"]}
    for index, box in enumerate(before.nodes):
        assert bool(box.matches) == (box.change != "removed")
        for other in box.matches:
            assert index in after.nodes[other].matches
        if box.ops == ["conv2d"]:
            (other,) = box.matches
            assert "conv2d" in after.nodes[other].ops
            assert box.layers[0] in after.nodes[other].layers


def test_one_changed_attribute_is_noticed() -> None:
    from qcompiler.ir import parse

    text = """// qir 1
graph @g(%x: f32[N,4] original("x")) -> (y: f32[N,4]) {
  %0 = clip %x {minimum = 0.0, maximum = 6.0} -> f32[N,4] original("c") loc("one")
  %1 = relu %0 -> f32[N,4] original("y") loc("two")
  return %1
}
"""
    before = collect_stage(parse(text), "a")
    after = collect_stage(parse(text.replace("6.0", "4.0")), "b")
    mark_changes(before, after)
    assert [box.change for box in after.nodes] == ["same", "changed", "same", "same"]


def test_a_program_whose_output_is_its_input() -> None:
    from qcompiler.ir import parse

    text = '// qir 1\ngraph @g(%x: f32[N,4] original("x")) -> (y: f32[N,4]) {\n  return %x\n}\n'
    stage = collect_stage(parse(text), "a")
    assert [(e.source, e.destination) for e in stage.edges] == [(0, 1)]


def test_figures_are_plain_numbers() -> None:
    stage = collect_stage(demo_integer(), "p")
    assert all(np.isfinite([box.x, box.y]).all() for box in stage.nodes)
