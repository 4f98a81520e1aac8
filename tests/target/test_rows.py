"""Rows of functions with a scale of their own, fusion groups, and limits on weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler import plugins
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Builder, ConstantArray, Graph, Original, SymbolicDim, TensorType, walk
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Exp, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.fused import Fused
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

plugins.load()


def program(*ops: str) -> Graph:
    """Ops one behind another; binary ones take the input as their second operand."""
    kinds = {"sigmoid": Sigmoid, "tanh": Tanh, "exp": Exp, "relu": Relu, "add": Add, "mul": Mul}
    graph = Graph("case")
    build = Builder(graph)
    x = value = graph.add_input("x", TensorType((SymbolicDim("N"), 8), F32), Original("x"))
    for name in ops:
        if name == "matmul":
            weights = np.random.default_rng(1).normal(0, 0.3, (8, 8)).astype(np.float32)
            operands = [value, build(Constant(ConstantArray(weights)), elem=F32)]
            value = build(Matmul(), *operands, loc=(name,), origin=Original(name))
        else:
            operands = [value, x] if name in ("add", "mul") else [value]
            value = build(kinds[name](), *operands, loc=(name,), origin=Original(name))
    graph.set_outputs([("y", value)])
    return graph


DATA = np.random.default_rng(0).normal(0, 2, (50, 8)).astype(np.float32)


def compiled(target: str | Path, *ops: str) -> Graph:
    return qcompiler.compile(program(*ops), target=target, data=DATA, native=False).graph


@pytest.mark.parametrize(
    ("target", "function", "scale", "zero_point"),
    [
        ("tpu-int8", "sigmoid", 2.0**-8, -128), ("tpu-int8", "tanh", 2.0**-7, 0), ("hexagon-u8", "sigmoid", 2.0**-8, 0),
        ("hexagon-u8", "tanh", 2.0**-7, 128), ("tpu-int16x8", "sigmoid", 2.0**-15, 0), ("dpu-pot8", "tanh", 2.0**-7, 0),
        ("tpu-int16x8", "tanh", 2.0**-15, 0), ("hexagon-u16a8w", "tanh", 2.0**-15, 32768),
    ],
)
def test_a_function_with_a_row_of_its_own_gives_a_fixed_scale(
    target: str, function: str, scale: float, zero_point: int
) -> None:
    (table,) = [node for node in walk(compiled(target, function)) if node.op.name == "lut"]
    elem = table.result.type.elem
    assert isinstance(elem, Affine)
    assert (float(elem.scale.array), int(elem.zero_point.array)) == (scale, zero_point)


def test_other_functions_and_targets_choose_the_scale_from_the_data() -> None:
    for target, function in (("tpu-int8", "exp"), ("cpu-int8", "tanh")):
        (table,) = [node for node in walk(compiled(target, function)) if node.op.name == "lut"]
        elem = table.result.type.elem
        assert isinstance(elem, Affine)
        assert np.frexp(elem.scale.array)[0] != 0.5


def test_verify_legal_reads_the_row_of_a_tables_function(tmp_path: Path) -> None:
    """A program for another scale is refused."""
    text = 'schema = 1\nextends = "tpu-int8"\nname = "other"\nsummary = "x"\nsource = "y"\n[ops]\n'
    path = tmp_path / "other.toml"
    path.write_text(text + 'sigmoid = { out = "act{scale=0.0078125 zero_point=0}" }\n')
    graph = compiled(path, "sigmoid")
    Pipeline.parse("verify-legal").run(graph, Context(load_target(path)))
    with pytest.raises(QCompilerError, match="lut is not legal") as caught:
        Pipeline.parse("verify-legal").run(graph, Context(load_target("tpu-int8")))
    assert "scale" in str(caught.value)


def kernels(graph: Graph) -> list[list[str]]:
    return [
        [part.op.name for part in node.op.body.nodes] if isinstance(node.op, Fused) else [node.op.name]
        for node in graph.nodes if node.op.name not in ("constant", "quantize", "dequantize")
    ]


def test_clamps_join_the_kernels_that_the_row_names() -> None:
    """Hexagon's groups hold contractions and sums, with their activation; not products."""
    assert kernels(compiled("tpu-int8", "mul", "relu")) == [["mul", "clamp"]]
    assert kernels(compiled("hexagon-u8", "mul", "relu")) == [["mul"], ["clamp"]]
    assert kernels(compiled("hexagon-u8", "add", "relu")) == [["add", "clamp"]]
    assert kernels(compiled("hexagon-u8", "matmul", "relu")) == [["matmul", "requantize", "clamp"]]


def test_verify_legal_refuses_a_kernel_that_ends_in_another_group() -> None:
    target = load_target("hexagon-u8")
    graph = compiled("hexagon-u8", "mul", "relu")
    allowing = target.descriptor.ops["clamp"].model_copy(update={"fuse_after": []})
    ops = {**target.descriptor.ops, "clamp": allowing}
    everywhere = type(target)(target.descriptor.model_copy(update={"ops": ops}))
    Pipeline.parse("fuse-requantize").run(graph, Context(everywhere))
    assert kernels(graph) == [["mul", "clamp"]]
    with pytest.raises(QCompilerError) as caught:
        Pipeline.parse("verify-legal").run(graph, Context(target))
    assert "clamp may end kernels of conv2d" in str(caught.value)


@pytest.mark.parametrize(("limit", "legal"), [(-1, False), (0, True)])
def test_the_largest_sum_of_weights(limit: int, legal: bool, tmp_path: Path) -> None:
    """The limit is met exactly, or missed by one; fused kernels are judged too."""
    graph = compiled("tpu-int8", "matmul", "relu")
    (weights,) = [n.result for n in graph.nodes if n.op.name == "constant"]
    op = weights.producer.op if weights.producer else None
    assert isinstance(op, Constant)
    largest = int(np.abs(op.value.array.astype(np.int64)).sum(0).max())
    path = tmp_path / "narrow.toml"
    path.write_text(
        'schema = 1\nextends = "tpu-int8"\nname = "narrow"\nsummary = "x"\nsource = "y"\n[ops]\n'
        f"matmul = {{ max_weight_sum = {largest + limit} }}\n"
    )
    if legal:
        compiled(path, "matmul", "relu")
    else:
        with pytest.raises(QCompilerError) as caught:
            compiled(path, "matmul", "relu")
        assert f"sum to at most {largest - 1}" in str(caught.value)
        assert caught.value.layer == "matmul"
        assert "ops.matmul.max_weight_sum" in str(caught.value.fix)
