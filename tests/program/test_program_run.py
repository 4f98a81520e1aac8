"""Running, saving and loading programs: batches, integers, inputs that do not fit, damaged artifacts."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import models
import numpy as np
import pytest

import qcompiler
from qcompiler import Program, QCompilerError, load
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Builder, Graph, Original, TensorType, clone, read_program
from qcompiler.ir.scalar import F32
from qcompiler.numerics import dequantize
from qcompiler.ops.activation import Relu
from qcompiler.ops.quantized import parameters


@cache
def program(name: str) -> Program:
    return qcompiler.compile(models.model(name), target="tpu-int8", data=models.samples(name, 6))


@pytest.mark.parametrize("name", models.MODELS)
def test_a_batch_equals_single_samples(name: str) -> None:
    feeds = models.samples(name, 7, seed=1)
    together = program(name).run(feeds)
    alone = [program(name).run({k: v[i : i + 1] for k, v in feeds.items()}) for i in range(7)]
    for output, array in together.items():
        assert len(array) == 7
        np.testing.assert_array_equal(array, np.concatenate([single[output] for single in alone]))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 200])
def test_any_number_of_samples(count: int) -> None:
    """More than run at a time, and any remainder of a fixed batch."""
    for name in ("token_mixer", "two_inputs_fixed_batch"):
        feeds = models.samples(name, count, seed=2)
        (found,) = program(name).run(feeds).values()
        (last,) = program(name).run({k: v[-1:] for k, v in feeds.items()}).values()
        assert len(found) == count
        np.testing.assert_array_equal(found[-1:], last)


@pytest.mark.parametrize("name", ["token_mixer", "two_inputs_fixed_batch"])
def test_no_samples_give_no_results(name: str) -> None:
    shapes = {k: v.shape[1:] for k, v in program(name).run(models.samples(name, 3)).items()}
    found = program(name).run(models.samples(name, 0))
    assert {k: v.shape for k, v in found.items()} == {k: (0, *s) for k, s in shapes.items()}


def test_a_batch_fixed_at_compile_time_gives_the_same_numbers() -> None:
    feeds = models.samples("residual_cnn", 6)
    fixed = qcompiler.compile(models.model("residual_cnn"), target="tpu-int8", data=feeds, batch=2)
    assert fixed.graph.inputs[0].type.shape[0] == 2
    other = models.samples("residual_cnn", 5, seed=4)
    (found,), (expected,) = fixed.run(other).values(), program("residual_cnn").run(other).values()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", models.MODELS)
def test_integers_dequantize_to_the_outputs(name: str) -> None:
    feeds = models.samples(name, 5, seed=5)
    real, stored = program(name).run(feeds), program(name).run(feeds, quantized=True)
    assert list(real) == list(stored)
    for output in program(name).graph.outputs:
        producer = output.value.producer
        assert producer is not None
        type = producer.operands[0].type
        assert stored[output.name].dtype == type.storage.dtype
        bound = type.with_shape(stored[output.name].shape)
        np.testing.assert_array_equal(dequantize(stored[output.name], parameters(bound)), real[output.name])


def test_two_outputs_of_one_value() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((1, 4), F32), Original("x"))
    y = Builder(graph, loc=("act",))(Relu(), x, origin=Original("y"))
    graph.set_outputs([("first", y), ("second", y), ("third", x)])
    feeds = {"x": np.array([[-1, 0, 1, 2]], np.float32)}
    compiled = qcompiler.compile(graph, target="tpu-int8", data=feeds)
    for quantized in (False, True):
        found = compiled.run(feeds, quantized=quantized)
        assert list(found) == ["first", "second", "third"]
        np.testing.assert_array_equal(found["first"], found["second"])


def test_one_array_serves_a_single_input() -> None:
    feeds = models.samples("residual_cnn", 2)
    (expected,) = program("residual_cnn").run(feeds).values()
    (found,) = program("residual_cnn").run(feeds["image"]).values()
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(QCompilerError, match="one array for several inputs") as caught:
        program("two_inputs_fixed_batch").run(feeds["image"])
    assert "left, right" in str(caught.value.fix)


def test_infinite_inputs_saturate() -> None:
    large, infinite = (np.full((1, 3, 12, 12), v, np.float32) for v in (1e30, np.inf))
    (expected,), (found,) = (program("residual_cnn").run(x).values() for x in (large, infinite))
    np.testing.assert_array_equal(found, expected)


GOOD = models.samples("two_inputs_fixed_batch", 3)
REFUSED = {
    "missing": ({"left": GOOD["left"]}, "input 'right' is missing"),
    "unknown": ({**GOOD, "middle": GOOD["left"]}, "no input 'middle'"),
    "dtype": ({**GOOD, "left": GOOD["left"].astype(np.float64)}, "input 'left' does not fit"),
    "integers": ({**GOOD, "left": GOOD["left"].astype(np.int8)}, "input 'left' does not fit"),
    "shape": ({**GOOD, "left": GOOD["left"][:, :4]}, "input 'left' does not fit"),
    "rank": ({**GOOD, "left": GOOD["left"][0]}, "input 'left' does not fit"),
    "nan": ({**GOOD, "left": np.full((3, 5), np.nan, np.float32)}, "input 'left' holds NaN"),
    "counts": ({**GOOD, "left": GOOD["left"][:2]}, "do not fill the program's fixed batch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_that_do_not_fit_are_refused(case: str) -> None:
    feeds, problem = REFUSED[case]
    with pytest.raises(QCompilerError, match=problem):
        program("two_inputs_fixed_batch").run(feeds)


def test_one_nan_among_many_is_refused() -> None:
    image = models.samples("residual_cnn", 80)["image"]
    image[79, 2, 11, 11] = np.nan
    with pytest.raises(QCompilerError, match="input 'image' holds NaN"):
        program("residual_cnn").run(image)


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(QCompilerError, match="unknown backend 'gpu'"):
        program("residual_cnn").run(models.samples("residual_cnn", 1), backend="gpu")


# Artifacts


@pytest.mark.parametrize("name", models.MODELS)
def test_saved_programs_load_equal(name: str, tmp_path: Path) -> None:
    program(name).save(tmp_path / "build")
    again = load(tmp_path / "build")
    assert again.graph == program(name).graph
    feeds = models.samples(name, 4, seed=6)
    for before, after in zip(program(name).run(feeds).values(), again.run(feeds).values(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert again.figures["layers"] == program(name).figures["layers"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build"]


def test_the_manifest_names_boundaries(tmp_path: Path) -> None:
    program("residual_cnn").save(tmp_path / "build")
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    assert manifest["target"] == "tpu-int8"
    (entry,) = manifest["inputs"]
    assert entry["name"] == "image"
    assert entry["type"] == "f32[N,3,12,12]"
    quantize = next(n for n in program("residual_cnn").graph.nodes if n.op.name == "quantize")
    elem = quantize.result.type.elem
    assert entry["quantized"]["storage"] == "i8"
    assert np.float32(entry["quantized"]["scale"]) == elem.scale.array  # type: ignore[union-attr]
    assert entry["quantized"]["zero_point"] == elem.zero_point.array  # type: ignore[union-attr]


@pytest.mark.parametrize("file", ["program.qir", "program.safetensors"])
@pytest.mark.parametrize("damage", ["a bit", "the end", "the file"])
def test_damaged_artifacts_are_refused(file: str, damage: str, tmp_path: Path) -> None:
    program("residual_cnn").save(tmp_path / "build")
    path = tmp_path / "build" / file
    content = bytearray(path.read_bytes())
    if damage == "a bit":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "the end":
        path.write_bytes(content[:-1])
    else:
        path.unlink()
    with pytest.raises(QCompilerError, match=f"{file} is damaged or missing"):
        load(tmp_path / "build")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '"text"', '{"hashes": 3}', '{"hashes": {}}', "\xff"])
def test_broken_manifests_are_refused(content: str, tmp_path: Path) -> None:
    program("residual_cnn").save(tmp_path / "build")
    (tmp_path / "build" / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(QCompilerError):
        load(tmp_path / "build")


def test_a_manifest_cannot_point_outside(tmp_path: Path) -> None:
    program("residual_cnn").save(tmp_path / "build")
    with pytest.raises(QCompilerError, match="no compiled program"):
        load(tmp_path)
    with pytest.raises(QCompilerError, match="no compiled program"):
        load(tmp_path / "absent")


def test_an_artifact_replaces_another(tmp_path: Path) -> None:
    program("residual_cnn").save(tmp_path / "build")
    (tmp_path / "build" / "notes.txt").write_text("kept")
    program("token_mixer").save(tmp_path / "build")
    assert load(tmp_path / "build").graph == program("token_mixer").graph
    assert (tmp_path / "build" / "notes.txt").read_text() == "kept"
    program("token_mixer").save(tmp_path / "build")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build"]


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "file").write_text("words")
    for name in ("mine", "file"):
        with pytest.raises(QCompilerError, match="exists and is no compiled program"):
            program("token_mixer").save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"
    (tmp_path / "empty").mkdir()
    program("token_mixer").save(tmp_path / "empty")
    assert load(tmp_path / "empty").graph == program("token_mixer").graph


def test_dumps_read_back_and_compile_further(tmp_path: Path) -> None:
    data = models.samples("residual_cnn", 6)
    compiled = qcompiler.compile(models.model("residual_cnn"), target="tpu-int8", data=data, dump_ir=tmp_path / "ir")
    dumps = sorted((tmp_path / "ir").glob("*.qir"))
    assert dumps[0].name == "000_import.qir"
    assert dumps[-1].name.endswith("_verify-legal.qir")
    last = read_program(dumps[-1])
    last.target = compiled.graph.target
    assert last == compiled.graph
    imported = qcompiler.compile(dumps[0], target="tpu-int8", data=data)
    assert imported.graph == compiled.graph


def test_compiling_changes_no_graph() -> None:



    graph = import_model(models.model("pooling_net"))
    before = clone(graph)
    qcompiler.compile(graph, target="tpu-int8", data=models.samples("pooling_net", 4))
    assert graph == before


@pytest.mark.parametrize("name", models.MODELS)
def test_the_float_check_passes(name: str) -> None:
    checked = qcompiler.compile(
        models.model(name), target="tpu-int8", data=models.samples(name, 6), check_float=True
    )
    assert checked.graph == program(name).graph
    assert set(checked.figures["check_float"]) >= {"bypassed_db", "wide_db"}


def test_coverage_and_figures() -> None:
    compiled = program("residual_cnn")
    coverage = compiled.coverage
    assert coverage.host_nodes == coverage.host_macs == 0
    # Each convolution: result elements of one sample times the products of one element.
    convs = [(8 * 144, 27), (8 * 144, 72), (8 * 144, 72), (12 * 36, 72), (12 * 36, 108), (12 * 36, 8)]
    assert coverage.macs == sum(elements * products for elements, products in convs) + 10 * 12
    assert compiled.figures["bytes_after"] < compiled.figures["bytes_before"] / 2
    (found,) = compiled.figures["sqnr_db"].values()
    assert found > 30
