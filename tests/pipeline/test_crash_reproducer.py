"""A reproducer holds what is needed to fail the same way, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sample_passes import float_program, sample_passes

from qcompiler.calibration.data import open_data
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, clone, print_graph
from qcompiler.pipeline import PASSES, Context, CrashReproducer, PassResult, Pipeline, read_reproducer
from qcompiler.target import built_in_targets, load_target

SAMPLES = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _passes() -> Iterator[None]:
    with sample_passes():
        yield


def fail(
    text: str, instrument: CrashReproducer, graph: Graph | None = None, data: NDArray[np.float32] = SAMPLES
) -> Exception:
    """The error of a pipeline that must fail."""
    graph = graph or float_program()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error at all
        Pipeline.parse(text).run(graph, Context(load_target("tpu-int8"), open_data(data, graph)), [instrument])
    return caught.value


def replay(folder: Path) -> Exception:
    held = read_reproducer(folder)
    data = None if held.data is None else open_data(held.data, held.graph)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error at all
        Pipeline.parse(held.pipeline).run(held.graph, Context(held.target, data))
    return caught.value


def test_it_holds_the_program_before_the_pass_and_the_passes_left(tmp_path: Path) -> None:
    instrument = CrashReproducer(tmp_path / "crash")
    error = fail("cse,all-options{word=\"a b\"},crash,dce,annotate", instrument)
    assert isinstance(error, KeyError)
    assert instrument.written == tmp_path / "crash"
    held = read_reproducer(tmp_path / "crash")
    # The pass erased a node before it failed; the program before it still has that node.
    expected = Pipeline.parse('cse,all-options{word="a b"}').run(float_program(), Context())
    assert print_graph(held.graph) == print_graph(expected)
    assert held.pipeline == "crash,dce,annotate"
    assert held.target is not None
    assert held.target.descriptor == load_target("tpu-int8").descriptor
    assert held.data is None
    manifest = json.loads((tmp_path / "crash/reproducer.json").read_text())
    assert manifest["failed"] == "crash"
    assert manifest["error"] == "KeyError: 'a bug'"
    assert "KeyError: 'a bug'\n" in manifest["traceback"]
    assert [p.name for p in tmp_path.iterdir()] == ["crash"]
    again = replay(tmp_path / "crash")
    assert (type(again), str(again)) == (KeyError, str(error))


def test_data_are_kept_where_a_pass_that_is_left_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(self: object, graph: Graph, context: Context) -> PassResult:
        (feeds,) = context.require_data("calibrate").batches(100)
        raise ValueError(f"sum {float(feeds['x'].sum())}")

    monkeypatch.setattr(PASSES["calibrate"], "run", run)
    error = fail("annotate,calibrate,realize", CrashReproducer(tmp_path / "crash"))
    held = read_reproducer(tmp_path / "crash")
    assert held.data is not None
    np.testing.assert_array_equal(held.data["x"], SAMPLES)
    assert str(replay(tmp_path / "crash")) == str(error)


@pytest.mark.parametrize(("limit", "kept"), [(0, 1), (8, 1), (15, 1), (16, 2), (47, 5), (48, 6), (1000, 6)])
def test_no_more_data_are_kept_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, kept: int
) -> None:
    monkeypatch.setattr(PASSES["calibrate"], "run", lambda *_: 1 / 0)
    fail("annotate,calibrate", CrashReproducer(tmp_path / "crash", data_bytes=limit))
    held = read_reproducer(tmp_path / "crash")
    assert held.data is not None
    np.testing.assert_array_equal(held.data["x"], SAMPLES[:kept])
    manifest = json.loads((tmp_path / "crash/reproducer.json").read_text())
    assert manifest["samples"] == {"kept": kept, "given": 6, "refused": None}


def test_data_that_are_refused_are_noted(tmp_path: Path) -> None:
    bad = SAMPLES.copy()
    bad[2, 1] = np.nan
    error = fail("annotate,calibrate", CrashReproducer(tmp_path / "crash"), data=bad)
    assert "NaN" in str(error)
    held = read_reproducer(tmp_path / "crash")
    assert held.data is not None
    np.testing.assert_array_equal(held.data["x"], SAMPLES[:2])
    manifest = json.loads((tmp_path / "crash/reproducer.json").read_text())
    assert "sample 2" in manifest["samples"]["refused"]


def test_refusals_are_kept_unless_unwanted(tmp_path: Path) -> None:
    fail("crash{refuse=true}", CrashReproducer(tmp_path / "unwanted", refusals=False))
    assert list(tmp_path.iterdir()) == []
    error = fail("crash{refuse=true}", CrashReproducer(tmp_path / "wanted"))
    assert str(replay(tmp_path / "wanted")) == str(error)
    fail("crash", CrashReproducer(tmp_path / "bug", refusals=False))
    assert (tmp_path / "bug").is_dir()


def test_a_malformed_result_leaves_a_reproducer_of_the_program_before(tmp_path: Path) -> None:
    error = fail("dce,break-type", CrashReproducer(tmp_path / "crash"))
    assert "malformed" in str(error)
    assert str(replay(tmp_path / "crash")) == str(error)


def test_an_earlier_reproducer_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "crash"
    fail("crash", CrashReproducer(folder))
    fail("dce,crash,cse", CrashReproducer(folder))
    assert read_reproducer(folder).pipeline == "crash,cse"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    error = fail("crash", CrashReproducer(tmp_path / "mine"))
    assert "is no reproducer" in str(error)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_nothing_is_written_where_nothing_fails(tmp_path: Path) -> None:
    instrument = CrashReproducer(tmp_path / "crash")
    Pipeline.parse("dce,cse").run(float_program(), Context(), [instrument])
    assert instrument.written is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("qcompiler.pipeline.crash_reproducer.json.dumps", full)
    instrument = CrashReproducer(tmp_path / "crash")
    error = fail("dce,crash", instrument)
    assert isinstance(error, KeyError)
    assert "no space left" in error.__notes__[-1]
    assert instrument.written is None
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_any_pass(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    graph = float_program()
    before = print_graph(graph)
    error = fail("dce", CrashReproducer(tmp_path / "file/crash"), graph)
    assert "is not writable" in str(error)
    assert print_graph(graph) == before


@pytest.mark.parametrize("name", sorted(built_in_targets()))
def test_every_target_is_held_whole(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyError):
        Pipeline.parse("crash").run(float_program(), Context(load_target(name)), [CrashReproducer(tmp_path / "crash")])
    held = read_reproducer(tmp_path / "crash").target
    assert held is not None
    assert held.descriptor == load_target(name).descriptor
    assert held.rows == load_target(name).rows


@pytest.mark.parametrize("file", ["reproducer.json", "program.qir", "target.json", "data.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\xff{", b"{}"])
def test_damaged_reproducers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: bytes
) -> None:
    monkeypatch.setattr(PASSES["calibrate"], "run", lambda *_: 1 / 0)
    fail("annotate,calibrate", CrashReproducer(tmp_path / "crash"))
    (tmp_path / "crash" / file).write_bytes(content)
    with pytest.raises(QCompilerError):
        read_reproducer(tmp_path / "crash")


def test_the_kept_program_is_cloned_only_behind_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []

    def counting(graph: Graph) -> Graph:
        copies.append(len(graph))
        return clone(graph)

    monkeypatch.setattr("qcompiler.pipeline.crash_reproducer.clone", counting)
    fail("cse,cse,dce,cse,crash", CrashReproducer(tmp_path / "crash"))
    assert copies == [4, 3]
    assert read_reproducer(tmp_path / "crash").graph.pipeline == "cse,cse,dce,cse"
