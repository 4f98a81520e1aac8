"""The structural difference of two programs: exactly the edits that were made, and nothing else."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_edits import Edit, edit, shuffled
from random_graphs import graphs

from qcompiler.analysis.op_changes import Change
from qcompiler.analysis.program_comparison import diff_programs
from qcompiler.analysis.program_diff import OpDiff, ProgramDiff
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, clone, parse, print_with_constants

seeds = st.integers(0, 1 << 30)


def edits(diff: ProgramDiff) -> list[Edit]:
    """The differing ops in the words of the edits."""
    return [
        Edit(op.kind, op.summary.op, op.summary.layers, tuple(change.what for change in op.changes)) for op in diff.ops
    ]


@given(graphs, seeds)
def test_one_edit_is_the_only_difference(graph: Graph, seed: int) -> None:
    edited = clone(graph)
    made = edit(edited, Random(seed))
    if made is not None:
        found = diff_programs(graph, edited)
        assert edits(found) == [made], str(found)
        assert not found.program


@given(graphs, seeds)
def test_one_edit_of_a_shuffled_program_is_the_only_difference(graph: Graph, seed: int) -> None:
    edited = shuffled(graph, Random(seed))
    made = edit(edited, Random(seed))
    if made is not None:
        found = diff_programs(graph, edited)
        assert edits(found) == [made], str(found)


@given(graphs, seeds)
def test_order_numbers_and_text_are_no_difference(graph: Graph, seed: int) -> None:
    for same in (graph, clone(graph), shuffled(graph, Random(seed)), parse(*print_with_constants(graph))):
        found = diff_programs(graph, same)
        assert not found, str(found)
        assert str(found) == "the programs are equal"


def mirrored(diff: ProgramDiff) -> tuple[set[Change], set[OpDiff]]:
    """Every difference the other way round."""
    kinds: dict[str, Any] = {"added": "removed", "removed": "added", "changed": "changed"}
    return {_mirrored(c) for c in diff.program}, {
        OpDiff(kinds[op.kind], op.after, op.before, tuple(map(_mirrored, op.changes))) for op in diff.ops
    }


def _mirrored(change: Change) -> Change:
    return dataclasses.replace(change, before=change.after, after=change.before)


@given(graphs, graphs)
def test_differences_read_the_other_way_round_are_mirrored(first: Graph, second: Graph) -> None:
    forth, back = diff_programs(first, second), diff_programs(second, first)
    program, ops = mirrored(back)
    assert {_any_order(op) for op in ops} == {_any_order(op) for op in forth.ops}
    # An input that was renamed is called by its new name.
    assert {c for c in program if not c.what.startswith("input")} == {
        c for c in forth.program if not c.what.startswith("input")
    }


@given(graphs, graphs)
def test_only_equal_programs_have_no_difference(first: Graph, second: Graph) -> None:
    """Two random programs that differ in what they compute differ."""
    counts = [sorted(node.op.name for node in graph.nodes) for graph in (first, second)]
    types = [[(o.name, o.value.type) for o in graph.outputs] for graph in (first, second)]
    if counts[0] != counts[1] or types[0] != types[1]:
        assert diff_programs(first, second)


def _any_order(op: OpDiff) -> Any:
    """Attributes come in the order of the first program, then of the second."""
    return (op.kind, op.before, op.after, frozenset(op.changes))


def program(*lines: str, head: str = "%x: f32[4]", outputs: str = "%y", target: str = "") -> Graph:
    """A program from its text; outputs are f32[4] and named after their values."""
    names = ", ".join(f"{name[1:]}: f32[4]" for name in outputs.split(", "))
    signature = f"graph @g({head}) -> ({names})" + (f' target("{target}")' if target else "")
    return parse("\n".join(["// qir 1", signature + " {", *lines, f"return {outputs}", "}"]))


def text_of(before: Graph, after: Graph) -> list[str]:
    return str(diff_programs(before, after)).splitlines()


CHAIN = (
    '%a = relu %x -> f32[4] original("a") loc("one")',
    '%b = leaky_relu %a {alpha = 0.1} -> f32[4] original("b") loc("two")',
    '%y = sigmoid %b -> f32[4] original("y") loc("three")',
)


def test_a_changed_attribute_is_named_with_both_values() -> None:
    after = program(CHAIN[0], CHAIN[1].replace("0.1", "0.25"), CHAIN[2])
    assert text_of(program(*CHAIN), after) == [
        "layer two", "  ~ leaky_relu, %1", "      attribute alpha: 0.1 -> 0.25", "ops: 1 changed, in 1 layer",
    ]


def test_a_removed_op_is_no_change_of_its_user() -> None:
    after = program(CHAIN[0], CHAIN[2].replace("%b", "%a"))
    assert text_of(program(*CHAIN), after) == [
        "layer two", "  - leaky_relu(a) -> f32[4] {alpha = 0.1}, %1", "ops: 1 removed, in 1 layer",
    ]


def test_an_added_op_with_two_operands_is_a_change_of_its_user() -> None:
    """It is another thing that its user reads."""
    after = program(*CHAIN[:2], "%c = add %b, %a -> f32[4]", CHAIN[2].replace("%b", "%c"))
    assert text_of(program(*CHAIN), after) == [
        "no layer", "  + add(b, a) -> f32[4], %2",
        "layer three", "  ~ sigmoid, %2 -> %3", "      operand 0: b -> add",
        "ops: 1 added, 1 changed, in 2 layers",
    ]


def test_an_op_in_place_of_another_is_a_change() -> None:
    after = program(CHAIN[0], CHAIN[1].replace("leaky_relu %a {alpha = 0.1}", "clip %a {minimum = 0.0}"), CHAIN[2])
    assert text_of(program(*CHAIN), after) == [
        "layer two", "  ~ clip, %1", "      op: leaky_relu {alpha = 0.1} -> clip {minimum = 0.0}",
        "ops: 1 changed, in 1 layer",
    ]


def test_values_of_one_name_are_told_apart_by_their_numbers() -> None:
    lines = (
        '%a = relu %x -> f32[4] original("v")', '%b = sigmoid %x -> f32[4] original("v")',
        '%y = tanh %a -> f32[4] loc("end")',
    )
    after = program(*lines[:2], lines[2].replace("%a", "%b"))
    assert "      operand 0: v %0 -> v %1" in text_of(program(*lines), after)


def test_one_of_several_equal_ops_is_removed() -> None:
    """Nothing but data flow tells them apart; the rest are matched with each other, not shifted by one."""
    chain = [f"%v{i + 1} = relu %v{i} -> f32[4]" for i in range(9)]
    before = program("%v0 = sigmoid %x -> f32[4]", *chain, outputs="%v9")
    after = program("%v0 = sigmoid %x -> f32[4]", *chain[:8], outputs="%v8")
    found = diff_programs(before, after)
    assert [(op.kind, op.summary.op) for op in found.ops] == [("removed", "relu")]
    assert [change.what for change in found.program] == ["output v9", "output v8"]


def test_targets_inputs_and_outputs() -> None:
    before = program(CHAIN[0], outputs="%a")
    after = program(
        CHAIN[0].replace("%x", "%image"), "%z = sigmoid %a -> f32[4]", head="%image: f32[4], %mask: u8[2]",
        outputs="%z, %a", target="t",
    )
    assert text_of(before, after)[:6] == [
        "program", "  ~ target: none -> t", "  ~ input: x -> image", "  ~ input mask: none -> u8[2]",
        "  ~ output z: none -> sigmoid", "no layer",
    ]
    swapped = program(*CHAIN[:2], outputs="%a, %b"), program(*CHAIN[:2], outputs="%b, %a")
    assert text_of(*swapped) == ["program", "  ~ order of outputs: a, b -> b, a", "program: 1 change"]
    typed = program(CHAIN[0], outputs="%a"), program(CHAIN[0], head='%x: f32[4] original("x")', outputs="%a")
    assert text_of(*typed)[1] == "  ~ input x origin: none, graph input -> x"


def constants(line: str, arrays: dict[str, Any] | None = None) -> Graph:
    """A program of one node."""
    return parse("\n".join(["// qir 1", "graph @g() -> () {", line, "return", "}"]), arrays)


def quantized(scale: str, zero_point: str = "", values: str = "[1,2,3]", bounds: str = "[-127,127]") -> Graph:
    """A constant with a scale for each of three rows."""
    return constants(
        f'%w = constant {{value = dense<i8[3,1]>{values}}} -> '
        f'q<i8{bounds}, blocks=[1,1], scale={scale}{zero_point}>[3,1] loc("conv")'
    )


@pytest.mark.parametrize(
    ("after", "change"),
    [
        (quantized("[0.5,0.5,1.0]"), "scale: [0.5,0.5,0.5] -> [0.5,0.5,1.0] (1 of 3 differ, largest ratio 2)"),
        (quantized("[0.5,0.25,4.0]"), "scale: [0.5,0.5,0.5] -> [0.5,0.25,4.0] (2 of 3 differ, largest ratio 8)"),
        (
            quantized("[0.5,0.5,0.5]", ", zero_point=[0,-3,2]"),
            "zero point: [0,0,0] -> [0,-3,2] (2 of 3 differ, by at most 3)",
        ),
        (
            quantized("[0.5,0.5,0.5]", values="[1,-2,3]"),
            "value: [1,2,3] -> [1,-2,3] (1 of 3 elements differ, by at most 4)",
        ),
        (quantized("[0.5,0.5,0.5]", bounds=""), "range: [-127,127] -> [-128,127]"),
    ],
    ids=["one scale", "two scales", "zero points", "value", "range"],
)
def test_quantization_parameters_say_how_many_channels_changed(after: Graph, change: str) -> None:
    assert text_of(quantized("[0.5,0.5,0.5]"), after) == [
        "layer conv", "  ~ constant, %0", f"      {change}", "ops: 1 changed, in 1 layer",
    ]


def test_many_channels_are_summarized() -> None:
    def rows(scales: np.ndarray[Any, Any]) -> Graph:
        arrays: dict[str, Any] = {"s": scales.astype(np.float32).reshape(16, 1), "w": np.zeros((16, 1), np.int8)}
        return constants("%w = constant {value = @w} -> q<i8, blocks=[1,1], scale=@s>[16,1]", arrays)

    scales = np.linspace(0.25, 4.0, 16)
    changed = scales.copy()
    changed[[3, 5]] = scales[[3, 5]] * [2, 0.25]
    assert text_of(rows(scales), rows(changed))[2] == (
        "      scale: 16 from 0.25 to 4.0 (2 of 16 differ, largest ratio 4)"
    )


def test_another_number_format_is_one_change() -> None:
    before, after = quantized("[0.5,0.5,0.5]"), clone(quantized("[0.5,0.5,0.5]"))
    (node,) = after.nodes
    (made,) = constants("%w = constant {value = dense<i32[3,1]>[1,2,3]} -> q<i32, 0.5:0>[3,1]").nodes
    node.result.type = made.result.type
    assert text_of(before, after)[2:5] == [
        "      storage: i8 -> i32", "      range: [-127,127] -> [-2147483648,2147483647]",
        "      blocks: [1,1] -> the whole tensor",
    ]


def test_distances_of_long_integers_are_exact() -> None:
    def constant(value: int) -> Graph:
        return constants(f"%w = constant {{value = dense<i64[1]>[{value}]}} -> i64[1]")

    assert f"by at most {2**64 - 1})" in str(diff_programs(constant(-(2**63)), constant(2**63 - 1)))


def test_a_layer_alone() -> None:
    after = program(CHAIN[0], CHAIN[1].replace("0.1", "0.25"), CHAIN[2].replace("sigmoid", "tanh"))
    found = diff_programs(program(*CHAIN), after)
    assert found.summary() == "ops: 2 changed, in 2 layers"
    assert found.only("three").summary() == "ops: 1 changed, in 1 layer"
    assert found.only("one").summary() == "the programs are equal"
    with pytest.raises(QCompilerError, match=r"no program has a layer 'thre'(?s:.*)did you mean 'three'"):
        found.only("thre")
