"""The page on native code, followed to the letter: its commands, its C program, and what they print."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from clean_environment import CleanEnvironment, follow
from markdown_pages import ROOT

from qcompiler.backends.tvm import instruction_sets
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS

PAGE = (ROOT / "docs" / "native.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("cc"), reason="the page compiles a C program with cc")
def test_the_page_is_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    environment = CleanEnvironment(tmp_path / "venv", tmp_path / "work")
    printed = follow(environment, PAGE, "native.md")
    assert sum(map(len, printed.values())) == len(re.findall(r"^\$ ", PAGE, re.MULTILINE))
    # Digits behind a decimal point are not compared with the page; the C program's must be those of the interpreter.
    assert (tmp_path / "work" / "found.txt").read_text() == (tmp_path / "work" / "expected.txt").read_text()


def test_the_table_lists_all_instruction_sets() -> None:
    listed = re.findall(r"^\| `(\w[\w-]*)` \| [^|]* \| ([^|]*)\|$", PAGE, re.MULTILINE)
    assert instruction_sets.__all__
    sets = INSTRUCTION_SETS
    assert {name: bool(note.strip()) for name, note in listed} == {i.name: not i.executed for i in sets.values()}
    executed = [name for name, note in listed if not note.strip()]
    assert executed == sorted(executed, key=lambda name: -sets[name].preference)
