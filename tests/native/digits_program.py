"""The bundled classifier, compiled; and how its example program in C is run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import qcompiler
from qcompiler.program import Program


@cache
def digits(target: str = "cpu-int8", brightest: float = 1) -> Program:
    """The bundled classifier of handwritten digits, calibrated for images up to a brightness."""
    demo = resources.files("qcompiler.demo")
    with np.load(str(demo / "mnist.npz")) as archive:
        calibration = archive["calibration"][:32].astype(np.float32) / 255 * np.float32(brightest)
    return qcompiler.compile(str(demo / "mnist_dscnn.onnx"), target=target, data={"x": calibration}, native=False)


def images(count: int) -> Any:
    """Numbers that saturate at both ends, too."""
    return np.random.default_rng().uniform(-0.2, 1.2, (count, 1, 28, 28)).astype(np.float32)


def run_example(command: Sequence[Any], folder: Path, target: str = "cpu-int8") -> None:
    """The example program computes what the reference does, in an environment without variables."""
    for image in images(3):
        image.tofile(folder / "x.bin")
        subprocess.run([*command, folder / "x.bin", folder / "y.bin"], check=True, env={})
        expected = digits(target).run({"x": image[None]}, backend="reference")["y"]
        assert (folder / "y.bin").read_bytes() == expected.tobytes()
