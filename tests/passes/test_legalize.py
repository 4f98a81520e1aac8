"""legalize spells out what the target lacks, and reports what remains, all at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from float_programs import FloatProgram, N, assert_same_meaning, check_pass, only, op_names, run_passes

from qcompiler.backends import reference
from qcompiler.errors import QCompilerError
from qcompiler.ops.activation import Relu
from qcompiler.ops.binary import Add, Div, Pow, Prelu
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.layer_norm import LayerNorm
from qcompiler.ops.normalization import BatchNorm, Softmax
from qcompiler.ops.reduction import ReduceProduct
from qcompiler.ops.shape import Reshape
from qcompiler.pipeline import Context, Pipeline
from qcompiler.rewrite import RULES
from qcompiler.target import Target, load_target


@pytest.mark.parametrize("shape", [(4, 1, 1), (1,), (4, 5, 5)])
def test_prelu(shape: tuple[int, ...]) -> None:
    p = FloatProgram()
    graph = p.finish(p(Prelu(), p.input(N, 4, 5, 5), p.normal(*shape), layer="act"))
    after = check_pass(graph, "legalize")
    assert op_names(after) == ["clip", "relu", "mul", "add"]
    assert all(node.loc == ("act",) for node in after.nodes if node.op.name != "constant")
    assert after.outputs[0].value.origin == graph.outputs[0].value.origin


def test_division_by_a_constant_multiplies() -> None:
    p = FloatProgram()
    after = check_pass(p.finish(p(Div(), p.input(N, 4), p.constant([1.0, -2.0, 3.0, 1e-3]))), "legalize,dce")
    assert op_names(after) == ["mul"]


def test_division_by_a_computed_value() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    positive = p(Add(), p(Relu(), p.input(N, 4, name="z")), p.constant([1.0]))
    assert op_names(check_pass(p.finish(p(Div(), x, positive)), "legalize"))[-2:] == ["reciprocal", "mul"]


def test_division_by_zero_is_an_error() -> None:
    p = FloatProgram()
    graph = p.finish(p(Div(), p.input(N, 2), p.constant([1.0, 0.0]), layer="ratio"))
    with pytest.raises(QCompilerError, match="layer 'ratio'"):
        run_passes(graph, "legalize")


@pytest.mark.parametrize("axis", [1, 2, -3, 3, -1])
def test_softmax_moves_to_the_last_axis(axis: int) -> None:
    p = FloatProgram()
    graph = p.finish(p(Softmax(axis), p.input(N, 4, 3, 5), layer="probabilities"))
    after = check_pass(graph, "legalize")
    last = axis % 4 == 3
    assert op_names(after) == (["softmax"] if last else ["transpose", "softmax", "transpose"])
    assert only(after, "softmax").op.attributes()["axis"] in (-1, 3)


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_layer_norm_is_spelled_out(axes: tuple[int, ...]) -> None:
    p = FloatProgram()
    graph = p.finish(p(LayerNorm(axes, 1e-3), p.input(N, 4, 3), p.normal(4, 1), p.normal(3), layer="norm"))
    assert op_names(check_pass(graph, "legalize")) == [
        "mean", "sub", "mul", "mean", "add", "sqrt", "reciprocal", "mul", "mul", "add",
    ]


def test_legal_programs_stay() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p(Conv2D(), p.input(N, 4, 5, 5), p.normal(3, 4, 3, 3))))
    after = run_passes(graph, "legalize")
    after.pipeline = ""
    assert after == graph


def test_all_illegal_layers_are_reported_at_once() -> None:
    p = FloatProgram()
    x = p.input(N, 4, 5, 5)
    product = p(ReduceProduct((1,)), x, layer="product")
    weights = p.input(3, 4, 3, 3, name="w")
    conv = p(Conv2D(), x, weights, layer="dynamic")
    power = p(Pow(), x, x, layer="power")
    long = p(Softmax(-1), p(Reshape((1, 5000)), p.input(5000, name="many")), layer="long")
    across = p(Softmax(0), p(Reshape((5000, 1)), p.graph.inputs[-1]), layer="across")
    graph = p.finish(product, conv, power, long, across)
    with pytest.raises(QCompilerError) as caught:
        run_passes(graph, "legalize")
    message = str(caught.value)
    assert message.startswith("5 layers are not legal on target 'tpu-int8'")
    for layer, constraint in {
        "product": "no op 'reduce_product'", "dynamic": "operand 1 of conv2d must be a constant",
        "power": "no op 'pow'", "long": "at most 4095 elements", "across": "at most 4095 elements",
    }.items():
        assert any(layer in line and constraint in line for line in message.splitlines()), (layer, message)


def test_one_illegal_layer_is_named() -> None:
    p = FloatProgram()
    graph = p.finish(p(ReduceProduct((1,)), p.input(N, 4), layer="product"))
    with pytest.raises(QCompilerError, match="layer 'product': not legal on target 'tpu-int8'") as caught:
        run_passes(graph, "legalize")
    assert caught.value.expected == "the target has no op 'reduce_product'"
    assert caught.value.fix


def test_batch_norm_is_illegal_where_simplify_did_not_run() -> None:
    p = FloatProgram()
    rest = [p.constant(np.ones(4)) for _ in range(4)]
    graph = p.finish(p(BatchNorm(), p.input(N, 4, 5, 5), *rest, layer="bn"))
    with pytest.raises(QCompilerError, match="layer 'bn'"):
        run_passes(graph, "legalize")


def test_a_target_chooses_its_decompositions() -> None:
    descriptor = load_target("tpu-int8").descriptor
    p = FloatProgram()
    graph = p.finish(p(Div(), p.input(N, 4), p.constant([2.0]), layer="half"))
    bare = Target(descriptor.model_copy(update={"decompositions": []}))
    with pytest.raises(QCompilerError, match="layer 'half'"):
        Pipeline.parse("legalize").run(graph, Context(bare))
    wrong = Target(descriptor.model_copy(update={"decompositions": ["divide-to-multiplyy"]}), "chip.toml")
    with pytest.raises(QCompilerError, match=r"chip\.toml.*unknown decomposition 'divide-to-multiplyy'") as caught:
        Pipeline.parse("legalize").run(graph, Context(wrong))
    assert "divide-to-multiply" in str(caught.value.fix)


def test_every_decomposition_has_a_test_here() -> None:
    """What another decomposition would need: a program of its op whose meaning stays."""
    built_in = {name for name, cls in RULES.items() if "legalize" in cls.into}
    assert built_in == {"prelu-to-relu", "divide-to-multiply", "softmax-last-axis", "layer-norm-to-mean"}
    assert built_in >= set(load_target("tpu-int8").descriptor.decompositions)


def test_infinities_stay_apart() -> None:
    """prelu spelled out on large values: relu and clip do not overflow into one another."""
    p = FloatProgram()
    graph = p.finish(p(Prelu(), p.input(N, 2), p.constant([0.5])))
    after = run_passes(graph, "legalize")
    x = np.array([[3e38, -3e38], [math.inf, 0.0]], np.float32)
    np.testing.assert_array_equal(reference.run(after, {"x": x})["y0"], reference.run(graph, {"x": x})["y0"])
    assert_same_meaning(graph, after)
