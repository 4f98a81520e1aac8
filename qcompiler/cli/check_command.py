"""``qcompiler check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.model_options import (
    BatchOption,
    FallbackOption,
    ShapeOption,
    TargetOption,
    parse_shapes,
    refuse_shapes_of_program,
    target_with_fallback,
)
from qcompiler.cli.terminal import print_table

if TYPE_CHECKING:
    from qcompiler.layer_verdicts import LayerVerdict
    from qcompiler.legality_report import LegalityReport


def check_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, or a float .qir program.")],
    target: TargetOption,
    batch: BatchOption = None,
    shape: ShapeOption = None,
    fallback: FallbackOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON, for scripts.")] = False,
) -> None:
    """Say, without calibrating, which layers a target can run. Exits with 2 if one is illegal."""
    shapes = parse_shapes(shape)
    refuse_shapes_of_program(model, batch, shapes)
    from qcompiler.legality_report import check_legality

    report = check_legality(model, target=target_with_fallback(target, fallback), batch=batch, shapes=shapes)
    if as_json:
        typer.echo(json.dumps({"model": str(model), **report.as_json()}, indent=2))
    else:
        _print(report)
    if not report.is_legal:
        raise typer.Exit(2)


def _print(report: LegalityReport) -> None:
    from qcompiler.layer_verdicts import STATUSES

    rows = [(layer.name, ", ".join(layer.ops), layer.status, _detail(layer)) for layer in report.layers]
    print_table(rows, ("layer", "ops", "status", "detail"))
    for ways, names in _ways_out(report).items():
        typer.echo(f"\nways out for {', '.join(names)}:")
        for way in ways:
            typer.echo(f"  - {way}")
    if report.crossings:
        typer.echo("")
        crossings = [(c.layer or "(added by the compiler)", c.direction, c.type) for c in report.crossings]
        print_table(crossings, ("crossing behind", "direction", "value"))
    if not report.is_complete:
        typer.echo("\nother layers were not judged: the model cannot be imported")
    if report.layers and any(layer.status == "illegal" for layer in report.layers):
        typer.echo("")
    counts = ((status, report.count(status)) for status in STATUSES)
    typer.echo(f"target {report.target}: " + ", ".join(f"{n} {s}" for s, n in counts if n or s != "host"))


def _ways_out(report: LegalityReport) -> dict[tuple[str, ...], list[str]]:
    """The illegal layers, by what can be done about them."""
    found: dict[tuple[str, ...], list[str]] = {}
    for layer in report.layers:
        if layer.status == "illegal":
            found.setdefault(layer.ways_out, []).append(layer.name)
    return found


def _detail(layer: LayerVerdict) -> str:
    reasons = [f"{v.constraint} (found {v.found})" for v in layer.violations]
    if layer.moved_ops:
        reasons.append(f"{', '.join(layer.moved_ops)} moved to save crossings")
    if reasons:
        return "; ".join(reasons)
    if layer.status == "decomposed":
        return f"into {', '.join(layer.parts)} by {', '.join(layer.rules)}"
    return "merged into other layers or constants" if layer.status == "folded" else ""
