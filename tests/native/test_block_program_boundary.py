"""What callers of native code see of block floating point: stored outputs, batches, inputs that are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import guarded_run
import numpy as np
import pytest
from block_program_comparison import every_isa
from block_writer import BlockWriter
from native_comparison import assert_same_bits, build_code, run_reference, write_library

from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.errors import QCompilerError
from qcompiler.ir import Arithmetic, BlockArray, BlockFloat, Builder, Constants, Graph, SymbolicDim, TensorType, Value
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_table import BlockSoftmax
from qcompiler.ops.activation import Clip
from qcompiler.ops.binary import Add
from qcompiler.ops.block_conversion import FromBlock, Normalize, ToBlock
from qcompiler.ops.fused import Fused
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.shape import Transpose
from qcompiler.program import Program

ISA = runnable_instruction_sets()[0]
HELD = BlockFormat(16, scale="headroom", overflow="raise")
WIDE = BlockFormat(40, 10)
PLUS = Add(arithmetic=Arithmetic.parse("align-larger"))


def doubled(batch: Dim, *, fused: bool = False) -> Graph:
    """Twice the input in 16 bits with one exponent a sample, and whether it is positive in blocks of 4."""
    graph = Graph("twice")
    build = Builder(graph, loc=("layer",))
    rows = batch.coefficient if isinstance(batch, SymbolicDim) else 1
    x = graph.add_input("x", TensorType((batch, 6, 10), F32))
    held = build(ToBlock(), build(Transpose((0, 2, 1)), x), elem=BlockFloat(HELD, (rows, 10, 6)))

    def total(build: Builder, a: Value, b: Value) -> Value:
        wide = build(Clip(-2.0, 6.0), build(PLUS, a, b, elem=BlockFloat(WIDE, (rows, 10, 6))))
        return build(Normalize(), wide, elem=BlockFloat(HELD, (rows, 10, 6)))

    if fused:
        body = Graph("body")
        inside = [body.add_input(name, held.type) for name in "ab"]
        body.set_outputs([("0", total(Builder(body), *inside))])
        twice = build(Fused(body), held, held)
    else:
        twice = total(build, held, held)
    narrow = build(Normalize(), twice, elem=BlockFloat(BlockFormat(8), (1, 1, 4)))
    graph.set_outputs([("twice", build(FromBlock(), twice)), ("narrow", build(FromBlock(), narrow))])
    return graph


def with_code(graph: Graph, folder: Path) -> Program:
    return Program(graph, native=build_code(graph, ISA, folder, KernelCache(folder / "kernels")))


@pytest.mark.parametrize("samples", [1, 3, 4])
@pytest.mark.parametrize("batch", [SymbolicDim("N"), 3], ids=["free", "fixed"])
def test_stored_outputs_are_mantissas_and_exponents(batch: Dim, samples: int, tmp_path: Path) -> None:
    program = with_code(doubled(batch), tmp_path)
    scales = np.exp2(np.arange(samples) * 9.0 - 5).reshape(-1, 1, 1)
    x = (np.random.default_rng().normal(size=(samples, 6, 10)) * scales).astype(np.float32)
    for threads in (1, 2):
        found = program.run(x, True, "native", threads)
        expected = program.run(x, True, "reference")
        assert isinstance(expected["twice"], BlockArray)
        assert expected["twice"].exponents.shape == (samples, 1, 1)
        assert len(set(expected["twice"].exponents.reshape(-1).tolist())) > samples // 2
        for name, stored in expected.items():
            assert_same_bits(found[name], stored, name)


def test_fused_ops_become_the_same_calls() -> None:
    """Bodies are taken apart: what one lowering takes together does not depend on them."""
    plain, fused = (lower_program(doubled(SymbolicDim("N"), fused=f), ISA)[0] for f in (False, True))
    assert [call.kernel for call in plain.calls] == [call.kernel for call in fused.calls]


def test_sums_that_are_converted_never_stand_in_memory() -> None:
    program, _ = lower_program(doubled(SymbolicDim("N"), fused=True), ISA)
    assert not any(buffer.dtype == "int64" and buffer.elements >= 60 for buffer in program.workspace)


@pytest.mark.parametrize("number", [np.inf, -np.inf])
@pytest.mark.parametrize("fused", [False, True])
def test_infinities_are_refused(number: float, fused: bool, tmp_path: Path) -> None:
    program = with_code(doubled(SymbolicDim("N"), fused=fused), tmp_path)
    x = np.zeros((2, 6, 10), np.float32)
    x[1, 2, 3] = number
    for backend in ("reference", "native"):
        with pytest.raises(QCompilerError, match="no infinity and no NaN"):
            program.run(x, backend=backend)


def test_infinities_elsewhere_are_none_of_its_business(tmp_path: Path) -> None:
    graph = Graph("two")
    build = Builder(graph)
    x, other = (graph.add_input(name, TensorType((SymbolicDim("N"), 4), F32)) for name in ("x", "other"))
    held = build(ToBlock(), x, elem=BlockFloat(HELD, (1, 4)))
    graph.set_outputs([("y", build(FromBlock(), held)), ("z", build(Transpose((0, 1)), other))])
    program = with_code(graph, tmp_path)
    feeds = {"x": np.ones((1, 4), np.float32), "other": np.full((1, 4), np.inf, np.float32)}
    for backend in ("reference", "native"):
        assert program.run(feeds, backend=backend)["z"].tolist() == [[np.inf] * 4]


def test_a_block_input_or_output_has_no_native_form() -> None:
    type = TensorType((SymbolicDim("N"), 4), BlockFloat(HELD, (1, 4)))
    graph = Graph("in")
    x = graph.add_input("x", type)
    graph.set_outputs([("y", Builder(graph)(FromBlock(), x))])
    with pytest.raises(NoLowering, match="an input of native code is block floating point"):
        lower_program(graph, ISA)
    graph = Graph("out")
    x = graph.add_input("x", TensorType(type.shape, F32))
    graph.set_outputs([("y", Builder(graph)(ToBlock(), x, elem=type.elem))])
    with pytest.raises(NoLowering, match="an output of native code is block floating point"):
        lower_program(graph, ISA)


def test_what_has_no_native_form_says_so() -> None:
    rule = BlockSoftmax()
    softmax = Softmax(1, arithmetic=Arithmetic.parse("block-exponential"), constants=Constants(rule.constants()))
    for op, message in ((softmax, "softmax along the last axis"), (MaxPool2D((2, 2)), "channels-last")):
        graph = Graph("p")
        build = Builder(graph, loc=("my layer",))
        x = graph.add_input("x", TensorType((SymbolicDim("N"), 4, 4, 4), F32))
        held = build(ToBlock(), x, elem=BlockFloat(HELD, (1, 4, 4, 4)))
        shape = op.infer_shapes([held.type])[0]
        result = build(op, held, elem=BlockFloat(HELD, tuple(d if isinstance(d, int) else 1 for d in shape)))
        graph.set_outputs([("y", build(FromBlock(), result))])
        with pytest.raises(NoLowering, match=rf"(?s){message}.*my layer|my layer.*{message}"):
            lower_program(graph, ISA)


@every_isa
def test_nothing_beyond_the_callers_arrays_is_touched(isa: InstructionSet, tmp_path: Path) -> None:
    """Pages next to inputs, outputs and workspace are out of bounds."""
    w = BlockWriter(np.random.default_rng(), SymbolicDim("N"))
    w.add_case(lambda w: w.build(PLUS, w.held(HELD), w.held(HELD), elem=w.elem(WIDE, w.x.type.shape)))
    w.add_case(lambda w: w.finished(w.held()))
    w.add_case(lambda w: w.make(MaxPool2D((2, 2), (2, 2), layout="NHWC"), w.held()))
    graph = w.finish()
    library = write_library(graph, isa, tmp_path, KernelCache(tmp_path / "kernels"))
    feeds = w.feeds(2)
    np.savez(tmp_path / "inputs.npz", samples=np.asarray(2), input_0=feeds["x"])
    outputs, stored = run_reference(graph, feeds)
    pairs = [pair for pair in stored if isinstance(pair, BlockArray)]
    expected = [*outputs.values(), *(p.mantissas for p in pairs), *(p.exponents for p in pairs)]
    for side in guarded_run.SIDES:
        files = [library, tmp_path / "inputs.npz", tmp_path / "outputs.npz"]
        command = [sys.executable, guarded_run.__file__, side, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"guarded at the {side}: {done.returncode}\n{done.stderr}"
        with np.load(tmp_path / "outputs.npz") as archive:
            assert len(archive.files) == len(expected) == 9
            for number, wanted in enumerate(expected):
                assert_same_bits(archive[f"arr_{number}"], wanted, f"{side}: {number}")
