"""The runner of RUN lines lets nothing pass that a shell would not."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_lines import run, run_lines, steps

PROGRAM = """// qir 1
// RUN: qcompiler opt %s -p canonicalize | filecheck %s
graph @case(%x: f32[N,4]) -> (y: f32[N,4]) {
  %y = clip %x {minimum = 0.0} -> f32[N,4] loc("act")
  return %y
}
// CHECK: relu
"""


def outcome(tmp_path: Path, text: str) -> str:
    """The report of a file's only RUN line."""
    path = tmp_path / "a file.qir"
    path.write_text(text)
    (line,) = run_lines(path)
    return run(line)


def test_what_holds_passes(tmp_path: Path) -> None:
    assert outcome(tmp_path, PROGRAM) == ""


@pytest.mark.parametrize(
    ("old", "new", "report"),
    [
        ("CHECK: relu", "CHECK: gelu", "Couldn't match"),
        ("CHECK: relu", "CHECK-NOT: relu", "excluded string found"),
        ("CHECK: relu", "CHECKED: relu", "No check strings"),
        ("RUN: ", "RUN: not ", "succeeded"),
        ("| filecheck", "| not filecheck", "succeeded"),
        ("clip %x", "clop %x", "unknown op 'clop'"),
        ("canonicalize", "canonicalise", "canonicalise"),
        ("filecheck %s", "filecheck --check-prefix OTHER %s", "No check strings"),
    ],
)
def test_what_does_not_hold_fails(tmp_path: Path, old: str, new: str, report: str) -> None:
    assert report in outcome(tmp_path, PROGRAM.replace(old, new, 1))


def test_a_refusal_is_expected_with_not(tmp_path: Path) -> None:
    text = PROGRAM.replace("RUN: qcompiler", "RUN: not qcompiler").replace("| file", "2>&1 | file")
    text = text.replace("clip %x {minimum = 0.0}", "pow %x, %x").replace("canonicalize", "legalize -t tpu-int8")
    assert outcome(tmp_path, text.replace("CHECK: relu", "CHECK: layer 'act'")) == ""
    assert "is empty" in outcome(tmp_path, text.replace("2>&1", "").replace("CHECK: relu", "CHECK: layer 'act'"))


def test_a_crash_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("qcompiler.passes.canonicalize.Canonicalize.run", crash)
    with pytest.raises(ZeroDivisionError):
        outcome(tmp_path, PROGRAM.replace("RUN: qcompiler", "RUN: not qcompiler"))


def test_a_file_without_run_lines_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "case.qir"
    path.write_text(PROGRAM.replace("RUN", "RAN"))
    with pytest.raises(ValueError, match="no line that starts with '// RUN:'"):
        run_lines(path)


def test_lines_go_on_behind_a_backslash(tmp_path: Path) -> None:
    path = tmp_path / "case.qir"
    path.write_text("// RUN: qcompiler opt %s \\\n// RUN: -p 'a,b' | filecheck %s\n")
    (line,) = run_lines(path)
    first, second = steps(line)
    assert first.words == ("qcompiler", "opt", str(path), "-p", "a,b")
    assert first.option("-p") == "a,b"
    assert first.option("-t") is None
    assert second.words == ("filecheck", str(path))


def test_other_commands_are_an_error() -> None:
    with pytest.raises(ValueError, match="not 'rm'"):
        run("rm -r something")
