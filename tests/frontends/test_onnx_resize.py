"""Resize and Upsample against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_single_node import Dims, compare, node_model, op_names

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model

F = np.float32
X: dict[str, tuple[Any, Dims]] = {"x": (F, ["N", 3, 6, 4])}


def resize(target: list[float] | list[int], opset: int = 13, rank: int = 4, **attributes: Any) -> Any:
    sizes = all(isinstance(t, int) for t in target)
    constants = {"target": np.asarray(target, np.int64 if sizes else F)}
    order = ["x", "", "", "target"] if sizes else ["x", "", "target"]
    if opset < 13:
        # Opset 11 requires roi and scales, empty where they do not count.
        constants |= {"roi": np.zeros(0, F), "none": np.zeros(0, F)}
        order = ["x", "roi", "none", "target"] if sizes else ["x", "roi", "target"]
    inputs: dict[str, tuple[Any, Dims]] = {"x": (F, [2 if sizes else "N", *(3, 6, 4)[: rank - 1]])}
    return node_model("Resize", inputs, constants, order=order, opset=opset, **attributes)


def sample(rank: int = 4) -> np.ndarray:
    return np.random.default_rng().standard_normal((2, 3, 6, 4)[:rank]).astype(F)


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("target", [[1.0, 1.0, 2.0, 4.0], [1.0, 1.0, 0.5, 0.25], [2, 3, 12, 8]])
def test_nearest(coordinates: str, nearest: str, target: list[float]) -> None:
    model = resize(target, coordinate_transformation_mode=coordinates, nearest_mode=nearest)
    assert op_names(compare(model, {"x": sample()}, exact=True)) == ["resize"]


@pytest.mark.parametrize("opset", [11, 13, 18, 19])
@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("target", [[1.0, 1.0, 2.0, 1.5], [1.0, 1.0, 0.5, 1.0], [2, 3, 7, 9], [2, 3, 1, 4]])
def test_linear(opset: int, coordinates: str, target: list[float]) -> None:
    model = resize(target, opset, mode="linear", coordinate_transformation_mode=coordinates)
    compare(model, {"x": sample()})


def test_scale_whose_float32_misses_the_size() -> None:
    model = resize([1.0, 1.0, 4 / 3, 1.25], mode="linear")
    graph = compare(model, {"x": sample()})
    assert graph.outputs[0].value.type.shape[2:] == (8, 5)


def test_half_pixel_symmetric() -> None:
    compare(resize([1.0, 1.0, 2.0, 3.0], 19, mode="linear", coordinate_transformation_mode="half_pixel_symmetric"),
            {"x": sample()})


def test_tf_half_pixel_for_nearest() -> None:
    model = resize(
        [1.0, 1.0, 2.0, 0.5], 11, coordinate_transformation_mode="tf_half_pixel_for_nn", nearest_mode="floor"
    )
    compare(model, {"x": sample()}, exact=True)


def test_one_axis() -> None:
    graph = compare(resize([1.0, 1.0, 2.0], rank=3, mode="linear"), {"x": sample(3)})
    assert op_names(graph) == ["reshape", "resize", "reshape"]


def test_channels_last() -> None:
    model = resize([1.0, 2.0, 3.0, 1.0], coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    compare(model, {"x": sample()}, exact=True)


def test_axes() -> None:
    model = node_model(
        "Resize", X, {"scales": np.asarray([3, 2], F)}, order=["x", "", "scales"], opset=18, axes=[3, 2], mode="linear"
    )
    graph = compare(model, {"x": sample()})
    assert graph.outputs[0].value.type.shape[2:] == (12, 12)


def test_same_size_is_nothing() -> None:
    assert op_names(compare(resize([1.0, 1.0, 1.0, 1.0]), {"x": sample()}, exact=True)) == []


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [[1, 1, 2, 3], [1, 1, 0.5, 0.5]])
def test_opset_10(mode: str, scales: list[float]) -> None:
    model = node_model("Resize", X, {"scales": np.asarray(scales, F)}, opset=10, mode=mode)
    compare(model, {"x": sample()}, exact=mode == "nearest")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    model = node_model("Upsample", X, {"scales": np.asarray([1, 1, 2, 3], F)}, opset=9, mode=mode)
    compare(model, {"x": sample()}, exact=mode == "nearest")


@pytest.mark.parametrize(
    ("target", "opset", "attributes", "problem"),
    [
        ([1.0, 1.0, 1.3, 1.0], 13, {}, "does not take size 6 to a whole number"),
        ([1.0, 1.0, 2.0, 2.0], 13, {"mode": "cubic"}, "mode=cubic"),
        ([1.0, 2.0, 2.0, 2.0], 13, {}, r"axes \[1, 2, 3\] are resized"),
        ([1.0, 1.0, 0.5, 0.5], 18, {"antialias": 1, "mode": "linear"}, "antialias=1"),
        ([1.0, 1.0, 2.0, 2.0], 13, {"coordinate_transformation_mode": "tf_crop_and_resize"}, "tf_crop_and_resize"),
        ([2, 3, 9, 9], 18, {"keep_aspect_ratio_policy": "not_larger"}, "keep_aspect_ratio_policy"),
    ],
)
def test_what_is_not_supported(target: list[float], opset: int, attributes: dict[str, Any], problem: str) -> None:
    with pytest.raises(QCompilerError, match=problem):
        import_model(resize(target, opset, **attributes))
