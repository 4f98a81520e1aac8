"""The application: its commands, and what happens to errors."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from qcompiler.cli.bench_command import bench_command
from qcompiler.cli.check_command import check_command
from qcompiler.cli.compile_command import compile_command
from qcompiler.cli.diff_command import diff_command
from qcompiler.cli.export_command import export_command
from qcompiler.cli.inspect_command import inspect_command
from qcompiler.cli.native_command import native_command
from qcompiler.cli.opt_command import opt_command
from qcompiler.cli.passes_command import passes_application
from qcompiler.cli.plugins_command import plugins_command
from qcompiler.cli.run_command import run_command
from qcompiler.cli.targets_command import targets_application
from qcompiler.cli.terminal import print_error
from qcompiler.errors import QCompilerError

_BUG = "This is a bug in qcompiler: please report it with the command and the text above."
_FOREIGN = "The mistake is probably in {}, which is no part of qcompiler."


class _Commands(TyperGroup):
    """Prints errors that a user can mend, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except QCompilerError as error:
            print_error(str(error))
            raise typer.Exit(2) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(130) from interrupt


app = typer.Typer(
    name="qcompiler",
    cls=_Commands,
    help="Compile float neural networks to exact integer-only programs for named targets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Boxes and colours only for people; files and pipes get plain text.
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compile")(compile_command)
app.command("run")(run_command)
app.command("bench")(bench_command)
app.command("native")(native_command)
app.command("check")(check_command)
app.command("inspect")(inspect_command)
app.command("diff")(diff_command)
app.command("opt")(opt_command)
app.command("export")(export_command)
app.command("plugins")(plugins_command)
app.add_typer(targets_application, name="targets")
app.add_typer(passes_application, name="passes")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qcompiler {version('qcompiler-legalizer')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    no_plugins: Annotated[bool, typer.Option("--no-plugins", help="Start without the installed plugins.")] = False,
    load: Annotated[
        list[Path] | None,
        typer.Option("--load", metavar="FILE.py", help="Run a file that registers passes, rules, ops; repeatable."),
    ] = None,
) -> None:
    """Compile float neural networks to exact integer-only programs for named targets."""
    if no_plugins:
        from qcompiler import plugins

        context.with_resource(plugins.disabled())
    if load:
        from qcompiler import plugins

        for path in load:
            plugins.load_file(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the reader of the output has gone, 2 an error that the user can mend,
    130 interrupted.

    Args:
        arguments: the words after the program's name; those of this process by default.

    Raises:
        SystemExit: always, unless there is a bug in the compiler.
    """
    try:
        app(args=arguments, prog_name="qcompiler")
    except Exception as error:
        foreign = _foreign_module(error)
        error.add_note(_FOREIGN.format(foreign) if foreign else _BUG)
        raise error.with_traceback(_without_command_frames(error.__traceback__)) from error.__cause__


def _foreign_module(error: BaseException) -> str | None:
    """The innermost module in the traceback that registered something and is no part of qcompiler."""
    from qcompiler.registry import registries

    registered = {d.module.split(".")[0] for registry in registries() for d in registry.definitions().values()}
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    foreign = [m for m in modules if m.split(".")[0] in registered - {"qcompiler"}]
    return foreign[-1] if foreign else None


def _without_command_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the command on, without the frames of the library that parsed its arguments."""
    start = trace
    while start is not None and not start.tb_frame.f_globals.get("__name__", "").endswith("_command"):
        start = start.tb_next
    return start or trace
