"""Inputs, dimensions, and the errors a model can cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_single_node import Dims, compare, model_of, node_model, op_names

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Original, SymbolicDim

F = np.float32
N = SymbolicDim("N")
X: dict[str, tuple[Any, Dims]] = {"x": (F, ["N", 4])}


# Dimensions


def test_names_and_origins() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="first"), helper.make_node("Neg", ["r"], ["m"]),
        helper.make_node("Abs", ["m"], ["y"], name="last"),
    ]
    graph = import_model(model_of(nodes, X, ["y", "r"]))
    assert graph.name == "case"
    assert [(v.name, v.origin, v.type.shape) for v in graph.inputs] == [("x", Original("x"), (N, 4))]
    assert [n.loc for n in graph.nodes] == [("first",), ("m",), ("last",)]
    assert [n.result.origin for n in graph.nodes] == [Original("r"), Original("m"), Original("y")]
    assert [output.name for output in graph.outputs] == ["y", "r"]


def test_unnamed_graph() -> None:
    model = node_model("Relu", X)
    model.graph.name = ""
    assert import_model(model).name == "main"


def test_the_model_is_not_changed() -> None:
    model = node_model("Relu", X)
    before = model.SerializeToString()
    import_model(model, batch=2)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("declared", "given", "batch", "expected"),
    [
        (["N", 4], None, None, (N, 4)),
        (["N", 4], None, 3, (3, 4)),
        (["N", 4], [-1, 4], None, (N, 4)),
        (["N", 4], [4], None, (N, 4)),
        (["N", 4], [4], 2, (2, 4)),
        (["N", 4], [5, 4], None, (5, 4)),
        (["N", "L"], [-1, 7], None, (N, 7)),
        (["N", "L"], [7], 2, (2, 7)),
        ([3, "L"], [3, 7], None, (3, 7)),
        ([-1, "?"], [-1, 7], None, (N, 7)),
        ([0, 4], None, None, (N, 4)),
        ([], None, None, ()),
    ],
)
def test_input_shapes(declared: Dims, given: list[int] | None, batch: int | None, expected: tuple[Any, ...]) -> None:
    model = node_model("Relu", {"x": (F, declared)})
    shapes = None if given is None else {"x": given}
    assert import_model(model, shapes=shapes, batch=batch).inputs[0].type.shape == expected


def test_inputs_share_batch_and_named_dimensions() -> None:
    model = node_model("Add", {"a": (F, ["B", "L"]), "b": (F, ["M", "L"])})
    graph = import_model(model, shapes={"a": [-1, 6]})
    assert [v.type.shape for v in graph.inputs] == [(N, 6), (N, 6)]


def test_input_without_shape() -> None:
    model = node_model("Relu", X)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(QCompilerError, match="input 'x' has no shape"):
        import_model(model)
    assert import_model(model, shapes={"x": [-1, 3]}).inputs[0].type.shape == (N, 3)


@pytest.mark.parametrize(
    ("declared", "given", "batch", "problem"),
    [
        (["N", "L"], None, None, r"dimension 1 of input 'x' is dynamic(.|\n)*--shape x=-1,\?"),
        (["N", "L"], [-1, -1], None, "malformed"),
        (["N", 4], [0, 4], None, "malformed"),
        (["N", 4], [2, 5], None, "dimension 1 of input 'x' is fixed by the model"),
        ([1, 4], [-1, 4], None, r"dimension 0 of input 'x' is fixed by the model(.|\n)*a free batch"),
        (["N", 4], [1, 2, 3], None, "wrong rank"),
        (["N", 4], None, 0, "must be positive"),
        ([1, 4], None, 2, "no input takes batch size 2"),
    ],
)
def test_shapes_that_do_not_fit(declared: Dims, given: list[int] | None, batch: int | None, problem: str) -> None:
    model = node_model("Relu", {"x": (F, declared)})
    with pytest.raises(QCompilerError, match=problem):
        import_model(model, shapes=None if given is None else {"x": given}, batch=batch)


def test_shape_of_an_unknown_input() -> None:
    with pytest.raises(QCompilerError, match="given for 'z', which is no input"):
        import_model(node_model("Relu", X), shapes={"z": [1]})


@pytest.mark.parametrize(("dtype", "problem"), [(np.float16, "float16"), (np.float64, "float64")])
def test_input_of_another_float_format(dtype: Any, problem: str) -> None:
    with pytest.raises(QCompilerError, match=rf"input 'x' has(.|\n)*{problem}(.|\n)*convert the model to float32"):
        import_model(node_model("Relu", {"x": (dtype, ["N", 4])}))


def test_input_of_strings() -> None:
    model = node_model("Relu", X)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(QCompilerError, match="input 'x' holds no numbers"):
        import_model(model)


# Constants


def test_initializers_listed_as_inputs() -> None:
    model = node_model("Add", X, {"w": np.arange(4, dtype=F)})
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [4]))
    graph = compare(model, {"x": np.ones((2, 4), F)}, exact=True)
    assert [v.name for v in graph.inputs] == ["x"]


@pytest.mark.parametrize(
    "attributes",
    [
        {"value": numpy_helper.from_array(np.asarray([1, 2, 3, 4], F))}, {"value_float": 1.5},
        {"value_floats": [1.0, 2.0, 3.0, 4.0]},
    ],
)
def test_constant_forms(attributes: dict[str, Any]) -> None:
    nodes = [helper.make_node("Constant", [], ["c"], **attributes), helper.make_node("Add", ["x", "c"], ["y"])]
    compare(model_of(nodes, X, ["y"]), {"x": np.ones((2, 4), F)}, exact=True)


@pytest.mark.parametrize("attributes", [{"value_int": 2}, {"value_ints": [2]}])
def test_integer_constant_forms(attributes: dict[str, Any]) -> None:
    constant = helper.make_node("Constant", [], ["c"], **attributes)
    nodes = [constant, helper.make_node("Gather", ["x", "c"], ["y"], axis=1)]
    compare(model_of(nodes, X, ["y"]), {"x": np.ones((2, 4), F)}, exact=True)


def test_string_constant() -> None:
    nodes = [helper.make_node("Constant", [], ["c"], name="text", value_string="a"),
             helper.make_node("Add", ["x", "c"], ["y"])]
    model = model_of(nodes, X, [])
    model.graph.output.append(helper.make_tensor_value_info("y", 1, ["N", 4]))
    with pytest.raises(QCompilerError, match="'text' \\(Constant\\): a constant must hold dense numbers"):
        import_model(model)


def test_string_initializer() -> None:
    model = node_model("Add", X, {"w": np.ones(4, F)})
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.STRING, dims=[1], string_data=[b"a"])
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(QCompilerError, match="tensor 'w' holds no numbers"):
        import_model(model)


def test_sparse_initializer() -> None:
    model = node_model("Add", X, {"w": np.ones(4, F)})
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", 1, [1], [1.0]), helper.make_tensor("i", onnx.TensorProto.INT64, [1], [2]), [4]
    )
    model.graph.sparse_initializer.append(sparse)
    with pytest.raises(QCompilerError, match="initializer 'v' is sparse"):
        import_model(model)


def test_damaged_initializer() -> None:
    model = node_model("Add", X, {"w": np.ones(4, F)})
    model.graph.initializer[0].raw_data = b"123"
    with pytest.raises(QCompilerError, match="tensor 'w' is damaged"):
        import_model(model)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("op_type", ["Add", "ConvTranspose", "Gemm"])
def test_weights_that_are_no_numbers(op_type: str, bad: float) -> None:
    inputs = {"x": (F, ["N", 4, 3, 3])} if op_type == "ConvTranspose" else X
    weights = np.ones({"Add": (4,), "Gemm": (4, 2), "ConvTranspose": (4, 2, 1, 1)}[op_type], F)
    weights.reshape(-1)[1] = bad
    attributes: dict[str, Any] = {"alpha": 0.5} if op_type == "Gemm" else {}
    with pytest.raises(QCompilerError, match="layer 'layer': constant 'w' holds NaN or infinity"):
        import_model(node_model(op_type, inputs, {"w": weights}, **attributes))


def test_double_weights() -> None:
    model = node_model("Add", X, {"w": np.ones(4)})
    with pytest.raises(QCompilerError, match=r"layer 'layer': constant 'w'(.|\n)*float64(.|\n)*convert the model"):
        import_model(model)


def test_constant_output() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["w"], ["z"])]
    model = model_of(nodes, X, ["y", "z", "w"], {"w": np.arange(3, dtype=F)})
    compare(model, {"x": np.ones((2, 4), F)}, exact=True)


# Graph structure


def test_unused_nodes_need_no_support() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Cos", ["x"], ["unused"])]
    assert op_names(import_model(model_of(nodes, X, ["y"]))) == ["relu"]


def test_local_functions_are_inlined() -> None:
    body = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Neg", ["r"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    model = model_of([], X, ["y"])
    model.graph.node.append(helper.make_node("Custom", ["x"], ["y"], domain="own"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["N", 4]))
    model.functions.append(helper.make_function("own", "Custom", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    compare(model, {"x": np.ones((2, 4), F)}, exact=True)


def test_all_unsupported_operators_are_reported_at_once() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["t"])], "branch", [], [helper.make_tensor_value_info("t", 1, ["N", 4])]
    )
    nodes = [
        helper.make_node("Cos", ["x"], ["a"], name="cosine"),
        helper.make_node("Relu", ["a"], ["b"], name="fine"),
        helper.make_node("Shape", ["b"], ["s"], name="shape"),
        helper.make_node("Equal", ["s", "s"], ["e"], name="of-shapes"),
        helper.make_node("Reshape", ["x", "s"], ["r"], name="to-unknown"),
        helper.make_node("Sin", ["b"], ["c"]),
        helper.make_node("If", ["k"], ["d"], name="branch", then_branch=branch, else_branch=branch),
        helper.make_node("Mystery", ["x"], ["f"], name="custom", domain="com.example"),
        helper.make_node("MaxPool", ["x"], ["g"], name="pool", kernel_shape=[2]),
        helper.make_node("Sum", ["c", "d", "f", "g", "r"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "case", [helper.make_tensor_value_info("x", 1, ["N", 4])],
        [helper.make_tensor_value_info("y", 1, ["N", 4])], [numpy_helper.from_array(np.asarray(True), "k")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)])
    with pytest.raises(QCompilerError) as caught:
        import_model(model)
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 layers are not supported: Cos, If, MaxPool, Sin, com.example.Mystery"
    reports = [line.strip() for line in lines if line.startswith("    ")]
    assert [r.split(":")[0] for r in reports] == [
        "'cosine' (Cos)", "'c' (Sin)", "'branch' (If)", "'custom' (com.example.Mystery)", "'pool' (MaxPool)",
    ]
    assert reports[2].endswith("control flow is not supported")


def test_random_numbers_are_refused() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["r"], shape=[4], name="noise"), helper.make_node("Add", ["x", "r"], ["y"])
    ]
    with pytest.raises(QCompilerError, match="'noise'"):
        import_model(model_of(nodes, X, ["y"]))


def test_nodes_out_of_order() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"], name="late"), helper.make_node("Neg", ["x"], ["a"])]
    model = model_of([], X, ["y"])
    model.graph.node.extend(nodes)
    with pytest.raises(QCompilerError, match="layer 'late': Relu uses 'a', which no earlier node computes"):
        import_model(model)


def test_output_that_nothing_computes() -> None:
    model = node_model("Relu", X)
    model.graph.output[0].name = "other"
    with pytest.raises(QCompilerError, match="no node computes output 'other'"):
        import_model(model)


def test_missing_operand() -> None:
    model = node_model("Relu", X)
    model.graph.node[0].op_type = "Add"
    with pytest.raises(QCompilerError, match="layer 'layer': Add: has 1 operands"):
        import_model(model)


def test_attribute_of_the_wrong_type() -> None:
    with pytest.raises(QCompilerError, match="layer 'layer': attribute 'axis' has the wrong type"):
        import_model(node_model("Softmax", X, axis="last"))
