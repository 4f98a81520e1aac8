"""The commands on inputs that are in order."""

import re
from pathlib import Path

import numpy as np
import onnx
from models import ModelWriter

import qcompiler
from cli.command_line import images, invoke, nothing_left_behind, small_cnn, succeed
from qcompiler.compilation import read_model
from qcompiler.ir import read_program, verify
from qcompiler.pipeline import Pipeline
from qcompiler.target import load_target

COMPILE = ("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz")


def test_compile_then_run_equals_the_python_interface() -> None:
    summary = succeed(*COMPILE, "-o", "deep/build")
    assert sorted(p.name for p in Path("deep").iterdir()) == ["build"]
    figures = qcompiler.load("deep/build").figures
    assert f"{figures['layers']}" in _row(summary, "layers")
    assert f"{figures['ops']['conv2d']} conv2d" in _row(summary, "ops")
    (name, decibels), = figures["sqnr_db"].items()
    assert f"SQNR {decibels:.1f} dB" in _row(summary, f"output {name}")
    assert f"class agreement {figures['agreement'][name]:.1%}" in _row(summary, f"output {name}")
    assert "0 of " in _row(summary, "on the host")
    assert _row(summary, "program") == "deep/build"

    x = images(5, seed=1)
    np.savez("x.npz", image=x)
    program = qcompiler.compile("model.onnx", target="tpu-int8", data="calib.npz")
    for option in (False, True):
        printed = succeed("run", "deep/build", "--data", "x.npz", "-o", "y.npz", *(["--quantized"] if option else []))
        (output, expected), = program.run(x, quantized=option).items()
        with np.load("y.npz") as written:
            assert written.files == [output]
            assert written[output].dtype == expected.dtype == (np.int8 if option else np.float32)
            np.testing.assert_array_equal(written[output], expected)
        assert re.search(rf"^{output} +{expected.dtype} +5x3$", printed, re.MULTILINE)


def test_run_takes_one_array_for_one_input_whatever_its_name() -> None:
    succeed(*COMPILE, "-o", "build")
    x = images(3, seed=2)
    np.save("x.npy", x)
    np.savez("other.npz", another_name=x)
    succeed("run", "build", "--data", "x.npy", "-o", "first.npz")
    succeed("run", "build", "--data", "other.npz", "-o", "second.npz", "--backend", "reference")
    (first,), (second,) = np.load("first.npz").values(), np.load("second.npz").values()
    np.testing.assert_array_equal(first, second)


def test_output_called_like_an_argument_of_savez() -> None:
    w = ModelWriter(1)
    w.nodes.append(onnx.helper.make_node("Relu", ["image"], ["file"], name="relu"))
    onnx.save(w.model({"image": ["batch", 4]}, ["file"]), "file.onnx")
    np.save("x.npy", np.array([[1, -2, 3, -4]], np.float32))
    succeed("compile", "file.onnx", "--target", "tpu-int8", "--data", "x.npy", "-o", "build")
    succeed("run", "build", "--data", "x.npy", "-o", "y.npz")
    assert np.load("y.npz").files == ["file"]


def test_recompiling_replaces_the_program() -> None:
    succeed(*COMPILE, "-o", "build")
    before = Path("build/manifest.json").read_text()
    succeed(*COMPILE, "-o", "build", "--batch", "2")
    assert Path("build/manifest.json").read_text() != before
    assert "f32[2,2,6,6]" in succeed("inspect", "build")
    assert sorted(p.name for p in Path("build").iterdir()) == ["manifest.json", "program.qir", "program.safetensors"]


def test_float_check_is_reported() -> None:
    assert "float check" not in succeed(*COMPILE, "-o", "build")
    row = _row(succeed(*COMPILE, "-o", "build", "--check-float"), "float check")
    assert re.fullmatch(r"passed: (exact|[\d.]+ dB) without quantization, (exact|[\d.]+ dB) at 32 bits", row)


def test_every_dump_reads_back_and_the_last_is_the_program() -> None:
    summary = succeed(*COMPILE, "-o", "build", "--dump-ir", "dumps")
    assert _row(summary, "IR dumps") == "dumps"
    dumps = sorted(Path("dumps").glob("*.qir"))
    passes = Pipeline.parse(load_target("tpu-int8").descriptor.pipeline).passes
    assert [d.stem for d in dumps] == [f"{i:03d}_{n}" for i, n in enumerate(["import", *(p.name for p in passes)])]
    for dump in dumps:
        graph = read_program(dump)
        verify(graph)
        assert str(graph) == dump.read_text()
    assert read_program(dumps[0]) == read_model("model.onnx")


def test_compilation_goes_on_from_a_dump() -> None:
    """Without data too: what is left of the pipeline needs none."""
    succeed(*COMPILE, "-o", "build", "--dump-ir", "dumps")
    (calibrated,) = Path("dumps").glob("*_calibrate.qir")
    rest = load_target("tpu-int8").descriptor.pipeline.partition("calibrate,")[2]
    summary = succeed("compile", calibrated, "--target", "tpu-int8", "-p", rest, "-o", "again")
    assert "SQNR" not in summary
    assert Path("again/program.qir").read_text() == Path("build/program.qir").read_text()


def test_data_are_needed_only_where_a_pass_needs_them() -> None:
    compiled = invoke("compile", "model.onnx", "--target", "tpu-int8", "-p", "simplify,legalize", "-o", "build")
    assert compiled.exit_code == 0
    assert "without the pass 'verify-legal'" in compiled.stderr
    x = images(2)
    np.save("x.npy", x)
    succeed("run", "build", "--data", "x.npy", "-o", "y.npz")
    (found,) = np.load("y.npz").values()
    assert found.shape == (2, 3)


def test_shape_of_an_open_input() -> None:
    w = ModelWriter(2)
    onnx.save(w.model({"in=put": ["batch", "length"]}, [w.node("Relu", "in=put")]), "open.onnx")
    np.save("x.npy", np.ones((4, 5), np.float32))
    succeed("compile", "open.onnx", "--target", "tpu-int8", "--data", "x.npy", "--shape", "in=put=-1,5", "-o", "build")
    assert "f32[N,5]" in succeed("inspect", "build")
    assert "f32[3,5]" in succeed("inspect", "open.onnx", "--shape", "in=put=3,5")


def test_warnings_are_counted_and_printed_on_stderr() -> None:
    """A bias far larger than its weights makes the pass calibrate warn."""
    model = small_cnn()
    bias = next(i for i in model.graph.initializer if list(i.dims) == [4])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(4, 1e7, np.float32), bias.name))
    onnx.save(model, "biased.onnx")
    result = invoke("compile", "biased.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "build")
    assert result.exit_code == 0
    assert _row(result.stdout, "warnings") == "1"
    assert result.stderr.startswith("warning: ")
    assert "Conv_0" in result.stderr


def test_inspect_agrees_on_all_three_forms_of_a_program() -> None:
    succeed(*COMPILE, "-o", "build")
    folder, file = succeed("inspect", "build"), succeed("inspect", "build/program.qir")
    differ = ("read from", "files")
    assert [line for line in folder.splitlines() if not line.startswith(differ)] == [
        line for line in file.splitlines() if not line.startswith(differ)
    ]
    assert "fused(conv2d, requantize" in folder
    assert re.search(r"^input +image +f32\[N,2,6,6\] +q<i8, ", folder, re.MULTILINE)
    model = succeed("inspect", "model.onnx")
    assert re.search(r"^%2 +conv2d +Conv_0 +f32\[N,4,6,6\]$", model, re.MULTILINE)
    assert re.search(r"^input +image +f32\[N,2,6,6\] +the same$", model, re.MULTILINE)


def test_inspect_text_is_the_program() -> None:
    succeed(*COMPILE, "-o", "build")
    assert succeed("inspect", "build", "--text") == Path("build/program.qir").read_text()
    assert succeed("inspect", "model.onnx", "--text") == str(read_model("model.onnx"))


def test_commands_that_only_look_write_nothing() -> None:
    with nothing_left_behind():
        succeed("inspect", "model.onnx")
        succeed("check", "model.onnx", "--target", "tpu-int8")
        succeed("targets")
        succeed("passes")


def _row(summary: str, name: str) -> str:
    """What a summary says behind ``name``."""
    match = re.search(rf"^{re.escape(name)}  +(.*)$", summary, re.MULTILINE)
    assert match, f"no row {name!r} in\n{summary}"
    return match[1]
