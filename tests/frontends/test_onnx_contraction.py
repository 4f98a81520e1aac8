"""Convolutions and matrix products against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_single_node import compare, model_of, node_model, op_names

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Original, Untraced

F = np.float32


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


CONV = [
    ((5, 4, 3, 3), {}),
    ((5, 4, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((6, 2, 3, 2), {"pads": [0, 1, 2, 3], "strides": [2, 1], "group": 2}),
    ((4, 1, 3, 3), {"group": 4, "dilations": [2, 1], "pads": [2, 1, 2, 1]}),
    ((5, 4, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((5, 4, 3, 2), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    ((5, 4, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
]


@pytest.mark.parametrize(("weights", "attributes"), CONV)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(rng: np.random.Generator, weights: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    constants = {"w": rng.standard_normal(weights).astype(F)}
    if bias:
        constants["b"] = rng.standard_normal(weights[0]).astype(F)
    model = node_model("Conv", {"x": (F, ["N", 4, 9, 8])}, constants, **attributes)
    graph = compare(model, {"x": rng.standard_normal((2, 4, 9, 8)).astype(F)})
    assert op_names(graph) == ["conv2d"]


@pytest.mark.parametrize(
    "attributes",
    [{}, {"pads": [2, 1], "strides": [3]}, {"dilations": [2], "strides": [2]}, {"group": 2}],
)
def test_conv_of_one_axis(rng: np.random.Generator, attributes: dict[str, Any]) -> None:
    weights = rng.standard_normal((6, 4 // attributes.get("group", 1), 3)).astype(F)
    model = node_model("Conv", {"x": (F, ["N", 4, 11])}, {"w": weights, "b": np.arange(6, dtype=F)}, **attributes)
    graph = compare(model, {"x": rng.standard_normal((2, 4, 11)).astype(F)})
    assert op_names(graph) == ["reshape", "reshape", "conv2d", "reshape"]
    *steps, last = [n for n in graph.nodes if n.op.name != "constant"]
    assert last.result.origin == Original("y")
    assert all(isinstance(n.result.origin, Untraced) and "layer" in n.result.origin.reason for n in steps)
    assert {n.loc for n in graph.nodes} == {("layer",)}


@pytest.mark.parametrize(("auto_pad", "pads"), [("SAME_UPPER", [1, 1, 1, 2]), ("SAME_LOWER", [1, 2, 1, 1])])
def test_auto_pad_with_dilations(auto_pad: str, pads: list[int]) -> None:
    # ONNX Runtime refuses this combination. Kernel 2x2 dilated by (2, 3) spans 3x4, so 2 and 3 cells are padded.
    models = [
        node_model("Conv", {"x": (F, ["N", 1, 9, 8])}, {"w": np.ones((1, 1, 2, 2), F)}, dilations=[2, 3], **choice)
        for choice in ({"auto_pad": auto_pad}, {"pads": pads})
    ]
    assert import_model(models[0]) == import_model(models[1])


CONV_TRANSPOSE = [
    ((4, 3, 3, 3), {}),
    ((4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    ((4, 3, 2, 3), {"group": 2, "strides": [2, 1], "pads": [0, 1, 1, 0]}),
    ((4, 1, 3, 3), {"group": 4, "dilations": [2, 1]}),
    ((4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}),
    ((4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12], "auto_pad": "SAME_UPPER"}),
    ((4, 3, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((4, 3, 4, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "VALID"}),
]


@pytest.mark.parametrize(("weights", "attributes"), CONV_TRANSPOSE)
@pytest.mark.parametrize("bias", [False, True])
def test_conv_transpose(
    rng: np.random.Generator, weights: tuple[int, ...], attributes: dict[str, Any], bias: bool
) -> None:
    constants = {"w": rng.standard_normal(weights).astype(F)}
    if bias:
        constants["b"] = rng.standard_normal(weights[1] * attributes.get("group", 1)).astype(F)
    model = node_model("ConvTranspose", {"x": (F, ["N", 4, 5, 6])}, constants, **attributes)
    graph = compare(model, {"x": rng.standard_normal((2, 4, 5, 6)).astype(F)})
    weight = next(n.operands[1] for n in graph.nodes if n.op.name == "conv_transpose2d")
    if attributes.get("group", 1) == 1:
        assert weight.origin == Original("w", (1, 0, 2, 3))
    else:
        assert isinstance(weight.origin, Untraced)


def test_conv_transpose_of_one_axis(rng: np.random.Generator) -> None:
    model = node_model(
        "ConvTranspose", {"x": (F, ["N", 4, 7])}, {"w": rng.standard_normal((4, 3, 4)).astype(F)}, strides=[2],
        pads=[1, 0],
    )
    compare(model, {"x": rng.standard_normal((2, 4, 7)).astype(F)})


def test_conv_transpose_with_computed_weight() -> None:
    model = node_model("ConvTranspose", {"x": (F, ["N", 4, 7, 7]), "w": (F, [4, 3, 3, 3])})
    with pytest.raises(QCompilerError, match="the weight is computed at run time"):
        import_model(model)


def test_conv_of_three_axes() -> None:
    model = node_model("Conv", {"x": (F, ["N", 1, 4, 4, 4])}, {"w": np.ones((1, 1, 2, 2, 2), F)})
    with pytest.raises(QCompilerError, match="3 spatial axes"):
        import_model(model)


def test_conv_that_does_not_fit() -> None:
    model = node_model("Conv", {"x": (F, ["N", 3, 4, 4])}, {"w": np.ones((2, 4, 3, 3), F)})
    with pytest.raises(QCompilerError, match="layer 'layer': conv2d: 3 input and 2 output channels"):
        import_model(model)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (["N", 6], (6, 4)), (["N", 3, 6], (6, 4)), (["N", 3, 6], (2, 1, 6, 4)), (["N", 6], (6,)), ([6], (6, 4)),
        ([6], (6,)), ([6], (2, 6, 4)),
    ],
)
def test_matmul(rng: np.random.Generator, a: list[int | str], b: tuple[int, ...]) -> None:
    feed = rng.standard_normal([5 if d == "N" else int(d) for d in a]).astype(F)
    batch_free = a[0] == "N" and len(b) < 4
    model = node_model("MatMul", {"x": (F, a)}, {"w": rng.standard_normal(b).astype(F)})
    if len(a) == 1:
        # A lone fixed dimension is no batch.
        assert import_model(model).inputs[0].type.shape == (6,)
    compare(model, {"x": feed}, batch=None if batch_free or len(a) == 1 else 5)


def test_matmul_of_inputs(rng: np.random.Generator) -> None:
    model = node_model("MatMul", {"a": (F, ["N", 2, 3, 6]), "b": (F, ["N", 2, 6, 4])})
    a, b = rng.standard_normal((5, 2, 3, 6)).astype(F), rng.standard_normal((5, 2, 6, 4)).astype(F)
    assert op_names(compare(model, {"a": a, "b": b})) == ["matmul"]


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0), (1.0, 0.25)])
@pytest.mark.parametrize("c", [None, (4,), (1, 4), (1,), (), (1, 1)])
def test_gemm(
    rng: np.random.Generator, trans_b: int, alpha: float, beta: float, c: tuple[int, ...] | None
) -> None:
    constants = {"w": rng.standard_normal((4, 6) if trans_b else (6, 4)).astype(F)}
    if c is not None:
        constants["c"] = rng.standard_normal(c).astype(F)
    model = node_model("Gemm", {"x": (F, ["N", 6])}, constants, transB=trans_b, alpha=alpha, beta=beta)
    graph = compare(model, {"x": rng.standard_normal((3, 6)).astype(F)})
    bias = c in ((4,), (1, 4))
    assert op_names(graph) == (["matmul"] if c is None or bias else ["matmul", "add"])
    product = next(n for n in graph.nodes if n.op.name == "matmul")
    assert len(product.operands) == (3 if bias else 2)
    origin = product.operands[1].origin
    assert isinstance(origin, Original)
    assert origin.name == "w"
    assert (origin.factor is None) == (alpha == 1)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("beta", [0.0, 1.0, 0.5])
def test_gemm_of_inputs(rng: np.random.Generator, trans_a: int, beta: float) -> None:
    inputs = {"a": (F, [6, 3] if trans_a else [3, 6]), "b": (F, [6, 4]), "c": (F, [3, 1])}
    feeds = {n: rng.standard_normal([int(d) for d in shape]).astype(F) for n, (_, shape) in inputs.items()}
    compare(node_model("Gemm", inputs, transA=trans_a, alpha=0.5, beta=beta), feeds)


def test_weights_from_constant_nodes(rng: np.random.Generator) -> None:
    weight = helper.make_tensor("v", 1, (6, 4), rng.standard_normal(24).astype(F))
    nodes = [
        helper.make_node("Constant", [], ["w"], name="weight", value=weight),
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Sqrt", ["s"], ["root"], name="root"),
        helper.make_node("Mul", ["same", "root"], ["scaled"], name="scale"),
        helper.make_node("MatMul", ["x", "scaled"], ["y"], name="layer"),
    ]
    model = model_of(nodes, {"x": (F, ["N", 6])}, ["y"], {"s": F(3)})
    graph = compare(model, {"x": rng.standard_normal((3, 6)).astype(F)})
    assert op_names(graph) == ["sqrt", "mul", "matmul"]


def test_half_precision_weights_are_widened(rng: np.random.Generator) -> None:
    nodes = [helper.make_node("Cast", ["h"], ["w"], to=1), helper.make_node("MatMul", ["x", "w"], ["y"])]
    half = rng.standard_normal((6, 4)).astype(np.float16)
    graph = compare(
        model_of(nodes, {"x": (F, ["N", 6])}, ["y"], {"h": half}), {"x": rng.standard_normal((3, 6)).astype(F)}
    )
    assert op_names(graph) == ["matmul"]
