"""Programs with native code: what runs them, what the artifact holds, what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import MODELS, ModelWriter, model, samples

import qcompiler
from qcompiler.errors import QCompilerError
from qcompiler.program import MANIFEST, Program, load
from qcompiler.target import load_target

TARGETS = ("cpu-int8", "tpu-int8")


@cache
def compiled(name: str, target: str) -> Program:
    return qcompiler.compile(model(name), target=target, data=samples(name, 15), native=True)


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_native_code_equals_the_reference(name: str, target: str) -> None:
    program = compiled(name, target)
    seed = int(np.random.default_rng().integers(1 << 30))
    feeds = {key: array * 1.5 for key, array in samples(name, 12, seed).items()}
    for quantized in (False, True):
        expected = program.run(feeds, quantized, backend="reference")
        assert_equal(program.run(feeds, quantized), expected)
        assert_equal(program.run(feeds, quantized, backend="native", threads=2), expected)


def test_a_saved_program_runs_its_native_code(tmp_path: Path) -> None:
    program = compiled("residual_cnn", "cpu-int8")
    feeds = samples("residual_cnn", 5, seed=7)
    program.save(tmp_path / "build")
    loaded = load(tmp_path / "build")
    assert loaded.native is not None
    assert loaded.native.libraries == [tmp_path / "build" / "lib.so"]
    assert_equal(loaded.run(feeds), program.run(feeds, backend="reference"))
    # Saved where it was loaded from, and elsewhere.
    loaded.save(tmp_path / "build")
    loaded.save(tmp_path / "copy")
    shutil.rmtree(tmp_path / "build")
    assert_equal(load(tmp_path / "copy").run(feeds), program.run(feeds, backend="reference"))


def test_an_artifact_without_native_code_has_no_library_left(tmp_path: Path) -> None:
    program = compiled("residual_cnn", "cpu-int8")
    program.save(tmp_path)
    Program(program.graph, program.figures).save(tmp_path)
    assert not list(tmp_path.glob("*.so"))
    loaded = load(tmp_path)
    assert loaded.native is None
    assert loaded.run(samples("residual_cnn", 1))
    with pytest.raises(QCompilerError, match="no native code"):
        loaded.run(samples("residual_cnn", 1), backend="native")


def test_saving_leaves_other_files_alone(tmp_path: Path) -> None:
    program = compiled("residual_cnn", "cpu-int8")
    program.save(tmp_path)
    (tmp_path / "libmine.so").write_text("mine")
    program.save(tmp_path)
    Program(program.graph, program.figures).save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.so")) == ["libmine.so"]


@pytest.mark.parametrize("native", [{"libraries": ["lib.so"]}, {"cpu": "generic", "libraries": []}, {"cpu": "generic"}])
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, native: dict[str, Any]) -> None:
    compiled("residual_cnn", "cpu-int8").save(tmp_path)
    path = tmp_path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"native": native}))
    with pytest.raises(QCompilerError, match=r"no compiled program|native code of another program"):
        load(tmp_path)


@pytest.mark.parametrize("meets", ["matmul", "add"])
def test_samples_that_meet_one_another_stay_with_the_reference(meets: str) -> None:
    writer = ModelWriter(9)
    x = writer.node("Relu", writer.gemm("x", 4, 1 if meets == "add" else 4))
    flipped = writer.node("Transpose", x, perm=[1, 0])
    y = writer.node("MatMul" if meets == "matmul" else "Add", x, flipped)
    model = writer.model({"x": ["batch", 4]}, [y])
    data = {"x": np.random.default_rng().normal(0, 1, (6, 4)).astype(np.float32)}
    program = qcompiler.compile(model, target="cpu-int8", data=data)
    assert program.native is None
    assert any("mixes samples" in warning for warning in program.warnings)
    assert program.run(data)[y].shape == (6, 6)


@pytest.mark.parametrize("damage", ["changed", "cut off", "gone"])
def test_a_damaged_library_is_refused_and_built_again(tmp_path: Path, damage: str) -> None:
    compiled("residual_cnn", "cpu-int8").save(tmp_path)
    library = tmp_path / "lib.so"
    code = library.read_bytes()
    if damage == "gone":
        library.unlink()
    else:
        library.write_bytes(code[:-100] if damage == "cut off" else code[:5000] + bytes([code[5000] ^ 1]) + code[5001:])
    with pytest.raises(QCompilerError, match=r"lib\.so is damaged or missing\s+fix: .*qcompiler native"):
        load(tmp_path)
    program = load(tmp_path, native=False)
    program.build_native()
    program.save(tmp_path)
    feeds = samples("residual_cnn", 2)
    assert_equal(load(tmp_path).run(feeds), program.run(feeds, backend="reference"))


def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path: Path) -> None:
    compiled("residual_cnn", "cpu-int8").save(tmp_path / "build")
    (tmp_path / "lib.so").write_bytes((tmp_path / "build" / "lib.so").read_bytes())
    path = tmp_path / "build" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["native"]["libraries"] = ["../lib.so"]
    manifest["hashes"]["../lib.so"] = manifest["hashes"]["lib.so"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(QCompilerError, match="no compiled program"):
        load(tmp_path / "build")


def test_the_host_runs_what_the_target_lacks() -> None:
    full = load_target("cpu-int8")
    poorer = dataclasses.replace(
        full, descriptor=full.descriptor.model_copy(
            update={"ops": {k: v for k, v in full.descriptor.ops.items() if k not in ("max_pool2d", "sub", "resize")}}
        ),
    )
    program = qcompiler.compile(model("pooling_net"), target=poorer, data=samples("pooling_net", 16), native=True)
    assert program.coverage.host_nodes >= 3
    assert program.native is not None
    assert len(program.native.libraries) >= 2
    feeds = samples("pooling_net", 9, seed=3)
    for quantized in (False, True):
        assert_equal(program.run(feeds, quantized, threads=2), program.run(feeds, quantized, backend="reference"))


def test_without_a_compiler_the_reference_runs_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from qcompiler.backends.tvm import toolchain

    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "_has_ziglang", lambda: False)
    program = qcompiler.compile(
        model("residual_cnn"), target="cpu-int8", data=samples("residual_cnn", 4)
    )
    assert program.native is None
    (warning,) = (w for w in program.warnings if "native" in w)
    assert "no C compiler was found" in warning
    assert "reference interpreter" in warning
    assert program.run(samples("residual_cnn", 1))


def test_an_unknown_instruction_set_is_an_error() -> None:
    with pytest.raises(QCompilerError, match="unknown instruction set 'avx513'"):
        qcompiler.compile(
            model("residual_cnn"), target="cpu-int8", data=samples("residual_cnn", 4), cpu="avx513"
        )


def test_a_table_behind_a_convolution_is_part_of_its_kernel() -> None:
    """Where the processor looks up bytes in registers; elsewhere it is a pass of its own."""
    program = compiled("branching_net", "cpu-int8")
    assert program.native is not None
    ((_, library),) = program.native.islands
    assert library is not None
    sigmoid = [name for name in library.step_names if "Sigmoid_2" in name.split(" + ")]
    assert len(sigmoid) == 1
    assert ("Conv_1" in sigmoid[0]) == (program.native.cpu == "avx512-vbmi")
