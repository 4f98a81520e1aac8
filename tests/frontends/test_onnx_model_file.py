"""Files: what is no model, operator sets, external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_single_node import node_model

from qcompiler.backends.reference import run
from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model

F = np.float32


def small_model(opset: int = 17) -> onnx.ModelProto:
    return node_model("Add", {"x": (F, ["N", 4])}, {"w": np.arange(4, dtype=F)}, opset=opset)


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(small_model(), path)
    assert import_model(path) == import_model(str(path)) == import_model(small_model())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match=r"no\.onnx' does not exist"):
        import_model(tmp_path / "no.onnx")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="cannot read model file"):
        import_model(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"hello, this is no model", b"\x89PNG\r\n\x1a\n" + bytes(range(64)), b"\x08\x08"]
)
def test_other_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(QCompilerError, match="is not an ONNX"):
        import_model(path)


def test_truncated_file(tmp_path: Path) -> None:
    data = small_model().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(QCompilerError):
            import_model(path)


@pytest.mark.parametrize("opset", [9, 13, 21])
def test_opsets(opset: int) -> None:
    assert len(import_model(small_model(opset))) == 2


@pytest.mark.parametrize("opset", [8, 22])
def test_opset_out_of_range(opset: int) -> None:
    model = small_model()
    model.opset_import[0].version = opset
    with pytest.raises(QCompilerError, match=rf"opset 9 to 21(.|\n)*opset {opset}"):
        import_model(model)


def test_no_standard_opset() -> None:
    model = small_model()
    model.opset_import[0].domain = "com.example"
    with pytest.raises(QCompilerError, match="no standard operator set"):
        import_model(model)


def test_no_inputs_or_outputs() -> None:
    model = small_model()
    del model.graph.output[:]
    with pytest.raises(QCompilerError, match="has no outputs"):
        import_model(model)
    model = small_model()
    del model.graph.input[:]
    with pytest.raises(QCompilerError, match="has no inputs"):
        import_model(model)


# External data


def external(location: str, **entries: int) -> onnx.ModelProto:
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def place(folder: Path, model: onnx.ModelProto) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


WEIGHTS = np.asarray([9, 8, 7, 6, 5], F)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [({"length": 16}, WEIGHTS[:4]), ({"offset": 4, "length": 16}, WEIGHTS[1:]), ({"offset": 4}, WEIGHTS[1:])],
)
@pytest.mark.parametrize("location", ["weights.bin", "inner/weights.bin", "inner/../weights.bin"])
def test_external_data(tmp_path: Path, location: str, entries: dict[str, int], expected: np.ndarray) -> None:
    path = place(tmp_path / "m", external(location, **entries))
    (path.parent / "inner").mkdir()
    (path.parent / location).write_bytes(WEIGHTS.tobytes())
    (result,) = run(import_model(path), {"x": np.zeros((1, 4), F)}).values()
    np.testing.assert_array_equal(result, expected[None])


@pytest.mark.parametrize("absolute", [False, True])
def test_external_data_outside_the_folder(tmp_path: Path, absolute: bool) -> None:
    outside = tmp_path / "secret.bin"
    outside.write_bytes(WEIGHTS.tobytes())
    path = place(tmp_path / "m", external(str(outside) if absolute else "../secret.bin", length=16))
    with pytest.raises(QCompilerError, match="external data of tensor 'w' lies outside the model's folder"):
        import_model(path)


@pytest.mark.parametrize("folder_link", [False, True])
def test_external_data_behind_a_symlink(tmp_path: Path, folder_link: bool) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = place(tmp_path / "m", external("data/w.bin" if folder_link else "w.bin", length=16))
    if folder_link:
        (path.parent / "data").symlink_to(tmp_path / "private")
    else:
        (path.parent / "w.bin").symlink_to(tmp_path / "private" / "w.bin")
    with pytest.raises(QCompilerError, match="lies outside the model's folder"):
        import_model(path)


def test_symlink_within_the_folder(tmp_path: Path) -> None:
    path = place(tmp_path / "m", external("w.bin", length=16))
    (path.parent / "real.bin").write_bytes(WEIGHTS.tobytes())
    (path.parent / "w.bin").symlink_to(path.parent / "real.bin")
    assert len(import_model(path)) == 2


def test_folder_whose_name_is_a_prefix(tmp_path: Path) -> None:
    (tmp_path / "model-private").mkdir()
    (tmp_path / "model-private" / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = place(tmp_path / "model", external("../model-private/w.bin", length=16))
    with pytest.raises(QCompilerError, match="lies outside the model's folder"):
        import_model(path)


@pytest.mark.parametrize("location", ["absent.bin", "", "."])
def test_missing_external_data(tmp_path: Path, location: str) -> None:
    with pytest.raises(QCompilerError, match="external data of tensor 'w' is missing"):
        import_model(place(tmp_path / "m", external(location)))


@pytest.mark.parametrize(
    "entries",
    [{"length": 21}, {"offset": 8, "length": 16}, {"offset": 24}, {"offset": -4, "length": 16}, {"length": -1}],
)
def test_external_data_past_the_end(tmp_path: Path, entries: dict[str, int]) -> None:
    path = place(tmp_path / "m", external("w.bin", **entries))
    (path.parent / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(QCompilerError, match="ends after its file"):
        import_model(path)


def test_external_data_of_the_wrong_length(tmp_path: Path) -> None:
    path = place(tmp_path / "m", external("w.bin", length=8))
    (path.parent / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(QCompilerError, match="tensor 'w' is damaged"):
        import_model(path)


def test_external_data_of_a_constant_node(tmp_path: Path) -> None:
    tensor = external("../secret.bin", length=16).graph.initializer[0]
    model = small_model()
    del model.graph.initializer[:]
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w"], value=tensor))
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(QCompilerError, match="lies outside the model's folder"):
        import_model(place(tmp_path / "m", model))


def test_external_data_of_a_model_in_memory() -> None:
    with pytest.raises(QCompilerError, match=r"is not loaded(.|\n)*onnx\.load"):
        import_model(external("w.bin"))
