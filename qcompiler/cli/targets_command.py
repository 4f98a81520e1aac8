"""``qcompiler targets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli.terminal import print_table

targets_application = typer.Typer(help="List the targets, show one, or start one.")


@targets_application.callback(invoke_without_command=True)
def list_targets(context: typer.Context) -> None:
    """List the targets, show one, or start one."""
    if context.invoked_subcommand:
        return
    from qcompiler import plugins
    from qcompiler.target import TARGETS, load_target

    plugins.load()
    rows = [(name, load_target(name).descriptor.summary) for name in TARGETS]
    print_table(rows, ("target", "summary"))


@targets_application.command("show")
def show_target(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A target, or the path of a .toml descriptor.")],
) -> None:
    """Show what a target can do: number formats, ops, decompositions and limits."""
    from qcompiler import plugins
    from qcompiler.passes.legalize import decompositions_of
    from qcompiler.rewrite import describe
    from qcompiler.target import load_target
    from qcompiler.target.target_description import (
        FORMAT_COLUMNS,
        OP_COLUMNS,
        describe_formats,
        describe_ops,
        describe_target,
    )

    plugins.load()
    target = load_target(name)
    rules = describe(type(rule) for rule in decompositions_of(target))
    print_table(describe_target(target))
    typer.echo()
    print_table(describe_formats(target), FORMAT_COLUMNS)
    typer.echo()
    print_table([(o.op, o.operands, o.result, o.arithmetic, o.constraints) for o in describe_ops(target)], OP_COLUMNS)
    if rules:
        typer.echo()
        print_table([(r.name, r.replaces, r.text) for r in rules], ("decomposition", "replaces", "by"))


@targets_application.command("new")
def new_target(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the target is called.")],
    extends: Annotated[
        str, typer.Option("--extends", metavar="TARGET", help="What it extends: a target, or a .toml descriptor.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The new file; NAME.toml by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a descriptor that extends a target, and tells in comments what can be changed."""
    from qcompiler import plugins
    from qcompiler.cli.target_files import SCHEMA_NAME, write_descriptor

    plugins.load()
    path = write_descriptor(name, extends, output, force)
    typer.echo(f"{path}: does what {extends} does; --target {path} takes it")
    typer.echo(f"for editors: qcompiler targets schema --output {path.parent / SCHEMA_NAME}")


@targets_application.command("schema")
def target_schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A file; printed by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Print the JSON Schema of descriptors, with the names that plugins have registered."""
    from qcompiler import plugins
    from qcompiler.cli.target_files import write_text
    from qcompiler.passes.legalize import known_decompositions
    from qcompiler.target import TARGETS, descriptor_schema, schema_text

    plugins.load()
    text = schema_text(descriptor_schema(known_decompositions(), list(TARGETS)))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text(output, text, force)
