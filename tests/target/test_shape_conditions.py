"""Predicates on windows, strides, reduced axes and image sizes, at their borders."""

from __future__ import annotations

from typing import Any

import pytest

from qcompiler import plugins
from qcompiler.ir import Builder, Graph, Node, Op, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Relu
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import Mean
from qcompiler.ops.resize import Resize
from qcompiler.target import check_float_node, load_target
from qcompiler.target.predicate import parse_condition

plugins.load()
ETHOS = load_target("ethos-u55")
N = SymbolicDim("N", 1)


def node(op: Op, *shapes: tuple[Any, ...]) -> Node:
    graph = Graph()
    operands = [graph.add_input(f"x{i}", TensorType(shape, F32)) for i, shape in enumerate(shapes)]
    return Builder(graph).create(op, operands, loc=("layer",))


def found(citation: str, op: Op, *shapes: tuple[Any, ...]) -> str | None:
    return parse_condition(citation).broken_by(node(op, *shapes), ETHOS)


IMAGE, WEIGHTS = (N, 20, 20, 4), (8, 3, 3, 4)


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "legal"),
    [(3, 1, 1, True), (3, 1, 2, True), (4, 0, 1, True), (4, 1, 1, False), (4, 0, 2, False)],
)
def test_large_strides(stride: int, pad: int, dilation: int, legal: bool) -> None:
    op = Conv2D((1, stride), (dilation, dilation), (pad, 0, 0, 0), layout="NHWC")
    expected = None if legal else f"strides [1, {stride}]"
    assert found("large-stride-only-unpadded{largest=3}", op, IMAGE, WEIGHTS) == expected
    assert found("large-stride-only-unpadded{largest=3}", Relu(), IMAGE) is None


@pytest.mark.parametrize(("size", "pad", "legal"), [(8, 1, True), (9, 0, True), (9, 1, False)])
def test_large_kernels(size: int, pad: int, legal: bool) -> None:
    op = AveragePool2D((2, size), (1, 1), (0, pad, 0, 0), "NHWC")
    assert found("large-kernel-only-unpadded{largest=8}", op, IMAGE) == (None if legal else f"2x{size}")


def test_kernel_heights() -> None:
    assert found("kernel-height-at-most{largest=3}", MaxPool2D((3, 4), layout="NHWC"), IMAGE) is None
    assert found("kernel-height-at-most{largest=2}", MaxPool2D((3, 4), layout="NHWC"), IMAGE) == "3"


def test_kernel_areas() -> None:
    assert found("kernel-area-at-most{largest=12}", MaxPool2D((3, 4), layout="NHWC"), IMAGE) is None
    assert found("kernel-area-at-most{largest=11}", MaxPool2D((3, 4), layout="NHWC"), IMAGE) == "3x4"
    assert found("kernel-area-at-most{largest=8}", Conv2D(layout="NHWC"), IMAGE, WEIGHTS) == "3x3"


def test_strides_of_depthwise_convolutions() -> None:
    citation = "depthwise-strides-at-most{largest=3}"
    for groups, weights, legal in ((1, WEIGHTS, True), (4, (4, 3, 3, 1), False)):
        op = Conv2D((4, 4), groups=groups, layout="NHWC")
        assert found(citation, op, IMAGE, weights) == (None if legal else "strides [4, 4]")
    assert found(citation, Conv2D((3, 3), groups=4, layout="NHWC"), IMAGE, (4, 3, 3, 1)) is None


def test_strides_of_a_list() -> None:
    for strides, expected in (((2, 2), None), ((1, 1), None), ((2, 1), "2x1")):
        op = ConvTranspose2D(strides, layout="NHWC")
        assert found("strides-in{sizes=1x1/2x2}", op, IMAGE, WEIGHTS) == expected
    assert found("strides-in{sizes=1x1}", Relu(), IMAGE) is None


def test_reduced_axes() -> None:
    citation = "reduced-axes-shorter-than{length=20}"
    assert found(citation, Mean((1, 2)), (N, 19, 19, 50)) is None
    assert found(citation, Mean((1, 2)), (N, 19, 20, 50)) == "20"
    assert found(citation, Relu(), (N, 50)) is None


def test_lengths_of_reductions() -> None:
    for length, expected in ((36, None), (35, "36")):
        assert found(f"reduction-at-most{{length={length}}}", Conv2D(layout="NHWC"), IMAGE, WEIGHTS) == expected
    assert found("reduction-at-most{length=7}", Matmul(), (N, 8), (8, 2)) == "8"


@pytest.mark.parametrize(
    ("mode", "coordinates", "sizes", "legal"),
    [
        ("nearest", "asymmetric", (8, 12), True), ("nearest", "asymmetric", (16, 24), True),
        ("nearest", "asymmetric", (12, 18), False), ("nearest", "asymmetric", (8, 24), False),
        ("nearest", "asymmetric", (4, 6), True), ("nearest", "half_pixel", (32, 48), True),
        ("linear", "half_pixel", (8, 12), True), ("linear", "half_pixel", (16, 24), False),
        ("linear", "align_corners", (7, 11), True), ("linear", "align_corners", (8, 12), False),
    ],
)
def test_factors_of_upsampling(mode: str, coordinates: str, sizes: tuple[int, int], legal: bool) -> None:
    op = Resize((1, 2), sizes, mode, coordinates)
    wrong = None if legal else f"4x6 to {sizes[0]}x{sizes[1]}"
    assert found("upsamples-by{factors=2/4/8 half_pixel=2}", op, (N, 4, 6, 3)) == wrong
    assert found("upsamples-by{factors=2/4/8 half_pixel=2}", op, (N, 1, 1, 3)) is None


def test_the_ethos_says_what_it_cannot_run() -> None:
    violation = check_float_node(ETHOS, node(AveragePool2D((9, 9), (1, 1), (4, 4, 4, 4), "NHWC"), IMAGE))
    assert violation is not None
    assert "kernels above 8 along an axis go without padding" in violation.constraint
    assert violation.found == "9x9"
