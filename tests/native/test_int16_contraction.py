"""Contractions of 16-bit activations in native code: sums in 32 bits up to the last that fits, in parts beyond."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_PRODUCTS, isa_fixture
from native_comparison import assert_native_equals_reference, run_reference

from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.direct_contraction import DirectConvolution, DirectMatmul
from qcompiler.backends.tvm.kernels.wide_kernel import WideKernel
from qcompiler.backends.tvm.kernels.wide_partial_sums import CombineDigits, CombineEstimate
from qcompiler.backends.tvm.lowerings.int16_contraction import Int16Contraction
from qcompiler.ir import Affine, Builder, ConstantArray, Graph, Node, Scalar, TensorType, verify
from qcompiler.ir.scalar import I8, I16, I64, U16
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, Matmul

isa = isa_fixture(but=NO_PRODUCTS)

INT32_MAX = (1 << 31) - 1


def sums(
    op: Contraction, x_shape: tuple[int, ...], weights: np.ndarray, bias: np.ndarray, storage: Scalar = I16,
    zero_point: int = 0,
) -> tuple[Graph, Node]:
    """A program that returns the sums of a contraction, and the contraction."""
    graph = Graph("sums")
    build = Builder(graph)
    x = graph.add_input("x", TensorType(x_shape, Affine.per_tensor(storage, 0.25, zero_point)))
    w = build(Constant(ConstantArray(weights.astype(np.int8))), elem=Affine.per_tensor(I8, 0.5, 0, -127, 127))
    types = [x.type, w.type]
    (shape,) = op.infer_shapes(types)
    b = build(Constant(ConstantArray(bias.astype(np.int64))), elem=op.accumulator(types, shape, I64, of_bias=True))
    node = build.create(op, [x, w, b], elem=op.accumulator(types, shape, I64))
    graph.set_outputs([("y", node.result)])
    verify(graph)
    return graph, node


def kernels_of(graph: Graph, isa: InstructionSet) -> list[Any]:
    program, _ = lower_program(graph, isa)
    return [call.kernel for call in program.calls]


def in_parts(kernel: Any) -> bool:
    steps = getattr(kernel, "steps", ())
    return any(isinstance(s.stage, CombineDigits | CombineEstimate) for s in steps)


def extremes(shape: tuple[int, ...], storage: Scalar, rng: np.random.Generator) -> np.ndarray:
    """Samples of the lowest number, the highest, both by turns, and random ones."""
    drawn = rng.integers(storage.minimum, storage.maximum + 1, shape)
    drawn[0], drawn[1] = storage.minimum, storage.maximum
    drawn[2] = np.where(rng.integers(0, 2, shape[1:]) > 0, storage.minimum, storage.maximum)
    return drawn.astype(storage.dtype)


def check(graph: Graph, isa: InstructionSet, folder: Path, seed: int = 0) -> None:
    (x,) = graph.inputs
    shape = tuple(d for d in x.type.shape if isinstance(d, int))
    feeds = {"x": extremes(shape, x.type.storage, np.random.default_rng(seed))}
    assert_native_equals_reference(graph, lambda _: feeds, [isa], folder, samples=(shape[0],), threads=(1,))


def weights_that_add_up_to(total: int, terms: int) -> np.ndarray:
    """int8 weights, none of them positive, whose magnitudes add up to ``total``: the lowest inputs reach the most."""
    magnitudes = np.full(terms, total // terms)
    magnitudes[: total % terms] += 1
    assert magnitudes.max() <= 127
    return -magnitudes


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("by_bias", [False, True], ids=["by-weight", "by-bias"])
def test_sums_of_32_bits_up_to_the_last_that_fits(
    by_bias: bool, beyond: bool, isa: InstructionSet, tmp_path: Path
) -> None:
    """2**15 * 65535 + 32767 is the largest magnitude of 32 bits."""
    total = 65535 if by_bias or not beyond else 65536
    bias = 32767 if by_bias or not beyond else 0
    weights = np.stack([weights_that_add_up_to(total, 600), weights_that_add_up_to(100, 600)])
    graph, node = sums(Matmul(True), (4, 600), weights, np.array([bias + (by_bias and beyond), -5]))
    found = Int16Contraction.of(node)
    assert found is not None
    assert int(accumulator_bounds(node).max()) == INT32_MAX + beyond
    assert found.fits_int32(node) == (not beyond)
    kernels = kernels_of(graph, isa)
    assert any(in_parts(k) for k in kernels) == beyond
    assert any(isinstance(k, WideKernel) for k in kernels)
    check(graph, isa, tmp_path)


def test_a_constructed_input_reaches_the_bound(isa: InstructionSet, tmp_path: Path) -> None:
    weights = weights_that_add_up_to(65535, 600)[None]
    graph, node = sums(Matmul(True), (3, 600), weights, np.array([32767]))
    feeds = {"x": np.full((3, 600), -32768, np.int16)}
    assert int(accumulator_bounds(node).max()) == INT32_MAX
    assert_native_equals_reference(graph, lambda _: feeds, [isa], tmp_path, samples=(3,), threads=(1,))
    outputs, _ = run_reference(graph, feeds)
    np.testing.assert_array_equal(outputs["y"], np.full((3, 1), INT32_MAX))


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1)])
@pytest.mark.parametrize(("storage", "zero_point"), [(U16, 0), (U16, 32768), (U16, 65535), (I16, -7)])
def test_zero_points_and_padding(
    storage: Scalar, zero_point: int, pads: Any, isa: InstructionSet, tmp_path: Path
) -> None:
    """Padding stands for the zero point, whatever number that is."""
    rng = np.random.default_rng(abs(zero_point))
    weights = rng.integers(-127, 128, (20, 3, 3, 9))
    op = Conv2D(pads=pads, layout="NHWC")
    graph, node = sums(op, (4, 5, 6, 9), weights, rng.integers(-9, 9, 20), storage, zero_point)
    found = Int16Contraction.of(node)
    assert found is not None
    assert found.fits_int32(node)
    assert not any(isinstance(k, DirectConvolution) for k in kernels_of(graph, isa))
    check(graph, isa, tmp_path)


@pytest.mark.parametrize("zero_point", [0, 32768])
def test_unsigned_sums_beyond_32_bits(zero_point: int, isa: InstructionSet, tmp_path: Path) -> None:
    """Parts are for padding with 0; others are summed up as they are defined."""
    weights = np.full((8, 3, 3, 100), 127)
    op = Conv2D(pads=(1, 1, 1, 1), layout="NHWC")
    graph, _ = sums(op, (4, 3, 3, 100), weights, np.arange(8), U16, zero_point)
    kernels = kernels_of(graph, isa)
    assert any(isinstance(k, DirectConvolution) for k in kernels) == (zero_point == 0)
    assert any(in_parts(k) for k in kernels) == (zero_point == 32768)
    check(graph, isa, tmp_path)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32))
def test_depthwise_and_groups(isa: InstructionSet, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    storage = (I16, U16)[int(rng.integers(2))]
    zero_point = int(rng.integers(storage.minimum, storage.maximum + 1))
    groups, inside, each = (24, 1, 1) if rng.integers(2) else (3, int(rng.integers(1, 60)), 5)
    weights = rng.integers(-127, 128, (groups * each, 3, 3, inside))
    bias = rng.integers(-(1 << 20), 1 << int(rng.integers(20, 40)), groups * each)
    op = Conv2D((int(rng.integers(1, 3)), 1), pads=(1, 0, 1, 1), groups=groups, layout="NHWC")
    graph, _ = sums(op, (4, 6, 5, groups * inside), weights, bias, storage, zero_point)
    check(graph, isa, tmp_path_factory.mktemp("library"), seed)


def test_computed_right_hand_sides_are_summed_as_they_are_defined(isa: InstructionSet, tmp_path: Path) -> None:
    graph = Graph("products")
    build = Builder(graph)
    types = [TensorType(s, Affine.per_tensor(I16, 0.5, 0)) for s in ((3, 4, 50), (3, 50, 6))]
    a, b = (graph.add_input(n, t) for n, t in zip("ab", types, strict=True))
    y = build(Matmul(), a, b, elem=Matmul().accumulator(types, (3, 4, 6), I64))
    graph.set_outputs([("y", y)])
    assert any(isinstance(k, DirectMatmul) for k in kernels_of(graph, isa))
    rng = np.random.default_rng(1)
    feeds = {"a": extremes((3, 4, 50), I16, rng), "b": extremes((3, 50, 6), I16, rng)}
    assert_native_equals_reference(graph, lambda _: feeds, [isa], tmp_path, samples=(3,), threads=(1,))
