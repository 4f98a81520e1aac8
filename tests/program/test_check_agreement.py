"""``check`` tells, layer by layer, what ``compile`` then does: on every built-in target, and on random poorer ones."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import pytest

from qcompiler import QCompilerError, compile
from qcompiler.layer_verdicts import Status
from qcompiler.legality_report import LegalityReport, check_legality
from qcompiler.target import Target, built_in_targets, load_target

NEEDED = ("quantize", "dequantize", "requantize", "to_block", "from_block", "normalize")
BASES = ("tpu-int8", "cpu-int8", "dsp-bfp16", "mx-int8")


def disagreement(name: str, target: Target) -> str:
    """On what ``check`` and ``compile`` differ; empty where they agree. Where compile refuses, its layers count."""
    report = check_legality(models.model(name), target=target)
    try:
        program = compile(models.model(name), target=target, data=models.samples(name, 3), native=False)
    except QCompilerError as error:
        told = {layer.name for layer in report.layers if layer.status == "illegal"}
        return "" if told == refused(error) else f"check: {told or 'legal'}; compile: {error}"
    if not report.is_legal:
        return f"check: {illegal(report)}; compile: compiled"
    for layer, done in zip(report.layers, program.figures["legality"], strict=True):
        if {**layer.as_json(), "ways_out": []} != done:
            return f"check: {layer}; compile: {done}"
    crossings = [(c.layer, c.direction) for c in report.crossings]
    found = [(c["layer"], c["direction"]) for c in program.figures["crossings"]]
    return "" if sorted(crossings) == sorted(found) else f"check: {crossings}; compile: {found}"


def refused(error: QCompilerError) -> set[str]:
    """The layers that an error names."""
    if error.layer is not None:
        return {error.layer}
    return {line.strip().partition(": ")[0] for line in error.problem.splitlines()[1:]}


def illegal(report: LegalityReport) -> list[str]:
    return [layer.name for layer in report.layers if layer.status == "illegal"]


def poorer(base: str, fallback: Any, rng: np.random.Generator) -> Target:
    """A target without some ops, and with limits on others."""
    target = load_target(base).with_fallback(fallback)
    rows = dict(target.descriptor.ops)
    optional = [name for name in rows if name not in NEEDED]
    for name in rng.choice(optional, len(optional) // 5, replace=False):
        del rows[name]
    for name in rng.choice([n for n in rows if n not in NEEDED], 4, replace=False):
        limits: dict[str, Any] = {
            "kernel": [1, int(rng.integers(1, 4))], "strides": [1, 1], "max_rank": int(rng.integers(1, 5)),
            "last_axis": True, "max_axis_length": int(rng.integers(2, 9)),
        }
        key = str(rng.choice(list(limits)))
        rows[name] = rows[name].model_copy(update={key: limits[key]})
    return Target(target.descriptor.model_copy(update={"ops": rows}))


@pytest.mark.parametrize("target", list(built_in_targets()))
def test_on_built_in_targets(target: str) -> None:
    """On one model each; tests/benchmarks/suite_check.py takes all."""
    rng = np.random.default_rng([5, *target.encode()])
    name = str(rng.choice(list(models.MODELS)))
    assert disagreement(name, load_target(target)) == "", name


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("fallback", ["error", "host"])
def test_on_poorer_targets(base: str, fallback: str) -> None:
    rng = np.random.default_rng([7, *base.encode(), *fallback.encode()])
    judged = []
    for _ in range(5):
        name, target = str(rng.choice(list(models.MODELS))), poorer(base, fallback, rng)
        assert disagreement(name, target) == "", (name, sorted(target.rows), target.descriptor.ops)
        judged.append(check_legality(models.model(name), target=target))
    other: Status = "illegal" if fallback == "error" else "host"
    assert sum(report.count(other) > 0 for report in judged) >= 2
