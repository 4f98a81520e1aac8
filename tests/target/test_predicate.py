"""Predicates: each built-in one at its borders, how rows cite them, and how plugins define them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler import plugins, registry
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, ConstantArray, Graph, Node, Op, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32
from qcompiler.ops.binary import Add
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.target import (
    PREDICATES,
    Target,
    built_in_targets,
    check_float_node,
    check_quantized_node,
    load_target,
    predicate,
    read_descriptor,
)
from qcompiler.target.predicate import parse_condition

plugins.load()
TARGET = load_target("tpu-int8")
N = SymbolicDim("N", 1)


def node(op: Op, *shapes: tuple[Any, ...]) -> Node:
    """A node on graph inputs of these shapes."""
    graph = Graph()
    operands = [graph.add_input(f"x{i}", TensorType(shape, F32)) for i, shape in enumerate(shapes)]
    return Builder(graph).create(op, operands, loc=("layer",))


def found(citation: str, node: Node) -> str | None:
    return parse_condition(citation).broken_by(node, TARGET)


@given(st.integers(1, 64), st.integers(1, 64))
def test_multiple_of(length: int, factor: int) -> None:
    expected = None if length % factor == 0 else str(length)
    add = node(Add(), (3, length, 5), (3, length, 5))
    assert found(f"multiple-of{{axis=1 factor={factor}}}", add) == expected
    assert found(f"multiple-of{{axis=-2 factor={factor} operand=1}}", add) == expected
    # A free length N is a multiple of 1 alone, 4 N of the divisors of 4.
    free = node(Add(), (SymbolicDim("N", length),), (SymbolicDim("N", length),))
    assert (found(f"multiple-of{{axis=0 factor={factor}}}", free) is None) == (length % factor == 0)


def test_multiple_of_an_operand_or_axis_that_is_not_there() -> None:
    add = node(Add(), (4, 4), (4, 4))
    assert found("multiple-of{operand=2 factor=3}", add) is None
    assert found("multiple-of{axis=2 factor=3}", add) == "rank 2"
    assert found("multiple-of{axis=-3 factor=1}", add) == "rank 2"
    for factor in (0, -2):
        with pytest.raises(QCompilerError, match=f"factor={factor}"):
            found(f"multiple-of{{factor={factor}}}", add)


@pytest.mark.parametrize(
    ("op", "x", "w"),
    [
        (Conv2D(layout="NHWC"), (N, 5, 5, 8), (12, 3, 3, 8)), (Conv2D(layout="NCHW"), (N, 8, 5, 5), (12, 8, 3, 3)),
        (ConvTranspose2D(layout="NHWC"), (N, 5, 5, 8), (12, 3, 3, 8)),
        (Matmul(), (N, 8), (8, 12)), (Matmul(transpose_b=True), (N, 8), (12, 8)), (Matmul(), (3, N, 8), (3, 8, 12)),
    ],
)
def test_channels_multiple_of(op: Op, x: tuple[Any, ...], w: tuple[Any, ...]) -> None:
    contraction = node(op, x, w)
    assert found("channels-multiple-of{factor=4}", contraction) is None
    assert found("channels-multiple-of{factor=8}", contraction) == "12 output channels"
    assert found("channels-multiple-of{factor=6}", contraction) == "8 input channels"
    assert found("channels-multiple-of{factor=5}", contraction) == "8 input channels and 12 output channels"
    assert found("channels-multiple-of{factor=5}", node(Add(), (3,), (3,))) is None


def test_kernel_in() -> None:
    conv = node(Conv2D(layout="NHWC"), (N, 9, 9, 2), (4, 3, 5, 2))
    pool = node(MaxPool2D((2, 2), (2, 2)), (N, 2, 8, 8))
    assert found("kernel-in{sizes=1x1/3x5}", conv) is None
    assert found("kernel-in{sizes=1x1/5x3}", conv) == "3x5"
    assert found("kernel-in{sizes=2x2}", pool) is None
    assert found("kernel-in{sizes=22x2/2x22}", pool) == "2x2"
    assert found("kernel-in{sizes=1x1}", node(Add(), (3,), (3,))) is None


def test_same_shape_operands() -> None:
    assert found("same-shape-operands", node(Add(), (N, 4), (N, 4))) is None
    assert found("same-shape-operands", node(Add(), (N, 4), (4,))) == "[N,4] and [4]"
    assert found("same-shape-operands", node(Add(), (1, 4), (N, 4))) == "[1,4] and [N,4]"


def test_dense_or_depthwise() -> None:
    def grouped(groups: int, inputs: int, outputs: int) -> Node:
        return node(Conv2D(groups=groups), (N, groups * inputs, 5, 5), (outputs, inputs, 3, 3))

    assert found("dense-or-depthwise", grouped(1, 8, 4)) is None
    assert found("dense-or-depthwise", grouped(8, 1, 8)) is None
    assert found("dense-or-depthwise", grouped(8, 1, 16)) is None
    assert found("dense-or-depthwise", grouped(2, 4, 8)) == "2 groups of 4 input channels"


def test_symmetric_pads() -> None:
    x, w = (N, 2, 9, 9), (4, 2, 3, 3)
    assert found("symmetric-pads", node(Conv2D(pads=(1, 2, 1, 2)), x, w)) is None
    for pads in ((1, 2, 1, 1), (0, 1, 1, 1)):
        assert found("symmetric-pads", node(Conv2D(pads=pads), x, w)) == str(list(pads))
        assert found("symmetric-pads", node(MaxPool2D((3, 3), (1, 1), pads=pads), x)) == str(list(pads))
    assert found("symmetric-pads", node(Add(), (3,), (3,))) is None


# Citing


def with_condition(folder: Path, row: str, text: str) -> Path:
    """tpu-int8 as a file of its own, with a condition in one row."""
    lines = built_in_targets()["tpu-int8"].read_text().splitlines()
    (index,) = [i for i, line in enumerate(lines) if line.partition("=")[0].strip() == row]
    lines[index] = lines[index].removesuffix("}").rstrip() + f", where = [{text}] }}"
    path = folder / "strict.toml"
    path.write_text("\n".join(lines))
    return path


def test_a_broken_condition_is_a_violation_in_float_and_in_integers(tmp_path: Path) -> None:
    target = load_target(with_condition(tmp_path, "matmul", '"channels-multiple-of{factor=8}"'))
    graph = Graph()
    x = graph.add_input("x", TensorType((N, 8), F32))
    build = Builder(graph)
    w = build(Constant(ConstantArray(np.ones((8, 12), np.float32))), elem=F32)
    matmul = build.create(Matmul(), [x, w], loc=("fc",))
    violation = check_float_node(target, matmul)
    assert violation is not None
    assert violation.constraint == "matmul: input and output channels are multiples of 8"
    assert violation.found == "12 output channels"
    assert check_float_node(TARGET, matmul) is None

    shape_op = load_target(with_condition(tmp_path, "reshape", '"multiple-of{factor=5}"'))
    from qcompiler.ir import Affine
    from qcompiler.ir.scalar import I8
    from qcompiler.ops.shape import Reshape

    q = graph.add_input("q", TensorType((1, 8), Affine.per_tensor(I8, np.float32(1))))
    moved = build.create(Reshape((2, 4)), [q], loc=("r",))
    assert check_quantized_node(TARGET, moved) is None
    broken = check_quantized_node(shape_op, moved)
    assert broken is not None
    assert (broken.constraint, broken.found) == (
        "reshape: the length of operand 0 along axis -1 is a multiple of 5", "8"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"channels-multiple{factor=8}"', "unknown predicate 'channels-multiple'\n  fix: did you mean 'channels-mul"),
        ('"multiple-of{facto=8}"', "has no parameter 'facto'\n  fix: did you mean 'factor'?"),
        ('"multiple-of{factor=a}"', "parameter 'factor' of predicate 'multiple-of' has the wrong type"),
        ('"kernel-in{sizes=3}"', "parameter 'sizes' of predicate 'kernel-in' has the wrong type"),
        ('"multiple-of"', "lacks its parameter 'factor'"), ('"multiple-of{factor"', "malformed condition"),
        ('"same-shape-operands{a=1}"', "no parameter 'a'"), ("3", "valid string"),
    ],
)
def test_a_wrong_citation_names_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = with_condition(tmp_path, "matmul", text)
    line = next(i for i, t in enumerate(path.read_text().splitlines(), 1) if t.startswith("matmul"))
    with pytest.raises(QCompilerError) as caught:
        read_descriptor(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ops.matmul.where")
    assert message in str(caught.value)


# Defining


def test_a_predicate_gets_the_target_and_its_defaults() -> None:
    with registry.temporary():

        @predicate("named-like")
        def named_like(node: Node, target: Target, *, word: str = "tpu-int8", size: int = 3) -> str | None:
            """the target is
            called {word} or {size}."""
            return None if target.name == word else f"{target.name} and {size}"

        add = node(Add(), (3,), (3,))
        assert found("named-like", add) is None
        assert found("named-like{word=x size=7}", add) == "tpu-int8 and 7"
        assert str(parse_condition("named-like{size=-4}")) == "the target is called tpu-int8 or -4"
        with pytest.raises(QCompilerError, match="predicate 'named-like' is defined twice"):
            predicate("named-like")(named_like)
    assert "named-like" not in PREDICATES


def test_a_predicate_must_say_what_it_demands() -> None:
    def silent(node: Node, target: Target) -> str | None:
        return None

    def misspelt(node: Node, target: Target, *, factor: int = 1) -> str | None:
        """a multiple of {facto}"""
        return None

    def targetless(node: Node, *, factor: int) -> str | None:
        """a multiple of {factor}"""
        return None

    def fractional(node: Node, target: Target, *, factor: float) -> str | None:
        """a multiple of {factor}"""
        return None

    with registry.temporary():
        for function, problem in (
            (silent, "no docstring"), (misspelt, "no parameter 'facto'"), (targetless, r"\(node: 'Node', \*"),
            (fractional, "factor: 'float'"),
        ):
            with pytest.raises(QCompilerError, match=problem):
                predicate("mine")(function)
        assert "mine" not in PREDICATES
