"""Element-wise operators against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx_single_node import compare, model_of, node_model, op_names

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Original

F = np.float32
X = {"x": (F, ["N", 3, 5])}


def sample(rng: np.random.Generator) -> NDArray[np.float32]:
    x = (3 * rng.standard_normal((4, 3, 5))).astype(F)
    x.reshape(-1)[:7] = [0, -0.0, 1, -1, 6, -3, 3]
    return x


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.mark.parametrize(
    ("op_type", "attributes", "op"),
    [
        ("Relu", {}, "relu"),
        ("LeakyRelu", {}, "leaky_relu"),
        ("LeakyRelu", {"alpha": 0.3}, "leaky_relu"),
        ("Elu", {}, "elu"),
        ("Elu", {"alpha": 0.5}, "elu"),
        ("Celu", {}, "celu"),
        ("Celu", {"alpha": 0.5}, "celu"),
        ("Selu", {}, "selu"),
        ("Selu", {"alpha": 1.5, "gamma": 2.0}, "selu"),
        ("Sigmoid", {}, "sigmoid"),
        ("Tanh", {}, "tanh"),
        ("HardSigmoid", {}, "hard_sigmoid"),
        ("HardSigmoid", {"alpha": 0.25, "beta": 0.4}, "hard_sigmoid"),
        ("HardSwish", {}, "hard_swish"),
        ("Softplus", {}, "softplus"),
        ("Softsign", {}, "softsign"),
        ("Erf", {}, "erf"),
        ("Exp", {}, "exp"),
        ("Abs", {}, "abs"),
        ("Neg", {}, "negate"),
        ("Floor", {}, "floor"),
        ("Ceil", {}, "ceil"),
    ],
)
def test_unary(rng: np.random.Generator, op_type: str, attributes: dict[str, Any], op: str) -> None:
    graph = compare(node_model(op_type, X, **attributes), {"x": sample(rng)})
    assert op_names(graph) == [op]
    assert graph.outputs[0].value.origin == Original("y")
    assert [node.loc for node in graph.nodes] == [("layer",)]


@pytest.mark.parametrize("op_type", ["Sqrt", "Log", "Reciprocal"])
def test_unary_of_positive(rng: np.random.Generator, op_type: str) -> None:
    compare(node_model(op_type, X), {"x": np.abs(sample(rng)) + F(0.125)})


def test_mish(rng: np.random.Generator) -> None:
    assert op_names(compare(node_model("Mish", X, opset=18), {"x": sample(rng)})) == ["mish"]


def test_celu_that_divides_by_zero_is_refused() -> None:
    with pytest.raises(QCompilerError, match=r"layer 'layer': celu: alpha must be positive, found 0\.0"):
        import_model(node_model("Celu", X, alpha=0.0))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(rng: np.random.Generator, approximate: str) -> None:
    compare(node_model("Gelu", X, opset=20, approximate=approximate), {"x": sample(rng)})


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.5, None), (None, 2.5), (None, None), (-np.inf, 1.0)])
@pytest.mark.parametrize("opset", [9, 11, 13])
def test_clip(rng: np.random.Generator, opset: int, low: float | None, high: float | None) -> None:
    if opset < 11:
        bounds: dict[str, Any] = {k: v for k, v in (("min", low), ("max", high)) if v is not None and np.isfinite(v)}
        model = node_model("Clip", X, opset=opset, **bounds)
    else:
        constants = {k: np.asarray(v, F) for k, v in (("low", low), ("high", high)) if v is not None}
        order = ["x", "low" if low is not None else "", "high" if high is not None else ""]
        model = node_model("Clip", X, constants, order=order, opset=opset)
    assert op_names(compare(model, {"x": sample(rng)}, exact=True)) == ["clip"]


def test_clip_bound_from_constant_arithmetic(rng: np.random.Generator) -> None:
    nodes = [
        helper.make_node("Add", ["a", "a"], ["twice"]),
        helper.make_node("Clip", ["x", "", "twice"], ["y"], name="layer"),
    ]
    graph = compare(model_of(nodes, X, ["y"], {"a": F(0.75)}), {"x": sample(rng)}, exact=True)
    assert [str(n.op) for n in graph.nodes] == ["Clip(minimum=-inf, maximum=1.5)"]


def test_clip_bound_nan() -> None:
    with pytest.raises(QCompilerError, match=r"layer 'layer': Clip: a bound is NaN"):
        import_model(node_model("Clip", X, {"low": F(np.nan)}))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "PRelu"])
@pytest.mark.parametrize("shape", [(3, 5), (1,), (3, 1)])
def test_binary_with_constant(rng: np.random.Generator, op_type: str, shape: tuple[int, ...]) -> None:
    other = rng.uniform(0.5, 2, shape).astype(F)
    graph = compare(node_model(op_type, X, {"w": other}), {"x": sample(rng)})
    constant = next(iter(graph.nodes))
    assert (constant.op.name, constant.result.origin) == ("constant", Original("w"))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
def test_binary_of_inputs(rng: np.random.Generator, op_type: str) -> None:
    model = node_model(op_type, {"a": (F, ["N", 3, 1]), "b": (F, ["N", 1, 5])})
    a, b = rng.standard_normal((2, 3, 1)).astype(F), rng.uniform(1, 2, (2, 1, 5)).astype(F)
    compare(model, {"a": a, "b": b}, exact=True)


@pytest.mark.parametrize("op_type", ["Max", "Min", "Sum"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_many_operands(rng: np.random.Generator, op_type: str, count: int) -> None:
    inputs = {f"x{i}": (F, ["N", 6]) for i in range(count)}
    feeds = {name: rng.standard_normal((3, 6)).astype(F) for name in inputs}
    graph = compare(node_model(op_type, inputs), feeds)
    assert len(op_names(graph)) == count - 1


@pytest.mark.parametrize(("op_type", "limit"), [("Max", -np.inf), ("Min", np.inf)])
@pytest.mark.parametrize("order", [("x", "limit"), ("limit", "x")])
def test_a_limit_beyond_all_numbers_changes_nothing(
    rng: np.random.Generator, op_type: str, limit: float, order: tuple[str, str]
) -> None:
    model = node_model(op_type, X, {"limit": F(limit)}, order=order)
    assert op_names(compare(model, {"x": sample(rng)}, exact=True)) == []


@pytest.mark.parametrize(("op_type", "limit"), [("Max", np.inf), ("Min", -np.inf), ("Add", -np.inf)])
def test_other_infinite_operands_are_refused(op_type: str, limit: float) -> None:
    with pytest.raises(QCompilerError, match="holds NaN or infinity"):
        import_model(node_model(op_type, X, {"limit": F(limit)}))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, F])
def test_equal(rng: np.random.Generator, dtype: Any) -> None:
    a, b = rng.integers(0, 3, (2, 3, 1)).astype(dtype), rng.integers(0, 3, (2, 1, 5)).astype(dtype)
    graph = compare(node_model("Equal", {"a": (dtype, ["N", 3, 1]), "b": (dtype, ["N", 1, 5])}), {"a": a, "b": b},
                    exact=True)
    assert op_names(graph) == ["equal"]


def test_max_of_integers(rng: np.random.Generator) -> None:
    inputs = {"a": (np.int64, ["N", 6]), "b": (np.int64, ["N", 6])}
    feeds = {name: rng.integers(-9, 9, (3, 6)) for name in inputs}
    compare(node_model("Max", inputs), feeds, exact=True)


@pytest.mark.parametrize(
    ("exponent", "op"),
    [(F(2), "power"), (np.int64(3), "power"), (np.asarray([0.5], F), "power"), (np.asarray([1, 2, 3, 4, 5]), "pow")],
)
def test_pow(rng: np.random.Generator, exponent: Any, op: str) -> None:
    x = np.abs(sample(rng)) + F(0.1)
    assert op_names(compare(node_model("Pow", X, {"e": np.asarray(exponent)}), {"x": x})) == [op]


def test_pow_of_inputs(rng: np.random.Generator) -> None:
    inputs = {"x": (F, ["N", 4]), "e": (F, ["N", 4])}
    compare(node_model("Pow", inputs), {n: rng.uniform(0.5, 2, (3, 4)).astype(F) for n in inputs})


@pytest.mark.parametrize(("source", "target"), [(F, np.int32), (np.int32, F), (np.uint8, F), (np.bool_, F)])
def test_cast(rng: np.random.Generator, source: Any, target: Any) -> None:
    model = node_model("Cast", {"x": (source, ["N", 9])}, to=helper.np_dtype_to_tensor_dtype(np.dtype(target)))
    compare(model, {"x": (7 * rng.random((3, 9))).astype(source)}, exact=True)


def test_cast_to_half_is_refused() -> None:
    with pytest.raises(QCompilerError, match="cast to f16; convert the model to float32"):
        import_model(node_model("Cast", X, to=helper.np_dtype_to_tensor_dtype(np.dtype(np.float16))))


@pytest.mark.parametrize("op_type", ["Identity", "Dropout"])
@pytest.mark.parametrize("opset", [9, 13])
def test_pass_through(rng: np.random.Generator, op_type: str, opset: int) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node(op_type, ["r"], ["y"])]
    graph = compare(model_of(nodes, X, ["y"], opset=opset), {"x": sample(rng)}, exact=True)
    assert op_names(graph) == ["relu"]
    assert graph.outputs[0].value.origin == Original("r")


def test_dropout_in_training_is_refused() -> None:
    model = node_model("Dropout", X, {"ratio": F(0.5), "training": np.asarray(True)})
    with pytest.raises(QCompilerError, match="'layer' \\(Dropout\\): training mode"):
        import_model(model)


@pytest.mark.parametrize("op_type", ["Relu", "Div", "Sqrt"])
def test_integers_where_floats_belong(op_type: str) -> None:
    inputs = {"x": (np.int32, ["N", 4])} if op_type != "Div" else {n: (np.int32, ["N", 4]) for n in "ab"}
    with pytest.raises(QCompilerError, match="operand 0 has element type i32, not f32"):
        import_model(node_model(op_type, inputs))
