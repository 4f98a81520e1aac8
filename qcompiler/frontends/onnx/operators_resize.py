"""Handlers of Resize and Upsample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator, handles, static_sizes
from qcompiler.frontends.onnx.operators_elementwise import float_operand
from qcompiler.frontends.onnx.spatial import to_image
from qcompiler.ir import Dim, Value
from qcompiler.ops.resize import COORDINATES, NEAREST, Resize
from qcompiler.ops.shape import Reshape

TOLERANCE = 1e-5
"""How far size * scale may miss a whole number: the rounding of a float32 scale such as 4/3."""


@handles("Upsample")
def _upsample(layer: Layer) -> Value:
    scales = layer.attributes.get("scales")
    if scales is None:
        scales = layer.parameter(1, "the scales operand").reshape(-1).tolist()
    return _resize_by_scales(layer, list(scales), "asymmetric", "floor", list(range(len(scales))))


@handles("Resize")
def _resize(layer: Layer) -> Value:
    if layer.opset == 10:
        scales = layer.parameter(1, "the scales operand").reshape(-1).tolist()
        # Opset 10 has no attributes for these; ONNX Runtime rounds up where it shrinks.
        return _resize_by_scales(layer, scales, "asymmetric", "ceil" if min(scales) < 1 else "floor", None)
    if layer.integer("antialias", 0):
        raise UnsupportedOperator("antialias=1")
    if layer.integer("exclude_outside", 0) and layer.text("mode", "nearest") == "cubic":
        raise UnsupportedOperator("exclude_outside=1")
    coordinates = layer.text("coordinate_transformation_mode", "half_pixel")
    nearest = layer.text("nearest_mode", "round_prefer_floor")
    coordinates, nearest = _equivalent_coordinates(layer, coordinates, nearest)
    axes = layer.integers("axes")
    if layer.has(3) and layer.parameter(3, "the sizes operand").size:
        if layer.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise UnsupportedOperator("keep_aspect_ratio_policy")
        return _resize_to(layer, layer.parameter(3, "the sizes operand").tolist(), coordinates, nearest, axes)
    if not layer.has(2):
        raise layer.invalid("neither scales nor sizes are given")
    scales = layer.parameter(2, "the scales operand").reshape(-1).tolist()
    return _resize_by_scales(layer, scales, coordinates, nearest, axes)


def _equivalent_coordinates(layer: Layer, coordinates: str, nearest: str) -> tuple[str, str]:
    """The op's own names for the same source positions."""
    if coordinates == "half_pixel_symmetric":
        # It differs from half_pixel only where size * scale is no whole number, which is refused.
        coordinates = "half_pixel"
    if coordinates == "tf_half_pixel_for_nn" and nearest == "floor":
        # floor((i + 1/2) / scale) is half_pixel's position plus 1/2, rounded down.
        coordinates, nearest = "half_pixel", "round_prefer_ceil"
    if coordinates not in COORDINATES:
        raise UnsupportedOperator(f"coordinate_transformation_mode={coordinates}")
    if nearest not in NEAREST:
        raise UnsupportedOperator(f"nearest_mode={nearest}")
    return coordinates, nearest


def _resize_by_scales(
    layer: Layer, scales: Sequence[float], coordinates: str, nearest: str, axes: Sequence[int] | None
) -> Value:
    x = float_operand(layer)
    chosen = list(range(x.type.rank)) if axes is None else [layer.axis(a, x.type.rank) for a in axes]
    if len(chosen) != len(scales):
        raise layer.invalid(f"{len(scales)} scales for {len(chosen)} axes")
    sizes: list[Any] = []
    for axis, scale in zip(chosen, scales, strict=True):
        size: Dim = x.type.shape[axis]
        if scale != 1:
            (old,) = static_sizes(layer, x.type.shape, [axis])
            product = float(np.float32(old) * np.float32(scale))
            size = int(np.floor(product))
            # With align_corners positions follow from the sizes alone.
            if abs(product - round(product)) > TOLERANCE * product and coordinates != "align_corners":
                raise UnsupportedOperator(f"scale {scale} does not take size {old} to a whole number")
        sizes.append(size)
    return _resize_to(layer, sizes, coordinates, nearest, chosen)


def _resize_to(
    layer: Layer, sizes: Sequence[Any], coordinates: str, nearest: str, axes: Sequence[int] | None
) -> Value:
    x = float_operand(layer)
    shape, rank = x.type.shape, x.type.rank
    chosen = list(range(rank)) if axes is None else [layer.axis(a, rank) for a in axes]
    if len(chosen) != len(sizes):
        raise layer.invalid(f"{len(sizes)} sizes for {len(chosen)} axes")
    target = dict(zip(chosen, sizes, strict=True))
    changed = [axis for axis, size in sorted(target.items()) if size != shape[axis]]
    mode = layer.text("mode", "nearest")
    if mode not in ("nearest", "linear"):
        raise UnsupportedOperator(f"mode={mode}")
    if not changed:
        return x
    if rank == 3 and changed == [2]:
        image = layer.emit(_op(layer, (2, 3), (1, target[2]), mode, coordinates, nearest), to_image(layer, x))
        return layer.emit(Reshape((*shape[:2], int(target[2]))), image)
    if len(changed) == 1:
        # The second axis of the pair keeps its size: the other spatial one in NCHW.
        first = 2 if rank == 4 and changed[0] >= 2 else min(changed[0], max(rank - 2, 0))
    else:
        first = changed[0]
    if changed[-1] - first > 1 or rank < 2:
        raise UnsupportedOperator(f"axes {changed} are resized; two neighbouring ones are supported")
    static_sizes(layer, shape, (first, first + 1))
    pair = (target.get(first, shape[first]), target.get(first + 1, shape[first + 1]))
    return layer.emit(_op(layer, (first, first + 1), pair, mode, coordinates, nearest), x)


def _op(
    layer: Layer, axes: tuple[int, int], sizes: tuple[Any, Any], mode: str, coordinates: str, nearest: str
) -> Resize:
    return Resize(axes, (int(sizes[0]), int(sizes[1])), mode, coordinates, nearest)
