"""Finds, reads and checks target descriptors."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.registry import Registry
from qcompiler.target.accumulator_limits import accumulator_limit_problems
from qcompiler.target.block_accumulators import accumulator_problems
from qcompiler.target.descriptor import Descriptor
from qcompiler.target.descriptor_checks import (
    arithmetic_problems,
    attribute_problems,
    condition_problems,
    op_problems,
    storage_problems,
    type_citation_problems,
)
from qcompiler.target.descriptor_contradictions import (
    affine_accumulator_contradictions,
    fuse_contradictions,
    limit_contradictions,
    needed_op_contradictions,
    power_of_two_contradictions,
    result_contradictions,
    tie_contradictions,
    type_contradictions,
)
from qcompiler.target.descriptor_files import DescriptorFiles
from qcompiler.target.problem import FURTHER_CHECKS, Check
from qcompiler.target.schema_errors import schema_problem
from qcompiler.target.target import Target
from qcompiler.target.type_conditions import group_problems, type_condition_problems

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
        QCompilerError: the file is missing, is no TOML, or says something impossible; names file, line and key of
            the first thing that is wrong.
    """
    files = DescriptorFiles.read(path, TARGETS)
    try:
        descriptor = Descriptor.model_validate(files.content)
    except ValidationError as error:
        problem = schema_problem(error, files.content)
        raise files.broken(problem.keys, problem.text, problem.fix) from error
    files.check_without()
    target = Target(descriptor, str(path))
    for check in (*_CHECKS, *FURTHER_CHECKS):
        for problem in check(target):
            raise files.broken(problem.keys, problem.text, problem.fix)
    return target


_CHECKS: tuple[Check, ...] = (
    storage_problems, op_problems, attribute_problems, condition_problems, type_condition_problems,
    type_contradictions, type_citation_problems, arithmetic_problems, group_problems, limit_contradictions,
    fuse_contradictions, result_contradictions, tie_contradictions, affine_accumulator_contradictions,
    power_of_two_contradictions, accumulator_limit_problems, needed_op_contradictions, accumulator_problems,
)
"""In this order: each relies on those before it."""
