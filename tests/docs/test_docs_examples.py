"""Every example of the documentation runs and prints what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_pages import PAGES, ROOT, assert_prints, blocks, run_page

from qcompiler import plugins, registry
from qcompiler.ir import parse, print_graph, verify

EXAMPLES = [p for p in PAGES if re.search(r"^```(python|console)$", p.read_text(encoding="utf-8"), re.MULTILINE)]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder to write into, and nothing left behind that a page registers."""
    monkeypatch.chdir(tmp_path)
    plugins.load()
    with registry.temporary():
        yield


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_run(path: Path) -> None:
    assert run_page(path, path.read_text(encoding="utf-8")) > 0


def test_the_pages_with_examples_are_found() -> None:
    assert {p.stem for p in EXAMPLES} >= {"README", "getting-started", "ir", "writing-a-pass", "writing-a-target"}


def test_programs_parse_and_print_back() -> None:
    count = 0
    for path in PAGES:
        for block in blocks(path.read_text(encoding="utf-8")):
            if block.language == "qir":
                graph = parse(block.text)
                verify(graph)
                assert parse(print_graph(graph)) == graph, f"{path.name}, line {block.line}"
                count += 1
    assert count >= 2


def test_a_wrong_example_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    wrong = [
        "```python\nprint(1 + 1)\n```\n\n```text\n3\n```\n",
        "```python\nprint(1)\n```\n\n```python\nprint(2)\n```\n",
        "```python\nassert False\n```\n",
        "```console\n$ qcompiler targets\nno such line\n```\n",
        "```console\n$ qcompiler targets show nothing\n...\n```\n",
        "```console\n$ rm file\n```\n",
    ]
    for text in wrong:
        with pytest.raises(AssertionError):
            run_page(page, text)


def test_only_digits_of_measurements_may_differ() -> None:
    assert_prints("y 32.5 dB of 8\n...\nend", "y  31.9 dB of 8\nmore\nend", "here")
    for found in ("y 32.5 dB of 9\nend", "y 32 dB of 8\nend", "y 32.5 dB of 8"):
        with pytest.raises(AssertionError, match="here"):
            assert_prints("y 32.5 dB of 8\nend", found, "here")


def test_no_page_names_a_place_on_a_machine() -> None:
    for path in [*PAGES, *ROOT.glob("docs/*.py")]:
        found = re.search(r"(?<![\w.])/(?:home|work|tmp|root|usr)/", path.read_text(encoding="utf-8"))
        assert found is None, f"{path.name}: {found}"
