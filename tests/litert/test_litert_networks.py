"""Whole programs, every kernel of which LiteRT's reference kernels confirm."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import models
import numpy as np
import pytest

import qcompiler
from litert.network import compare_with_litert
from qcompiler.ir import ConstantArray, walk
from qcompiler.ops.constant import Constant
from qcompiler.ops.fused import Fused

CONFIRMED_MODELS = ("residual_cnn", "depthwise_net")
"""Models whose every op has a LiteRT counterpart in the layout that the program has."""


@pytest.mark.parametrize("name", CONFIRMED_MODELS)
def test_every_kernel_of_a_program(name: str) -> None:
    program = qcompiler.compile(models.model(name), target="tpu-int8", data=models.samples(name, 16))
    nodes = sum(not isinstance(n.op, Constant | Fused) for n in walk(program.graph))
    for seed in range(5):
        confirmed = compare_with_litert(program.graph, models.samples(name, 1, seed=100 + seed))
        assert sum(confirmed.values()) == nodes


def test_every_kernel_of_the_bundled_digit_classifier() -> None:
    folder = Path(str(resources.files("qcompiler.demo")))
    with np.load(folder / "mnist.npz") as archive:
        calibration, images = (archive[name].astype(np.float32) / 255 for name in ("calibration", "images"))
    program = qcompiler.compile(folder / "mnist_dscnn.onnx", target="tpu-int8", data=calibration)
    for image in np.random.default_rng().permutation(images)[:20]:
        confirmed = compare_with_litert(program.graph, {"x": image[None]})
        assert confirmed["conv2d"] == 7
        assert confirmed["requantize"] == 8


def test_a_wrong_kernel_is_found() -> None:
    """A multiplier that is a hundredth too small must not pass."""
    program = qcompiler.compile(
        models.model("depthwise_net"), target="tpu-int8", data=models.samples("depthwise_net", 16)
    )
    node = next(n for n in walk(program.graph) if n.op.name == "requantize")
    constants = node.op.attributes()["constants"]
    shifted = {**constants, "multiplier": ConstantArray(constants["multiplier"].array - (1 << 24))}
    node.set_op(node.op.replace(constants=type(constants)(shifted)))
    with pytest.raises(AssertionError, match="differ from"):
        compare_with_litert(program.graph, models.samples("depthwise_net", 1))
