"""annotate, calibrate, realize, fuse-requantize: formats, ties, ranges, and types that stay true."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import pytest
from float_programs import FloatProgram, N, only, op_names, random_feeds, run_passes

import qcompiler
from qcompiler.backends import reference
from qcompiler.calibration.data import open_data
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Graph, Node, Original, Tensor, Value, clone, verify, walk
from qcompiler.ir.scalar import I8, I32
from qcompiler.numerics import dequantize
from qcompiler.ops.activation import Clip, LeakyRelu, Relu, Sigmoid
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.quantization import FakeQuant
from qcompiler.ops.quantized import parameters
from qcompiler.ops.reduction import ArgMax
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.ops.slicing import Split
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

ANNOTATED = "annotate"
CALIBRATED = "annotate,calibrate"
REALIZED = "annotate,calibrate,realize,fold-constants,dce"
FUSED = REALIZED + ",fuse-requantize,dce,verify-legal"


def mark(value: Value) -> FakeQuant:
    """The fake_quant that holds ``value``."""
    (op,) = (u.op for u in value.users if isinstance(u.op, FakeQuant))
    return op


def named(graph: Graph, original: str) -> Value:
    """The value that stands for an original and is no fake_quant's result."""
    (found,) = (
        v for n in graph.nodes for v in n.results
        if isinstance(v.origin, Original) and v.origin.name == original and not isinstance(n.op, FakeQuant)
    )
    return found


# annotate


def test_every_operand_and_result_is_held() -> None:
    p = FloatProgram()
    conv = p(Conv2D(), p.input(N, 3, 5, 5), p.normal(4, 3, 3, 3), p.normal(4))
    graph = run_passes(p.finish(p(Sigmoid(), conv)), ANNOTATED)
    node = only(graph, "conv2d")
    x, weights = (v.producer for v in node.operands[:2])
    assert x is not None
    assert weights is not None
    assert isinstance(x.op, FakeQuant)
    assert isinstance(weights.op, FakeQuant)
    assert (x.op.storage, x.op.qmin, x.op.qmax, x.op.blocks) == (I8, -128, 127, ())
    assert (weights.op.qmin, weights.op.qmax, weights.op.blocks) == (-127, 127, (1, 3, 3, 3))
    assert weights.op.fixed_zero_point == 0
    # The bias follows from the other two.
    assert isinstance(node.operands[2].producer.op, Constant)  # type: ignore[union-attr]
    assert not mark(node.result).is_calibrated
    assert isinstance(graph.outputs[0].value.producer.op, FakeQuant)  # type: ignore[union-attr]


def test_a_value_is_marked_once() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    graph = run_passes(p.finish(p(Add(), x, x), p(Sigmoid(), x)), ANNOTATED)
    assert len(graph.inputs[0].uses) == 1


def test_tied_values_share_a_group() -> None:
    p = FloatProgram()
    x, y = p.input(N, 3, 6, 6), p.input(N, 2, 6, 6, name="z")
    joined = p(Concat(1), x, y, layer="join")
    first, second = p.split(Split(1, (1, 4)), p(MaxPool2D((2, 2)), joined))
    graph = run_passes(p.finish(first, p(Add(), second, p.constant(0.5))), ANNOTATED)
    groups: dict[int, int] = {}
    for node in graph.nodes:
        if isinstance(node.op, FakeQuant):
            groups[node.op.group] = groups.get(node.op.group, 0) + 1
    # Both inputs, the concat, the pool and the parts of the split; then the constant and the sum by themselves.
    assert sorted(groups.values()) == [1, 1, 6]


def test_add_ties_nothing() -> None:
    p = FloatProgram()
    graph = run_passes(p.finish(p(Add(), p.input(N, 4), p.input(N, 4, name="z"))), ANNOTATED)
    groups = [n.op.group for n in graph.nodes if isinstance(n.op, FakeQuant)]
    assert len(groups) == len(set(groups)) == 3


@pytest.mark.parametrize("clamp", [Relu(), Clip(0.0, 6.0), Clip(-1.0, 1.0)])
def test_a_result_that_is_only_limited_is_held_behind_the_clamp(clamp: Any) -> None:
    p = FloatProgram()
    conv = p(Conv2D(), p.input(N, 3, 5, 5), p.normal(4, 3, 3, 3), layer="conv")
    graph = run_passes(p.finish(p(clamp, conv, layer="act")), ANNOTATED)
    assert not [u for u in named(graph, "conv_out").users if isinstance(u.op, FakeQuant)]
    assert mark(named(graph, "act_out")).storage == I8


@pytest.mark.parametrize("why", ["two users", "output", "no clamp"])
def test_other_results_are_held_themselves(why: str) -> None:
    p = FloatProgram()
    conv = p(Conv2D(), p.input(N, 3, 5, 5), p.normal(4, 3, 3, 3), layer="conv")
    limited = p(LeakyRelu() if why == "no clamp" else Relu(), conv, layer="act")
    outputs = {"two users": [p(Add(), limited, conv)], "output": [limited, conv], "no clamp": [limited]}[why]
    graph = run_passes(p.finish(*outputs), ANNOTATED)
    assert mark(named(graph, "conv_out"))


def test_softmax_keeps_its_prescribed_parameters_behind_a_clamp() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p(Softmax(-1), p.input(N, 4), layer="soft")))
    after = run_passes(graph, FUSED, random_feeds(graph))
    (softmax,) = (n for n in walk(after) if n.op.name == "softmax")
    assert softmax.result.type.elem == Affine.per_tensor(I8, 1 / 256, -128)


def test_annotating_twice_is_an_error() -> None:
    p = FloatProgram()
    with pytest.raises(QCompilerError, match="pass 'annotate' needs a float program, and gets an annotated one"):
        run_passes(p.finish(p(Relu(), p.input(N, 4))), "annotate,annotate")


# calibrate


def calibrated(graph: Graph, **feeds: Any) -> Graph:
    return run_passes(graph, CALIBRATED, {k: np.asarray(v, np.float32) for k, v in feeds.items()})


def parameters_of(low: float, high: float) -> tuple[np.float32, int]:
    """Scale and zero point of an interval that contains 0, on all of int8."""
    scale = np.float32((high - low) / 255)
    return scale, int(np.rint(-128 - low / np.float64(scale)))


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([-1.0, 3.0], (-1.0, 3.0)), ([1.0, 3.0], (0.0, 3.0)), ([-3.0, -1.0], (-3.0, 0.0)), ([5.0, 5.0], (0.0, 5.0)),
        ([1e-30, -1e-30], (-1e-30, 1e-30)), ([1e30, 0.0], (0.0, 1e30)),
    ],
)
def test_ranges(values: list[float], interval: tuple[float, float]) -> None:
    p = FloatProgram()
    graph = calibrated(p.finish(p(Sigmoid(), p.input(N, 1))), x=np.reshape(values, (2, 1)))
    op = mark(graph.inputs[0])
    assert op.scale is not None
    assert op.zero_point is not None
    scale, zero_point = parameters_of(float(np.float32(interval[0])), float(np.float32(interval[1])))
    np.testing.assert_allclose(op.scale.array, scale, rtol=1e-6)
    assert int(op.zero_point.array) == zero_point


def test_a_range_of_zeros_has_scale_one() -> None:
    p = FloatProgram()
    graph = p.finish(p(Matmul(), p.input(N, 4), p.constant(np.zeros((4, 2))), p.constant([1.0, -1.0])))
    feeds = {"x": np.zeros((3, 4), np.float32)}
    op = mark(run_passes(graph, CALIBRATED, feeds).inputs[0])
    assert op.scale is not None
    assert op.scale.array == 1
    after = run_passes(graph, FUSED, feeds)
    np.testing.assert_allclose(reference.run(after, feeds)["y0"], [[1, -1]] * 3, atol=0.01)


def test_subnormal_data_compile() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p(Matmul(), p.input(N, 4), p.normal(4, 2))))
    run_passes(graph, FUSED, {"x": np.full((3, 4), 1e-44, np.float32)})


def test_a_zero_channel_and_its_bias() -> None:
    p = FloatProgram()
    weights = np.random.default_rng(0).normal(0, 1, (3, 4)).astype(np.float32)
    weights[1] = 0
    graph = p.finish(p(Matmul(True), p.input(N, 4), p.constant(weights), p.constant([0.1, 2.5, -0.1])))
    feeds = random_feeds(graph, 20)
    after = run_passes(graph, FUSED, feeds)
    expected, found = reference.run(graph, feeds)["y0"], reference.run(after, feeds)["y0"]
    np.testing.assert_allclose(found, expected, atol=float(np.abs(expected).max()) / 40)


def test_a_huge_bias_raises_the_scale_of_its_channel() -> None:
    p = FloatProgram()
    weights = p.constant(np.full((3, 4), 1e-6, np.float32))
    graph = p.finish(p(Matmul(True), p.input(N, 4), weights, p.constant([0.0, 1e4, -1e4]), layer="fc"))
    feeds = {"x": np.random.default_rng(0).uniform(0, 1e-3, (5, 4)).astype(np.float32)}
    context = Context(load_target("tpu-int8"), open_data(feeds, graph))
    after = Pipeline.parse(FUSED).run(clone(graph), context)
    assert len(context.warnings) == 1
    assert context.warnings[0].startswith("2 weight channels in 1 layers got a larger scale")
    assert context.warnings[0].endswith(": 'fc'")
    bias = next(n for n in after.nodes if isinstance(n.op, Constant) and n.result.type.storage == I32)
    assert isinstance(bias.op, Constant)
    assert np.abs(bias.op.value.array.astype(np.int64)).max() <= 2**30 + 1
    np.testing.assert_allclose(reference.run(after, feeds)["y0"][0], [0, 1e4, -1e4], atol=100)


def concat_of(first: float, second: float) -> Graph:
    """Two values of different ranges, joined; both have other users, so both need their resolution."""
    p = FloatProgram()
    x = p.input(N, 4)
    small = p(Mul(), x, p.constant(np.full((1, 4), first)), layer="first")
    large = p(Mul(), x, p.constant(np.full((1, 4), second)), layer="second")
    joined = p(Concat(1), small, large, layer="join")
    return p.finish(joined, p(Sigmoid(), small), p(Sigmoid(), large))


@pytest.mark.parametrize(("ratio", "cut"), [(1.0, False), (3.9, False), (4.1, True), (100.0, True)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_concat_of_very_different_ranges_is_cut(ratio: float, cut: bool, swapped: bool) -> None:
    graph = concat_of(ratio, 1.0) if swapped else concat_of(1.0, ratio)
    after = calibrated(graph, x=np.linspace(-1, 1, 12).reshape(3, 4))
    small, large = ("second", "first") if swapped else ("first", "second")
    scale_of = {k: float(mark(named(after, f"{k}_out")).scale.array) for k in (small, large, "join")}  # type: ignore[union-attr]
    assert scale_of[large] == scale_of["join"]
    np.testing.assert_allclose(scale_of[large] / scale_of[small], ratio if cut else 1, rtol=1e-5)
    realized = run_passes(graph, FUSED, {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)})
    assert op_names(realized).count("requantize") == int(cut)


def test_the_cut_ratio_is_an_option() -> None:
    feeds = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}
    after = run_passes(concat_of(1.0, 100.0), "annotate,calibrate{cut-ratio=1000.0},realize", feeds)
    assert "requantize" not in op_names(after)


def test_a_softmax_that_feeds_a_concat() -> None:
    """Its prescribed parameters cannot hold the other operand, so a requantize stands between."""
    p = FloatProgram()
    x = p.input(N, 4)
    graph = p.finish(p(Concat(1), p(Softmax(-1), x), x))
    feeds = {"x": np.linspace(-5, 5, 40, dtype=np.float32).reshape(10, 4)}
    after = run_passes(graph, FUSED, feeds)
    (softmax,) = (n for n in walk(after) if n.op.name == "softmax")
    assert softmax.result.type.elem == Affine.per_tensor(I8, 1 / 256, -128)
    found, expected = reference.run(after, feeds)["y0"], reference.run(graph, feeds)["y0"]
    np.testing.assert_allclose(found, expected, atol=10 / 255)


def test_a_softmax_alone_in_a_concat_keeps_its_scale() -> None:
    p = FloatProgram()
    x, y = p.input(N, 4), p.input(N, 4, name="z")
    graph = p.finish(p(Concat(1), p(Softmax(-1), x), p(Softmax(-1), y)))
    after = run_passes(graph, FUSED, random_feeds(graph))
    assert only(after, "concat").result.type.elem == Affine.per_tensor(I8, 1 / 256, -128)
    assert "requantize" not in op_names(after)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_overflow_name_their_layer(bad: float) -> None:
    p = FloatProgram()
    graph = p.finish(p(Mul(), p.input(N, 4), p.constant(np.full((1, 4), 3e38)), layer="scale"))
    with pytest.raises(QCompilerError, match=r"layer 'scale'.*NaN or infinite"):
        run_passes(graph, CALIBRATED, {"x": np.full((2, 4), 10, np.float32)})
    with pytest.raises(QCompilerError, match="input 'x' holds NaN or infinity") as caught:
        run_passes(graph, CALIBRATED, {"x": np.array([[0] * 4, [0, 0, bad, 0]], np.float32)})
    assert caught.value.found == "in sample 1"


def test_constants_that_are_infinite_are_refused() -> None:
    p = FloatProgram()
    graph = p.finish(p(Add(), p.input(N, 2), p.constant([1.0, np.inf]), layer="sum"))
    with pytest.raises(QCompilerError, match="layer 'sum'"):
        run_passes(graph, CALIBRATED, {"x": np.zeros((2, 2), np.float32)})


def test_calibrating_without_data_is_an_error() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 4)))
    with pytest.raises(QCompilerError, match="needs calibration data"):
        run_passes(graph, CALIBRATED)


# realize and fuse


def test_realizing_without_calibration_is_an_error() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 4)))
    with pytest.raises(QCompilerError, match="pass 'realize' needs a calibrated program, and gets an annotated one"):
        run_passes(graph, "annotate,realize")


def test_weights_shared_by_both_orientations() -> None:
    """One matrix, used as it is and transposed: its channels are on different axes."""
    p = FloatProgram()
    weights = p.normal(4, 4)
    x = p.input(N, 4)
    graph = p.finish(p(Matmul(True), p(Matmul(), x, weights), weights))
    feeds = random_feeds(graph, 10)
    after = run_passes(graph, FUSED, feeds)
    expected, found = reference.run(graph, feeds)["y0"], reference.run(after, feeds)["y0"]
    np.testing.assert_allclose(found, expected, atol=float(np.abs(expected).max()) / 30)


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("pipeline", [None, "simplify,legalize,simplify," + REALIZED])
def test_types_are_true(name: str, pipeline: str | None) -> None:
    """Every stored integer keeps the bounds of its type, and every accumulator is the sum that it says."""
    graph = qcompiler.compile(
        models.model(name), target="tpu-int8", data=models.samples(name, 6), pipeline=pipeline
    ).graph
    verify(graph)
    stored: dict[Value, Tensor] = {}
    checked = 0

    def observe(value: Value, tensor: Tensor) -> None:
        nonlocal checked
        elem = tensor.type.elem
        if isinstance(elem, Affine):
            assert tensor.data.dtype == elem.storage.dtype
            assert elem.qmin <= tensor.data.min() <= tensor.data.max() <= elem.qmax
        stored[value] = tensor
        node = value.producer
        if node is not None and isinstance(node.op, Contraction):
            checked += _check_accumulator(node, stored)

    reference.run(graph, models.samples(name, 3, seed=9), observe)
    assert checked or pipeline is None


def _check_accumulator(node: Node, stored: dict[Value, Tensor]) -> bool:
    """Dequantized operands, contracted in float64, give the dequantized accumulator. False inside a kernel."""
    if any(v not in stored for v in node.operands):
        return False
    real = [dequantize(stored[v].data, parameters(stored[v].type)).astype(np.float64) for v in node.operands]
    assert isinstance(node.op, Contraction)
    sums = node.op.contract(real[0], real[1])
    if len(real) == 3:
        shape = [1] * sums.ndim
        shape[node.op.result_channel_axis(sums.ndim)] = -1
        sums = sums + real[2].reshape(shape)
    result = stored[node.result]
    found = dequantize(result.data, parameters(result.type))
    np.testing.assert_allclose(found, sums, rtol=1e-5, atol=1e-5 * np.abs(sums).max())
    return True


@pytest.mark.parametrize("name", models.MODELS)
def test_fusing_changes_no_bit(name: str) -> None:
    data = models.samples(name, 6)
    loose = qcompiler.compile(
        models.model(name), target="tpu-int8", data=data, pipeline="simplify,legalize,simplify," + REALIZED
    )
    fused = qcompiler.compile(models.model(name), target="tpu-int8", data=data)
    feeds = models.samples(name, 6, seed=3)
    for before, after in zip(loose.run(feeds).values(), fused.run(feeds).values(), strict=True):
        np.testing.assert_array_equal(before, after)
    kernels = [n for n in fused.graph.nodes if isinstance(n.op, Fused)]
    assert not [n for n in fused.graph.nodes if isinstance(n.op, Contraction)]
    # Inner nodes keep their layers.
    assert {name for n in walk(fused.graph) for name in n.loc} >= {name for n in kernels for name in n.loc}


def test_a_kernel_ends_where_its_result_is_used_twice() -> None:
    p = FloatProgram()
    product = p(Matmul(), p.input(N, 4), p.normal(4, 4), layer="fc")
    graph = p.finish(p(Relu(), product, layer="act"), p(Sigmoid(), product))
    after = run_passes(graph, FUSED, random_feeds(graph))
    (kernel,) = (n for n in after.nodes if isinstance(n.op, Fused))
    assert isinstance(kernel.op, Fused)
    assert [n.op.name for n in kernel.op.body.nodes] == ["matmul", "requantize"]
    assert kernel.loc == ("fc",)


def test_a_kernel_takes_in_its_activation() -> None:
    p = FloatProgram()
    product = p(Matmul(), p.input(N, 4), p.normal(4, 4), layer="fc")
    graph = p.finish(p(Clip(0.0, 1.0), product, layer="act"))
    after = run_passes(graph, FUSED, random_feeds(graph))
    assert op_names(after) == ["quantize", "fused", "dequantize"]
    kernel = only(after, "fused")
    assert isinstance(kernel.op, Fused)
    assert [n.op.name for n in kernel.op.body.nodes] == ["matmul", "requantize", "clamp"]
    assert [n.loc for n in kernel.op.body.nodes] == [("fc",), ("fc",), ("act",)]
    assert kernel.loc == ("fc", "act")
    assert kernel.result.origin == Original("act_out")


def test_requantizes_in_a_row_become_one() -> None:
    """The product feeds a tied op that is cut from it, so a requantize follows the requantize."""
    p = FloatProgram()
    x = p.input(N, 4)
    small = p(Matmul(), x, p.constant(np.eye(4) * 0.01), layer="small")
    graph = p.finish(p(Concat(1), small, p(Mul(), x, p.constant(np.full((1, 4), 2.0)))))
    feeds = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)}
    names = [n.op.name for n in walk(run_passes(graph, FUSED, feeds))]
    assert names.count("requantize") == 1
    assert [n.op.name for n in walk(run_passes(graph, REALIZED, feeds))].count("requantize") == 2


def test_tables_hold_every_result() -> None:
    p = FloatProgram()
    graph = p.finish(p(Sigmoid(), p.input(N, 1), layer="act"))
    feeds = {"x": np.array([[-4.0], [4.0]], np.float32)}
    after = run_passes(graph, FUSED, feeds)
    x = np.linspace(-6, 6, 999, dtype=np.float32).reshape(-1, 1)
    found = reference.run(after, {"x": x})["y0"]
    expected = 1 / (1 + np.exp(-np.clip(x, -4.0, 4.0)))
    # Half a step of the input at the steepest slope 1/4, and half a step of the result.
    np.testing.assert_allclose(found, expected, atol=8 / 255 / 2 / 4 + 1 / 255 / 2 + 1e-4)


def test_outputs_of_plain_integers_and_passed_inputs() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    graph = p.finish(p(ArgMax(1, False), x), x, p(Reshape((N, 2, 2)), x))
    feeds = random_feeds(graph, 6)
    after = run_passes(graph, FUSED, feeds)
    found = reference.run(after, feeds)
    assert found["y0"].dtype == np.int64
    np.testing.assert_array_equal(found["y0"], found["y1"].argmax(1))
    np.testing.assert_array_equal(found["y2"].reshape(-1, 4), found["y1"])
