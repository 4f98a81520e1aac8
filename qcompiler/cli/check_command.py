"""``qcompiler check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.model_options import BatchOption, ShapeOption, TargetOption, parse_shapes, refuse_shapes_of_program
from qcompiler.cli.terminal import print_table

if TYPE_CHECKING:
    from qcompiler.legality_report import LayerVerdict


def check_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, or a float .qir program.")],
    target: TargetOption,
    batch: BatchOption = None,
    shape: ShapeOption = None,
) -> None:
    """Say, without calibrating, which layers a target can run. Exits with 2 if one is illegal."""
    shapes = parse_shapes(shape)
    refuse_shapes_of_program(model, batch, shapes)
    from qcompiler.legality_report import STATUSES, check_legality

    report = check_legality(model, target=target, batch=batch, shapes=shapes)
    rows = [(layer.name, ", ".join(layer.ops), layer.status, _detail(layer)) for layer in report.layers]
    print_table(rows, ("layer", "ops", "status", "detail"))
    counts = ((status, report.count(status)) for status in STATUSES)
    typer.echo(f"target {report.target}: " + ", ".join(f"{n} {s}" for s, n in counts if n or s != "host"))
    if not report.is_legal:
        raise typer.Exit(2)


def _detail(layer: LayerVerdict) -> str:
    if layer.violations:
        return "; ".join(f"{v.constraint} (found {v.found})" for v in layer.violations)
    if layer.status == "decomposed":
        return f"into {', '.join(layer.parts)} by {', '.join(layer.rules)}"
    return "merged into other layers or constants" if layer.status == "folded" else ""
