"""Reads descriptor files, with those that they extend, and tells where an entry stands."""

from __future__ import annotations

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
        if not path.exists():
            raise QCompilerError(f"there is no target descriptor {path}", fix="check the path")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise QCompilerError(f"cannot read target descriptor {path}: {error}") from error
        try:
            return cls(path, text, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise QCompilerError(f"{path}: not a TOML file: {error}") from error

    def replaces(self, keys: Sequence[str]) -> bool:
        """Whether what a base says of an entry, or of the table that it stands in, no longer holds."""
        content: Any = self.content
        for key in keys:
            if not isinstance(content, dict) or key not in content:
                return False
            content = content[key]
            if is_complete(content):
                return True
        return False

    def broken(self, keys: Sequence[str], problem: str, fix: str | None = None) -> QCompilerError:
        """An error in an entry, with the line that it stands on."""
        line = self.line_of(keys)
        place = f"{self.path}, line {line}" if line else str(self.path)
        return QCompilerError(f"{place}: {'.'.join(keys)}: {problem}", fix=fix)

    def line_of(self, keys: Sequence[str]) -> int | None:
        """The line on which the last of nested ``keys`` begins that the file mentions; None where it mentions none."""
        found, begin = None, 1
        depth = 0
        lines = self.text.splitlines()
        for number in range(1, len(lines) + 1):
            # A prefix of the file that ends within a statement is no TOML.
            try:
                content = tomllib.loads("\n".join(lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            reached = _depth(content, keys)
            if reached > depth:
                found, depth = _first_statement(lines, begin), reached
            begin = number + 1
        return found


def _depth(content: Any, keys: Sequence[str]) -> int:
    """How many of nested ``keys`` there are."""
    for depth, key in enumerate(keys):
        if not isinstance(content, dict) or key not in content:
            return depth
        content = content[key]
    return len(keys)


def _first_statement(lines: Sequence[str], begin: int) -> int:
    """The first line from ``begin`` on, counted from 1, that is neither empty nor a comment."""
    return next(n for n in range(begin, len(lines) + 1) if lines[n - 1].strip() and lines[n - 1].strip()[0] != "#")


@dataclass(frozen=True)
class DescriptorFiles:
    """A descriptor file, and behind it those that it extends, each behind those that it is extended by."""

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
        found = _with_bases((path,), targets)
        # A file that is reached on several ways comes behind all that extend it.
        last = {file.path.resolve(): index for index, file in enumerate(found)}
        return cls(tuple(file for index, file in enumerate(found) if last[file.path.resolve()] == index))

    @property
    def content(self) -> dict[str, Any]:
        """What the files say together.

        Tables are merged key by key: a file says only what is different. A type that states its ``kind``, and an op
        that states its operands, ``in``, are complete and replace that of the base. Ops listed as ``without`` are gone.
        """
        merged: dict[str, Any] = {}
        for file in reversed(self.files):
            merged = _merged(merged, file.content)
            without = _names(file.content.get("without"))
            if without and isinstance(merged.get("ops"), dict):
                merged["ops"] = {name: row for name, row in merged["ops"].items() if name not in without}
        return merged

    def broken(self, keys: Sequence[str], problem: str, fix: str | None = None) -> QCompilerError:
        """An error in an entry, with the file and the line that it comes from."""
        candidates: list[DescriptorFile] = []
        for file in self.files:
            candidates.append(file)
            if file.replaces(keys):
                break
        # Of files that say something about the entry, the one that says most of it; the first of equals.
        file = max(candidates, key=lambda f: _depth(f.content, keys))
        error = file.broken(keys, problem, fix)
        if file is self.files[0]:
            return error
        # Often it is what the first file changes that the entry of its base does not go with.
        return QCompilerError(f"{self.files[0].path}: in its base {error.problem}", fix=fix)

    def check_without(self) -> None:
        """Refuse to take away an op that the base does not have, or that the same file adds.

        Raises:
            QCompilerError: a file does so.
        """
        for index, file in enumerate(self.files):
            base = DescriptorFiles(self.files[index + 1 :]).content.get("ops", {}) if self.files[index + 1 :] else {}
            for op in _names(file.content.get("without")):
                if op in file.content.get("ops", {}):
                    raise file.broken(["without"], f"takes {op!r} away, which [ops] of this file has", "leave out one")
                if op not in base:
                    fix = did_you_mean(op, base) or "leave it out"
                    raise file.broken(["without"], f"the target that this one extends has no op {op!r}", fix)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with the entries of another one over its own."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = value if is_complete(value) or not isinstance(old, dict) else _merged(old, value)
    return merged


def is_complete(value: object) -> bool:
    """Whether what a file says replaces what its base says, in place of changing it."""
    return not isinstance(value, dict) or "kind" in value or "in" in value


def _names(entry: object) -> list[str]:
    return [name for name in entry if isinstance(name, str)] if isinstance(entry, list) else []


def _with_bases(way: tuple[Path, ...], targets: Mapping[str, Path]) -> list[DescriptorFile]:
    """The last file of a way from file to base, and all that it extends, those first whose entries count more."""
    file = DescriptorFile.read(way[-1])
    files = [file]
    for base in reversed(_bases(file, targets)):
        if base.resolve() in [path.resolve() for path in way]:
            circle = " -> ".join(path.name for path in (*way, base))
            raise file.broken(["extends"], f"a descriptor cannot extend itself: {circle}", "extend another one")
        if not base.is_file():
            raise file.broken(["extends"], f"there is no file {base}", "paths count from this file's folder")
        files += _with_bases((*way, base), targets)
    return files


def _bases(file: DescriptorFile, targets: Mapping[str, Path]) -> list[Path]:
    """The files that another one extends."""
    extends = file.content.get("extends", [])
    names = extends if isinstance(extends, list) else [extends]
    return [_base(file, name, targets) for name in names]


def _base(file: DescriptorFile, base: object, targets: Mapping[str, Path]) -> Path:
    if not isinstance(base, str):
        raise file.broken(["extends"], f"must be the name of a target or the path of a .toml file, found {base!r}")
    if base.endswith(".toml"):
        return file.path.parent / base
    if base in targets:
        return targets[base]
    fix = did_you_mean(base, targets, most=3) or f"use one of {', '.join(targets)}, or a .toml file"
    raise file.broken(["extends"], f"unknown target {base!r}", fix)
