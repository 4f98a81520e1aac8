"""Every built-in target at its limits: programs compile, are proved legal, and native code equals the reference bit for
bit; one step beyond a limit they are refused, by the constraint.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_comparison import assert_native_equals_reference
from numpy.typing import NDArray
from target_programs import CONVERSIONS, Cited, Limit, every_row, limits_of, node_of, program_of

from qcompiler import plugins
from qcompiler.backends import reference
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.selection import select_instruction_set
from qcompiler.compilation import compile
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, BlockFloat, Graph, Tensor, Value, walk
from qcompiler.ops.table import LookupTable
from qcompiler.pipeline import Context, Pipeline
from qcompiler.program import Program
from qcompiler.target import Target, built_in_targets, check_float_node, host_reason, load_target

plugins.load()
Array = NDArray[Any]
NAMES = list(built_in_targets())


def numbers(graph: Graph, count: int, scale: float = 1.0) -> dict[str, Array]:
    """Random inputs; with a scale above 1 some lie far beyond what was calibrated, and at 0."""
    rng = np.random.default_rng()
    feeds = {}
    for value in graph.inputs:
        shape = [d if isinstance(d, int) else d.coefficient * count for d in value.type.shape]
        array = rng.normal(0, scale, shape)
        if scale > 1:
            array = np.where(rng.random(shape) < 0.1, rng.choice([-1e4, 0, 1e4], shape), array)
        feeds[value.name] = array.astype(np.float32)
    return feeds


def compiled(graph: Graph, target: Target) -> Program:
    return compile(graph, target=target, data=numbers(graph, 4), native=False)


def check_native(program: Program, folder: Path) -> None:
    isa = select_instruction_set()
    assert_native_equals_reference(
        program.graph, lambda count: numbers(program.graph, count, 3.0), [isa], folder, samples=(3,), threads=(1,),
        kernels=KernelCache(),  # of all targets: many move bytes by the same kernels
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_row_runs_the_same_in_native_code(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    program = compiled(program_of(every_row(target)), target)
    used = {row.name for row in map(target.row_of, walk(program.graph)) if row is not None}
    # A function of one number that has a row of its own still runs as a table.
    used |= {node.op.function for node in walk(program.graph) if isinstance(node.op, LookupTable)}
    assert set(target.rows) - used == set()
    _reaches_both_ends(program)
    check_native(program, tmp_path)


def _reaches_both_ends(program: Program) -> None:
    """Some tensor holds the least and the largest integer that its type has."""
    reached = []

    def observe(value: Value, tensor: Tensor) -> None:
        elem = value.type.elem
        if isinstance(elem, Affine):
            reached.append((int(tensor.data.min()), int(tensor.data.max())) == (elem.qmin, elem.qmax))
        elif isinstance(elem, BlockFloat) and elem.format.element == "integer":
            reached.append(int(tensor.data.max()) == elem.format.largest)

    reference.run(program.graph, numbers(program.graph, 8, 3.0), observe)
    assert any(reached) or not reached


@cache
def limits(name: str) -> dict[str, Limit]:
    return {limit.name: limit for limit in limits_of(load_target(name))}


ALL = [(name, limit) for name in NAMES for limit in limits(name)]


@pytest.mark.parametrize("name", NAMES)
def test_programs_at_all_limits_run_the_same_in_native_code(name: str, tmp_path: Path) -> None:
    cases = [limit.at for limit in limits(name).values()]
    assert cases
    check_native(compiled(program_of(cases), load_target(name)), tmp_path)


@pytest.mark.parametrize(("name", "limit"), ALL)
def test_one_beyond_a_limit_is_refused_by_its_constraint(name: str, limit: str) -> None:
    target, case = load_target(name), limits(name)[limit]
    assert check_float_node(target, node_of(case.at)) is None
    violation = check_float_node(target, node_of(case.beyond))
    assert violation is not None
    assert case.constraint in violation.constraint
    if limit == "softmax last axis":
        # Not refused: transposes bring the axis to the end.
        assert "transpose" in {n.op.name for n in walk(_legalized(case.beyond, target))}
        return
    if target.descriptor.fallback == "host":
        (left,) = _legalized(case.beyond, target).nodes
        reason = host_reason(target, left)
        assert reason is not None
        assert case.constraint in reason.constraint
        return
    with pytest.raises(QCompilerError, match=r"layer '.*0'") as caught:
        _legalized(case.beyond, target)
    assert case.constraint in str(caught.value.expected)


def _legalized(cited: Cited, target: Target) -> Graph:
    return Pipeline.parse("legalize").run(program_of([cited]), Context(target))


def test_conversions_are_no_float_ops() -> None:
    """What the programs leave out is what realize writes."""
    for name in NAMES:
        assert {row for row in load_target(name).rows if row in CONVERSIONS}
