"""``qcompiler opt --split-input-file``: several programs in one file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli.command_line import invoke, refuse, succeed

FIRST = """// qir 1
// relu is what it becomes
graph @first(%x: f32[N,4]) -> (y: f32[N,4]) {
  %y = clip %x {minimum = 0.0} -> f32[N,4]
  return %y
}
"""
SECOND = FIRST.replace("// qir 1\n", "").replace("first", "second")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, *programs: str) -> Path:
    path = tmp_path / "cases.qir"
    path.write_text("\n// -----\n\n".join(programs))
    return path


def test_each_program_goes_through_the_passes(tmp_path: Path) -> None:
    path = written(tmp_path, FIRST, SECOND)
    printed = succeed("opt", path, "--split-input-file", "-p", "canonicalize")
    assert re.findall(r"graph @(\w+)", printed) == ["first", "second"]
    assert printed.count("= relu %x") == 2
    assert printed.count("\n// -----\n") == 1


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    printed = succeed("opt", written(tmp_path, FIRST, SECOND), "--split-input-file", "-p", "canonicalize")
    (tmp_path / "again.qir").write_text(printed)
    again = succeed("opt", tmp_path / "again.qir", "--split-input-file", "-p", "dce")
    assert again == printed.replace("canonicalize", "canonicalize,dce")


def test_one_program_is_a_file_of_one(tmp_path: Path) -> None:
    path = written(tmp_path, FIRST)
    split = succeed("opt", path, "--split-input-file", "-p", "canonicalize")
    assert split == succeed("opt", path, "-p", "canonicalize")


def test_a_refused_program_does_not_keep_the_others_from_their_passes(tmp_path: Path) -> None:
    broken = SECOND.replace("clip", "clop")
    path = written(tmp_path, FIRST, broken, SECOND)
    result = invoke("opt", path, "--split-input-file", "-p", "canonicalize")
    assert result.exit_code == 2
    assert re.findall(r"graph @(\w+)", result.stdout) == ["first", "second"]
    line = path.read_text().split("\n").index("  %y = clop %x {minimum = 0.0} -> f32[N,4]") + 1
    assert f".qir text, line {line}, column 8: unknown op 'clop'" in result.stderr


@pytest.mark.parametrize("end", ["", "  "])
def test_only_whole_lines_separate(tmp_path: Path, end: str) -> None:
    path = tmp_path / "cases.qir"
    path.write_text(FIRST + "// ----- not this one\n // -----\n// -----" + end + "\n" + SECOND)
    assert succeed("opt", path, "--split-input-file", "-p", "canonicalize").count("graph @") == 2


def test_what_cannot_be_done_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, FIRST, SECOND)
    out = tmp_path / "out.qir"
    refuse("opt", path, "--split-input-file", "-p", "dce", "-o", out, naming=("--output", "printed"))
    assert not out.exists()
    refuse("opt", tmp_path / "absent.qir", "--split-input-file", "-p", "dce", naming=("absent.qir",))
    refuse("opt", path, "--split-input-file", naming=("no passes to run",))
    bare = tmp_path / "bare.qir"
    bare.write_text(SECOND)
    refuse("opt", bare, "--split-input-file", "-p", "dce", naming=("not a .qir text",))
