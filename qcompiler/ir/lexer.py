"""Cuts ``.qir`` text into tokens."""

from __future__ import annotations

import re
from bisect import bisect_right

from qcompiler.errors import QCompilerError

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r\n]+|//[^\n]*)
    | (?P<type>(?:q<[^>]*>|bf<[^>]*>|(?:bf|f|i|u)\d+|bool)\[[\w*,\ ]*\])
    | (?P<value>%(?:[\w.]+|"(?:[^"\\]|\\.)*"))
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<citation>@(?:[\w.]+|"(?:[^"\\]|\\.)*"))
    | (?P<product>\d+\*[A-Za-z_]\w*)
    | (?P<number>-?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|inf\b|nan\b))
    | (?P<arrow>->)
    | (?P<word>[A-Za-z_][\w.]*(?:-[A-Za-z_][\w.]*)*)
    | (?P<mark>[()\[\]{},=:<>])
    """,
    re.VERBOSE,
)

TEXT = ".qir text"
"""What errors call the text."""

Token = tuple[str, str, int]
"""Kind, text, and offset in the source."""


class Tokens:
    """A cursor over the tokens of a text.

    Raises:
        QCompilerError: a character starts no token; names line and column.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.items: list[Token] = []
        self.position = 0
        offset = 0
        for match in _TOKEN.finditer(text):
            if match.start() != offset:
                break
            offset = match.end()
            if match.lastgroup != "space":
                self.items.append((str(match.lastgroup), match[0], match.start()))
        if offset != len(text):
            raise self.error(f"unexpected character {text[offset]!r}", offset)
        self.items.append(("end", "end of text", len(text)))

    @property
    def kind(self) -> str:
        return self.items[self.position][0]

    @property
    def current(self) -> str:
        return self.items[self.position][1]

    @property
    def passed(self) -> int:
        """Offset of the token before the current one."""
        return self.items[self.position - 1][2]

    def take(self, *kinds: str) -> str:
        """The next token's text; it must be of one of ``kinds``."""
        kind, text, offset = self.items[self.position]
        if kind not in kinds:
            raise self.error(f"expected {' or '.join(kinds)}, found {text!r}", offset)
        self.position += 1
        return text

    def expect(self, text: str) -> None:
        """Pass over ``text``."""
        if not self.accept(text):
            raise self.error(f"expected {text!r}, found {self.current!r}")

    def accept(self, text: str) -> bool:
        """Pass over ``text`` if it comes next."""
        item = self.items[self.position]
        if item[1] != text or item[0] == "string":
            return False
        self.position += 1
        return True

    def error(self, problem: str, offset: int | None = None, fix: str | None = None) -> QCompilerError:
        """An error at ``offset``, or at the current token; ``fix`` is what the user can do about it."""
        where = self.items[min(self.position, len(self.items) - 1)][2] if offset is None else offset
        lines = [0, *(m.end() for m in re.finditer("\n", self.text))]
        line = bisect_right(lines, where)
        place = f"{TEXT}, line {line}, column {where - lines[line - 1] + 1}"
        return QCompilerError(f"{place}: {problem}", fix=fix)
