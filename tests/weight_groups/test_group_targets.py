"""Targets with 4-bit weights in groups: what a descriptor may say, what programs hold, and what is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import models
import numpy as np
import pytest

import qcompiler
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, ConstantArray, Graph, Node, TensorType, clone, structural_hash, walk
from qcompiler.ir.scalar import I4, I8
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul
from qcompiler.pipeline import Context, Pipeline
from qcompiler.program import Program, load
from qcompiler.target import Target, load_target, read_descriptor

TARGETS = ("w4a8", "w4a16")
MODELS = ("residual_cnn", "depthwise_net", "token_mixer")


@cache
def compiled(name: str, target: str) -> Program:
    return qcompiler.compile(models.model(name), target=target, data=models.samples(name, 6), native=False)


def contractions(graph: Graph) -> list[tuple[Node, Node | None]]:
    """Each contraction with the constant of its weights, those in kernels included."""
    found = []
    for node in graph.nodes:
        inside = getattr(node.op, "body", None)
        parts = list(inside.nodes) if isinstance(inside, Graph) else [node]
        outer = dict(zip(inside.inputs, node.operands, strict=True)) if isinstance(inside, Graph) else {}
        for part in parts:
            if isinstance(part.op, Contraction):
                weights = outer.get(part.operands[1], part.operands[1]).producer
                found.append((part, weights if weights and isinstance(weights.op, Constant) else None))
    return found


def input_channels(node: Node) -> int:
    shape = node.operands[1].type.shape
    axis = -1 if isinstance(node.op, Conv2D | ConvTranspose2D) else 1 if getattr(node.op, "transpose_b", False) else 0
    return int(str(shape[axis]))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_weights_are_grouped_where_channels_are_many(name: str, target: str) -> None:
    seen = set()
    for node, weights in contractions(compiled(name, target).graph):
        if weights is None:
            continue
        elem = weights.result.type.elem
        assert isinstance(elem, Affine)
        op = node.op
        assert isinstance(op, Contraction)
        many = input_channels(node) >= 8
        assert elem.storage == (I4 if many else I8)
        seen.add(many)
        if not many:
            assert op.group_multipliers is None
            continue
        assert op.group_multipliers is not None
        blocks = [b for b in elem.blocks if b != 1]
        assert blocks == [min(16, input_channels(node))]
        array = constant_value(weights.result)
        assert array is not None
        # Effective weights fit the kernels for int8, and the range is used.
        assert np.abs(op.integer_weights(weights.result.type, array)).max() <= 120
        assert op.group_multipliers.array.max() <= 15
        assert {-8, 7} <= set(array.reshape(-1).tolist())
    assert True in seen


@pytest.mark.parametrize("target", TARGETS)
def test_an_artifact_holds_packed_weights_and_runs(target: str, tmp_path: Path) -> None:
    program = compiled("residual_cnn", target)
    program.save(tmp_path / "built")
    again = load(tmp_path / "built")
    assert structural_hash(again.graph) == structural_hash(program.graph)
    x = models.samples("residual_cnn", 3, seed=1)
    for name, array in program.run(x).items():
        np.testing.assert_array_equal(again.run(x)[name], array)
    eight = qcompiler.compile(
        models.model("residual_cnn"), target="tpu-int8", data=models.samples("residual_cnn", 6), native=False
    )
    assert program.figures["bytes_after"] < eight.figures["bytes_after"]


@pytest.mark.parametrize("name", MODELS)
def test_programs_are_near_float(name: str) -> None:
    """4-bit weights lose some, and not all: the error is well below the signal."""
    figures = compiled(name, "w4a16").figures
    assert min(figures["sqnr_db"].values()) > 10


def prove(graph: Graph, target: Target | None = None) -> None:
    Pipeline.parse("verify-legal").run(graph, Context(target or load_target("w4a8")))


def spoiled() -> tuple[Graph, Node, Node]:
    """A program, one of its contractions with groups, and the constant of its weights."""
    graph = clone(compiled("residual_cnn", "w4a8").graph)
    node, weights = next((n, w) for n, w in contractions(graph) if getattr(n.op, "group_multipliers", None) is not None)
    assert weights is not None
    return graph, node, weights


def test_other_multipliers_are_refused() -> None:
    """They do not fit the weights' type, which says what the weights mean."""
    graph, node, _ = spoiled()
    prove(graph)
    op = node.op
    assert isinstance(op, Contraction)
    assert op.group_multipliers is not None
    other = op.group_multipliers.array.copy()
    other.flat[0] = other.flat[0] % 15 + 1
    node.set_op(op.replace(group_multipliers=ConstantArray(other)))
    with pytest.raises(QCompilerError, match="one number for each channel"):
        prove(graph)


def refused(tmp_path: Path, old: str, new: str) -> str:
    """What verify-legal says of a program for w4a8 on a target that differs in one place."""
    text = (Path(qcompiler.__file__).parent / "targets" / "w4a8.toml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "chip.toml"
    path.write_text(text.replace(old, new).replace('name = "w4a8"', 'name = "chip"'))
    with pytest.raises(QCompilerError) as caught:
        prove(clone(compiled("residual_cnn", "w4a8").graph), read_descriptor(path))
    return str(caught.value)


def test_legality_knows_groups(tmp_path: Path) -> None:
    assert "has groups of [1, 1, 1, 8]" in refused(tmp_path, "blocks = 16", "blocks = 8")
    assert "has group multipliers within [1, 7]" in refused(tmp_path, "[1, 15]", "[1, 7]")
    assert "sums over at least 200 input channels" in refused(tmp_path, "count=8", "count=200")
    assert "keeps integers within [-7, 7]" in refused(tmp_path, "blocks = 16,", "range = [-7, 7], blocks = 16,")


BROKEN = {
    "no multiplier": (', group_multiplier = [1, 15]', "", "need 'group_multiplier'"),
    "multiplier without groups": ("blocks = 16", 'blocks = "channel"', "needs 'blocks' of a number"),
    "multiplier of 0": ("[1, 15]", "[0, 15]", "lies within 1 and 255"),
    "multiplier too large": ("[1, 15]", "[1, 256]", "lies within 1 and 255"),
    "any zero point": ("zero_point = 0", 'zero_point = "any"', "needs 'constant = true' and 'zero_point = 0'"),
    "computed weights": ("constant = true, ", "", "needs 'constant = true' and 'zero_point = 0'"),
    "unknown predicate": ("input-channels-at-least{count=8}", "input-chanels-at-least{count=8}", "at-least"),
    "malformed predicate": ("input-channels-at-least{count=8}", "input-channels-at-least{count=", "malformed"),
    "groups of activations": ('conv2d           = { in = ["act", "wt4|wt"', 'conv2d = { in = ["wt4|act", "wt4|wt"',
                              "groups along a reduction, which only weights have"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_contradictory_descriptors_are_refused(name: str, tmp_path: Path) -> None:
    old, new, problem = BROKEN[name]
    text = (Path(qcompiler.__file__).parent / "targets" / "w4a8.toml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "chip.toml"
    path.write_text(text.replace(old, new).replace('name = "w4a8"', 'name = "chip"'))
    with pytest.raises(QCompilerError, match=problem) as caught:
        read_descriptor(path)
    assert "chip.toml" in str(caught.value)


def test_a_depthwise_convolution_can_have_one_group_a_channel(tmp_path: Path) -> None:
    """Where a target sets no condition, its taps are the group."""
    text = (Path(qcompiler.__file__).parent / "targets" / "w4a8.toml").read_text()
    path = tmp_path / "chip.toml"
    path.write_text(text.replace(', where = ["input-channels-at-least{count=8}"]', "").replace('"w4a8"', '"chip"'))
    program = qcompiler.compile(
        models.model("depthwise_net"), target=path, data=models.samples("depthwise_net", 4), native=False
    )
    found = [
        (w.result.type, n.op.group_multipliers) for n, w in contractions(program.graph)
        if w is not None and isinstance(n.op, Conv2D) and n.op.groups > 1
    ]
    assert found
    for type, multipliers in found:
        assert isinstance(type.elem, Affine)
        assert type.elem.storage == I4
        assert type.elem.blocks == (1, *type.shape[1:])
        assert multipliers is not None
        assert multipliers.shape == (type.shape[0], 1, 1, 1)


def test_a_type_with_a_condition_says_so_where_no_choice_is_left(tmp_path: Path) -> None:
    text = (Path(qcompiler.__file__).parent / "targets" / "w4a8.toml").read_text()
    path = tmp_path / "chip.toml"
    path.write_text(text.replace('"wt4|wt"', '"wt4"').replace('"w4a8"', '"chip"'))
    with pytest.raises(QCompilerError, match=r"at least 8 input channels.*3 input channels"):
        qcompiler.compile(
            models.model("residual_cnn"), target=path, data=models.samples("residual_cnn", 4), native=False
        )


def test_tied_weights_of_two_layers_get_scales_of_their_own() -> None:
    """One constant, two matrix products with different inputs: rounding one leaves the other's weights alone."""
    from qcompiler.ir import Builder, SymbolicDim
    from qcompiler.ir.scalar import F32

    rng = np.random.default_rng(3)
    graph = Graph("tied")
    batch = SymbolicDim("N")
    x, y = (graph.add_input(name, TensorType((batch, 32), F32)) for name in ("x", "y"))
    build = Builder(graph, loc=("tied",))
    w = build(Constant(ConstantArray(rng.normal(0, 1, (8, 32)).astype(np.float32))), elem=F32)
    graph.set_outputs([("a", build(Matmul(True), x, w)), ("b", build(Matmul(True), y, w))])
    sizes = np.repeat([0.01, 1.0], 16)
    data = {
        "x": (rng.normal(0, 1, (64, 32)) * sizes).astype(np.float32),
        "y": (rng.normal(0, 1, (64, 32)) * sizes[::-1]).astype(np.float32),
    }
    program = qcompiler.compile(graph, target="w4a16", data=data, native=False)
    assert min(program.figures["sqnr_db"].values()) > 15
    assert len({n.results[0].type for n in walk(program.graph) if n.results[0].type.storage == I4}) == 2
