"""Runs the command line inside the test process, and says what a refusal must look like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import ModelWriter
from typer.testing import CliRunner

from qcompiler.cli.application import app
from qcompiler.target import built_in_targets


def invoke(*arguments: object) -> Any:
    """The finished command; exceptions that no user can cause are raised here."""
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def succeed(*arguments: object) -> str:
    """Run a command that must exit with 0 and say nothing on stderr; returns stdout."""
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return str(result.stdout)


def refuse(*arguments: object, naming: tuple[str, ...]) -> str:
    """Run a command that must exit with 2, print an error that names these things, and leave no file behind."""
    with nothing_left_behind():
        result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    message = str(result.stderr)
    assert message.startswith("error: ")
    assert "Traceback" not in message
    for word in naming:
        assert word in message
    return message


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """The current folder holds the same files, with the same content, afterwards."""
    before = _files()
    yield
    assert _files() == before


def _files() -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def small_cnn(weight: float | None = None) -> onnx.ModelProto:
    """Convolution, relu, classifier; ``weight`` replaces one weight of the convolution, ``Conv_0``."""
    w = ModelWriter(7)
    x = w.node("Relu", w.conv("image", 2, 4))
    if weight is not None:
        array = onnx.numpy_helper.to_array(w.initializers[0]).copy()
        array.reshape(-1)[5] = weight
        w.initializers[0].CopyFrom(onnx.numpy_helper.from_array(array, w.initializers[0].name))
    x = w.node("Flatten", w.node("GlobalAveragePool", x))
    return w.model({"image": ["batch", 2, 6, 6]}, [w.gemm(x, 4, 3)])


def images(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Inputs of ``small_cnn``."""
    return np.random.default_rng(seed).normal(0, 1, (count, 2, 6, 6)).astype(np.float32)


def write_target(name: str, text: str) -> str:
    """Write a descriptor; returns its name."""
    Path(name).write_text(text)
    return name


def descriptor_with(old: str, new: str) -> str:
    """The text of tpu-int8 with its first ``old`` replaced."""
    text = _tpu_int8()
    assert old in text
    return text.replace(old, new, 1)


def without_rows(*ops: str) -> str:
    """The text of tpu-int8 without the rows of these ops."""
    lines = _tpu_int8().splitlines()
    kept = [line for line in lines if line.partition("=")[0].strip() not in ops]
    assert len(kept) == len(lines) - len(ops)
    return "\n".join(kept)


def _tpu_int8() -> str:
    return built_in_targets()["tpu-int8"].read_text()
