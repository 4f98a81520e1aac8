"""Instruments: order of hooks, what they print, write and measure, and what the pipeline itself notices."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample_passes import float_program, sample_passes

import qcompiler
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, parse, print_graph, read_program
from qcompiler.pass_comparison import Compare
from qcompiler.pipeline import (
    PASSES,
    Context,
    DumpIR,
    Instrument,
    Pass,
    PassResult,
    Pipeline,
    PrintIR,
    Timing,
    VerifyEach,
)
from qcompiler.pipeline.timing import HEADER as TIMING_HEADER
from qcompiler.pipeline.timing import peak_memory
from qcompiler.target import load_target


@pytest.fixture(autouse=True)
def _passes() -> Iterator[None]:
    with sample_passes():
        yield


class Log(Instrument):
    """Writes every hook into a list that several instruments share."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines

    def attach(self, context: Context) -> None:
        self.lines.append(f"{self.name} attach {context.target.name if context.target else None}")

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        self.lines.append(f"{self.name} begin {len(graph)} {[p.name for p in passes]}")

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        self.lines.append(f"{self.name} before {index} {current.name} {len(graph)} {graph.pipeline!r}")

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        self.lines.append(f"{self.name} after {index} {current.name} {len(graph)} {changed} {graph.pipeline!r}")

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        self.lines.append(f"{self.name} failed {index} {current.name} {len(graph)} {type(error).__name__}")

    def end(self, graph: Graph) -> None:
        self.lines.append(f"{self.name} end {len(graph)}")


def test_hooks_nest_last_in_first_out() -> None:
    lines: list[str] = []
    Pipeline.parse("dce,cse").run(
        float_program(), Context(load_target("tpu-int8")), [Log("outer", lines), Log("inner", lines)]
    )
    assert lines == [
        "outer attach tpu-int8", "inner attach tpu-int8",
        "outer begin 4 ['dce', 'cse']", "inner begin 4 ['dce', 'cse']",
        "outer before 0 dce 4 ''", "inner before 0 dce 4 ''",
        "inner after 0 dce 3 True 'dce'", "outer after 0 dce 3 True 'dce'",
        "outer before 1 cse 3 'dce'", "inner before 1 cse 3 'dce'",
        "inner after 1 cse 3 False 'dce,cse'", "outer after 1 cse 3 False 'dce,cse'",
        "inner end 3", "outer end 3",
    ]


def test_hooks_of_a_failing_pass() -> None:
    lines: list[str] = []
    with pytest.raises(KeyError):
        Pipeline.parse("cse,crash,dce").run(float_program(), Context(), [Log("outer", lines), Log("inner", lines)])
    assert lines[-4:] == [
        "outer before 1 crash 4 'cse'", "inner before 1 crash 4 'cse'",
        "inner failed 1 crash 3 KeyError", "outer failed 1 crash 3 KeyError",
    ]


@pytest.mark.parametrize("name", ["break-type", "lie-about-origin"])
def test_what_the_pipeline_finds_wrong_behind_a_pass_is_its_failure(name: str) -> None:
    lines: list[str] = []
    with pytest.raises(QCompilerError, match=name):
        Pipeline.parse(name).run(float_program(), Context(), [Log("a", lines)])
    assert lines[-1] == f"a failed 0 {name} 4 QCompilerError"


def test_an_instrument_that_fails_on_a_failure_hides_nothing() -> None:
    class Broken(Instrument):
        def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
            raise OSError("the disk is full")

    lines: list[str] = []
    with pytest.raises(KeyError, match="a bug") as caught:
        Pipeline.parse("crash").run(float_program(), Context(), [Log("outer", lines), Broken()])
    assert caught.value.__notes__ == [
        "in pass 'crash' of module sample_passes", "Broken: the disk is full",
    ]
    assert lines[-1] == "outer failed 0 crash 3 KeyError"


@pytest.mark.parametrize("name", ["lie-about-origin", "lie-about-layer"])
def test_a_pass_that_lies_about_having_changed_nothing_is_named(name: str) -> None:
    with pytest.raises(QCompilerError, match=f"pass '{name}' says that it changed nothing"):
        Pipeline.parse(f"dce,{name}").run(float_program(), Context())


def test_a_pass_that_only_claims_a_change_counts_as_unchanged() -> None:
    lines: list[str] = []
    Pipeline.parse("claim-change").run(float_program(), Context(), [Log("a", lines)])
    assert "a after 0 claim-change 4 False 'claim-change'" in lines


# VerifyEach


def test_verify_each_finds_damage_that_no_text_shows() -> None:
    Pipeline.parse("forget-use").run(float_program(), Context())
    with pytest.raises(QCompilerError, match="pass 'forget-use' left a malformed program"):
        Pipeline.parse("forget-use").run(float_program(), Context(), [VerifyEach()])


def test_verify_each_verifies_what_the_pipeline_gets() -> None:
    graph = float_program()
    graph.inputs[0].uses.popitem()
    with pytest.raises(QCompilerError, match="missing among its uses") as caught:
        Pipeline.parse("cse").run(graph, Context(), [VerifyEach()])
    assert "pass 'cse'" not in str(caught.value)


# PrintIR


def printed(passes: str, **settings: Any) -> list[tuple[str, str]]:
    """Headers and programs that a run prints; the run may fail."""
    stream = io.StringIO()
    with contextlib.suppress(KeyError):
        Pipeline.parse(passes).run(float_program(), Context(), [PrintIR(**settings, stream=stream)])
    parts = re.split(r"^// ----- IR (.*) -----\n", stream.getvalue(), flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_printing_names_pass_place_and_change() -> None:
    found = printed("dce,cse,dce", before=["cse"], after=["dce"])
    assert [header for header, _ in found] == [
        "after dce (1 of 3, changed)", "before cse (2 of 3)", "after dce (3 of 3, unchanged)",
    ]
    graph = Pipeline.parse("dce").run(float_program(), Context())
    assert parse(found[0][1]) == parse(found[1][1]) == graph
    assert parse(found[2][1]).pipeline == "dce,cse,dce"


def test_printing_all_or_after_change() -> None:
    headers = [h for h, _ in printed("cse,dce,claim-change", before=["all"], after=["all"])]
    assert headers == [
        "before cse (1 of 3)", "after cse (1 of 3, unchanged)", "before dce (2 of 3)", "after dce (2 of 3, changed)",
        "before claim-change (3 of 3)", "after claim-change (3 of 3, unchanged)",
    ]
    assert [h for h, _ in printed("cse,dce,claim-change", after_change=True)] == ["after dce (2 of 3, changed)"]
    assert printed("cse,dce") == []


def test_printing_on_failure_shows_what_the_pass_left() -> None:
    assert printed("cse,crash") == []
    (header, text), = printed("cse,crash", on_failure=True)
    assert header == "on failure of crash (2 of 2)"
    assert "unused" not in text


def test_printing_a_program_that_cannot_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class Unprintable(Graph):
        def __str__(self) -> str:
            raise RuntimeError("beyond printing")

    PrintIR(on_failure=True).failed(0, Pipeline.parse("dce").passes[0], Unprintable(), KeyError())
    assert "cannot be printed: RuntimeError: beyond printing" in capsys.readouterr().err


# DumpIR


def test_dumps_share_constants_and_read_back(tmp_path: Path) -> None:
    graph = read_model(str(resources.files("qcompiler.demo") / "mnist_dscnn.onnx"))
    seen: list[str] = []

    class Keep(Instrument):
        def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
            seen.append(print_graph(graph))

        def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
            seen.append(print_graph(graph))

    text = "canonicalize,fold-batch-norm,dce"
    Pipeline.parse(text).run(graph, Context(), [Keep(), DumpIR(tmp_path / "deep/ir")])
    files = sorted((tmp_path / "deep/ir").glob("*.qir"))
    assert [f.name for f in files] == [f"{i:03d}_{n}.qir" for i, n in enumerate(["import", *text.split(",")])]
    assert [f.read_text() for f in files] == seen
    for file in files:
        assert str(read_program(file)) == file.read_text()
    cited = {name for dump in seen for name in re.findall(r"@([0-9a-f]{16})", dump)}
    assert {f.stem for f in (tmp_path / "deep/ir/constants").iterdir()} == cited


def test_constants_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse(float_program_with_large_constant())
    written: list[str] = []
    write = Path.write_bytes

    def recording(self: Path, data: bytes) -> int:
        written.append(self.name)
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", recording)
    Pipeline.parse("cse,dce,cse").run(graph, Context(), [DumpIR(tmp_path)])
    assert len(written) == 1


def float_program_with_large_constant() -> str:
    values = ",".join(str(float(i)) for i in range(16))
    return (
        "// qir 1\ngraph @g(%x: f32[N,4]) -> (y: f32[N,4]) {\n"
        f"  %c = constant {{value = dense<f32[4,4]>[{values}]}} -> f32[4,4]\n"
        "  %m = matmul %x, %c -> f32[N,4]\n  return %m\n}\n"
    )


def test_a_run_removes_the_dumps_of_the_one_before(tmp_path: Path) -> None:
    Pipeline.parse("cse,dce,cse").run(parse(float_program_with_large_constant()), Context(), [DumpIR(tmp_path)])
    constants = set((tmp_path / "constants").iterdir())
    kept = ["mine.qir", "01_mine.qir", "001_mine.txt", "001.qir"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / "004_folder.qir").mkdir()
    Pipeline.parse("dce").run(float_program(), Context(), [DumpIR(tmp_path)])
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"000_import.qir", "001_dce.qir", "004_folder.qir", "constants", *kept}
    assert {(tmp_path / name).read_text() for name in kept} == {"mine"}
    assert set((tmp_path / "constants").iterdir()) == constants != set()


def test_a_number_is_that_of_the_dump(tmp_path: Path) -> None:
    graph, data = float_program(), np.ones((2, 2), np.float32)
    timing, comparison = Timing(), Compare(data)
    Pipeline.parse("cse,dce,cse").run(graph, Context(), [DumpIR(tmp_path), comparison, timing])
    dumps = [path.stem for path in sorted(tmp_path.glob("*.qir"))][1:]
    assert dumps == ["001_cse", "002_dce", "003_cse"]
    assert [f"{row[0]}_{row[1]}" for row in timing.rows()[:-1]] == dumps
    assert [f"{p.number:03d}_{p.name}" for p in comparison.report.passes] == dumps
    assert [p.heading.replace(" ", "_") for p in comparison.report.passes] == dumps


def test_dumps_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QCompilerError, match="cannot write IR dumps to"):
        Pipeline.parse("dce").run(float_program(), Context(), [DumpIR(tmp_path / "file/ir")])


# Timing


def test_timing_measures_every_pass_and_the_one_that_fails() -> None:
    timing = Timing()
    with pytest.raises(KeyError):
        Pipeline.parse("cse,dce,crash").run(float_program(), Context(), [timing])
    assert [(p.text, p.nodes_before, p.nodes_after, p.changed) for p in timing.passes] == [
        ("cse", 4, 4, False), ("dce", 4, 3, True), ("crash", 3, 3, None),
    ]
    assert all(p.seconds > 0 and p.peak_growth >= 0 for p in timing.passes)
    rows = timing.rows()
    assert {len(row) for row in rows} == {len(TIMING_HEADER)}
    assert [(row[0], row[1], row[4], row[5]) for row in rows] == [
        ("001", "cse", "4", ""), ("002", "dce", "4 -> 3", "changed"), ("003", "crash", "3", "failed"),
        ("", "total", "", ""),
    ]
    assert sum(float(row[3].rstrip("%")) for row in rows[:-1]) == pytest.approx(100, abs=0.2)  # rounded to 0.1 each
    assert float(rows[-1][2]) == round(sum(p.seconds for p in timing.passes), 4)
    growth = sum(p.peak_growth for p in timing.passes)
    assert rows[-1][6] == f"+{growth / 1e6:.1f} MB"
    _, dce, crash = str(timing).splitlines()
    assert re.fullmatch(r"002 dce: \d+\.\d{4} s, 4 -> 3 nodes, changed, peak memory \+[\d.]+ MB", dce)
    assert re.fullmatch(r"003 crash: \d+\.\d{4} s, 3 nodes, failed, peak memory \+[\d.]+ MB", crash)


def test_timing_sees_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Pass, graph: Graph, context: Context) -> PassResult:
        np.ones((peak_memory() + (64 << 20)) // 8)
        return PassResult(graph, False)

    monkeypatch.setattr(PASSES["cse"], "run", run)
    timing = Timing()
    Pipeline.parse("dce,cse,dce").run(float_program(), Context(), [timing])
    first, greedy, last = timing.passes
    assert greedy.peak_growth > 50 << 20
    assert max(first.peak_growth, last.peak_growth) < 16 << 20
    assert greedy.seconds > max(first.seconds, last.seconds)


def test_instruments_of_a_compilation(tmp_path: Path) -> None:
    timing = Timing()
    data = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    program = qcompiler.compile(
        float_program(), target="tpu-int8", data=data, instruments=[timing, DumpIR(tmp_path)]
    )
    passes = Pipeline.parse(load_target("tpu-int8").descriptor.pipeline).passes
    assert [p.text for p in timing.passes] == [p.name for p in passes]
    assert read_program(max(tmp_path.glob("*.qir"))) == program.graph
