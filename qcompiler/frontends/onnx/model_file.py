"""Reads an ONNX model, its external data included, and checks it before anything is imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import inliner

from qcompiler.errors import QCompilerError

OLDEST_OPSET, NEWEST_OPSET = 9, 21


def load_model(model: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """The model with every tensor in memory and its local functions inlined.

    Args:
        model: a file, or a model in memory, which is not changed.

    Raises:
        QCompilerError: the file is missing or no ONNX model, external data is missing or lies outside the model's
            folder, or the model has no inputs or outputs.
    """
    if isinstance(model, onnx.ModelProto):
        loaded = onnx.ModelProto()
        loaded.CopyFrom(model)
        source, folder = "model in memory", None
    else:
        loaded = _read(Path(model))
        source, folder = str(model), Path(model).parent.resolve()
    if not loaded.HasField("graph") or not loaded.opset_import:
        raise QCompilerError(
            f"{source} is not an ONNX model", found="no graph or no operator set", fix="export the model again"
        )
    for tensor in _tensors(loaded):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _load_external(tensor, folder)
    _check_text(loaded.graph)
    if loaded.functions:
        loaded = inliner.inline_local_functions(loaded)
    default_opset(loaded)
    if not loaded.graph.output:
        raise QCompilerError(f"{source} has no outputs", fix="export the model again with its outputs")
    initializers = {t.name for t in loaded.graph.initializer}
    if all(value.name in initializers for value in loaded.graph.input):
        raise QCompilerError(f"{source} has no inputs", fix="export it with its inputs")
    return loaded


def default_opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set that the model uses.

    Raises:
        QCompilerError: the model names none, or one that is not supported.
    """
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or not OLDEST_OPSET <= max(versions) <= NEWEST_OPSET:
        raise QCompilerError(
            "the model's ONNX operator set is not supported",
            expected=f"opset {OLDEST_OPSET} to {NEWEST_OPSET}",
            found=f"opset {max(versions)}" if versions else "no standard operator set",
            fix="export with opset_version=17, or convert with onnx.version_converter",
        )
    return int(max(versions))


def _read(path: Path) -> onnx.ModelProto:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise QCompilerError(f"model file {str(path)!r} does not exist", fix="check the path") from error
    except OSError as error:
        raise QCompilerError(f"cannot read model file {str(path)!r}", found=error.strerror or str(error)) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise QCompilerError(
            f"{str(path)!r} is not an ONNX file, or is truncated",
            found=f"{len(data)} bytes that do not parse",
            fix="copy the file again or export the model again",
        ) from error
    return model


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every dense tensor stored in the model, those of subgraphs and functions included."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _graph_tensors(graph)


def _check_text(graph: onnx.GraphProto) -> None:
    """Refuse names that are no UTF-8 text: protobuf hands them out as bytes."""
    for node in graph.node:
        texts = [node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)]
        if not all(isinstance(text, str) for text in texts):
            raise QCompilerError(
                f"a node of type {node.op_type!r} has a name that is no text", found=str(texts),
                fix="the file is damaged: copy or export it again",
            )


def _load_external(tensor: onnx.TensorProto, folder: Path | None) -> None:
    """Move the tensor's bytes from its file into the tensor."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    what = f"external data of tensor {tensor.name!r}"
    if folder is None:
        raise QCompilerError(
            f"{what} is not loaded", found=f"location {location!r} and no model folder",
            fix="pass the model's path, or load it with onnx.load",
        )
    # Symlinks are resolved first, so that no link inside the folder leads out of it.
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise QCompilerError(
            f"{what} lies outside the model's folder", expected=f"a file below {str(folder)!r}",
            found=f"location {location!r}", fix="copy the data file itself beside the model",
        )
    if not path.is_file():
        raise QCompilerError(
            f"{what} is missing", expected=f"file {location!r} beside the model", fix="copy the data file there"
        )
    size = path.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
    except ValueError as error:
        raise QCompilerError(f"{what} has an offset or length that is no number", found=str(entries)) from error
    if offset < 0 or length < 0 or offset + length > size:
        raise QCompilerError(
            f"{what} ends after its file", expected=f"at most {size} bytes in {location!r}",
            found=f"offset {offset}, length {length}", fix="copy the data file again: it may be truncated",
        )
    with path.open("rb") as file:
        file.seek(offset)
        tensor.raw_data = file.read(length)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
