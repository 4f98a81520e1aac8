"""``qcompiler export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A compiled program.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", metavar="NAME", help="The format; by default told by the suffix.")
    ] = None,
) -> None:
    """Write a compiled program in another format, by an exporter that a plugin hands in."""
    from qcompiler import plugins
    from qcompiler.cli.terminal import readable_size
    from qcompiler.exporters import export, find_exporter
    from qcompiler.program import load

    plugins.load()
    chosen = find_exporter(output, format)
    export(load(folder), output, chosen.name)
    typer.echo(f"wrote {output} as {chosen.name}, {readable_size(output.stat().st_size)}")
