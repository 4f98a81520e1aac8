"""``qcompiler passes``."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.terminal import print_table
from qcompiler.errors import QCompilerError, did_you_mean

if TYPE_CHECKING:
    from qcompiler.pipeline import Pass

passes_application = typer.Typer(help="List the passes, or show one.")


@passes_application.callback(invoke_without_command=True)
def list_passes(context: typer.Context) -> None:
    """List the passes, or show one."""
    if context.invoked_subcommand:
        return
    from qcompiler import plugins
    from qcompiler.pipeline import ALIASES, PASSES

    plugins.load()
    rows = [(name, _documentation(cls).partition("\n")[0]) for name, cls in PASSES.items()]
    rows += [(name, f"Stands for {passes}.") for name, passes in ALIASES.items()]
    print_table(sorted(rows), ("pass", "summary"))


@passes_application.command("show")
def show_pass(name: Annotated[str, typer.Argument(metavar="NAME", help="A pass.")]) -> None:
    """Show what a pass does, what it needs and leaves, its options and its rules."""
    from qcompiler import plugins
    from qcompiler.pipeline import ALIASES, PASSES, describe_conditions
    from qcompiler.rewrite import RULES, describe

    plugins.load()
    if name in ALIASES:
        typer.echo(f"{name}\n\nStands for {ALIASES[name]}.")
        return
    if name not in PASSES:
        raise QCompilerError(
            f"unknown pass {name!r}", expected="one of " + ", ".join(sorted([*PASSES, *ALIASES])),
            fix=did_you_mean(name, [*PASSES, *ALIASES], most=3),
        )
    typer.echo(f"{name}\n\n{_documentation(PASSES[name])}\n")
    print_table(describe_conditions(PASSES[name]))
    typer.echo()
    options = _options(PASSES[name])
    if options:
        print_table(options, ("option", "type", "default", "help", "allowed"))
    else:
        typer.echo("It has no options.")
    rules = describe(cls for cls in RULES.values() if name in cls.into)
    if rules:
        typer.echo()
        print_table([(r.name, r.replaces, r.text) for r in rules], ("rule", "replaces", "in short"))


def _documentation(cls: type[Pass]) -> str:
    """The pass's docstring as plain text: without the marks of reStructuredText around names."""
    text = inspect.cleandoc(cls.__doc__ or "")
    return re.sub(r":[\w:]+:`~?([^`]+)`|``(.+?)``", lambda match: match[1] or match[2], text)


def _options(cls: type[Pass]) -> list[tuple[str, ...]]:
    from qcompiler.pipeline import options_of

    return [(o.name, o.type_text, o.default_text, o.help, o.limits_text) for o in options_of(cls).values()]
