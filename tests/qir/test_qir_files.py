"""Every ``.qir`` file here does what it says; and what the files say together covers all rules of the compiler."""

from __future__ import annotations

import ast
import functools
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_lines import programs, run, run_lines, steps

from qcompiler import plugins
from qcompiler.backends import reference
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Graph, GraphListener, Node, Remark, Value, clone, verify
from qcompiler.pipeline import PASSES, Context, Pipeline, Stage, stage_of
from qcompiler.rewrite import RULES, Match, OpPattern, Rule
from qcompiler.rewrite.pattern import SubPattern
from qcompiler.rewrite.rule import trace
from qcompiler.target import load_target

plugins.load()

FOLDER = Path(__file__).parent
FILES = {str(path.relative_to(FOLDER).with_suffix("")): path for path in sorted(FOLDER.rglob("*.qir"))}
BUILT_IN = {name: cls for name, cls in RULES.items() if cls.__module__.startswith("qcompiler.passes")}

KEEPS_EVERY_BIT = (
    "cse/cse", "dce/dce", "fuse-requantize/drop-round-trip", "fuse-requantize/drop-block-round-trip",
    "fuse-requantize/fuse-ending",
)
"""Files whose programs compute the same stored numbers before and after."""


def file_of(rule: str) -> Path:
    return FOLDER / BUILT_IN[rule].into[0] / f"{rule}.qir"


def before_and_after(path: Path, listener: GraphListener | None = None) -> Iterator[tuple[Graph, Graph]]:
    """Each program of a file, and what the passes of its RUN line leave of it. Refused programs are left out."""
    command = steps(run_lines(path)[0])[0]
    pipeline, target = command.option("-p"), command.option("-t")
    assert pipeline is not None
    for before in programs(path):
        after = clone(before)
        try:
            verify(after)
            with after.watched_by(listener or GraphListener()):
                after = Pipeline.parse(pipeline).run(after, Context(load_target(target) if target else None))
        except QCompilerError:
            assert command.fails
            continue
        after.pipeline = before.pipeline
        yield before, after


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_file(path: Path) -> None:
    for line in run_lines(path):
        report = run(line)
        assert not report, report


def test_a_shell_runs_the_lines_alike() -> None:
    """The short cut of this file does what a real shell does with real processes."""
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    chosen = [run_lines(FILES[name])[0] for name in ("canonicalize/clip-to-relu", "verify-legal/refusals")]
    for line in [*chosen, "not " + chosen[0], chosen[1].removeprefix("not ")]:
        script = f'set -o pipefail; not() {{ ! "$@"; }}; {line}'
        shell = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, check=False)
        assert (shell.returncode == 0) == (run(line) == ""), (line, shell.stdout, shell.stderr)


def test_every_rule_and_every_pass_has_a_file() -> None:
    assert [str(file_of(rule)) for rule in BUILT_IN if not file_of(rule).exists()] == []
    built_in = {name for name, cls in PASSES.items() if cls.__module__.startswith("qcompiler.passes")}
    assert {Path(name).parts[0] for name in FILES} == built_in
    named = {str(file_of(rule).relative_to(FOLDER).with_suffix("")) for rule in BUILT_IN}
    without_rules = built_in - {cls.into[0] for cls in BUILT_IN.values()}
    stray = [n for n in FILES if n not in named and Path(n).parts[0] not in without_rules and "refusals" not in n]
    assert stray == []


class Remarks(GraphListener):
    """What rules said of nodes."""

    def __init__(self) -> None:
        self.heard: list[Remark] = []

    def wants_remarks_on(self, node: Node) -> bool:
        return True

    def remark(self, remark: Remark) -> None:
        self.heard.append(remark)


@pytest.mark.parametrize("rule", BUILT_IN)
def test_a_rule_applies_and_declines_in_its_file(rule: str) -> None:
    """It applies somewhere, and some program stays as it is. Every way to decline is taken by some program."""
    remarks = Remarks()
    taken: set[int] = set()
    unchanged = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Match, "fail", _recording(taken))
        for before, after in before_and_after(file_of(rule), remarks):
            unchanged += before == after
        refusals = file_of(rule).with_name("refusals.qir")
        if refusals.exists():
            list(before_and_after(refusals, remarks))
    heard = [remark for remark in remarks.heard if remark.rule == rule]
    assert any(remark.applied for remark in heard)
    if rule not in ("normalize-before-reshape", "normalize-in-contraction", "expand-normalization"):
        # Some rule rewrites every batch_norm; these files say which.
        assert unchanged
    declined = "\n".join(remark.text for remark in heard if not remark.applied)
    assert [demand for demand in _demands(BUILT_IN[rule]) if demand not in declined] == []
    assert _lines_that_fail(BUILT_IN[rule]) - taken == set()


def _recording(lines: set[int]) -> Any:
    """``Match.fail``, noting the line that calls it."""
    original = Match.fail

    def fail(match: Match, reason: str) -> Any:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        lines.add(frame.f_back.f_lineno)
        return original(match, reason)

    return fail


def _lines_that_fail(rule: type[Rule]) -> set[int]:
    """The lines of a rule that decline."""
    lines, first = inspect.getsourcelines(rule.rewrite)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    return {
        node.lineno + first - 1
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fail"
    }


def _demands(rule: type[Rule]) -> list[str]:
    """Words of a remark for everything that a rule's pattern demands beside the op of its root."""
    found: dict[str, None] = {}

    def collect(part: SubPattern, is_root: bool) -> None:
        found.update((f"is not {constraint.description}", None) for constraint in part.constraints)
        if isinstance(part, OpPattern):
            if not is_root:
                found[part.text] = None
            found.update((f"{name} of", None) for name, _ in part.attributes)
            for operand in part.operands:
                collect(operand, False)

    for variant in trace(rule.__new__(rule)).variants:
        for root in variant:
            collect(root, True)
    return list(found)


@pytest.mark.parametrize("rule", BUILT_IN)
def test_a_rule_that_never_applies_fails_its_file(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = BUILT_IN[rule]

    @functools.wraps(cls.rewrite)
    def decline(self: Rule, builder: Any, match: Match, *operands: Any, **more: Any) -> Any:
        return match.fail("it never applies")

    monkeypatch.setattr(cls, "rewrite", decline)
    assert any(run(line) for line in run_lines(file_of(rule)))


@pytest.mark.parametrize("name", [n for n in FILES if n.split("/")[0] not in ("annotate", "calibrate", "realize")])
def test_meaning_stays(name: str) -> None:
    """Float programs compute the same up to rounding; where the passes move things only, to the bit."""
    for before, after in before_and_after(FILES[name]):
        if stage_of(before) is not Stage.FLOAT and name not in KEEPS_EVERY_BIT:
            continue
        for seed in range(3):
            feeds = {value.name: _numbers(value, seed) for value in before.inputs}
            with np.errstate(all="ignore"):
                expected, found = reference.run(before, feeds), reference.run(after, feeds)
            assert found.keys() == expected.keys()
            for output, array in expected.items():
                assert (found[output].dtype, found[output].shape) == (array.dtype, array.shape)
                if name in KEEPS_EVERY_BIT or array.dtype.kind in "iu":
                    np.testing.assert_array_equal(found[output], array)
                else:
                    np.testing.assert_allclose(found[output], array, rtol=1e-5, atol=1e-5)


def _numbers(value: Value, seed: int) -> np.ndarray[Any, Any]:
    """Random numbers for an input; a free batch has three samples. Some are 0."""
    rng = np.random.default_rng(seed)
    shape = [d if isinstance(d, int) else d.coefficient * 3 for d in value.type.shape]
    elem, storage = value.type.elem, value.type.storage
    if isinstance(elem, Affine):
        return rng.integers(elem.qmin, elem.qmax, shape, storage.dtype, endpoint=True)
    if storage.is_float:
        numbers: np.ndarray[Any, Any] = rng.normal(0, 4, shape) * rng.choice([0.0, 1.0, 1.0, 1.0], shape)
        return numbers.astype(storage.dtype)
    return rng.integers(-(2**60), 2**60, shape, storage.dtype)


def test_the_samples_are_those_that_the_calibrate_files_name() -> None:
    with np.load(FOLDER / "calibrate" / "samples.npz") as samples:
        assert samples.files == ["x"]
        assert samples["x"].dtype == np.float32
        assert samples["x"].tolist() == [[-2, 0.5], [1.984375, -0.5], [0, 0], [1, 0.25]]
