"""Every kind of broken descriptor gives one error that names the file, the line, the key and the way out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from broken_descriptors import AFFINE, ALL, BLOCK, Broken
from cli.command_line import invoke

from qcompiler import plugins
from qcompiler.errors import QCompilerError
from qcompiler.target import read_descriptor

plugins.load()

def broken_text(good: str, case: Broken) -> tuple[str, int | None]:
    """The broken descriptor, and the line that the error must name."""
    assert case.old in good
    before, _, after = good.partition(case.old)
    if case.at is None:
        return before + case.new + after, None
    if not case.at:
        # A replacement may bring its own lines; the key stands on the first.
        return before + case.new + after, before.count("\n") + 1
    lines = (before + case.new + after).splitlines()
    return before + case.new + after, next(n for n, line in enumerate(lines, 1) if line.startswith(case.at))


def check(error: QCompilerError, case: Broken, file: str, line: int | None) -> None:
    place = f"{re.escape(file)}, line {line}" if line is not None else re.escape(file)
    assert re.search(rf"{place}: {re.escape(case.keys)}: .*{case.text}", error.problem), error
    assert case.fix in (error.fix or ""), error
    assert "\n" not in error.problem
    assert "pydantic" not in str(error)


def test_the_descriptors_are_sound_before_they_are_broken(tmp_path: Path) -> None:
    for text in (AFFINE, BLOCK):
        (tmp_path / "chip.toml").write_text(text)
        assert read_descriptor(tmp_path / "chip.toml").name == "chip"


@pytest.mark.parametrize("name", ALL)
def test_an_error_names_file_line_and_key(name: str, tmp_path: Path) -> None:
    good, case = ALL[name]
    text, line = broken_text(good, case)
    (tmp_path / "chip.toml").write_text(text)
    with pytest.raises(QCompilerError) as caught:
        read_descriptor(tmp_path / "chip.toml")
    check(caught.value, case, "chip.toml", line)


@pytest.mark.parametrize("name", ALL)
def test_an_error_in_a_base_names_both_files(name: str, tmp_path: Path) -> None:
    good, case = ALL[name]
    text, line = broken_text(good, case)
    (tmp_path / "base.toml").write_text(text)
    child = 'schema = 1\nextends = "base.toml"\nname = "child"\nsummary = "Another"\n'
    if case.keys in ("schema", "name", "summary"):
        child = child.replace(re.findall(rf"{case.keys} .*\n", child)[0], "")
    (tmp_path / "child.toml").write_text(child)
    if name == "unknown key":
        # The child has the key that the base misspells; the misspelled one is still wrong.
        assert "summary" in child
    with pytest.raises(QCompilerError) as caught:
        read_descriptor(tmp_path / "child.toml")
    check(caught.value, case, "child.toml" if line is None else "base.toml", line)
    assert caught.value.problem.startswith(str(tmp_path / "child.toml"))


@pytest.mark.parametrize("name", list(ALL)[::8])
def test_the_command_line_refuses_with_2_and_no_traceback(name: str, tmp_path: Path) -> None:
    good, case = ALL[name]
    (tmp_path / "chip.toml").write_text(broken_text(good, case)[0])
    result = invoke("targets", "show", tmp_path / "chip.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("chip.toml") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AFFINE.replace("[types]", "[types"), r"chip\.toml: not a TOML file: .*line 15"),
        (AFFINE.replace("max_rank = 4", "max_rank = 4\nmax_rank = 5"), r"not a TOML file: .*line 13"),
        (AFFINE + "clamp = 3\n", r"not a TOML file: .*line 32"),
        ("", r"chip\.toml: schema: key is missing"),
        ("\ufeff" + AFFINE, r"not a TOML file: .*line 1"),
    ],
)
def test_files_that_are_no_toml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "chip.toml").write_text(text, encoding="utf-8")
    with pytest.raises(QCompilerError, match=message):
        read_descriptor(tmp_path / "chip.toml")


def test_the_line_is_that_of_the_entry_not_of_another_or_of_a_comment(tmp_path: Path) -> None:
    """Entries of several lines, tables with headers of their own, and the key of another entry further down."""
    text = BLOCK.replace("mantissa = 8", "mantissa = 24").replace(
        "acc  = { kind", "# acc = { mantissa = 3 }\nacc  = { kind"
    ).replace(', arithmetic = "align-larger" }', " }") + """
[ops.mul]
in = [
    "x",
    "x",
]
out = "acc"

# What is computed.
arithmetic = "litert-mul"
"""
    lines = text.splitlines()
    for broken, at in [
        (text.replace("litert-mul", "exact-product").replace("mantissa = 24, e", "mantissa = 44, e"), "add "),
        (text.replace("add  ", "#add "), "arithmetic = "),
        (text.replace("add  ", "#add ").replace('    "x",\n]', '    "y",\n]'), "in = ["),
    ]:
        (tmp_path / "chip.toml").write_text(broken)
        expected = next(n for n, line in enumerate(lines, 1) if line.startswith(at))
        with pytest.raises(QCompilerError, match=rf"chip\.toml, line {expected}: ops\."):
            read_descriptor(tmp_path / "chip.toml")
