"""``qcompiler inspect --html``: the page of a program, alone or beside another stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.compare import ValueDifference
    from qcompiler.ir import Graph

HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="OUT.html", help="Write a page that shows the graph: zoom, search, fold by layer."),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        "--against", metavar="PATH",
        help="With --html: an earlier stage, shown on the left; marks changes. With --value: the float model.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", "-d", metavar="X.npz",
        help="With --value or --accumulators: samples to run. With --html and a float --against: samples to measure "
        "errors on.",
    ),
]

_SAMPLES = 8
"""Samples that errors are measured on."""


def check_page_options(html: Path | None, against: Path | None, data: Path | None) -> None:
    """Refuse options that lack the one they belong to, before any work is done.

    Raises:
        QCompilerError: ``--against`` or ``--data`` without what it needs; the extra ``report`` is missing.
    """
    if html is None and (against is not None or data is not None):
        option = "--against" if against is not None else "--data"
        raise QCompilerError(f"{option} belongs to --html or --value", fix="add --html OUT.html or --value NAME")
    if data is not None and against is None:
        raise QCompilerError("--data needs a float program to measure errors against", fix="add --against MODEL.onnx")
    if html is not None:
        from qcompiler.report import check_report_extra

        check_report_extra()


def write_graph_page(
    html: Path, path: Path, graph: Graph, against: Path | None, data: Path | None, read: Callable[[Path], Graph]
) -> None:
    """Write the page of ``graph``, beside the program at ``against`` where one is given.

    Args:
        html: the file to write.
        path: where ``graph`` comes from.
        graph: the program to show.
        against: an earlier stage of the same program.
        data: samples for the errors of ``graph`` against that stage, which must be float.
        read: reads a program from a path.

    Raises:
        QCompilerError: something cannot be read or written; errors are asked for and the other stage is not float or
            has other inputs.
    """
    from qcompiler.report import collect_stage, mark_changes, write_page

    if against is None:
        write_page(html, [collect_stage(graph, path.name)])
    else:
        other = read(against)
        differences = _differences(other, graph, data) if data is not None else []
        names = (against.name, path.name) if against.name != path.name else (str(against), str(path))
        stages = [collect_stage(other, names[0]), collect_stage(graph, names[1], differences)]
        mark_changes(*stages)
        write_page(html, stages)
    typer.echo(f"wrote {html}")


def _differences(original: Graph, graph: Graph, data: Path) -> list[ValueDifference]:
    from qcompiler.calibration.data import open_data
    from qcompiler.compare import check_float_original, compare

    check_float_original(original, graph, "give the ONNX model, or leave --data out")
    return compare(original, graph, open_data(data, original).first(_SAMPLES))
