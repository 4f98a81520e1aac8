"""What a target with ``fallback = "host"`` lacks stays a float op, and so does what moves to it to save crossings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import models
import numpy as np
import pytest
from float_programs import FloatProgram, N, only, op_names, run_passes
from numpy.typing import NDArray

import qcompiler
from qcompiler.backends import reference
from qcompiler.compare import sqnr_db
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    SCALARS,
    Affine,
    Arithmetic,
    Builder,
    ConstantArray,
    Graph,
    Node,
    Tensor,
    TensorType,
    Value,
    clone,
    parse,
    print_with_constants,
)
from qcompiler.ir.scalar import F32, I32, U8
from qcompiler.legality_report import check_legality
from qcompiler.ops.activation import Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Equal, Mul
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Cast, Dequantize, Quantize
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import Target, host_nodes, is_host_node, load_target

Array = NDArray[Any]
CPU = load_target("cpu-int8")
NEEDED = ("quantize", "dequantize", "requantize")
QUANTIZE = Quantize(Arithmetic.parse("affine{rounding=half-even}"))


def lacking(*ops: str, target: Target = CPU, fallback: str = "host") -> Target:
    """``cpu-int8`` without some of its ops."""
    descriptor = target.descriptor
    rows = {name: row for name, row in descriptor.ops.items() if name not in ops}
    return Target(descriptor.model_copy(update={"ops": rows, "fallback": fallback}))


def lower(graph: Graph, target: Target, feeds: dict[str, Array]) -> qcompiler.Program:
    return qcompiler.compile(graph, target=target, data=feeds, native=False)


def normal(*shape: int) -> Array:
    return np.random.default_rng([5, *shape]).normal(0, 1, shape).astype(np.float32)


def prove(graph: Graph, target: Target) -> None:
    Pipeline.parse("verify-legal").run(graph, Context(target))


# Whole models

@pytest.mark.parametrize("name", models.MODELS)
def test_built_in_target_needs_no_host(name: str) -> None:
    program = qcompiler.compile(models.model(name), target="cpu-int8", data=models.samples(name, 6), native=False)
    assert program.coverage.host_nodes == 0
    assert program.figures["host"] == []


@pytest.mark.parametrize("name", models.MODELS)
def test_without_any_op_the_program_is_the_float_model(name: str) -> None:
    feeds = models.samples(name, 3)
    target = lacking(*(op for op in CPU.rows if op not in NEEDED))
    program = qcompiler.compile(models.model(name), target=target, data=feeds, native=False)
    assert program.coverage.host_nodes == program.coverage.nodes > 0
    assert program.coverage.host_macs == program.coverage.macs
    expected = reference.run(read_model(models.model(name)), feeds)
    for key, found in program.run(feeds).items():
        assert sqnr_db(expected[key], found) > 100


@pytest.mark.parametrize("name", models.MODELS)
def test_models_on_poorer_targets(name: str) -> None:
    """Whatever a target lacks: the program is legal, near float, told as ``check`` tells it, and reads back."""
    rng = np.random.default_rng([3, *name.encode()])
    feeds = models.samples(name, 3)
    expected = reference.run(read_model(models.model(name)), feeds)
    whole = qcompiler.compile(models.model(name), target=CPU, data=feeds, native=False).run(feeds)
    on_host = 0
    for _ in range(4):
        ops = [op for op in CPU.rows if op not in NEEDED]
        target = lacking(*rng.choice(ops, len(ops) // 3, replace=False))
        program = qcompiler.compile(models.model(name), target=target, data=feeds, native=False)
        prove(clone(program.graph), target)
        assert parse(*print_with_constants(program.graph)) == program.graph
        for node in program.graph.nodes:
            assert not is_host_node(node) or node.on_host
        for key, found in program.run(feeds).items():
            if found.dtype.kind == "f":
                assert sqnr_db(expected[key], found) > min(25, sqnr_db(expected[key], whole[key]) - 4)
        told = {layer.name for layer in check_legality(models.model(name), target=target).layers
                if layer.status == "host"}
        assert {entry["layer"] for entry in program.figures["host"]} == told
        on_host += program.coverage.host_nodes
    assert on_host


def test_fallback_error_refuses_what_the_host_would_run() -> None:
    model = models.model("residual_cnn")
    with pytest.raises(QCompilerError, match="not legal on target") as caught:
        qcompiler.compile(model, target=lacking("add", fallback="error"), data=models.samples("residual_cnn", 3))
    assert "has no op 'add'" in str(caught.value)


# Where the host's and the target's values meet

def crossing() -> tuple[Graph, dict[str, Array]]:
    """Target, host, host, target: matmul, sigmoid, relu and matmul, on a target without tables and clamps."""
    p = FloatProgram()
    h = p(Matmul(), p.input(N, 8), p.normal(8, 6), layer="first")
    h = p(Relu(), p(Sigmoid(), h, layer="gate"), layer="limit")
    return p.finish(p(Matmul(), h, p.normal(6, 4), layer="second")), {"x": normal(32, 8)}


def test_one_way_to_the_host_and_one_back() -> None:
    graph, feeds = crossing()
    target = lacking("lut", "clamp")
    program = lower(graph, target, feeds)
    assert op_names(program.graph) == [
        "quantize", "fused", "dequantize", "sigmoid", "relu", "quantize", "fused", "dequantize",
    ]
    assert [(e["layer"], e["op"], e["constraint"]) for e in program.figures["host"]] == [
        ("gate", "sigmoid", "the target has no op 'sigmoid'"), ("limit", "relu", "the target has no op 'relu'"),
    ]
    assert [node.layer for node, _ in host_nodes(target, program.graph)] == ["gate", "limit"]
    coverage = program.coverage
    assert (coverage.nodes, coverage.host_nodes) == (8, 2)
    assert (coverage.macs, coverage.host_macs) == (8 * 6 + 6 * 4, 0)


def test_the_host_computes_as_the_float_interpreter_does() -> None:
    """Given what the target hands out, the host's numbers are those of the float op, to the bit."""
    graph, feeds = crossing()
    program = lower(graph, lacking("lut", "clamp"), feeds)
    gate = only(program.graph, "sigmoid")
    seen: dict[Value, Tensor] = {}
    reference.run(program.graph, feeds, seen.__setitem__)
    (expected,) = Sigmoid().evaluate([seen[gate.operands[0]]], [seen[gate.result].type])
    assert (seen[gate.result].data == expected).all()
    assert (seen[only(program.graph, "relu").result].data == np.maximum(expected, 0)).all()


def test_a_value_that_host_and_target_use() -> None:
    """The host reads a graph input as it came; what the target computed, as the target holds it, dequantized once."""
    p = FloatProgram()
    x = p.input(N, 8)
    y = p(Matmul(), x, p.normal(8, 8), layer="target")
    a, b = p(Sigmoid(), x, layer="host x"), p(Sigmoid(), y, layer="host y")
    used = [p(Matmul(), v, p.normal(8, 3)) for v in (a, b, y)]
    graph = p.finish(*used, p(Tanh(), y, layer="host again"))
    program = lower(graph, lacking("lut"), {"x": normal(16, 8)}).graph
    sources = {
        node.layer: node.operands[0].producer.op.name if node.operands[0].producer else "input"
        for node in program.nodes if is_host_node(node)
    }
    assert sources == {"host x": "input", "host y": "dequantize", "host again": "dequantize"}
    # One for the host, one for each output of the target; y crosses once, however many use it.
    assert op_names(program).count("dequantize") == 1 + 3
    assert op_names(program).count("quantize") == 3
    directions = [c["direction"] for c in lower(graph, lacking("lut"), {"x": normal(16, 8)}).figures["crossings"]]
    assert sorted(directions) == ["to host", "to target", "to target"]


def test_host_results_are_returned_as_they_are() -> None:
    """An output that the host computes is not rounded to the format in which the target also holds it."""
    p = FloatProgram()
    h = p(Sigmoid(), p.input(N, 8), layer="host")
    graph = p.finish(h, p(Matmul(), h, p.normal(8, 4)))
    feeds = {"x": normal(9, 8)}
    program = lower(graph, lacking("lut"), feeds)
    assert program.graph.outputs[0].value.producer is only(program.graph, "sigmoid")
    assert (program.run(feeds)["y0"] == reference.run(graph, feeds)["y0"]).all()


def test_constants_of_the_host_stay_real() -> None:
    """A constant that both use is quantized for the target alone."""
    p = FloatProgram()
    c = p.normal(4, 4)
    before = p(Matmul(), p(Mul(), p.input(4, 4), c), c)
    graph = p.finish(p(Mul(), p(Matmul(), p(Add(), before, c, layer="host"), c), c))
    program = lower(graph, lacking("add"), {"x": normal(4, 4)}).graph
    host = only(program, "add")
    (known,) = [array for v in host.operands if (array := constant_value(v)) is not None]
    assert (known == constant_value(c)).all()
    products = [node for node in program.nodes if node.op.name == "mul"]
    assert [isinstance(node.operands[1].type.elem, Affine) for node in products] == [True, True]


def test_weights_of_a_host_contraction_stay_real() -> None:
    graph, feeds = crossing()
    program = lower(graph, lacking("matmul"), feeds)
    assert [n.operands[1].type.elem for n in program.graph.nodes if n.op.name == "matmul"] == [F32, F32]
    assert program.coverage.host_macs == 72


def test_an_activation_on_the_host_does_not_hide_what_it_limits() -> None:
    """A clamp behind a sum is held as one with it only where the target runs the clamp."""
    p = FloatProgram()
    h = p(Matmul(), p.input(N, 8), p.normal(8, 6))
    graph = p.finish(p(Relu(), h, layer="limit"))
    assert op_names(run_passes(graph, "annotate", target="cpu-int8")).count("fake_quant") == 3
    rank = CPU.descriptor.ops["clamp"].model_copy(update={"max_rank": 1})
    limited = Target(CPU.descriptor.model_copy(update={"ops": {**CPU.descriptor.ops, "clamp": rank}}))
    program = lower(graph, limited, {"x": normal(9, 8)}).graph
    assert op_names(program) == ["quantize", "fused", "dequantize", "relu"]


def test_ties_do_not_reach_through_the_host() -> None:
    """A concat on the host does not force its operands and its result to share a scale."""
    p = FloatProgram()
    x = p.input(N, 4)
    small, large = p(Mul(), x, p.constant([0.01] * 4)), p(Mul(), x, p.constant([100.0] * 4))
    graph = p.finish(p(Mul(), p(Concat(1), small, large), p.constant([1.0] * 8)))
    row = CPU.descriptor.ops["concat"].model_copy(update={"max_rank": 1})
    limited = Target(CPU.descriptor.model_copy(update={"ops": {**CPU.descriptor.ops, "concat": row}}))
    marked = Pipeline.parse("annotate").run(clone(graph), Context(limited))
    groups = [n.op.attributes()["group"] for n in marked.nodes if n.op.name == "fake_quant"]
    assert len(set(groups)) == len(groups)


def test_plain_integers_on_the_host() -> None:
    """A one-hot of indices: equal and cast run on the host, and so does the move of integers before them."""
    graph = Graph("one_hot")
    build = Builder(graph, loc=("indices",))
    x = graph.add_input("x", TensorType((N, 2), I32))
    moved = build(Reshape((N, 2, 1)), x)
    known = build(Constant(ConstantArray(np.arange(4, dtype=np.int32).reshape(1, 1, 4))), elem=I32)
    hot = build(Cast(F32), build(Equal(), moved, known, loc=("equal",)), loc=("cast",))
    weights = build(Constant(ConstantArray(normal(4, 3))), elem=F32)
    graph.set_outputs([("y", build(Matmul(), hot, weights, loc=("embed",)))])
    feeds = {"x": np.array([[0, 3], [2, 1], [1, 1]], np.int32)}
    program = lower(graph, CPU, feeds)
    assert [(entry["op"], entry["moved"]) for entry in program.figures["host"]] == [
        ("reshape", True), ("equal", False), ("cast", False),
    ]
    assert program.coverage.host_nodes == 3
    assert [(c["layer"], c["direction"], c["bytes"]) for c in program.figures["crossings"]] == [
        ("cast", "to target", 2 * 4 * 4),
    ]
    assert op_names(program.graph) == ["reshape", "equal", "cast", "quantize", "fused", "dequantize"]
    assert sqnr_db(reference.run(graph, feeds)["y"], program.run(feeds)["y"]) > 35


# What verify-legal still refuses

def on_target(real: bool = True) -> tuple[Graph, Builder, Node]:
    """x, quantized and dequantized, and the dequantize."""
    graph = Graph("spoiled")
    build = Builder(graph, loc=("smuggled",))
    x = graph.add_input("x", TensorType((N, 4), F32))
    held = build(QUANTIZE, x, elem=Affine.per_tensor(U8, 0.1, 128))
    node = build(Dequantize(), held).producer
    assert node is not None
    return graph, build, node


def float_op_that_the_target_runs(target: Target) -> Graph:
    graph, build, dequantize = on_target()
    graph.set_outputs([("y", build(Relu(), dequantize.result))])
    return graph


def real_number_into_the_target_behind_the_host(target: Target) -> Graph:
    graph, build, dequantize = on_target()
    host = build(Cast(F32), build(Cast(SCALARS["i32"]), dequantize.result))
    graph.set_outputs([("y", build(Reshape((N, 2, 2)), host))])
    return graph


def quantize_of_a_dequantized_value(target: Target) -> Graph:
    graph, build, dequantize = on_target()
    again = build(QUANTIZE, dequantize.result, elem=Affine.per_tensor(U8, 0.2, 3))
    graph.set_outputs([("y", build(Dequantize(), again))])
    return graph


def host_op_in_a_kernel(target: Target) -> Graph:
    graph, build, dequantize = on_target()
    body = Graph("body")
    inside = body.add_input("0", dequantize.result.type)
    body.set_outputs([("0", Builder(body, loc=("smuggled",))(Cast(SCALARS["i32"]), inside))])
    graph.set_outputs([("y", build(Fused(body), dequantize.result))])
    return graph


SPOILED: list[Callable[[Target], Graph]] = [
    float_op_that_the_target_runs, real_number_into_the_target_behind_the_host, quantize_of_a_dequantized_value,
    host_op_in_a_kernel,
]


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda f: f.__name__)
def test_spoiled_programs_are_refused(spoil: Callable[[Target], Graph]) -> None:
    with pytest.raises(QCompilerError, match="layer 'smuggled'"):
        prove(spoil(CPU), CPU)


def test_host_ops_are_refused_where_there_is_no_host() -> None:
    graph, feeds = crossing()
    program = lower(graph, lacking("lut", "clamp"), feeds).graph
    prove(clone(program), lacking("lut", "clamp"))
    with pytest.raises(QCompilerError, match="layer 'gate': sigmoid is not legal"):
        prove(clone(program), lacking("lut", "clamp", fallback="error"))
    # Beside what it must run, the host may run what the target has; alone it may not.
    prove(clone(program), lacking("lut"))
    with pytest.raises(QCompilerError, match="layer 'gate': sigmoid is not legal"):
        prove(clone(program), CPU)


def test_a_float_op_that_the_target_has_is_refused_without_the_mark() -> None:
    graph, feeds = crossing()
    moved = lower(graph, lacking("lut", "clamp"), feeds).graph
    only(moved, "relu").on_host = False
    prove(clone(moved), lacking("lut", "clamp"))
    with pytest.raises(QCompilerError, match="layer 'limit': relu is not legal"):
        prove(moved, lacking("lut"))


def test_contractions_are_refused_on_the_host_whatever_they_are_marked() -> None:
    graph, feeds = crossing()
    program = lower(graph, lacking("lut", "clamp", "matmul"), feeds).graph
    assert all(n.on_host for n in program.nodes if not isinstance(n.op, Constant))
    with pytest.raises(QCompilerError, match=r"layer '(first|second)': matmul is not legal"):
        prove(program, lacking("lut", "clamp"))


def test_what_the_target_has_moves_where_that_saves_crossings() -> None:
    """sigmoid, add, tanh: with add on the host one value goes there and one comes back, in place of two each."""
    p = FloatProgram()
    x = p(Matmul(), p.input(N, 8), p.normal(8, 8), layer="first")
    h = p(Tanh(), p(Add(), p(Sigmoid(), x, layer="gate"), x, layer="sum"), layer="limit")
    graph = p.finish(p(Matmul(), h, p.normal(8, 4), layer="second"))
    program = lower(graph, lacking("lut"), {"x": normal(16, 8)})
    assert [(e["layer"], e["moved"]) for e in program.figures["host"]] == [
        ("gate", False), ("sum", True), ("limit", False),
    ]
    assert [(c["layer"], c["direction"], c["bytes"]) for c in program.figures["crossings"]] == [
        ("first", "to host", 32), ("limit", "to target", 32),
    ]
    assert program.coverage.host_macs == 0
