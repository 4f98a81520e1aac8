"""fold-batch-norm, fold-pad, fold-constants, cse, dce: what they do, and what they must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from float_programs import FloatProgram, N, check_pass, only, op_names, run_passes

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Original, Untraced, Value, structural_hash
from qcompiler.ops.activation import Relu
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.normalization import BatchNorm
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.shape import Transpose
from qcompiler.ops.slicing import Pad, Split


def batch_norm(p: FloatProgram, x: Value, channels: int, variance: float = 0.7) -> Value:
    statistics = [p.constant(np.linspace(a, b, channels)) for a, b in ((0.5, 1.5), (-1, 1), (-0.3, 0.4))]
    return p(BatchNorm(1e-3), x, *statistics, p.constant(np.full(channels, variance)), layer="bn")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["conv", "groups", "transposed", "matmul", "matmul_transposed"])
def test_batch_norm_folds(kind: str, bias: bool) -> None:
    p = FloatProgram()
    matrix = kind.startswith("matmul")
    x = p.input(N, 4) if matrix else p.input(N, 4, 5, 5)
    op, shape = {
        "conv": (Conv2D(pads=(1, 1, 1, 1)), (6, 4, 3, 3)), "groups": (Conv2D(groups=2), (6, 2, 3, 3)),
        "transposed": (ConvTranspose2D(strides=(2, 2)), (6, 4, 2, 2)), "matmul": (Matmul(), (4, 6)),
        "matmul_transposed": (Matmul(True), (6, 4)),
    }[kind]
    y = p(op, x, p.normal(*shape), *([p.normal(6)] if bias else []), layer="conv")
    graph = p.finish(p(Relu(), batch_norm(p, y, 6)))
    after = check_pass(graph, "fold-batch-norm,dce")
    assert op_names(after) == [op.name, "relu"]
    folded = only(after, op.name)
    assert folded.loc == ("conv", "bn")
    assert folded.result.origin == Original("bn_out")


@pytest.mark.parametrize("why", ["two users", "graph output", "computed weights", "another axis", "no contraction"])
def test_batch_norm_that_cannot_fold_becomes_mul_and_add(why: str) -> None:
    p = FloatProgram()
    x = p.input(N, 3, 4) if why == "another axis" else p.input(N, 4, 5, 5)
    outputs = []
    if why == "no contraction":
        y, channels = x, 4
    elif why == "another axis":
        # Channels of a batch of matrices are on the last axis; batch norm runs along axis 1.
        y, channels = p(Matmul(), x, p.normal(4, 6)), 3
    else:
        weights = p.input(6, 4, 1, 1, name="w") if why == "computed weights" else p.normal(6, 4, 1, 1)
        y, channels = p(Conv2D(), x, weights), 6
    normalized = batch_norm(p, y, channels)
    if why == "two users":
        normalized = p(Add(), normalized, y)
    if why == "graph output":
        outputs = [y]
    after = check_pass(p.finish(normalized, *outputs), "fold-batch-norm,dce")
    names = op_names(after)
    assert names[-2:] == ["mul", "add"] if why != "two users" else names[-3:] == ["mul", "add", "add"]
    assert "batch_norm" not in names


def test_batch_norm_with_zero_variance_is_an_error() -> None:
    p = FloatProgram()
    graph = p.finish(batch_norm(p, p.input(N, 4, 5, 5), 4, variance=-1e-3))
    with pytest.raises(QCompilerError, match=r"layer 'bn'.*divides by zero"), np.errstate(all="ignore"):
        run_passes(graph, "fold-batch-norm")


def test_batch_norm_with_computed_statistics_is_an_error() -> None:
    p = FloatProgram()
    rest = [p.normal(4) for _ in range(3)]
    graph = p.finish(p(BatchNorm(), p.input(N, 4, 5, 5), p.input(4, name="scale"), *rest, layer="bn"))
    with pytest.raises(QCompilerError, match=r"layer 'bn'.*must be constants"):
        run_passes(graph, "fold-batch-norm")


def padded(user: object, **pad: object) -> tuple[Graph, FloatProgram]:
    p = FloatProgram()
    x = p.input(N, 4, 6, 6)
    arguments = {"before": (0, 0, 1, 2), "after": (0, 0, 0, 1), **pad}
    y = p(Pad(**arguments), x, layer="pad")  # type: ignore[arg-type]
    channels = 4 + sum(arguments[k][1] for k in ("before", "after"))  # type: ignore[index]
    operands = [y, p.normal(5, channels, 3, 3)] if isinstance(user, Conv2D) else [y]
    operands = [y, p.normal(5, 4, 3, 3)] if isinstance(user, ConvTranspose2D) else operands
    return p.finish(p(user, *operands, layer="user")), p  # type: ignore[arg-type]


def test_zero_padding_folds_into_a_convolution() -> None:
    graph, _ = padded(Conv2D(pads=(1, 0, 2, 0), strides=(2, 1)))
    after = check_pass(graph, "fold-pad")
    assert op_names(after) == ["conv2d"]
    conv = only(after, "conv2d")
    assert conv.op.attributes()["pads"] == (2, 2, 2, 1)
    assert conv.loc == ("pad", "user")


@pytest.mark.parametrize(
    ("user", "pad"),
    [
        (MaxPool2D((3, 3)), {}),
        (AveragePool2D((3, 3)), {}),
        (ConvTranspose2D(), {}),
        (Conv2D(), {"value": 1.0}),
        (Conv2D(), {"mode": "edge"}),
        (Conv2D(), {"mode": "reflect"}),
        (Conv2D(), {"before": (0, 1, 1, 1)}),
        (Conv2D(), {"after": (0, 1, 0, 0)}),
    ],
    ids=str,
)
def test_other_padding_stays(user: object, pad: dict[str, object]) -> None:
    graph, _ = padded(user, **pad)
    before = structural_hash(graph)
    after = check_pass(graph, "fold-pad")
    after.pipeline = graph.pipeline
    assert structural_hash(after) == before


def test_padding_with_two_users_stays_for_the_other() -> None:
    p = FloatProgram()
    y = p(Pad((0, 0, 1, 1), (0, 0, 1, 1)), p.input(N, 4, 6, 6))
    graph = p.finish(p(Conv2D(), y, p.normal(5, 4, 3, 3)), p(MaxPool2D((2, 2)), y))
    after = check_pass(graph, "fold-pad,dce")
    assert sorted(op_names(after)) == ["conv2d", "max_pool2d", "pad"]
    assert only(after, "conv2d").operands[0] is after.inputs[0]


def test_constants_fold() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    total = p(Add(), p.normal(4), p.normal(4, seed=1))
    first, _ = p.split(Split(0, (4, 2)), p.normal(6))
    moved = p(Transpose((1, 0)), p.normal(4, 1))
    graph = p.finish(p(Mul(), p(Add(), p(Add(), x, total), first), moved))
    after = check_pass(graph, "fold-constants,dce")
    assert op_names(after) == ["add", "add", "mul"]
    # Constants that nobody uses any more are gone.
    assert len(after) == 6


def test_large_results_are_left_to_run_time() -> None:
    p = FloatProgram()
    graph = p.finish(p(Add(), p.input(N, 4), p(Add(), p.normal(4), p.normal(4, seed=1))))
    assert op_names(run_passes(graph, "fold-constants{max-bytes=15}")) == ["add", "add"]
    assert op_names(run_passes(graph, "fold-constants{max-bytes=16}")) == ["add"]


def test_equal_nodes_become_one() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    first, second = p(Add(), x, p.normal(4)), p(Add(), x, p.normal(4))
    third = p(Add(), x, p.normal(4, seed=1))
    parts = p.split(Split(1, (1, 3)), x), p.split(Split(1, (1, 3)), x)
    graph = p.finish(p(Mul(), p(Relu(), first), p(Relu(), second)), third, parts[0][0], parts[1][1])
    after = check_pass(graph, "cse")
    assert op_names(after) == ["add", "add", "split", "relu", "mul"]
    merged = next(n for n in after.nodes if n.op.name == "add")
    assert merged.loc == ("add0", "add1")


@pytest.mark.parametrize("difference", ["attribute", "operand order", "type", "bits of a constant"])
def test_unequal_nodes_stay(difference: str) -> None:
    p = FloatProgram()
    x, y = p.input(N, 4), p.input(N, 4, name="z")
    if difference == "attribute":
        outputs = [p(Pad((0, 1), (0, 0), value=v), x) for v in (0.0, 1.0)]
    elif difference == "operand order":
        outputs = [p(Add(), x, y), p(Add(), y, x)]
    elif difference == "type":
        outputs = [p.constant([1.0, 2.0]), p.constant(np.array([1.0, 2.0], np.float32).view(np.int32), np.int32)]
    else:
        outputs = [p.constant([0.0]), p.constant([-0.0])]
    graph = p.finish(*outputs)
    assert len(run_passes(graph, "cse")) == len(graph)


def test_an_untraced_value_takes_the_origin_of_its_equal() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    first, second = p(Relu(), x), p(Relu(), x)
    first.origin = Untraced("test")
    after = run_passes(p.finish(first, second), "cse")
    assert only(after, "relu").result.origin == second.origin


def test_dead_nodes_go() -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    p(Relu(), p(Add(), x, p.normal(4)))
    first, _ = p.split(Split(1, (1, 3)), x)
    graph = p.finish(first)
    after = check_pass(graph, "dce")
    assert op_names(after) == ["split"]
    assert len(after) == 1
    assert not [u for u, _ in after.inputs[0].uses if u.graph is None]
