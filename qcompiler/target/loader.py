"""Finds, reads and checks target descriptors."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qcompiler import numerics
from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import OPS, SCALARS
from qcompiler.numerics import BlockArithmetic
from qcompiler.registry import Registry
from qcompiler.target.block_accumulators import accumulator_problems
from qcompiler.target.descriptor import Descriptor
from qcompiler.target.descriptor_files import DescriptorFiles
from qcompiler.target.predicate import parse_condition
from qcompiler.target.target import Target

TARGETS: Registry[str, Path] = Registry("target")
"""Descriptor files by target name: the built-in ones, and those that plugins hand in."""


def built_in_targets() -> dict[str, Path]:
    """Descriptor files that come with the compiler, by target name."""
    folder = Path(str(resources.files("qcompiler.targets")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


for _name, _path in built_in_targets().items():
    TARGETS.add(_name, _path, module="qcompiler.targets")


def register_target(path: str | Path) -> None:
    """Let a target be found by its name, that of its file without ``.toml``.

    The file is read when the target is first asked for, since it may cite what its plugin registers later.

    Args:
        path: a descriptor. A relative path counts from the folder of the calling module's file.

    Raises:
        QCompilerError: there is no such file, or the name is taken.
    """
    caller = sys._getframe(1).f_globals
    path = Path(str(caller.get("__file__", ""))).parent / path
    if path.suffix != ".toml" or not path.is_file():
        raise QCompilerError(f"there is no target descriptor {path}", expected="a .toml file")
    TARGETS.add(path.stem, path, module=str(caller.get("__name__", "")))


def load_target(name: str | Path) -> Target:
    """A target by name, or any descriptor by the path of its ``.toml`` file.

    Targets of plugins are there once :func:`qcompiler.plugins.load` has run.

    Raises:
        QCompilerError: no such target (the nearest names are given), or a broken descriptor (with line or key).
    """
    text = str(name)
    if text.endswith(".toml"):
        return read_descriptor(Path(text))
    if text not in TARGETS:
        raise QCompilerError(
            f"unknown target {text!r}",
            expected="one of " + ", ".join(TARGETS) + ", or the path of a .toml descriptor",
            fix=did_you_mean(text, TARGETS, most=3),
        )
    target = read_descriptor(TARGETS[text])
    if target.name != text:
        raise QCompilerError(
            f"{TARGETS[text]}: the target is called {target.name!r}", expected=f"{text!r}, the name of its file",
            fix="rename the file or the target",
        )
    return target


def read_descriptor(path: Path) -> Target:
    """Read and check a descriptor file.

    Raises:
        QCompilerError: the file is missing, is no TOML, or says something impossible; names file and line or key.
    """
    files = DescriptorFiles.read(path, TARGETS)
    try:
        descriptor = Descriptor.model_validate(files.content)
    except ValidationError as error:
        # A misspelled key makes two errors, unknown and missing: the one that the file shows comes first.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        raise files.broken([str(p) for p in first["loc"]], _message(first)) from error
    target = Target(descriptor, str(path))
    _check_citations(target, files)
    for problem in accumulator_problems(target):
        raise files.broken(problem.keys, problem.text, problem.fix)
    return target


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key"
    if error["type"] == "missing":
        return "key is missing"
    return str(error["msg"]).removeprefix("Value error, ")


def _check_citations(target: Target, files: DescriptorFiles) -> None:
    descriptor = target.descriptor
    for name, spec in descriptor.types.items():
        for storage in spec.storages:
            if storage not in SCALARS:
                raise files.broken(
                    ["types", name, "storage"], f"unknown number format {storage!r}",
                    did_you_mean(storage, SCALARS) or f"use one of {', '.join(SCALARS)}",
                )
            kind = SCALARS[storage]
            if spec.kind == "affine" and not kind.is_integer:
                raise files.broken(["types", name, "storage"], f"affine types store integers, not {storage}")
            if spec.range and not kind.minimum <= spec.range[0] <= spec.range[1] <= kind.maximum:
                raise files.broken(["types", name, "range"], f"{spec.range} is not within {storage}")
            if isinstance(spec.zero_point, int) and not kind.minimum <= spec.zero_point <= kind.maximum:
                raise files.broken(["types", name, "zero_point"], f"{spec.zero_point} is not within {storage}")
    for name, row in descriptor.ops.items():
        if name not in OPS:
            raise files.broken(["ops", name], "unknown op", did_you_mean(name, OPS))
        for attribute in row.attributes:
            if attribute not in OPS[name].__dataclass_fields__:  # type: ignore[attr-defined]
                raise files.broken(["ops", name, "attributes"], f"op {name!r} has no attribute {attribute!r}")
        for condition in row.where:
            try:
                parse_condition(condition)
            except ValueError as error:
                raise files.broken(["ops", name, "where"], str(error)) from error
            except QCompilerError as error:
                fix = error.fix or error.expected
                raise files.broken(["ops", name, "where"], error.problem, fix) from error
    try:
        rows = target.rows
    except ValueError as error:
        name = next(n for n in descriptor.ops if not _resolves(descriptor, n))
        raise files.broken(["ops", name], str(error)) from error
    for name, resolved in rows.items():
        of_blocks = any(spec.kind == "block" for spec in (resolved.operands[0].choices if resolved.operands else ()))
        fitting = [
            n for (op, n), cls in numerics.ARITHMETIC.items()
            if op == name and issubclass(cls, BlockArithmetic) == of_blocks
        ]
        if resolved.arithmetic is None:
            if fitting:
                known = ", ".join(fitting)
                raise files.broken(["ops", name], "cites no arithmetic", f"add arithmetic = one of {known}")
            continue
        try:
            numerics.resolve(name, resolved.arithmetic.name, resolved.arithmetic.options)
        except QCompilerError as error:
            fix = error.fix or error.expected
            raise files.broken(["ops", name, "arithmetic"], error.problem, fix) from error
        if resolved.arithmetic.name not in fitting:
            taken = "block floating point" if of_blocks else "affine types"
            raise files.broken(
                ["ops", name, "arithmetic"], f"{resolved.arithmetic} is not an arithmetic of {taken}",
                f"use one of {', '.join(fitting)}",
            )
    for needed in ("to_block", "from_block") if target.has_blocks else ("quantize", "dequantize"):
        if descriptor.fallback == "host" and needed not in rows:
            raise files.broken(["fallback"], f"the way to the host needs an op {needed!r}, which has no row")
    if any(r.out.choices[0].is_product for r in rows.values()) and "requantize" not in rows:
        raise files.broken(["ops"], "accumulators need an op 'requantize', which has no row")


def _resolves(descriptor: Descriptor, name: str) -> bool:
    try:
        Target(descriptor.model_copy(update={"ops": {name: descriptor.ops[name]}})).rows  # noqa: B018 - may raise
    except ValueError:
        return False
    return True
