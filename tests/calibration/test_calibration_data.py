"""Every way to hand in calibration data gives the same program, and every bad one a clear error."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from numpy.typing import NDArray

import qcompiler
from qcompiler.calibration.data import open_data
from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Graph, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32

Array = NDArray[Any]
COUNT = 37


@cache
def graph(name: str) -> Graph:
    return import_model(models.model(name))


def image() -> Array:
    return models.samples("residual_cnn", COUNT)["image"]


@cache
def expected() -> Graph:
    return qcompiler.compile(graph("residual_cnn"), target="tpu-int8", data={"image": image()}).graph


def one_shot(folder: Path) -> Iterator[dict[str, Array]]:
    x = image()
    for start in range(0, COUNT, 5):
        yield {"image": x[start : start + 5]}


def single_samples(folder: Path) -> Iterator[Array]:
    yield from image()


def folder_of_npy(folder: Path) -> Path:
    x = image()
    for index, start in enumerate(range(0, COUNT, 8)):
        np.save(folder / f"{index:03d}.npy", x[start : start + 8])
    return folder


def folder_of_single_npy(folder: Path) -> Path:
    for index, sample in enumerate(image()):
        np.save(folder / f"{index:03d}.npy", sample)
    return folder


def folder_of_mixed_npy(folder: Path) -> Path:
    """Single samples beside stacks of them."""
    x = image()
    np.save(folder / "0.npy", x[0])
    np.save(folder / "1.npy", x[1:20])
    np.save(folder / "2.npy", x[20])
    np.save(folder / "3.npy", np.asfortranarray(x[21:]))
    return folder


def folder_by_input(folder: Path) -> Path:
    np.save(folder / "image.npy", image())
    return folder


def folder_of_npz(folder: Path) -> Path:
    x = image()
    for index, start in enumerate(range(0, COUNT, 10)):
        np.savez(folder / f"{index}.npz", image=x[start : start + 10])
    return folder


def npz(folder: Path) -> Path:
    np.savez(folder / "data.npz", image=image())
    return folder / "data.npz"


def npz_compressed(folder: Path) -> Path:
    np.savez_compressed(folder / "data.npz", image=image())
    return folder / "data.npz"


def npz_fortran(folder: Path) -> str:
    np.savez(folder / "data.npz", image=np.asfortranarray(image()))
    return str(folder / "data.npz")


def npz_of_another_name(folder: Path) -> Path:
    np.savez(folder / "data.npz", arr=image())
    return folder / "data.npz"


def npy(folder: Path) -> Path:
    np.save(folder / "data.npy", image())
    return folder / "data.npy"


def npy_format_2(folder: Path) -> Path:
    with (folder / "data.npy").open("wb") as file:
        np.lib.format.write_array(file, image(), version=(2, 0))
    return folder / "data.npy"


def array(folder: Path) -> Array:
    return image()


def strided(folder: Path) -> Array:
    return np.repeat(image(), 2, 0)[::2]


def list_of_dicts(folder: Path) -> list[dict[str, Array]]:
    return list(one_shot(folder))


SOURCES: list[Callable[[Path], Any]] = [
    one_shot, single_samples, folder_of_npy, folder_of_single_npy, folder_of_mixed_npy, folder_by_input, folder_of_npz,
    npz, npz_compressed, npz_fortran, npz_of_another_name, npy, npy_format_2, array, strided, list_of_dicts,
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
def test_every_source_gives_the_same_program(source: Callable[[Path], Any], tmp_path: Path) -> None:
    program = qcompiler.compile(graph("residual_cnn"), target="tpu-int8", data=source(tmp_path))
    assert program.graph == expected()


@pytest.mark.parametrize("source", SOURCES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_batches_hold_all_samples_in_order(source: Callable[[Path], Any], size: int, tmp_path: Path) -> None:
    data = open_data(source(tmp_path), graph("residual_cnn"))
    assert len(data) == COUNT
    for _ in range(2):
        batches = [feeds["image"] for feeds in data.batches(size)]
        assert [len(b) for b in batches] == [size] * (COUNT // size) + [COUNT % size] * bool(COUNT % size)
        np.testing.assert_array_equal(np.concatenate(batches), image())
    np.testing.assert_array_equal(data.first(4)["image"], image()[:4])


def test_a_fixed_batch_takes_whole_batches() -> None:
    feeds = models.samples("two_inputs_fixed_batch", 9)
    data = open_data(feeds, graph("two_inputs_fixed_batch"))
    for size in (1, 3, 4, 8, 100):
        assert [len(f["left"]) for f in data.batches(size)] == [3, 3, 3]
    with pytest.raises(QCompilerError, match="has 8 samples, the model takes 3 at a time"):
        open_data({k: v[:8] for k, v in feeds.items()}, graph("two_inputs_fixed_batch"))


def test_several_inputs_stay_together(tmp_path: Path) -> None:
    feeds = models.samples("two_inputs_fixed_batch", 6)
    for index in (0, 1):
        left, right = (feeds[k][3 * index : 3 * index + 3] for k in ("left", "right"))
        np.savez(tmp_path / f"{index}.npz", left=left, right=right)
    data = open_data(tmp_path, graph("two_inputs_fixed_batch"))
    for index, batch in enumerate(data.batches(1)):
        for name, rows in batch.items():
            np.testing.assert_array_equal(rows, feeds[name][3 * index : 3 * index + 3])


def test_a_spool_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = open_data(one_shot(tmp_path), graph("residual_cnn"))
    next(iter(data.batches(4)))
    del data
    assert not list(tmp_path.iterdir())


# Data that cannot be used


def _npz_damaged(folder: Path) -> Path:
    """One number of the array is another, but still a number."""
    path = npz(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def _npz_short(folder: Path) -> Path:
    path = npz(folder)
    path.write_bytes(path.read_bytes()[:5000])
    return path


def _npz_with_short_member(folder: Path) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, image())
    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        archive.writestr("image.npy", buffer.getvalue()[:-100])
    return folder / "data.npz"


def _npz_with(folder: Path, **others: Any) -> Path:
    np.savez(folder / "data.npz", image=image(), **others)
    return folder / "data.npz"


def _folder_of_npz_with_labels(folder: Path) -> Path:
    np.savez(folder / "0.npz", image=image())
    np.savez(folder / "1.npz", image=image(), labels=np.arange(COUNT))
    return folder


def _npz_of_objects(folder: Path) -> Path:
    np.savez(folder / "data.npz", image=np.array([{}, None], dtype=object))
    return folder / "data.npz"


def _npy_of_objects(folder: Path) -> Path:
    np.save(folder / "data.npy", np.array([{}, None], dtype=object), allow_pickle=True)
    return folder / "data.npy"


def _text(folder: Path, name: str) -> Path:
    (folder / name).write_text("words")
    return folder / name


def _folder_where(folder: Path, **arrays: Array) -> Path:
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    return folder


def _both_kinds(folder: Path) -> Path:
    npz(folder)
    return npy(folder).parent


def _archive_lacking(folder: Path) -> Path:
    np.savez(folder / "0.npz", image=image())
    np.savez(folder / "1.npz", picture=image())
    return folder


def _with(position: int, value: float) -> Array:
    x = image()
    x[position, 0, 0, 0] = value
    return x


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "absent": (lambda f: f / "absent.npz", "do not exist"),
    "damaged npz": (_npz_damaged, "data.npz"),
    "truncated npz": (_npz_short, "cannot read .*data.npz"),
    "truncated member": (_npz_with_short_member, "truncated"),
    "objects in npz": (_npz_of_objects, "Python objects"),
    "objects in npy": (_npy_of_objects, "cannot read .*data.npy"),
    "text as npz": (lambda f: _text(f, "data.npz"), "cannot read .*data.npz"),
    "text as npy": (lambda f: _text(f, "data.npy"), "cannot read .*data.npy"),
    "another suffix": (lambda f: _text(f, "data.csv"), "cannot read .*data.csv"),
    "empty folder": (lambda f: f, "holds no .npy or .npz files"),
    "both kinds": (_both_kinds, "both .npz and .npy"),
    "archive without the input": (_archive_lacking, "1.npz lacks input 'image'"),
    "wrong dtype": (lambda f: image().astype(np.float64), "wrong type"),
    "byte order": (lambda f: image().astype(">f4"), "wrong type"),
    "wrong shape": (lambda f: image()[:, :2], "wrong shape"),
    "wrong rank": (lambda f: image()[0, 0], "wrong shape"),
    "a number": (lambda f: {"image": np.float32(3)}, "wrong shape"),
    "no samples": (lambda f: image()[:0], "hold no samples"),
    "empty iterator": (lambda f: iter(()), "hold no samples"),
    "wrong name": (lambda f: {"picture": image()}, "the data lack input 'image'"),
    "another array in an npz": (
        lambda f: _npz_with(f, labels=np.arange(COUNT)),
        "hold an array 'labels', which is no input(?s:.*)arrays for 'image'(?s:.*)'image', 'labels'",
    ),
    "another array in a folder": (_folder_of_npz_with_labels, r"1\.npz holds an array 'labels', which is no input"),
    "another array in a dict": (
        lambda f: {"image": image(), "mask": image()}, "hold an array 'mask', which is no input",
    ),
    "another array in an item": (
        lambda f: [{"image": image()}, {"image": image(), "mask": image()}], "item 1 .* holds an array 'mask'",
    ),
    "item without the input": (lambda f: [{"image": image()}, {"picture": image()}], "item 1 .*lacks input 'image'"),
    "item of another kind": (lambda f: [{"image": image()}, 3], "item 1 .* is a int"),
    "item of another shape": (lambda f: [{"image": image()}, {"image": image()[:, :1]}], "item 1 .*wrong shape"),
    "item of another dtype": (lambda f: [image(), image().astype(np.float16)], "item 1 .*wrong type"),
    "another type": (lambda f: 3, "data of type int"),
    "file of another shape": (lambda f: _folder_where(f, a=image(), b=image()[:, :2]), "wrong shape"),
    "file of another dtype": (lambda f: _folder_where(f, a=image(), b=image().astype(np.float64)), "wrong type"),
    "single sample of another shape": (lambda f: _folder_where(f, a=image(), b=image()[0, :2]), "wrong shape"),
    "nan": (lambda f: _with(36, np.nan), "holds NaN or infinity\n.*sample 36"),
    "infinity": (lambda f: _with(33, -np.inf), "holds NaN or infinity\n.*sample 33"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_data_are_refused(case: str, tmp_path: Path) -> None:
    make, problem = REFUSED[case]
    with pytest.raises(QCompilerError, match=problem):
        list(open_data(make(tmp_path), graph("residual_cnn")).batches(8))


def test_inputs_of_different_counts_are_refused() -> None:
    feeds = models.samples("two_inputs_fixed_batch", 6)
    with pytest.raises(QCompilerError, match="different numbers of samples"):
        open_data({"left": feeds["left"], "right": feeds["right"][:3]}, graph("two_inputs_fixed_batch"))
    with pytest.raises(QCompilerError, match="one array for 2 inputs"):
        open_data(feeds["left"], graph("two_inputs_fixed_batch"))


def test_an_iterator_whose_items_lack_rows_is_refused() -> None:
    feeds = models.samples("two_inputs_fixed_batch", 3)
    items = [feeds, {"left": feeds["left"], "right": feeds["right"][:2]}]
    with pytest.raises(QCompilerError, match="samples"):
        open_data(items, graph("two_inputs_fixed_batch"))


def test_samples_of_rank_one() -> None:
    program = Graph()
    program.add_input("x", TensorType((SymbolicDim("N"), 4), F32))
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    data = open_data([{"x": row} for row in rows], program)
    np.testing.assert_array_equal(data.first(3)["x"], rows)
