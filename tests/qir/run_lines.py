"""Runs the RUN lines of ``.qir`` files, in this process: starting a process for each would take a second.

A RUN line is a shell pipeline of ``qcompiler`` and ``filecheck``, each perhaps behind ``not``. ``%s`` stands for the
file, ``%S`` for its folder. A line that ends in a backslash goes on with the next RUN line.
"""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import parse_argv_options
from filecheck.parser import Parser
from typer.testing import CliRunner

from qcompiler.cli.application import app
from qcompiler.cli.split_input import split_programs
from qcompiler.ir import Graph, parse


@dataclass(frozen=True)
class Step:
    """One command of a pipeline.

    Attributes:
        words: the command and its arguments.
        fails: whether it must fail: it stands behind ``not``.
        errors_too: whether stderr goes on with stdout: ``2>&1``.
    """

    words: tuple[str, ...]
    fails: bool
    errors_too: bool

    def option(self, name: str) -> str | None:
        """What follows an option; None where it is not there."""
        return self.words[self.words.index(name) + 1] if name in self.words else None


def run_lines(path: Path) -> list[str]:
    """The RUN lines of a file as shell commands.

    Raises:
        ValueError: it has none.
    """
    text = path.read_text().replace("\\\n// RUN:", "")
    lines = re.findall(r"^// RUN:(.*)$", text, re.MULTILINE)
    if not lines:
        raise ValueError(f"{path} has no line that starts with '// RUN:'")
    words = {"%s": shlex.quote(str(path)), "%S": shlex.quote(str(path.parent))}
    return [re.sub("%[sS]", lambda match: words[match[0]], line).strip() for line in lines]


def steps(line: str) -> list[Step]:
    """The commands of a RUN line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word == "|":
            commands.append([])
        else:
            commands[-1].append(word)
    return [
        Step(
            tuple(word for word in words[words[0] == "not":] if word != "2>&1"), words[0] == "not", "2>&1" in words
        )
        for words in commands
    ]


def run(line: str) -> str:
    """Run a RUN line; returns why it failed, empty where it did not.

    Raises:
        Exception: the compiler crashed, which is no refusal.
    """
    text = ""
    for step in steps(line):
        command, *arguments = step.words
        if command == "qcompiler":
            status, output, report = _qcompiler(arguments, text, step.errors_too)
        elif command == "filecheck":
            status, output, report = _filecheck(arguments, text)
        else:
            raise ValueError(f"a RUN line runs qcompiler and filecheck, not {command!r}")
        if bool(status) != step.fails:
            return f"{shlex.join(step.words)} {'succeeded' if step.fails else f'failed with {status}'}\n{report}"
        text = output
    return ""


def _qcompiler(arguments: list[str], text: str, errors_too: bool) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, input=text, catch_exceptions=False)
    return result.exit_code, result.output if errors_too else result.stdout, result.output


def _filecheck(arguments: list[str], text: str) -> tuple[int, str, str]:
    options = parse_argv_options(["filecheck", *arguments])
    matcher = Matcher(options, FInput("<stdin>", text), Parser.from_opts(options))
    report = matcher.stderr = io.StringIO()
    status = matcher.run()
    return status, "", f"{report.getvalue()}\nThe text was:\n{text}"


def programs(path: Path) -> list[Graph]:
    """The programs of a file."""
    return [parse(text) for text in split_programs(path.read_text())]
