"""Calibration data: checked against the program's inputs, streamed batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.batching import fixed_rows, takes_samples
from qcompiler.calibration.sources import ArraySource, FileSequence, Source, Spool, npy_source, npz_members
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Value
from qcompiler.ir.dimension import format_shape

Array = NDArray[Any]
DataLike = str | Path | Array | Mapping[str, Array] | Iterable[Mapping[str, Array]]


class CalibrationData:
    """Samples for every input of a program.

    Args:
        inputs: the program's inputs.
        sources: the samples of each, by input name.

    Raises:
        QCompilerError: an input has no samples, or samples of another number, type or shape; or there are samples for
            something that is no input.
    """

    def __init__(self, inputs: list[Value], sources: Mapping[str, Source]) -> None:
        self.inputs = inputs
        self.sources = sources
        counts = {}
        for value in inputs:
            if value.name not in sources:
                raise QCompilerError(
                    f"the data lack input {value.name!r}", found="arrays " + ", ".join(map(repr, sources)),
                    fix="name the arrays after the model's inputs",
                )
            counts[value.name] = _run_count(value, sources[value.name])
        _refuse_others(inputs, sources, "the data hold")
        if len(set(counts.values())) > 1:
            raise QCompilerError("the inputs have different numbers of samples", found=str(counts))
        self.count = next(iter(counts.values()), 0) * (fixed_rows(inputs[0]) if inputs else 1)

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int) -> Iterator[dict[str, Array]]:
        """Samples in order, ``size`` at a time, as feeds by input name.

        A program with a fixed batch takes batches of exactly that size, whatever ``size`` says.

        Raises:
            QCompilerError: a sample holds NaN or infinity; names input and sample.
        """
        free = bool(self.inputs) and all(v.type.carries_batch for v in self.inputs)
        step = max(1, size // max(map(fixed_rows, self.inputs))) if free else 1
        streams = [self.sources[v.name].stream(step * fixed_rows(v)) for v in self.inputs]
        done = 0
        for arrays in zip(*streams, strict=True):
            for value, array in zip(self.inputs, arrays, strict=True):
                _check_finite(value, array, done)
            yield {v.name: a for v, a in zip(self.inputs, arrays, strict=True)}
            done += len(arrays[0])

    def first(self, count: int) -> dict[str, Array]:
        """The first ``count`` samples, or all if there are fewer, as feeds."""
        return next(iter(self.batches(max(count, 1))))


def open_data(data: DataLike, graph: Graph) -> CalibrationData:
    """Calibration data from whatever a user holds.

    Args:
        data: an ``.npz`` file with an array for each input; a folder of ``.npy`` or ``.npz`` files; an array (for a
            program with one input); arrays by input name; or an iterable of such dicts, spooled to disk.
        graph: the program whose inputs they feed.

    Raises:
        QCompilerError: unreadable, missing, empty, wrongly shaped or wrongly typed data.
    """
    inputs = graph.inputs
    if isinstance(data, str | Path):
        sources = _from_path(Path(data), inputs)
    elif isinstance(data, np.ndarray):
        sources = {_only_input(inputs).name: ArraySource(data)}
    elif isinstance(data, Mapping):
        sources = {name: ArraySource(np.asarray(array)) for name, array in data.items()}
    elif isinstance(data, Iterable):
        sources = _spooled(data, inputs)
    else:
        raise QCompilerError(
            f"data of type {type(data).__name__}",
            expected="a path, an array, a dict of arrays or an iterable of dicts",
        )
    opened = CalibrationData(inputs, sources)
    if not len(opened):
        raise QCompilerError("the data hold no samples", fix="give at least one; 100 are usual")
    return opened


def _from_path(path: Path, inputs: list[Value]) -> dict[str, Source]:
    if not path.exists():
        raise QCompilerError(f"data {str(path)!r} do not exist")
    if path.is_dir():
        return _from_folder(path, inputs)
    if path.suffix == ".npy":
        return {_only_input(inputs).name: npy_source(path)}
    members = npz_members(path)
    if len(inputs) == 1 and len(members) == 1:
        return {inputs[0].name: next(iter(members.values()))}
    return dict(members)


def _from_folder(folder: Path, inputs: list[Value]) -> dict[str, Source]:
    archives = sorted(folder.glob("*.npz"))
    arrays = sorted(folder.glob("*.npy"))
    if archives and arrays:
        raise QCompilerError(f"{folder} holds both .npz and .npy files", fix="keep one kind")
    if archives:
        opened = [npz_members(p) for p in archives]
        lacking = [(p, v.name) for p, m in zip(archives, opened, strict=True) for v in inputs if v.name not in m]
        if lacking:
            path, name = lacking[0]
            raise QCompilerError(f"{path} lacks input {name!r}", fix="name its arrays after the inputs")
        for path, members in zip(archives, opened, strict=True):
            _refuse_others(inputs, members, f"{path} holds")
        return {v.name: _sequence(archives, [m[v.name] for m in opened], v) for v in inputs}
    if not arrays:
        raise QCompilerError(f"{folder} holds no .npy or .npz files")
    if {p.stem for p in arrays} == {v.name for v in inputs}:
        return {p.stem: npy_source(p) for p in arrays}
    value = _only_input(inputs)
    return {value.name: _sequence(arrays, [npy_source(p) for p in arrays], value)}


def _sequence(files: Sequence[Path], parts: Sequence[Source], value: Value) -> FileSequence:
    single = [len(p.shape) == value.type.rank - 1 for p in parts]
    for file, part, one in zip(files, parts, single, strict=True):
        _check_sample(value, part.dtype, (1, *part.shape) if one else part.shape, f"{file}: input {value.name!r}")
    return FileSequence(parts, single)


def _spooled(data: Iterable[Any], inputs: list[Value]) -> dict[str, Source]:
    spools: dict[str, Spool] = {}
    for index, item in enumerate(data):
        feeds = {_only_input(inputs).name: item} if isinstance(item, np.ndarray) else item
        if not isinstance(feeds, Mapping):
            raise QCompilerError(
                f"item {index} of the data is a {type(item).__name__}", expected="a dict of arrays"
            )
        for value in inputs:
            if value.name not in feeds:
                raise QCompilerError(f"item {index} of the data lacks input {value.name!r}")
            array = np.asarray(feeds[value.name])
            rows = array[None] if array.ndim == value.type.rank - 1 else array
            _check_sample(value, rows.dtype, rows.shape, f"item {index} of the data")
            if value.name not in spools:
                spools[value.name] = Spool(rows.dtype, rows.shape[1:])
            spools[value.name].append(rows)
        _refuse_others(inputs, feeds, f"item {index} of the data holds")
    if not spools:
        raise QCompilerError("the data hold no samples", fix="give at least one; 100 are usual")
    return dict(spools)


def _only_input(inputs: list[Value]) -> Value:
    if len(inputs) != 1:
        raise QCompilerError(
            f"one array for {len(inputs)} inputs", fix="give arrays by name: " + ", ".join(v.name for v in inputs)
        )
    return inputs[0]


def _refuse_others(inputs: list[Value], names: Iterable[str], holder: str) -> None:
    """Refuse arrays that are for no input: more likely a wrong name, or another model's data, than one to ignore."""
    known = [v.name for v in inputs]
    for name in names:
        if name not in known:
            raise QCompilerError(
                f"{holder} an array {name!r}, which is no input of the model",
                expected="arrays for " + ", ".join(map(repr, known)) if known else "no arrays",
                found=", ".join(map(repr, names)), fix=f"leave {name!r} out",
            )


def _run_count(value: Value, source: Source) -> int:
    """How many runs of the program the samples of an input fill."""
    if not value.type.shape:
        raise QCompilerError(f"input {value.name!r} is a single number and has no axis of samples",
                             fix="make it a constant of the model")
    _check_sample(value, source.dtype, source.shape, f"input {value.name!r}")
    rows, each = source.shape[0], fixed_rows(value)
    if rows % each:
        raise QCompilerError(
            f"input {value.name!r} has {rows} samples, the model takes {each} at a time",
            fix=f"give a multiple of {each}",
        )
    return rows // each


def _check_sample(value: Value, dtype: np.dtype[Any], shape: tuple[int, ...], what: str) -> None:
    wanted = value.type.storage.dtype
    if dtype != wanted:
        raise QCompilerError(
            f"{what} has the wrong type", expected=str(wanted), found=str(dtype),
            fix=f"convert it as the model's preprocessing does, then .astype(numpy.{wanted})",
        )
    if not takes_samples(value, shape):
        raise QCompilerError(
            f"{what} has the wrong shape", expected=format_shape(value.type.shape) + ", samples along the first axis",
            found=str(list(shape)),
        )


def _check_finite(value: Value, array: Array, done: int) -> None:
    if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return
    rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(1))
    raise QCompilerError(
        f"input {value.name!r} holds NaN or infinity", found=f"in sample {done + int(rows[0])}", fix="remove the sample"
    )
