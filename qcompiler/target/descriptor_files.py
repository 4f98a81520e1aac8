"""Reads descriptor files, with those that they extend, and tells where an entry stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qcompiler.errors import QCompilerError, did_you_mean


@dataclass(frozen=True)
class DescriptorFile:
    """A descriptor file as it stands on disk.

    Attributes:
        path: where it is.
        text: its text.
        content: what the text says.
    """

    path: Path
    text: str
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> DescriptorFile:
        """Read a file.

        Raises:
            QCompilerError: it cannot be read, or is no TOML.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise QCompilerError(f"cannot read target descriptor {path}: {error}") from error
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise QCompilerError(f"{path}: not a TOML file: {error}") from error

    def has(self, keys: Sequence[str]) -> bool:
        """Whether the file says something about an entry, which has at most two keys: a table's and its own."""
        first = self.content.get(keys[0])
        return first is not None and (len(keys) < 2 or not isinstance(first, dict) or keys[1] in first)

    def line_of(self, keys: Sequence[str]) -> int | None:
        """The line that sets the last of nested ``keys`` which the file mentions."""
        lines = self.text.splitlines()
        found, start = None, 0
        for key in keys:
            pattern = re.compile(rf"(?:^\s*\[(?:[\w.-]+\.)?{re.escape(key)}\]|(?:^|[{{,\s]){re.escape(key)}\s*=)")
            for number in range(start, len(lines)):
                if pattern.search(lines[number]):
                    found, start = number + 1, number
                    break
            else:
                break
        return found


@dataclass(frozen=True)
class DescriptorFiles:
    """A descriptor file, and behind it those that it extends, each by the one before."""

    files: tuple[DescriptorFile, ...]

    @classmethod
    def read(cls, path: Path, targets: Mapping[str, Path]) -> DescriptorFiles:
        """Read a file and those that it extends.

        Args:
            path: the file.
            targets: descriptor files by the names that ``extends`` may give.

        Raises:
            QCompilerError: a file cannot be read, is no TOML, or extends none that there is, or itself.
        """
        files = [DescriptorFile.read(path)]
        while (base := _base(files[-1], targets)) is not None:
            if base.resolve() in [f.path.resolve() for f in files]:
                raise QCompilerError(
                    f"{files[-1].path}: extends: a descriptor cannot extend itself",
                    found=" -> ".join(p.name for p in (*(f.path for f in files), base)),
                )
            files.append(DescriptorFile.read(base))
        return cls(tuple(files))

    @property
    def content(self) -> dict[str, Any]:
        """What the files say together.

        Tables such as ``[types]`` and ``[ops]`` are merged entry by entry; an entry replaces that of the base.
        """
        merged: dict[str, Any] = {}
        for file in reversed(self.files):
            for key, value in file.content.items():
                of_both = isinstance(value, dict) and isinstance(merged.get(key), dict)
                merged[key] = {**merged[key], **value} if of_both else value
        return merged

    def broken(self, keys: Sequence[str], problem: str, fix: str | None = None) -> QCompilerError:
        """An error in an entry, with the file and the line that it comes from."""
        file = next((f for f in self.files if f.has(keys)), self.files[0])
        line = file.line_of(keys)
        place = f"{file.path}, line {line}" if line else str(file.path)
        return QCompilerError(f"{place}: {'.'.join(keys)}: {problem}", fix=fix)


def _base(file: DescriptorFile, targets: Mapping[str, Path]) -> Path | None:
    """The file that another one extends."""
    base = file.content.get("extends")
    if base is None:
        return None
    if not isinstance(base, str):
        raise QCompilerError(f"{file.path}: extends: must be the name of a target or the path of a .toml file")
    if base.endswith(".toml"):
        return file.path.parent / base
    if base in targets:
        return targets[base]
    raise QCompilerError(
        f"{file.path}: extends: unknown target {base!r}", expected="one of " + ", ".join(targets),
        fix=did_you_mean(base, targets, most=3),
    )
