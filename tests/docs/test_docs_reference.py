"""The generated reference is current, complete, and its check can fail."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from markdown_pages import ROOT

from qcompiler import plugins
from qcompiler.ir import OPS, Graph
from qcompiler.numerics import ARITHMETIC
from qcompiler.pipeline import PASSES, Context, Pass, PassResult
from qcompiler.target import PREDICATES, built_in_targets


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module docs/generate.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("generate")


def test_the_reference_is_current(generate: Any) -> None:
    assert generate.stale() == []


def test_every_registered_thing_has_an_entry(generate: Any) -> None:
    plugins.load()
    pages = generate.pages()
    for page, names in (
        ("passes.md", PASSES), ("ops.md", OPS), ("arithmetic.md", {op for op, _ in ARITHMETIC}),
    ):
        assert [n for n in names if f"# {n}\n" not in pages[page]] == []
    assert [name for name in PREDICATES if f"| `{name}` |" not in pages["predicates.md"]] == []
    assert [name for _, name in ARITHMETIC if f"| `{name}` |" not in pages["arithmetic.md"]] == []
    assert [name for name in built_in_targets() if f"targets/{name}.md" not in pages] == []


def test_the_check_fails_on_stale_missing_and_left_over_pages(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.write(tmp_path)
    assert generate.stale(tmp_path) == []
    (tmp_path / "ops.md").write_text((tmp_path / "ops.md").read_text() + "\n")
    (tmp_path / "passes.md").unlink()
    (tmp_path / "targets" / "gone.md").write_text("# gone\n")
    assert generate.stale(tmp_path) == ["ops.md", "passes.md", "targets/gone.md"]

    monkeypatch.setattr(generate.stale, "__defaults__", (tmp_path,))
    assert generate.main(["--check"]) == 1
    assert "docs/reference/ops.md is stale; run 'make docs'" in capsys.readouterr().out

    generate.write(tmp_path)
    assert generate.main(["--check"]) == 0


def test_passes_of_users_stay_out(generate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(Pass):
        """Does nothing."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            return PassResult(graph, False)

    before = generate.pages()["passes.md"]
    monkeypatch.setitem(PASSES, "foreign", Foreign)
    assert generate.pages()["passes.md"] == before
