"""Programs with an op that has no ONNX form: numpy computes what ONNX Runtime would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import qcompiler
from qcompiler import registry
from qcompiler.backends import reference
from qcompiler.backends.lowering import LOWERINGS, find_lowering, lowering
from qcompiler.backends.onnx_emitter import OnnxEmitter, elementwise
from qcompiler.backends.ort import Bypass, FloatSession, ops_without_onnx_form
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    Affine,
    Arithmetic,
    Builder,
    ConstantArray,
    Graph,
    Node,
    Op,
    Original,
    SymbolicDim,
    TensorType,
    Value,
    op,
)
from qcompiler.ir.scalar import F32, I8
from qcompiler.ops.activation import Relu, UnaryFunction
from qcompiler.ops.binary import Add, Maximum
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.quantization import FakeQuant, Quantize
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.ops.slicing import Split

Array = NDArray[Any]
N = SymbolicDim("N")
RELU = ("onnx", "relu", "")


@pytest.fixture
def _no_relu() -> Iterator[None]:
    """A compiler that knows no ONNX form of relu."""
    with LOWERINGS.temporary():
        LOWERINGS.remove(RELU)
        yield


def fake_quant(scale: float, zero_point: int = 3, storage_min: int = -128) -> FakeQuant:
    return FakeQuant(
        I8, storage_min, 127, scale=ConstantArray(np.float32(scale)), zero_point=ConstantArray(np.int64(zero_point))
    )


def annotated_graph(scale: float, zero_point: int) -> tuple[Graph, list[Value]]:
    """Ops that compute exactly, with weights and activations behind fake_quant, and all values."""
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 4), F32), Original("x"))
    w = build(Constant(ConstantArray(np.array([[0.3, -7.0, 2.6, 0.0]], np.float32))), elem=F32, origin=Original("w"))
    held = build(fake_quant(scale, zero_point), x, origin=Original("x"))
    weight = build(fake_quant(0.25, 0, -127), w, origin=Original("w"))
    larger = build(Maximum(), held, weight, origin=Original("larger"))
    relu = build(Relu(), larger, origin=Original("relu"))
    again = build(fake_quant(2 * scale, -5), relu, origin=Original("relu"))
    unset = build(FakeQuant(I8, -128, 127), again)
    parts = build.create(Split(1, (1, 3)), [unset])
    joined = build(Concat(1), *parts.results, held)
    graph.set_outputs([("y", joined), ("z", relu)])
    return graph, [x, w, held, weight, larger, relu, again, unset, *parts.results, joined, relu]


def ties(scale: float) -> Array:
    """Numbers on and between grid points, beyond the range, and special ones."""
    grid = np.arange(-300, 300, dtype=np.float32) * np.float32(scale) / 2
    special = np.array([0.0, -0.0, 1e30, -1e30, np.inf, -np.inf, 1e-40, -1e-40], np.float32)
    return np.concatenate([grid, special]).reshape(-1, 4)


def assert_same_bits(actual: Array, expected: Array) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


@settings(max_examples=20, deadline=None)
@given(
    scale=st.floats(2.0**-8, 8, width=32), zero_point=st.integers(-128, 127), weights=st.booleans(),
    activations=st.booleans(), names=st.frozensets(st.sampled_from(["x", "w", "relu", "absent"])),
    bits=st.one_of(st.none(), st.integers(2, 32)), data=st.data(),
)
def test_it_computes_what_onnx_runtime_does(
    scale: float, zero_point: int, weights: bool, activations: bool, names: frozenset[str], bits: int | None,
    data: st.DataObject,
) -> None:
    graph, values = annotated_graph(scale, zero_point)
    fetch = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=5))
    bypass = Bypass(weights, activations, names)
    feeds = {"x": ties(scale)}
    expected = FloatSession(graph, fetch, bypass=bypass, bits=bits).run(feeds)
    with LOWERINGS.temporary():
        for name in ("relu", "maximum", "split", "fake_quant"):
            LOWERINGS.remove(("onnx", name, ""))
        found = FloatSession(graph, fetch, bypass=bypass, bits=bits).run(feeds)
    for a, b in zip(found, expected, strict=True):
        assert_same_bits(a, b)


@pytest.mark.usefixtures("_no_relu")
def test_it_computes_what_the_reference_does() -> None:
    graph, _ = annotated_graph(0.1, 7)
    feeds = {"x": ties(0.1)}
    assert ops_without_onnx_form(graph) == ["relu"]
    for array, expected in zip(FloatSession(graph).run(feeds), reference.run(graph, feeds).values(), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.usefixtures("_no_relu")
def test_the_graph_may_change_afterwards() -> None:
    graph, (x, *_, relu) = annotated_graph(0.1, 7)
    session = FloatSession(graph, [relu])
    feeds = {"x": ties(0.1)}
    before = session.run(feeds)[0]
    node = relu.producer
    assert node is not None
    node.set_operand(0, x)
    assert_same_bits(session.run(feeds)[0], before)
    assert not np.array_equal(FloatSession(graph, [relu]).run(feeds)[0], before)


@pytest.mark.usefixtures("_no_relu")
def test_a_free_size_that_another_input_carries_is_asked_for() -> None:
    graph = Graph()
    build = Builder(graph)
    x, other = (graph.add_input(name, TensorType((N, 2), F32)) for name in ("x", "other"))
    graph.add_input("unused", TensorType((3,), F32))
    flat = build(Reshape((SymbolicDim("N", 2),)), build(Relu(), x))
    graph.set_outputs([("y", flat), ("z", other)])
    data = np.array([[-1, 2], [3, -4], [5, 6]], np.float32)
    (y,) = FloatSession(graph, [flat]).run({"x": data})
    np.testing.assert_array_equal(y, [0, 2, 3, 0, 5, 6])
    with pytest.raises(QCompilerError, match="input 'other' is missing"):
        FloatSession(graph).run({"x": data})
    with pytest.raises(QCompilerError, match="input 'x' does not fit"):
        FloatSession(graph, [flat]).run({"x": data[:, :1]})


@pytest.mark.usefixtures("_no_relu")
def test_integer_programs_are_refused_as_ever() -> None:
    graph = Graph()
    build = Builder(graph)
    relu = build(Relu(), graph.add_input("x", TensorType((N,), F32)))
    elem = Affine.per_tensor(I8, np.float32(0.5))
    q = build(Quantize(Arithmetic.parse("affine{rounding=half-even}")), relu, elem=elem, loc=("layer",))
    graph.set_outputs([("q", q)])
    with pytest.raises(QCompilerError, match="'layer': quantize works on quantized numbers"):
        FloatSession(graph)


def test_a_custom_op_is_calibrated_compiled_and_compared_without_a_lowering() -> None:
    with registry.temporary():

        @op("bump")
        class Bump(UnaryFunction):
            """1 / (1 + x*x)."""

            def real(self, x: Any) -> Any:
                return 1 / (1 + x * x)

        graph = Graph("g")
        build = Builder(graph)
        x = graph.add_input("x", TensorType((N, 4), F32), Original("x"))
        weights = np.random.default_rng(0).normal(0, 1, (4, 4)).astype(np.float32)
        w = build(Constant(ConstantArray(weights)), elem=F32)
        bump = build(Bump(), build(Matmul(), x, w, loc=("fc",)), loc=("bump",), origin=Original("bump"))
        graph.set_outputs([("y", build(Add(), bump, x, loc=("add",)))])
        data = np.random.default_rng(1).normal(0, 1, (64, 4)).astype(np.float32)
        program = qcompiler.compile(graph, target="tpu-int8", data=data, check_float=True)
        assert [w for w in program.warnings if "no lowering gives an ONNX form of bump" in w]
        assert program.figures["sqnr_db"]["y"] > 25

        @elementwise("bump")
        def bump_in_onnx(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
            one = emitter.constant(1, np.float32)
            return emitter.emit("Reciprocal", [emitter.emit("Add", [emitter.emit("Mul", [*names, *names]), one])])

        fast = qcompiler.compile(graph, target="tpu-int8", data=data)
        assert not [w for w in fast.warnings if "lowering" in w]
        (y,) = FloatSession(graph).run({"x": data})
        np.testing.assert_allclose(y, reference.run(graph, {"x": data})["y"], 1e-5)


def test_a_lowering_for_an_arithmetic_goes_before_one_for_any() -> None:
    class Cited(Op):
        name = "cited"

        def __init__(self, arithmetic: Arithmetic | None) -> None:
            self.arithmetic = arithmetic

    def for_any() -> None: ...

    def for_exact() -> None: ...

    with LOWERINGS.temporary():
        assert find_lowering("there", Cited(None)) is None
        lowering("there", "cited")(for_any)
        lowering("there", "cited", arithmetic="exact")(for_exact)
        assert find_lowering("there", Cited(None)) is for_any
        assert find_lowering("there", Cited(Arithmetic("exact"))) is for_exact
        assert find_lowering("there", Cited(Arithmetic("other"))) is for_any
        assert find_lowering("elsewhere", Cited(None)) is None
        with pytest.raises(QCompilerError, match="lowering 'exact' of 'cited' of 'there' is defined twice"):
            lowering("there", "cited", arithmetic="exact")(for_any)
