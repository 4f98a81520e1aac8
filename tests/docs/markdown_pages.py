"""The documentation's pages: their code blocks, their links, and how a block is run."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from qcompiler.cli.application import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line at which it starts."""

    language: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _BLOCK.finditer(text)]


def links(text: str) -> list[str]:
    """The targets of all links outside of code blocks."""
    return _LINK.findall(_BLOCK.sub("", text))


def anchors(text: str) -> set[str]:
    """The names by which headings can be linked, as code hosts derive them."""
    headings = _HEADING.findall(_BLOCK.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run_page(path: Path, text: str) -> int:
    """Run a page's ``python`` and ``console`` blocks in order, in one namespace and the current folder.

    A ``text`` or ``qir`` block behind a ``python`` block that prints is what it prints. A ``console`` block holds
    commands after ``$``, each with what it prints. ``...`` stands for any text. A ``toml`` block whose first line is
    a comment with a file name is written to that file.

    Returns:
        How many blocks were run.

    Raises:
        AssertionError: a command has another exit status than expected, or something else is printed.
    """
    namespace: dict[str, Any] = {"__name__": "documentation"}
    count, printed = 0, ""
    for block in blocks(text):
        where = f"{path.name}, line {block.line}"
        if block.language == "python":
            # Lines are numbered as on the page, for tracebacks.
            code = compile("\n" * (block.line - 1) + block.text, str(path), "exec", dont_inherit=True)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(code, namespace)
            assert not printed, f"{where}: nothing is said of what the block before prints"
            printed = output.getvalue()
        elif block.language in ("text", "qir") and printed:
            assert_prints(block.text, printed, where)
            printed = ""
        elif block.language == "toml" and (named := re.match(r"# ([\w-]+\.toml)\n", block.text)):
            Path(named[1]).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, expected in _commands(block.text):
                _run_command(command, expected, where)
        else:
            continue
        count += 1
    return count


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


def _run_command(command: str, expected: str, where: str) -> None:
    """A ``qcompiler`` command runs in this process; ``make demo`` is the recipe of the Makefile without the set-up."""
    words = shlex.split(command)
    if words == ["make", "demo"]:
        recipe = re.search(r"^demo:.*\n\t\$\(BIN\)/python (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert recipe, "the Makefile has no recipe for the demo"
        done = subprocess.run([sys.executable, *shlex.split(recipe[1])], capture_output=True, text=True, check=True)
        assert_prints(expected, done.stdout, f"{where}: {command}")
        return
    assert words[0] == "qcompiler", f"{where}: cannot run {command!r}"
    result = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    differs = words[1] == "diff" and not expected.startswith("the programs are equal")
    refuses = expected.startswith("error:") or (words[1] == "check" and not expected.rstrip().endswith(" 0 illegal"))
    status = 2 if refuses else 1 if differs else 0
    assert result.exit_code == status, f"{where}: {command}\n{result.output}"
    assert_prints(expected, result.output, f"{where}: {command}")


def assert_prints(expected: str, found: str, where: str) -> None:
    """Compare line by line, spaces aside.

    Digits behind a decimal point are measurements; float kernels of other processors may give others, so they are
    not compared. Everything else is.
    """
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(_masked(expected), _masked(found), flags):
        raise AssertionError(f"{where}\nthe page says:\n{expected}\nit prints:\n{found}")


def _masked(text: str) -> str:
    return re.sub(r"\d+\.\d+(e-?\d+)?", "#.#", text)
