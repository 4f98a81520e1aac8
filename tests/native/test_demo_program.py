"""The bundled network computes the same numbers on every instruction set."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from kernel_harness import Array, isa_fixture
from native_comparison import assert_native_equals_reference

import qcompiler
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.ir import Graph

isa = isa_fixture()


@cache
def digits(target: str) -> tuple[Graph, Array]:
    """The compiled network, and images that it was not calibrated with."""
    folder = resources.files("qcompiler.demo")
    with np.load(str(folder / "mnist.npz")) as archive:
        calibration = archive["calibration"].astype(np.float32) / 255
        images = archive["images"].astype(np.float32) / 255
    model = str(folder / "mnist_dscnn.onnx")
    program = qcompiler.compile(model, target=target, data={"x": calibration[:32]}, native=False)
    return program.graph, images


@pytest.mark.parametrize("target", ["tpu-int8", "cpu-int8"])
def test_native_code_equals_the_reference(isa: InstructionSet, target: str, tmp_path: Path) -> None:
    graph, images = digits(target)
    assert_native_equals_reference(
        graph, lambda count: {"x": images[:count]}, [isa], tmp_path, samples=(1, 64), threads=(1, 2)
    )
