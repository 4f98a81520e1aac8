"""The HTML page: data, style, our script and the drawing library in one file."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from qcompiler.errors import QCompilerError
from qcompiler.report.drawing import BOX_GAP, BOX_HEIGHT, BOX_WIDTH
from qcompiler.report.layered_layout import LANE_WEIGHT, LANE_WIDTH
from qcompiler.report.page_data import Stage

SCRIPTS = ("scene.js", "appearance.js", "details.js", "graph_view.js")
"""Our own, in the order in which they need one another."""


def write_page(path: str | Path, stages: Sequence[Stage]) -> None:
    """Write the page of one stage, or of two side by side, whole or not at all.

    Raises:
        QCompilerError: the packages of the extra ``report`` are missing, or the file cannot be written.
    """
    path = Path(path)
    text = render_page(stages)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise QCompilerError(
            f"cannot write {str(path)!r}: {error.strerror or error}",
            fix="name a file in a folder that exists and may be written",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def render_page(stages: Sequence[Stage]) -> str:
    """The page's HTML. It loads nothing: the library, our script and the data stand in it.

    Args:
        stages: one stage, or two to see side by side, see :func:`qcompiler.report.mark_changes`.

    Raises:
        QCompilerError: the packages of the extra ``report`` are missing.
    """
    check_report_extra()
    import jinja2
    from bokeh.embed import json_item
    from bokeh.resources import Resources

    from qcompiler.report.figure import new_figure

    files = resources.files("qcompiler.report")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files / "page.html.j2").read_text(encoding="utf-8"))
    sizes = {
        "boxWidth": BOX_WIDTH, "boxHeight": BOX_HEIGHT, "gap": BOX_GAP,
        "laneWidth": LANE_WIDTH, "laneWeight": LANE_WEIGHT,
    }
    data = {
        "stages": [_stage_data(stage) for stage in stages], "sizes": sizes,
        "figures": [json_item(new_figure(f"pane{index}"), f"pane{index}") for index in range(len(stages))],
    }
    return template.render(
        title=" and ".join(stage.title for stage in stages),
        stages=stages,
        library=[script_text(text) for text in Resources(mode="inline", components=["bokeh"]).js_raw],
        scripts=[(files / name).read_text(encoding="utf-8") for name in SCRIPTS],
        style=(files / "page.css").read_text(encoding="utf-8"),
        data=embedded_json(data),
    )


def check_report_extra() -> None:
    """Refuse before any work is done where the drawing library is missing.

    Raises:
        QCompilerError: names the extra to install.
    """
    for package in ("bokeh", "jinja2"):
        try:
            import_module(package)
        except ImportError as error:
            raise QCompilerError(
                f"the page needs the package {package!r}, which is not installed",
                fix='pip install "qcompiler-legalizer[report]"',
            ) from error


def embedded_json(data: Any) -> str:
    """JSON that may stand in a ``<script>`` element, whatever names it holds.

    The HTML parser looks for ``</script`` and ``<!--`` before JSON is read; both start with ``<``.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def script_text(source: str) -> str:
    """JavaScript that may stand in a ``<script>`` element; ``</script`` can only be part of a string there."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _stage_data(stage: Stage) -> dict[str, Any]:
    data = dataclasses.asdict(stage)
    for node in data["nodes"]:
        # Needed to match two stages, not to show one.
        del node["parts"]
    return data
