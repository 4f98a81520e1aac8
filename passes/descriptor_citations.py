"""Whether a descriptor's pipeline and decompositions exist. Importing this adds the checks to those of descriptors."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.passes.legalize import known_decompositions
from qcompiler.pipeline import Pipeline
from qcompiler.target import FURTHER_CHECKS, Problem, Target


def pipeline_problems(target: Target) -> Iterator[Problem]:
    """``pipeline``: well formed, of passes and options that there are."""
    try:
        Pipeline.parse(target.descriptor.pipeline)
    except QCompilerError as error:
        found = f", found {error.found}" if error.found else ""
        yield Problem(("pipeline",), f"{error.problem}{found}", error.fix or error.expected)


def decomposition_problems(target: Target) -> Iterator[Problem]:
    """``decompositions``: rules that legalize has, each once."""
    known = known_decompositions()
    names = target.descriptor.decompositions
    for name in names:
        if name not in known:
            fix = did_you_mean(name, known) or f"use one of {', '.join(known)}"
            yield Problem(("decompositions",), f"unknown decomposition {name!r}", fix)
        if names.count(name) > 1:
            yield Problem(("decompositions",), f"names {name!r} twice", "leave out the second")


FURTHER_CHECKS.extend((pipeline_problems, decomposition_problems))
