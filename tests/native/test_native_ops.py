"""Every op that a legalized program may hold, over random shapes and parameters: native code equals the reference.

A seed stands for a whole graph of many ops, since building a library costs more than running it. The seed of a
failure is printed and tried again first the next time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import contraction_cases
import elementwise_cases
import movement_cases
import numpy as np
import pytest
import reduction_cases
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from native_comparison import assert_native_equals_reference
from op_writer import FORMS, SHARED_FORMS, OpWriter

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import SymbolicDim, verify, walk
from qcompiler.ir.op import OPS
from qcompiler.numerics import BlockArithmetic
from qcompiler.numerics.registry import ARITHMETIC
from qcompiler.ops.activation import UnaryFunction
from qcompiler.target import load_target

ISAS = runnable_instruction_sets()
BATCHES = (SymbolicDim("N"), SymbolicDim("N"), SymbolicDim("batch", 4), 1, 4)

seeds = st.integers(0, (1 << 32) - 1)
every_isa = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)


def examples(count: int) -> settings:
    """A test of ``count`` fresh seeds; there is nothing to shrink in a seed."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    checks = list(HealthCheck)
    return settings(phases=phases, max_examples=count, deadline=None, derandomize=False, suppress_health_check=checks)


def check(isa: InstructionSet, cases: Sequence[Any], seed: int, count: int = 1) -> None:
    """A graph of ``count`` random cases."""
    rng = np.random.default_rng(seed)
    w = OpWriter(rng, BATCHES[int(rng.integers(len(BATCHES)))])
    for _ in range(count):
        w.add_case(cases[int(rng.integers(len(cases)))])
    graph = w.finish()
    verify(graph)
    samples = (1,) if isinstance(w.batch, int) else (1, 3)
    with tempfile.TemporaryDirectory() as folder:
        assert_native_equals_reference(graph, w.feeds, [isa], Path(folder), samples=samples)


@every_isa
@examples(3)
@given(seed=seeds)
def test_contractions(isa: InstructionSet, seed: int) -> None:
    check(isa, contraction_cases.CASES, seed, 5)


@every_isa
@examples(2)
@given(seed=seeds)
def test_elementwise_ops(isa: InstructionSet, seed: int) -> None:
    check(isa, elementwise_cases.CASES, seed, 8)


@every_isa
@examples(1)
@given(seed=seeds)
def test_every_requantize_form(isa: InstructionSet, seed: int) -> None:
    check(isa, [elementwise_cases.every_form], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_every_sum_and_product(isa: InstructionSet, seed: int) -> None:
    check(isa, [elementwise_cases.every_sum_and_product], seed)


@every_isa
@examples(1)
@given(seed=seeds)
def test_every_mean_and_sum(isa: InstructionSet, seed: int) -> None:
    check(isa, [reduction_cases.every_mean_and_sum], seed)


@every_isa
@examples(2)
@given(seed=seeds)
def test_pools_reductions_and_softmax(isa: InstructionSet, seed: int) -> None:
    check(isa, reduction_cases.CASES, seed, 8)


@every_isa
@examples(2)
@given(seed=seeds)
def test_movement(isa: InstructionSet, seed: int) -> None:
    check(isa, movement_cases.CASES, seed, 10)


def test_no_arithmetic_is_missing() -> None:
    """What the cases above draw from is all that the compiler itself registers."""
    registered = [
        key for key, found in ARITHMETIC.items()
        if found.__module__.startswith("qcompiler.") and not issubclass(found, BlockArithmetic)
    ]
    forms = {form.split("{")[0] for form in FORMS}
    assert forms == {name for op, name in registered if op == "requantize"}
    assert set(SHARED_FORMS) | {"double-f32-product"} == forms
    assert {(op, name) for op, name in registered if op != "requantize"} == {
        ("add", "litert-add"), ("sub", "litert-add"), ("mul", "litert-mul"), ("add", "onnxruntime-add"),
        ("sub", "onnxruntime-add"), ("mul", "onnxruntime-mul"), ("quantize", "affine"), ("mean", "litert-mean"),
        ("reduce_sum", "litert-sum"), ("average_pool2d", "average-half-away"), ("softmax", "gemmlowp-softmax"),
        ("softmax", "table-softmax"), ("add", "shift-add"), ("sub", "shift-add"), ("mul", "shift-mul"),
        ("mean", "shift-mean"), ("reduce_sum", "shift-sum"), ("average_pool2d", "average"),
        ("resize", "litert-resize-bilinear"),
    }


def test_no_op_is_missing() -> None:
    """Every op that a built-in target holds occurs in the cases above."""
    drawn = set()
    for seed in range(12):
        for cases in (contraction_cases, elementwise_cases, reduction_cases, movement_cases):
            w = OpWriter(np.random.default_rng(seed), 1)
            for case in cases.CASES:
                w.add_case(case)
            drawn |= {node.op.name for node in walk(w.graph)}
    for target in ("tpu-int8", "tpu-int16x8", "hexagon-u16a8w", "cpu-int8"):
        # Functions of one number that have rows of their own are tables too.
        held = {name for name in load_target(target).descriptor.ops if not issubclass(OPS[name], UnaryFunction)}
        assert held <= drawn
