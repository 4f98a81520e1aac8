"""What the commands print: tables, errors, progress.

Colours, frames and bars appear on terminals only; files and pipes get plain text of full width.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID

    from qcompiler.pipeline import Progress


def print_table(
    rows: Sequence[Sequence[str]], header: Sequence[str] = (), title: str = "", *, stderr: bool = False
) -> None:
    """Print rows of equal length.

    Args:
        rows: cells, row by row.
        header: column names; none for a list of names and values.
        title: a line above the table.
        stderr: print to stderr in place of stdout.
    """
    if (sys.stderr if stderr else sys.stdout).isatty():
        _print_rich(rows, header, title, stderr)
        return
    lines = [*([header] if header else []), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [title] if title else []
    for line in lines:
        cells = (cell.replace("\n", " ").ljust(width) for cell, width in zip(line, widths, strict=True))
        texts.append("  ".join(cells).rstrip())
    typer.echo("\n".join(texts), err=stderr)


def _print_rich(rows: Sequence[Sequence[str]], header: Sequence[str], title: str, stderr: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", show_header=bool(header), box=box.SIMPLE)
    for index in range(len(rows[0]) if rows else len(header)):
        # Names of layers may hold brackets: Text takes them as they are.
        table.add_column(Text(header[index]) if header else "", overflow="fold", style="bold" if index == 0 else "")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(stderr=stderr, highlight=False).print(table)


def print_error(message: str) -> None:
    """Print ``error: ...`` to stderr."""
    _print_labelled("error", message, "red")


def print_warning(message: str) -> None:
    """Print ``warning: ...`` to stderr."""
    _print_labelled("warning", message, "yellow")


def _print_labelled(label: str, message: str, colour: str) -> None:
    from rich.console import Console
    from rich.text import Text

    # soft_wrap leaves line breaks to the terminal, so that messages can be searched and copied whole.
    Console(stderr=True).print(Text.assemble((f"{label}:", f"bold {colour}"), f" {message}"), soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars on stderr where that is a terminal; nothing elsewhere."""
    from qcompiler.pipeline import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    tasks: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True), transient=True) as bars:

        def report(description: str, done: int, total: int) -> None:
            if description not in tasks:
                tasks[description] = bars.add_task(description)
            bars.update(tasks[description], completed=done, total=total)

        yield report


def readable_size(count: int) -> str:
    """A number of bytes with its unit, as in ``1.5 MB``."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def counted(counts: dict[str, int]) -> str:
    """Names with how often each occurs, as in ``12 conv2d, 3 add``."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
