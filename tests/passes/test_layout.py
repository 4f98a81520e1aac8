"""layout: channels last inside, the model's own layout at inputs and outputs, the same numbers."""

from __future__ import annotations

import models
import numpy as np
import pytest
from float_programs import FloatProgram, N, assert_same_meaning, check_pass, op_names, run_passes

from qcompiler.backends import reference
from qcompiler.backends.ort import FloatSession
from qcompiler.compare import in_original_terms
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Graph, Op, Original, Tensor, Value, clone
from qcompiler.ops.activation import LeakyRelu, Relu
from qcompiler.ops.binary import Add, Maximum, Mul, Prelu
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape
from qcompiler.ops.slicing import Gather, Pad, Slice, Split
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import Target, load_target

LAYOUT = "layout,canonicalize,fold-constants,cse,dce"


def conv(p: FloatProgram, x: Value, inputs: int, outputs: int, seed: int = 0) -> Value:
    return p(Conv2D(pads=(1, 1, 1, 1)), x, p.normal(outputs, inputs, 3, 3, seed=seed), p.normal(outputs))


def assert_two_transposes(after: Graph) -> None:
    """One at the input, one at the output, none between."""
    names = op_names(after)
    assert names.count("transpose") == 2, names
    assert names[0] == names[-1] == "transpose", names
    for node in after.nodes:
        assert node.op.attributes().get("layout", "NHWC") == "NHWC"


BETWEEN: dict[str, list[Op]] = {
    "nothing": [],
    "elementwise": [Relu(), LeakyRelu(0.3)],
    "pools": [MaxPool2D((3, 3), pads=(1, 1, 1, 1)), AveragePool2D((3, 3), pads=(1, 0, 1, 2))],
    "pad": [Pad((0, 0, 1, 2), (0, 0, 0, 1), value=0.5)],
    "pad of channels": [Pad((0, 1, 0, 0), (0, 1, 0, 0), "edge"), Slice((1,), (1,), (5,), (1,))],
    "slice of all axes": [Slice((3, 1, 2), (0, 0, 5), (4, 4, -1), (1, 1, -1))],
    "softmax": [Softmax(1), Softmax(-1)],
    "resize": [Resize((2, 3), (9, 4)), Resize((2, 3), (5, 5), "linear")],
    "mean": [Mean((2, 3)), Expand((1, 4, 6, 6))],
    "maximum over channels": [ReduceMax((1,)), Expand((1, 4, 1, 1))],
}


@pytest.mark.parametrize("case", BETWEEN)
def test_no_transposes_between_convolutions(case: str) -> None:
    p = FloatProgram()
    x = conv(p, p.input(N, 3, 6, 6), 3, 4)
    for op in BETWEEN[case]:
        x = p(op, x)
    assert_two_transposes(check_pass(p.finish(conv(p, x, 4, 5, seed=1)), LAYOUT))


def test_residual_add() -> None:
    p = FloatProgram()
    x = conv(p, p.input(N, 3, 6, 6), 3, 4)
    y = p(Add(), p(Relu(), conv(p, x, 4, 4, seed=1)), x)
    assert_two_transposes(check_pass(p.finish(conv(p, y, 4, 3, seed=2)), LAYOUT))


def test_concat_split_and_constants() -> None:
    p = FloatProgram()
    x = conv(p, p.input(N, 3, 6, 6), 3, 4)
    first, second = p.split(Split(1, (3, 5)), p(Concat(1), x, conv(p, x, 4, 4, seed=1)))
    scaled = p(Mul(), p(Maximum(), second, p.constant(0.1)), p.normal(5, 1, 1))
    joined = p(Concat(-3), p(Prelu(), first, p.normal(3, 1, 1)), scaled)
    assert_two_transposes(check_pass(p.finish(conv(p, joined, 8, 3, seed=2)), LAYOUT))


def test_transposed_convolution() -> None:
    p = FloatProgram()
    x = conv(p, p.input(N, 3, 5, 5), 3, 4)
    y = p(ConvTranspose2D(strides=(2, 2), pads=(0, 1, 1, 0), output_padding=(1, 0), groups=2), x, p.normal(6, 2, 3, 3))
    assert_two_transposes(check_pass(p.finish(y), LAYOUT))


@pytest.mark.parametrize(
    "op", [Mean((2, 3), False), Mean((1,), False), ReduceMax((2,), False), ArgMax(1), ArgMax(1, False)], ids=str
)
def test_reductions(op: Op) -> None:
    p = FloatProgram()
    y = p(op, conv(p, p.input(N, 3, 6, 6), 3, 4))
    check_pass(p.finish(y), LAYOUT)


def test_ops_that_fix_the_order_of_axes() -> None:
    p = FloatProgram()
    x = conv(p, p.input(N, 3, 6, 6), 3, 4)
    picked = p(Gather(1), x, p.constant([2, 0], np.int64))
    check_pass(p.finish(p(Reshape((N, 72)), picked), p(Reshape((N, 144)), x)), LAYOUT)


def test_a_target_without_layout_keeps_it() -> None:
    descriptor = load_target("tpu-int8").descriptor
    channels_first = Target(descriptor.model_copy(update={"layout": "NCHW"}))
    p = FloatProgram()
    graph = p.finish(conv(p, p.input(N, 3, 6, 6), 3, 4))
    after = Pipeline.parse("layout").run(clone(graph), Context(channels_first))
    assert op_names(after) == ["conv2d"]


@pytest.mark.parametrize("name", models.MODELS)
def test_simplify_keeps_the_meaning_of_models(name: str) -> None:
    graph = import_model(models.model(name))
    after = run_passes(graph, "simplify")
    if name != "two_inputs_fixed_batch":
        assert_same_meaning(graph, after)
    feeds = models.samples(name, 3)
    for before, found in zip(FloatSession(graph).run(feeds), FloatSession(after).run(feeds), strict=True):
        np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)
    # Boundaries stay as they were.
    assert [(v.name, v.type) for v in after.inputs] == [(v.name, v.type) for v in graph.inputs]
    assert [(o.name, o.value.type) for o in after.outputs] == [(o.name, o.value.type) for o in graph.outputs]


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("pipeline", ["simplify", "simplify,legalize,simplify", "layout", "canonicalize", "cse,dce"])
def test_origins_stay_true(name: str, pipeline: str) -> None:
    """Every traced value, brought back to its original's axes, has its original's numbers."""
    graph = import_model(models.model(name))
    after = run_passes(graph, pipeline)
    feeds = models.samples(name, 3)
    expected: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}

    def remember(value: Value, tensor: Tensor) -> None:
        if isinstance(value.origin, Original):
            expected[value.origin.name] = in_original_terms(value, tensor.data)

    checked = 0

    def check(value: Value, tensor: Tensor) -> None:
        nonlocal checked
        if isinstance(value.origin, Original) and value.origin.name in expected:
            found = in_original_terms(value, tensor.data)
            np.testing.assert_allclose(found, expected[value.origin.name], rtol=1e-3, atol=1e-3)
            checked += 1

    reference.run(graph, feeds, remember)
    reference.run(after, feeds, check)
    assert checked >= len(op_names(graph)) // 3
