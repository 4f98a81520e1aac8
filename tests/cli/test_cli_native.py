"""``qcompiler native``: what it builds, what it repairs, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cli.command_line import descriptor_with, images, invoke, refuse, succeed, write_target
from qcompiler.backends.tvm import toolchain
from qcompiler.backends.tvm.host import host_architecture
from qcompiler.pipeline import Pipeline
from qcompiler.program import load

COMPILE = ("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz")


@contextmanager
def no_compiler() -> Iterator[None]:
    """A machine without any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        patch.delenv("CC", raising=False)
        patch.setattr(toolchain, "_has_ziglang", lambda: False)
        yield


def compiled(*options: str) -> Path:
    """A program in the folder ``build``."""
    succeed(*COMPILE, "-o", "build", *options)
    return Path("build")


def rows(text: str) -> dict[str, str]:
    """What a summary says, by its first column."""
    return {line.split("  ")[0]: line.split("  ")[-1].strip() for line in text.splitlines()}


def assert_runs_natively() -> None:
    x = images(5, seed=3)
    np.save("x.npy", x)
    succeed("run", "build", "-d", "x.npy", "-o", "y.npz", "--backend", "native")
    (found,) = np.load("y.npz").values()
    (expected,) = load("build", native=False).run(x, backend="reference").values()
    np.testing.assert_array_equal(found, expected)


def test_native_code_is_added_to_a_program() -> None:
    folder = compiled()
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refuse("run", "build", "-d", "calib.npz", "-o", "y.npz", "--backend", "native", naming=("qcompiler native DIR",))
    summary = rows(succeed("native", "build"))
    assert summary["files"] == str(folder / "lib.so")
    assert "compiled" in summary["kernels"]
    assert {path.name for path in folder.iterdir()} == {*before, "lib.so"}
    for name in ("program.qir", "notes.txt", "program.safetensors"):
        if name in before:
            assert (folder / name).read_bytes() == before[name]
    assert_runs_natively()


def test_a_damaged_library_is_refused_and_rebuilt() -> None:
    folder = compiled("--native")
    whole = (folder / "lib.so").read_bytes()
    for damage in (whole[:-1], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b"", None):
        if damage is None:
            (folder / "lib.so").unlink()
        else:
            (folder / "lib.so").write_bytes(damage)
        refuse(
            "run", "build", "-d", "calib.npz", "-o", "y.npz",
            naming=(f"{folder / 'lib.so'} is damaged or missing", "'qcompiler native build'"),
        )
        summary = rows(succeed("native", "build"))
        assert summary["kernels"].startswith("0 compiled"), "kernels come from the cache"
        assert (folder / "lib.so").read_bytes() == whole
        assert_runs_natively()


def test_another_instruction_set_takes_the_place_of_the_first() -> None:
    compiled("--native")
    assert rows(succeed("native", "build", "--cpu", "generic"))["instruction set"] == "generic"
    assert json.loads(Path("build/manifest.json").read_text())["native"]["cpu"] == "generic"
    assert_runs_natively()


def test_a_static_library_is_called_after_the_program() -> None:
    compiled()
    succeed("native", "build", "--kind", "static", "--output", "c")
    names = {"build.h", "example_build.c", "libbuild.a", "qcompiler_runtime.h"}
    assert {path.name for path in Path("c").iterdir()} == names
    assert not Path("build/lib.so").exists()
    Path("build").rename("2nd try")
    succeed("native", "2nd try", "--kind", "static", "--output", "d")
    assert Path("d/libprogram_2nd_try.a").exists()
    Path("2nd try").rename("qcompiler")
    succeed("native", "qcompiler", "--kind", "static", "--output", "d")
    assert Path("d/libprogram_qcompiler.a").exists()
    Path("qcompiler").rename("2nd try")
    succeed("native", "2nd try", "--kind", "static", "--output", "d", "--name", "classifier", "--no-threads")
    assert "int32_t classifier_run(" in Path("d/classifier.h").read_text()


def test_objects_for_another_machine_need_no_compiler() -> None:
    compiled("--no-native")
    machine = ("--triple", "aarch64-linux-gnu", "--cpu", "aarch64-dotprod")
    with no_compiler():
        text = succeed("native", "build", "--kind", "objects", "-o", "a64", *machine)
    summary = rows(text)
    assert summary["machine"] == "aarch64-linux-gnu"
    assert "never run on such a processor" in summary["instruction set"]
    assert len(list(Path("a64/kernels").glob("*.o"))) > 1
    assert f"and {len(list(Path('a64/kernels').iterdir()))} kernels" in text


@pytest.mark.parametrize(
    ("options", "naming"),
    [
        (["--cpu", "avx513"], ("unknown instruction set 'avx513'", "generic")),
        (["--triple", "nonsense"], ("'nonsense'", "aarch64")),
        (["--triple", "nonsense", "--kind", "objects", "-o", "c"], ("'nonsense'", "aarch64")),
        (["--triple", "avr-none", "--kind", "objects", "-o", "c"], ("'avr-none'",)),
        (["--triple", "riscv64-linux-gnu", "--cpu", "avx512-vnni"], ("'avx512-vnni'", "riscv64")),
        (["--kind", "static"], ("--kind static", "--output")),
        (["--kind", "objects"], ("--kind objects", "--output")),
        (["-o", "c"], ("--output", "--kind static")),
        (["--name", "x"], ("--name", "--kind static")),
        (["--no-threads"], ("--no-threads", "--kind objects")),
        (["--triple", "thumbv7em-none-eabi", "--processor", "cortex-m4"], ("--processor", "--kind objects")),
        (["--kind", "static", "-o", "c", "--processor", "cortex-m4"], ("'cortex-m4'", "--triple")),
        (["--kind", "static", "-o", "c", "--name", "my-net"], ("'my-net'", "letters")),
        (["--kind", "static", "-o", "c", "--name", "qcompiler"], ("'qcompiler'", "the runtime's")),
        (["--kind", "static", "-o", "calib.npz"], ("calib.npz",)),
    ],
)
def test_options_that_do_not_fit(options: list[str], naming: tuple[str, ...]) -> None:
    compiled()
    refuse("native", "build", *options, naming=naming)


@pytest.mark.skipif(host_architecture() == "aarch64", reason="this machine is no other one")
def test_code_that_this_machine_cannot_run_needs_a_machine() -> None:
    compiled()
    for command in (("native", "build"), (*COMPILE, "-o", "other", "--native")):
        refuse(*command, "--cpu", "aarch64-dotprod", naming=("cannot run code for aarch64-dotprod", "--triple"))


def test_a_wrong_instruction_set_is_found_before_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "run", lambda *arguments: pytest.fail("the pipeline ran"))
    refuse(*COMPILE, "-o", "build", "--native", "--cpu", "avx513", naming=("unknown instruction set 'avx513'",))


@pytest.mark.parametrize("content", [None, "text"])
def test_what_is_no_compiled_program(content: str | None) -> None:
    if content:
        Path("folder").mkdir()
        Path("folder/manifest.json").write_text(content)
    refuse("native", "folder", naming=("folder is no compiled program",))


def test_a_damaged_program_is_not_built() -> None:
    folder = compiled()
    (folder / "program.qir").write_text((folder / "program.qir").read_text().replace("conv2d", "conv3d"))
    refuse("native", "build", naming=("program.qir is damaged", "compile the model again"))


def test_without_a_compiler_programs_run_in_the_reference() -> None:
    with no_compiler():
        result = invoke("compile", "model.onnx", "--target", "cpu-int8", "--data", "calib.npz", "-o", "build")
        assert result.exit_code == 0, result.output
        assert "warning: no native code, the reference interpreter runs the program: no C compiler" in result.stderr
        assert not Path("build/lib.so").exists()
        succeed("run", "build", "-d", "calib.npz", "-o", "reference.npz")
        for options in ([], ["--kind", "static", "-o", "c"]):
            refuse("native", "build", *options, naming=("no C compiler was found", "apt install gcc", "ziglang"))
    succeed("native", "build")
    assert json.loads(Path("build/manifest.json").read_text())["figures"]["warnings"] == []
    succeed("run", "build", "-d", "calib.npz", "-o", "native.npz", "--backend", "native")
    (reference,), (native,) = np.load("reference.npz").values(), np.load("native.npz").values()
    np.testing.assert_array_equal(native, reference)


def test_host_layers_have_no_place_in_a_static_library() -> None:
    text = descriptor_with('fallback = "error"', 'fallback = "host"')
    lines = [line for line in text.splitlines() if line.partition("=")[0].strip() != "mean"]
    write_target("poor.toml", "\n".join(lines))
    succeed("compile", "model.onnx", "--target", "poor.toml", "--data", "calib.npz", "-o", "build")
    for kind in ("static", "objects"):
        refuse(
            "native", "build", "--kind", kind, "-o", "c", naming=("GlobalAveragePool", "(mean)", "shared library")
        )
    succeed("native", "build")
    assert len(list(Path("build").glob("lib*.so"))) == 2
    assert_runs_natively()


def test_a_compiler_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "/bin/false")
    on_processor = [word if word != "tpu-int8" else "cpu-int8" for word in COMPILE]
    result = invoke(*on_processor, "-o", "build")
    assert result.exit_code == 0
    assert "/bin/false failed" in result.stderr
    program = load("build")
    assert program.native is None
    assert [w for w in program.warnings if "no native code" in w and "/bin/false failed" in w]
    for options in (["--native"], ["--cpu", "generic"], ["--tune"]):
        refuse(*on_processor, "-o", "other", *options, naming=("/bin/false failed", "$CC"))
    monkeypatch.delenv("CC")
    succeed("native", "build")
    assert not [w for w in load("build").warnings if "no native code" in w]
    assert_runs_natively()


def test_an_instruction_set_asks_for_native_code() -> None:
    program = load(compiled("--cpu", "generic"))
    assert program.native is not None
    assert program.native.cpu == "generic"
    refuse(*COMPILE, "-o", "other", "--no-native", "--cpu", "generic", naming=("--cpu generic without native code",))


def test_tuning_is_refused_before_any_work() -> None:
    refuse("compile", "absent.onnx", "--target", "tpu-int8", "-o", "other", "--tune",
           naming=("--tune without native code",))
    compiled("--no-native")
    for options in ((), ("--kind", "objects", "-o", "objects")):
        refuse("native", "build", "--triple", "riscv64-linux-gnu", "--tune", *options,
               naming=("riscv64-linux-gnu cannot be measured",))
    assert not Path("objects").exists()
