"""The page in Chromium without a network: it opens without errors, and its controls work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stages import MARKUP, cnn_annotated, cnn_float, cnn_integer, demo_float, demo_images, demo_integer, hostile

from qcompiler.compare import compare
from qcompiler.report import Stage, collect_stage, mark_changes, write_page

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Chromium and its driver: apt-get install chromium chromium-driver"
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,1000",
    # No name resolves: whatever the page asked for would fail and be logged.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


class Page:
    """A page in the browser."""

    def __init__(self, driver: Any, folder: Path, *stages: Stage) -> None:
        self.driver = driver
        write_page(folder / "page.html", stages)
        driver.get_log("browser")
        driver.get((folder / "page.html").as_uri())
        driver.execute_async_script("GraphView.ready.then(arguments[0])")

    def js(self, code: str) -> Any:
        return self.driver.execute_script(f"return {code}")

    def complaints(self) -> list[str]:
        """What the console says above plain information."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]

    def element(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def details(self) -> str:
        return str(self.element("details").get_attribute("textContent"))

    def press(self, pane: int, text: str, corner: bool = False) -> None:
        """Click the box of this name with the mouse; with ``corner`` its triangle."""
        from selenium.webdriver import ActionChains

        x, y = self.js(f"GraphView.positionOf({pane}, {text!r}, {str(corner).lower()})")
        actions: Any = ActionChains(self.driver)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        actions.w3c_actions.pointer_action.click()
        actions.perform()

    def search(self, text: str, *keys: str) -> None:
        field = self.element("search")
        field.clear()
        field.send_keys(text, *keys)


@pytest.mark.parametrize("graph", [cnn_float, cnn_annotated, cnn_integer, demo_float, demo_integer])
def test_every_stage_opens_without_complaint(browser: Any, tmp_path: Path, graph: Any) -> None:
    stage = collect_stage(graph(), "p")
    page = Page(browser, tmp_path, stage)
    assert page.complaints() == []
    assert page.js("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('blob:')).length") == 0
    assert page.js("GraphView.boxes(0)") == len(stage.groups)


def test_the_drawing_is_not_blank(browser: Any, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    page = Page(browser, tmp_path, collect_stage(demo_float(), "p"))
    x, y = page.js("GraphView.positionOf(0, '/0/Conv')")
    driver: Any = page.driver
    driver.execute_async_script("setTimeout(arguments[0], 500)")
    image = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    box, ground = image.getpixel((int(x) + 60, int(y) + 8)), image.getpixel((int(x) + 250, int(y)))
    assert box != ground


def test_a_click_shows_what_a_box_holds(browser: Any, tmp_path: Path) -> None:
    stage = collect_stage(demo_integer(), "p")
    page = Page(browser, tmp_path, stage)
    page.press(0, "/3/3.0/Conv")
    box = next(b for b in stage.nodes if "/3/3.0/Conv" in b.layers)
    shown = page.details()
    assert box.line in shown
    for words in (*box.layers, box.results[0].type, *dict(box.results[0].facts).values(), *box.ops):
        assert words in shown
    assert page.complaints() == []


def test_layers_unfold_and_fold(browser: Any, tmp_path: Path) -> None:
    stage = collect_stage(cnn_annotated(), "p")
    page = Page(browser, tmp_path, stage)
    group = next(g for g in stage.groups if len(g.nodes) > 1)
    folded = page.js("GraphView.boxes(0)")
    page.press(0, group.name)
    assert f"{len(group.nodes)} nodes" in page.details()
    page.element("toggle").click()
    assert page.js("GraphView.boxes(0)") == folded + len(group.nodes) - 1
    assert page.js("GraphView.frames(0)") == 1
    page.press(0, group.name, corner=True)
    assert page.js("GraphView.boxes(0)") == folded
    page.element("unfold-all").click()
    assert page.js("GraphView.boxes(0)") == len(stage.nodes)
    page.element("fold-all").click()
    assert page.js("GraphView.boxes(0)") == folded
    assert page.complaints() == []


def test_search_finds_layers_ops_and_values(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    stage = collect_stage(cnn_annotated(), "p")
    page = Page(browser, tmp_path, stage)
    group = next(g for g in stage.groups if len(g.nodes) > 1)
    target = stage.nodes[group.nodes[-1]]
    page.search("fake_quant")
    count = sum("fake_quant" in b.ops for b in stage.nodes)
    assert page.element("count").text == f"{count} found"
    for text in (target.results[0].original, target.results[0].name, target.layers[0]):
        page.search(text, Keys.ENTER)
        assert text in page.details()
    # The layer that holds what was found is unfolded.
    page.search(target.results[0].original, Keys.ENTER)
    assert page.js("GraphView.frames(0)") >= 1
    page.search("no such thing")
    assert page.element("count").text == "0 found"
    assert page.complaints() == []


def test_two_stages_mark_changes_and_select_together(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.select import Select

    differences = compare(demo_float(), demo_integer(), {"x": demo_images()[:4]})
    before, after = collect_stage(demo_float(), "before"), collect_stage(demo_integer(), "after", differences)
    mark_changes(before, after)
    page = Page(browser, tmp_path, before, after)
    assert page.element("colour").get_attribute("value") == "change"
    assert page.element("legend").text.split() == ["same", "changed", "added", "removed"]
    page.press(0, "/0/Conv")
    assert "changed" in page.details()
    assert "conv2d → requantize → clamp" in page.details()
    assert page.js("GraphView.linked(1)") == 1
    page.press(1, "quantize")
    assert "added" in page.details()
    assert "dB SQNR" in page.details()
    Select(page.element("colour")).select_by_value("error")
    assert "dB" in page.element("legend").text
    assert page.complaints() == []


def test_names_are_text(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    stage = collect_stage(hostile(), MARKUP)
    page = Page(browser, tmp_path, stage)
    page.search("onerror", Keys.ENTER)
    assert MARKUP in page.details()
    page.js("GraphView.reveal(0, 1)")
    page.press(0, MARKUP)
    page.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.js("window.broken") is None
    assert page.driver.find_elements("css selector", "img") == []
    assert page.complaints() == []
