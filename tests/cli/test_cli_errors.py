"""What a user can get wrong: every refusal names the culprit, exits with 2 and leaves nothing behind."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import ModelWriter

from cli.command_line import images, invoke, nothing_left_behind, refuse, small_cnn, succeed, without_rows, write_target

TARGET = ("--target", "tpu-int8")
COMPILE = ("compile", "model.onnx", *TARGET)


# Models


@pytest.mark.parametrize("command", ["compile", "check", "inspect"])
@pytest.mark.parametrize("kind", ["missing", "text", "empty", "truncated", "folder"])
def test_file_that_is_no_model(command: str, kind: str) -> None:
    whole = Path("model.onnx").read_bytes()
    content = {"text": b"# Not a model\n", "empty": b"", "truncated": whole[: len(whole) // 2]}
    if kind in content:
        Path("broken.onnx").write_bytes(content[kind])
    elif kind == "folder":
        Path("broken.onnx").mkdir()
    options = {"compile": [*TARGET, "--data", "calib.npz", "-o", "out"], "check": TARGET, "inspect": []}
    refuse(command, "broken.onnx", *options[command], naming=("broken.onnx",))


def test_operators_that_the_frontend_lacks_are_reported_at_once() -> None:
    """As one error by ``compile``, as illegal layers by ``check``."""
    w = ModelWriter(1)
    first = w.node("Det", w.node("Reshape", "x", w.constant([-1, 2, 2], np.int64)))
    second = w.node("Hardmax", "x")
    onnx.save(w.model({"x": ["batch", 4]}, [first, second]), "unsupported.onnx")
    refuse("compile", "unsupported.onnx", *TARGET, "-o", "out", naming=("'Det_1' (Det)", "'Hardmax_2' (Hardmax)"))
    checked = invoke("check", "unsupported.onnx", *TARGET)
    assert checked.exit_code == 2
    for layer in ("Det_1", "Hardmax_2"):
        assert re.search(rf"^{layer} +\w+ +illegal ", checked.stdout, re.MULTILINE)


def test_layers_that_the_target_lacks_are_reported_at_once() -> None:
    write_target("small.toml", without_rows("matmul", "conv2d"))
    refuse(
        "compile", "model.onnx", "--target", "small.toml", "--data", "calib.npz", "-o", "out",
        naming=("Conv_0: the target has no op 'conv2d'", "Gemm_4: the target has no op 'matmul'"),
    )


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers(weight: float) -> None:
    onnx.save(small_cnn(weight), "weights.onnx")
    refuse(
        "compile", "weights.onnx", *TARGET, "--data", "calib.npz", "-o", "out",
        naming=("'w0'", "'Conv_0'", "NaN or infinity", "1 of 72"),
    )


@pytest.mark.parametrize(
    ("options", "naming"),
    [
        (["--shape", "image"], ("--shape 'image'", "NAME=1,3,224,224")),
        (["--shape", "image=2,x"], ("--shape 'image=2,x'",)),
        (["--shape", "image="], ("--shape 'image='",)),
        (["--shape", "=1,2"], ("--shape '=1,2'",)),
        (["--shape", "image=1,2,6,6", "--shape", "image=1,2,6,6"], ("twice", "'image'")),
        (["--shape", "picture=1,2,6,6"], ("'picture'", "image")),
        (["--shape", "image=1,2,7,6"], ("'image'", "expected: 6", "found: 7")),
        (["--shape", "image=6"], ("'image'", "wrong rank")),
        (["--batch", "0"], ("batch", "0")),
    ],
)
def test_shapes_that_do_not_fit(options: list[str], naming: tuple[str, ...]) -> None:
    refuse(*COMPILE, "--data", "calib.npz", "-o", "out", *options, naming=naming)
    refuse("check", "model.onnx", *TARGET, *options, naming=naming)
    refuse("inspect", "model.onnx", *options, naming=naming)


def test_shapes_of_a_program_are_settled() -> None:
    succeed(*COMPILE, "--data", "calib.npz", "-o", "build")
    refuse("inspect", "build", "--batch", 2, naming=("--batch", "'build'"))
    refuse("inspect", "build/program.qir", "--shape", "image=1,2,6,6", naming=("--shape", "'build/program.qir'"))


# Calibration data


def _npz(**arrays: Any) -> str:
    np.savez("bad.npz", **arrays)
    return "bad.npz"


def _npy(array: Any) -> str:
    np.save("bad.npy", array)
    return "bad.npy"


def _text() -> str:
    Path("bad.npz").write_text("not an archive")
    return "bad.npz"


def _truncated() -> str:
    Path("bad.npz").write_bytes(Path("calib.npz").read_bytes()[:-500])
    return "bad.npz"


def _spoiled(value: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    array = images(16)
    array[11, 1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("make", "naming"),
    [
        (lambda: "nowhere.npz", ("'nowhere.npz'", "do not exist")),
        (_text, ("bad.npz", "cannot read")),
        (_truncated, ("bad.npz", "cannot read")),
        (lambda: _npz(picture=images(4), other=images(4)), ("lack input 'image'", "'picture', 'other'")),
        (lambda: _npz(image=images(4)[:, :, :5]), ("'image'", "wrong shape", "found: [4, 2, 5, 6]")),
        (lambda: _npz(image=images(4)[0]), ("'image'", "wrong shape", "found: [2, 6, 6]")),
        (lambda: _npz(image=images(4).astype(np.float64)), ("'image'", "wrong type", "float32", "found: float64")),
        (lambda: _npz(image=images(4).astype(np.uint8)), ("'image'", "wrong type", "found: uint8")),
        (lambda: _npz(image=np.array([None])), ("'image'", "Python objects")),
        (lambda: _npz(image=images(0)), ("no samples",)),
        (lambda: _npy(images(0)), ("no samples",)),
        (lambda: _npz(image=_spoiled(float("nan"))), ("'image'", "NaN or infinity", "sample 11")),
        (lambda: _npy(_spoiled(float("inf"))), ("'image'", "NaN or infinity", "sample 11")),
        (lambda: _npy(_spoiled(float("-inf"))), ("'image'", "NaN or infinity", "sample 11")),
    ],
)
def test_calibration_data_that_do_not_fit(make: Any, naming: tuple[str, ...]) -> None:
    refuse(*COMPILE, "--data", make(), "-o", "out", naming=naming)


def test_no_data_for_a_pipeline_that_needs_some() -> None:
    refuse(*COMPILE, "-o", "out", naming=("'calibrate'", "--data"))


def test_float_check_without_calibration() -> None:
    refuse(*COMPILE, "-o", "out", "-p", "simplify", "--check-float", naming=("--check-float", "'calibrate'"))


# Pipelines


@pytest.mark.parametrize(
    ("pipeline", "naming"),
    [
        ("simplify,legalise", ("unknown pass 'legalise'", "did you mean 'legalize'?")),
        ("simplify,annotate,calibrate{methd=minmax}", ("'calibrate'", "no option 'methd'", "did you mean 'method'?")),
        ("calibrate{method=minmaxx}", ("'calibrate'", "'method'", "'minmaxx'", "did you mean 'minmax'?")),
        ("calibrate{cut-ratio=four}", ("'calibrate'", "'cut-ratio'", "'four'", "float")),
        ("simplify,,legalize", ("malformed pipeline", ",legalize")),
        ("simplify{", ("malformed pipeline", "{")),
    ],
)
def test_pipeline_that_does_not_parse(pipeline: str, naming: tuple[str, ...]) -> None:
    refuse(*COMPILE, "--data", "calib.npz", "-o", "out", "-p", pipeline, naming=naming)


# Outputs


@pytest.mark.parametrize("output", ["calib.npz", "calib.npz/below", "calib.npz/far/below", "notes"])
def test_output_folder_that_cannot_be_written(output: str) -> None:
    Path("notes").mkdir()
    Path("notes/todo.txt").write_text("keep me")
    # The model does not exist: the output is looked at first.
    refuse("compile", "nowhere.onnx", *TARGET, "-o", output, naming=(output,))


def test_failure_removes_the_folders_made_for_the_output() -> None:
    refuse("compile", "nowhere.onnx", *TARGET, "-o", "a/b/c", naming=("nowhere.onnx",))


def test_failure_keeps_the_program_of_an_earlier_compilation() -> None:
    succeed(*COMPILE, "--data", "calib.npz", "-o", "build")
    refuse(*COMPILE, "--data", _npy(_spoiled(float("nan"))), "-o", "build", naming=("sample 11",))


@pytest.mark.parametrize("dumps", ["out", "out/ir", "x/../out/ir"])
def test_dumps_in_the_output_folder(dumps: str) -> None:
    refuse(*COMPILE, "--data", "calib.npz", "-o", "out", "--dump-ir", dumps, naming=("--dump-ir", dumps, "'out'"))


def test_dumps_that_cannot_be_written() -> None:
    refuse(*COMPILE, "--data", "calib.npz", "-o", "out", "--dump-ir", "calib.npz/ir", naming=("calib.npz/ir",))


def test_dumps_outlive_a_failure_and_the_error_says_where() -> None:
    np.savez("nan.npz", image=np.full((2, 2, 6, 6), np.nan, np.float32))
    result = invoke(*COMPILE, "--data", "nan.npz", "-o", "out", "--dump-ir", "dumps")
    assert result.exit_code == 2
    assert "lies in dumps" in result.stderr
    assert max(Path("dumps").glob("*.qir")).stem.endswith("_annotate")
    assert not Path("out").exists()


# Running


@pytest.fixture
def build() -> str:
    """A compiled program."""
    succeed(*COMPILE, "--data", "calib.npz", "-o", "build")
    return "build"


@pytest.mark.parametrize(
    ("make", "naming"),
    [
        (lambda: "nowhere.npz", ("'nowhere.npz'", "does not exist")),
        (_text, ("'bad.npz'", "cannot read")),
        (_truncated, ("'bad.npz'", "cannot read")),
        (lambda: _npz(image=np.array([None])), ("'bad.npz'", "plain numbers")),
        (lambda: _npz(a=images(2), b=images(2)), ("'image' is missing", "a, b")),
        (lambda: _npz(image=images(2), b=images(2)), ("no input 'b'",)),
        (lambda: _npy(images(2).astype(np.float64)), ("'image'", "f32", "float64[2, 2, 6, 6]")),
        (lambda: _npy(images(2)[:, :1]), ("'image'", "float32[2, 1, 6, 6]")),
        (lambda: _npy(_spoiled(float("nan"))), ("'image'", "NaN")),
    ],
)
def test_inputs_that_do_not_fit(build: str, make: Any, naming: tuple[str, ...]) -> None:
    refuse("run", build, "--data", make(), "-o", "y.npz", naming=naming)


@pytest.mark.parametrize("output", ["y.npy", "y", "nowhere/y.npz", "calib.npz/y.npz", "folder.npz"])
def test_output_file_that_cannot_be_written(build: str, output: str) -> None:
    Path("folder.npz").mkdir()
    refuse("run", build, "--data", "calib.npz", "-o", output, naming=(f"'{output}'",))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_in_a_folder_without_write_permission(build: str) -> None:
    Path("locked").mkdir(0o500)
    refuse("run", build, "--data", "calib.npz", "-o", "locked/y.npz", naming=("'locked/y.npz'",))
    refuse(*COMPILE, "--data", "calib.npz", "-o", "locked/build", naming=("locked/build",))


@pytest.mark.parametrize("exists", [False, True])
def test_output_file_is_written_whole_or_not_at_all(build: str, exists: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if exists:
        np.savez("y.npz", earlier=np.arange(3))

    def run_out_of_space(file: Any, *_: object, **__: object) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", run_out_of_space)
    refuse("run", build, "--data", "calib.npz", "-o", "y.npz", naming=("'y.npz'", "no space left"))


def test_unknown_backend(build: str) -> None:
    refuse("run", build, "--data", "calib.npz", "-o", "y.npz", "--backend", "gpu", naming=("'gpu'", "reference"))


@pytest.mark.parametrize("command", [["run", "build", "--data", "calib.npz", "-o", "y.npz"], ["inspect", "build"]])
def test_damaged_program(build: str, command: list[str]) -> None:
    constants = Path(build, "program.safetensors")
    content = bytearray(constants.read_bytes())
    content[-1] ^= 1
    constants.write_bytes(content)
    refuse(*command, naming=("build/program.safetensors", "damaged"))


@pytest.mark.parametrize("command", [["run", ".", "--data", "calib.npz", "-o", "y.npz"], ["inspect", "."]])
def test_folder_that_is_no_program(command: list[str]) -> None:
    refuse(*command, naming=("no compiled program", "manifest.json"))


def test_malformed_program_text() -> None:
    Path("broken.qir").write_text("// qir 1\ngraph @m(%x: f32[1]) -> (y: f32[1]) {\n  %0 = frobnicate %x -> f32[1]\n")
    refuse("inspect", "broken.qir", naming=("frobnicate",))


# Usage


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        ([], "Usage"),
        (["compil"], "compil"),
        (["compile"], "MODEL"),
        (["compile", "model.onnx"], "--target"),
        (["compile", "model.onnx", *TARGET], "--output"),
        (["compile", "model.onnx", *TARGET, "-o", "out", "--batch", "two"], "'--batch'"),
        (["compile", "model.onnx", *TARGET, "-o", "out", "--fast"], "--fast"),
        (["run", "build"], "--data"),
        (["check", "model.onnx"], "--target"),
        (["targets", "show"], "NAME"),
        (["passes", "show"], "NAME"),
    ],
)
def test_usage_errors_exit_with_2(arguments: list[str], naming: str) -> None:
    with nothing_left_behind():
        result = invoke(*arguments)
    assert result.exit_code == 2
    assert naming in result.output
    assert "Traceback" not in result.output
