"""Pipeline text: ``a,b{x=1 layers=[conv1 "a b"]},c``.

Passes are separated by commas, options in braces by spaces or commas, as are values in the brackets of a list. A word
that holds anything else than letters, digits and ``_ . + - / : @ * % ~`` stands in double quotes, with the escapes of
JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcompiler.errors import QCompilerError

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<quoted>"(?:[^"\\\n]|\\.)*")
    | (?P<word>[^\s,{}\[\]="]+)
    | (?P<mark>[,{}\[\]=])
    """,
    re.VERBOSE,
)
_PASS_NAME = re.compile(r"[A-Za-z][\w-]*")
_BARE = re.compile(r"[A-Za-z0-9_.+\-/:@*%~]+")
_INTEGER = re.compile(r"[+-]?\d+")
_NAMED = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class Word:
    """A value as written.

    Attributes:
        text: its characters, quotes and escapes resolved.
        quoted: whether it stood in quotes, so that it is no number, ``true``, ``false`` or ``none``.
    """

    text: str
    quoted: bool = False


Written = Word | tuple["Written", ...]


@dataclass(frozen=True)
class WrittenPass:
    """A pass as written: its name and options; ``options`` is None where it has no braces."""

    name: str
    options: Mapping[str, Written] | None


def read_pipeline(text: str) -> list[WrittenPass]:
    """Take pipeline text apart.

    Raises:
        QCompilerError: malformed text, or an option that is given twice; names the place.
    """
    reader = _Reader(text)
    passes: list[WrittenPass] = []
    while not reader.at_end or passes:
        passes.append(reader.written_pass())
        if reader.at_end:
            break
        reader.expect(",")
    return passes


def literal(value: Written) -> Any:
    """What a written value means by its looks: a number, true, false, none, else a string; lists become tuples."""
    if isinstance(value, tuple):
        return tuple(map(literal, value))
    if value.quoted:
        return value.text
    if value.text in _NAMED:
        return _NAMED[value.text]
    try:
        return int(value.text) if _INTEGER.fullmatch(value.text) else float(value.text)
    except ValueError:
        return value.text


def as_strings(value: Written) -> Any:
    """The same with every word a string, for options that hold words such as ``5`` or ``true``."""
    return tuple(map(as_strings, value)) if isinstance(value, tuple) else value.text


def format_value(value: Any) -> str:
    """The text of an option's value; ``literal`` of it, read back, is the same value."""
    if isinstance(value, tuple):
        return "[" + " ".join(map(format_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if _BARE.fullmatch(text) and literal(Word(text)) == text else json.dumps(text)


class _Reader:
    """A cursor over the tokens of a pipeline's text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.items: list[tuple[str, str, int]] = []
        self.position = 0
        offset = 0
        while offset < len(text):
            match = _TOKEN.match(text, offset)
            if match is None:
                raise self.malformed(offset)
            if match.lastgroup != "space":
                self.items.append((str(match.lastgroup), match[0], offset))
            offset = match.end()

    @property
    def at_end(self) -> bool:
        return self.position == len(self.items)

    def malformed(self, offset: int | None = None) -> QCompilerError:
        """The error at ``offset``, or at the current token."""
        if offset is None:
            offset = len(self.text) if self.at_end else self.items[self.position][2]
        rest = self.text[offset : offset + 30]
        where = f"at {rest!r}" if rest else f"at the end of {self.text[-30:]!r}"
        return QCompilerError(f"malformed pipeline {where}", expected="pass,pass{option=value option=[a b]},...")

    def accept(self, mark: str) -> bool:
        """Pass over a mark if it comes next."""
        if self.at_end or self.items[self.position][:2] != ("mark", mark):
            return False
        self.position += 1
        return True

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise self.malformed()

    def word(self) -> Word:
        if self.at_end or self.items[self.position][0] == "mark":
            raise self.malformed()
        kind, text, offset = self.items[self.position]
        if kind == "word":
            self.position += 1
            return Word(text)
        try:
            resolved = json.loads(text, strict=False)
        except json.JSONDecodeError:
            raise self.malformed(offset) from None
        self.position += 1
        return Word(resolved, quoted=True)

    def written_pass(self) -> WrittenPass:
        start = self.items[self.position][2] if not self.at_end else None
        name = self.word()
        if name.quoted or not _PASS_NAME.fullmatch(name.text):
            raise self.malformed(start)
        return WrittenPass(name.text, self.options(name.text) if self.accept("{") else None)

    def options(self, pass_name: str) -> Mapping[str, Written]:
        options: dict[str, Written] = {}
        while not self.accept("}"):
            key = self.word().text
            if not self.accept("="):
                if self.at_end:
                    raise self.malformed()
                raise QCompilerError(f"option {key!r} of pass {pass_name!r} has no value", expected=f"{key}=value")
            if key in options:
                raise QCompilerError(f"option {key!r} of pass {pass_name!r} is given twice")
            options[key] = self.value()
            self.accept(",")
        return options

    def value(self) -> Written:
        if not self.accept("["):
            return self.word()
        items: list[Written] = []
        while not self.accept("]"):
            items.append(self.value())
            self.accept(",")
        return tuple(items)
