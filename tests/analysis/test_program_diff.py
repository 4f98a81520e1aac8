"""The structural difference of two programs: exactly the edits that were made, and nothing else."""

from __future__ import annotations

import dataclasses
import time
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_edits import Edit, edit, shuffled
from models import MODELS, model, samples
from random_graphs import graphs

import qcompiler
from qcompiler.analysis.op_changes import Change
from qcompiler.analysis.program_comparison import diff_programs
from qcompiler.analysis.program_diff import OpDiff, ProgramDiff
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    Affine,
    Builder,
    ConstantArray,
    Graph,
    Original,
    TensorType,
    clone,
    parse,
    print_with_constants,
)
from qcompiler.ir.scalar import F32, I8
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.binary import Add
from qcompiler.ops.constant import Constant

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
    names = {c.what for c in forth.program if c.what.startswith(("input ", "order"))}
    program, ops = mirrored(back)
    assert {_any_order(op) for op in ops} == {_any_order(op) for op in forth.ops}
    # An input that was renamed is called by its new name.
    assert {c for c in program if not c.what.startswith("input")} == {
        c for c in forth.program if not c.what.startswith("input")
    }, names


def _any_order(op: OpDiff) -> Any:
    """Attributes come in the order of the first program, then of the second."""
    return (op.kind, op.before, op.after, frozenset(op.changes))
