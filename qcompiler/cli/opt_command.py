"""``qcompiler opt``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qcompiler.cli.instrument_options import (
    CompareOption,
    CrashReproducerOption,
    DumpIROption,
    ExplainOption,
    InstrumentChoice,
    PrintAfterAllOption,
    PrintAfterChangeOption,
    PrintAfterOption,
    PrintBeforeAllOption,
    PrintBeforeOption,
    PrintOnFailureOption,
    TimeOption,
    VerifyEachOption,
)
from qcompiler.cli.model_options import BatchOption, ShapeOption, parse_shapes, refuse_shapes_of_program
from qcompiler.cli.program_files import read_named_program
from qcompiler.cli.split_input import SEPARATOR, split_programs
from qcompiler.cli.terminal import print_error, print_warning
from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Value
    from qcompiler.pipeline import Reproducer


def opt_command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A .qir program, an ONNX model, the folder of a compiled program or of a crash reproducer, "
            "or - for .qir text from stdin.",
        ),
    ],
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", "-p", help="Passes to run; a crash reproducer holds those that were left."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", metavar="NAME", help="A target, for passes that need one."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", metavar="DATA", help="Calibration data, for passes that need them."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="OUT.qir", help="Write here, constants beside; else print the text."),
    ] = None,
    split_input_file: Annotated[
        bool,
        typer.Option(
            "--split-input-file",
            help="FILE holds several .qir programs with lines '// -----' between; run the passes on each.",
        ),
    ] = False,
    batch: BatchOption = None,
    shape: ShapeOption = None,
    print_before: PrintBeforeOption = None,
    print_after: PrintAfterOption = None,
    print_before_all: PrintBeforeAllOption = False,
    print_after_all: PrintAfterAllOption = False,
    print_after_change: PrintAfterChangeOption = False,
    print_on_failure: PrintOnFailureOption = False,
    verify_each: VerifyEachOption = True,
    time: TimeOption = False,
    dump_ir: DumpIROption = None,
    crash_reproducer: CrashReproducerOption = None,
    compare: CompareOption = None,
    explain: ExplainOption = None,
) -> None:
    """Run passes on a program and print what they leave."""
    from qcompiler import plugins
    from qcompiler.calibration.data import open_data
    from qcompiler.pipeline import Context, Pipeline
    from qcompiler.target import load_target

    choice = InstrumentChoice(
        print_before, print_after, print_before_all, print_after_all, print_after_change, print_on_failure,
        verify_each, time, dump_ir, crash_reproducer, compare, explain,
    )
    plugins.load()
    if output is not None:
        _check_output(output)
    shapes = parse_shapes(shape)
    refuse_shapes_of_program(Path("stdin.qir" if file == "-" else file), batch, shapes)
    if split_input_file and output is not None:
        raise QCompilerError("several programs do not fit one file", fix="leave out --output; they are printed")
    if dump_ir is not None:
        _refuse_dumps(file, dump_ir, split_input_file)
    reproducer = None if split_input_file else _read_reproducer(file)
    if reproducer and pipeline is None:
        pipeline = reproducer.pipeline
    if pipeline is None:
        raise QCompilerError("no passes to run", fix='name them, as in -p "canonicalize,dce"')
    steps = Pipeline.parse(pipeline)
    chosen_target = load_target(target) if target is not None else reproducer.target if reproducer else None
    given: Path | Mapping[str, Any] | None = data if data is not None else reproducer.data if reproducer else None

    def transform(graph: Graph, names: Mapping[Value, str]) -> None:
        context = Context(chosen_target, None if given is None else open_data(given, graph))
        with choice.instruments(names) as instruments:
            graph = steps.run(graph, context, instruments)
        if output is None:
            typer.echo(str(graph), nl=False)
        else:
            _write_program(graph, output)
        for warning in context.warnings:
            print_warning(warning)

    if split_input_file:
        _transform_each(split_programs(_read_text(file)), transform)
    else:
        transform(*((reproducer.graph, {}) if reproducer else _read_program(file, batch, shapes)))


def _transform_each(texts: Sequence[str], transform: Callable[[Graph, Mapping[Value, str]], None]) -> None:
    """Run passes on each of several programs; one that is refused does not keep the others from theirs.

    Raises:
        typer.Exit: a program was refused.
    """
    refused = False
    for index, text in enumerate(texts):
        if index:
            typer.echo(f"\n{SEPARATOR}\n")
        try:
            transform(*_parse_program(text))
        except QCompilerError as error:
            print_error(str(error))
            refused = True
    if refused:
        raise typer.Exit(2)


def _read_text(file: str) -> str:
    """The text of a file, or of stdin for ``-``.

    Raises:
        QCompilerError: it cannot be read.
    """
    from qcompiler.ir.storage import read_program_text

    try:
        return sys.stdin.read() if file == "-" else read_program_text(Path(file))
    except UnicodeDecodeError as error:
        raise QCompilerError("the text on stdin is no UTF-8 text") from error


def _read_reproducer(file: str) -> Reproducer | None:
    """What a crash reproducer holds; None where ``file`` is none."""
    from qcompiler.pipeline import read_reproducer
    from qcompiler.pipeline.crash_reproducer import is_reproducer

    return read_reproducer(file) if is_reproducer(Path(file)) else None


def _read_program(
    file: str, batch: int | None, shapes: dict[str, tuple[int, ...]]
) -> tuple[Graph, Mapping[Value, str]]:
    """The program in a file, a folder or on stdin, and the names of its values.

    Raises:
        QCompilerError: it cannot be read, or is malformed.
    """
    return _parse_program(_read_text(file)) if file == "-" else read_named_program(Path(file), batch, shapes)


def _parse_program(text: str) -> tuple[Graph, Mapping[Value, str]]:
    from qcompiler.ir import parse_with_names, verify

    graph, names = parse_with_names(text)
    verify(graph)
    return graph, names


def _refuse_dumps(file: str, folder: Path, split_input_file: bool) -> None:
    """Refuse a folder for dumps in which they would take the place of the input, or of one another.

    Raises:
        QCompilerError: they would.
    """
    if split_input_file:
        raise QCompilerError("--dump-ir takes the dumps of one program", found="--split-input-file")
    if Path(file).resolve().parent == folder.resolve():
        raise QCompilerError(
            f"--dump-ir {str(folder)!r} holds the input {file!r}", found="dumps of an earlier run, which would go",
            fix="name another folder",
        )


def _check_output(path: Path) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        QCompilerError: its folder does not exist or is not writable, or its name is not that of a ``.qir`` file.
    """
    if path.suffix != ".qir" or path.is_dir():
        raise QCompilerError(f"output {str(path)!r} is no .qir file", fix=f"name it {path.name}.qir")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise QCompilerError(
            f"output {str(path)!r} is not writable", expected="a folder that exists and may be written",
            found=str(path.parent),
        )


def _write_program(graph: Graph, path: Path) -> None:
    """Write text and constants, both or none.

    Raises:
        QCompilerError: they cannot be written.
    """
    from qcompiler.ir import write_program

    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as staging:
            part = Path(staging) / path.name
            write_program(graph, part)
            # The constants first: text that cites constants which are not there could not be read.
            for written in (part.with_suffix(".safetensors"), part):
                written.replace(path.parent / written.name)
    except OSError as error:
        # The error itself names the folder that the files are made in.
        raise QCompilerError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
