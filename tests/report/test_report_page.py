"""The page is one file that loads nothing and shows names as they are."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from stages import MARKUP, cnn_float, demo_integer, hostile

from qcompiler.errors import QCompilerError
from qcompiler.report import collect_stage, mark_changes, render_page, write_page
from qcompiler.report.page import script_text


class Elements(HTMLParser):
    """Start tags with attributes, and the texts of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data


def test_nothing_is_loaded_from_elsewhere() -> None:
    elements = Elements(render_page([collect_stage(demo_integer(), "demo")]))
    assert not {tag for tag, _ in elements.tags} & {"link", "img", "iframe", "object", "embed", "base"}
    for tag, attributes in elements.tags:
        assert not {"src", "href", "srcset", "action"} & set(attributes), tag
    policy = next(a["content"] for t, a in elements.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_style_and_own_scripts_name_no_address() -> None:
    from importlib import resources

    forbidden = ("http:", "https:", "@import", "import(", "fetch(", "innerHTML", "url(")
    for file in resources.files("qcompiler.report").iterdir():
        if file.name.endswith((".js", ".css", ".j2")):
            text = file.read_text(encoding="utf-8")
            assert not [word for word in forbidden if word in text], file.name


def test_names_cannot_leave_their_place() -> None:
    stage = collect_stage(hostile(), MARKUP)
    page = render_page([stage])
    elements = Elements(page)
    plain = Elements(render_page([collect_stage(cnn_float(), "p")]))
    assert [tag for tag, _ in elements.tags] == [tag for tag, _ in plain.tags]
    assert MARKUP not in page
    # Browsers end a script at "</script " too, and change their rules behind "<!--": no "<" at all is safe.
    assert not {"<", ">", "&"} & set(elements.scripts[0])
    data = json.loads(elements.scripts[0])
    assert data["stages"][0]["title"] == MARKUP
    assert data["stages"][0]["nodes"][1]["layers"] == [MARKUP]


def test_scripts_cannot_end_early() -> None:
    assert script_text('a = "</script>"; b = "<!--"') == 'a = "<\\/script>"; b = "<\\!--"'


def test_data_are_strict_json_of_both_stages() -> None:
    before, after = collect_stage(cnn_float(), "a"), collect_stage(cnn_float(), "b")
    mark_changes(before, after)
    data = json.loads(Elements(render_page([before, after])).scripts[0])
    assert [len(stage["nodes"]) for stage in data["stages"]] == [len(before.nodes)] * 2
    assert len(data["figures"]) == 2


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("bokeh", "jinja2"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            with pytest.raises(QCompilerError, match=package) as caught:
                render_page([])
            assert caught.value.fix == 'pip install "qcompiler-legalizer[report]"'


def test_the_drawing_library_is_not_needed_to_import(tmp_path: Path) -> None:
    import subprocess

    code = "import sys; import qcompiler.report; assert not {'bokeh', 'jinja2'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="cannot write"):
        write_page(tmp_path / "none" / "page.html", [collect_stage(cnn_float(), "a")])
    assert list(tmp_path.iterdir()) == []
