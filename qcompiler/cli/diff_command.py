"""``qcompiler diff``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qcompiler.analysis.program_diff import ProgramDiff

_STYLES = {"heading": "bold", "added": "green", "removed": "red", "changed": "yellow", "summary": ""}


def diff_command(
    before: Annotated[
        Path,
        typer.Argument(
            metavar="A", help="A .qir file, an ONNX model or the folder of a compiled program or of a crash reproducer."
        ),
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another, such as a later stage of the same program.")],
    layer: Annotated[str | None, typer.Option("--layer", metavar="NAME", help="Show this layer alone.")] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print counts alone, in one line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Say how two programs differ, layer by layer. Exits with 0 if they are equal, 1 if they differ, 2 on errors."""
    from qcompiler.analysis.program_comparison import diff_programs
    from qcompiler.cli.program_files import read_named_program

    diff = diff_programs(read_named_program(before)[0], read_named_program(after)[0])
    if layer is not None:
        diff = diff.only(layer)
    if as_json:
        typer.echo(json.dumps(diff.as_json(), indent=2))
    elif summary:
        typer.echo(diff.summary())
    else:
        _print_diff(diff)
    if diff:
        raise typer.Exit(1)


def _print_diff(diff: ProgramDiff) -> None:
    if not sys.stdout.isatty():
        typer.echo(str(diff))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for kind, text in diff.lines():
        # Names of layers may hold brackets: Text takes them as they are.
        console.print(Text(text, style=_STYLES[kind]), soft_wrap=True)
