"""``qcompiler compile``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
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
from qcompiler.cli.model_options import (
    BatchOption,
    CpuOption,
    FallbackOption,
    ShapeOption,
    TargetOption,
    TuneOption,
    parse_shapes,
    refuse_shapes_of_program,
    target_with_fallback,
)
from qcompiler.cli.terminal import counted, print_table, print_warning, progress_bars, readable_size
from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.program import Program


def compile_command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file, or a .qir program to go on from.")],
    target: TargetOption,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the compiled program.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", metavar="DATA",
            help="Calibration data: .npz with an array for each input, .npy, or a folder of such files.",
        ),
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", "-p", help="Passes to run instead of the target's own.")
    ] = None,
    batch: BatchOption = None,
    shape: ShapeOption = None,
    fallback: FallbackOption = None,
    check_float: Annotated[
        bool, typer.Option("--check-float", help="Check that the program without quantization equals the model.")
    ] = False,
    native: Annotated[
        bool | None,
        typer.Option(
            "--native/--no-native",
            help="Compile native code; by default where the target is a processor, and with --cpu.",
        ),
    ] = None,
    cpu: CpuOption = None,
    tune: TuneOption = False,
    print_before: PrintBeforeOption = None,
    print_after: PrintAfterOption = None,
    print_before_all: PrintBeforeAllOption = False,
    print_after_all: PrintAfterAllOption = False,
    print_after_change: PrintAfterChangeOption = False,
    print_on_failure: PrintOnFailureOption = False,
    verify_each: VerifyEachOption = False,
    time: TimeOption = False,
    dump_ir: DumpIROption = None,
    crash_reproducer: CrashReproducerOption = None,
    compare: CompareOption = None,
    explain: ExplainOption = None,
) -> None:
    """Compile a float model to a program that holds nothing but what a target can do."""
    choice = InstrumentChoice(
        print_before, print_after, print_before_all, print_after_all, print_after_change, print_on_failure,
        verify_each, time, dump_ir, crash_reproducer, compare, explain,
    )
    shapes = parse_shapes(shape)
    refuse_shapes_of_program(model, batch, shapes)
    _refuse_in_output(output, "--dump-ir", dump_ir)
    _refuse_in_output(output, "--crash-reproducer", crash_reproducer)
    from qcompiler.compilation import compile
    from qcompiler.pipeline import silent
    from qcompiler.program import check_output_folder

    check_output_folder(output)
    # A progress bar among printed programs would garble both.
    bars = nullcontext(silent) if choice.prints else progress_bars()
    with choice.instruments() as instruments, bars as progress:
        program = compile(
            model, target=target_with_fallback(target, fallback), data=data, pipeline=pipeline, batch=batch,
            shapes=shapes, check_float=check_float, native=native, cpu=cpu, tune=tune, instruments=instruments,
            progress=progress,
        )
    program.save(output)
    print_table(_summary(program, output, dump_ir))
    for warning in program.warnings:
        print_warning(warning)


def _refuse_in_output(output: Path, option: str, folder: Path | None) -> None:
    if folder is not None and folder.resolve().is_relative_to(output.resolve()):
        raise QCompilerError(
            f"{option} {str(folder)!r} lies in the output folder", found=f"--output {str(output)!r}",
            fix="a failed compilation leaves this folder but no output: name one beside it",
        )


def _summary(program: Program, output: Path, dumps: Path | None) -> list[tuple[str, str]]:
    figures = program.figures
    rows = [
        ("target", program.graph.target),
        ("layers", str(figures["layers"])),
        ("ops", counted(figures["ops"]) or "none"),
        ("constants", f"{readable_size(figures['bytes_before'])} -> {readable_size(figures['bytes_after'])}"),
        *_errors(figures),
        ("on the host", f"{_share(figures['host_nodes'], figures['nodes'])} of nodes, "
                        f"{_share(figures['host_macs'], figures['macs'])} of multiplications"),
    ]
    rows.extend(
        ("", f"{node['layer'] or 'added by the compiler'}: {node['op']}, since {node['constraint']}")
        for node in figures["host"]
    )
    if figures["crossings"]:
        rows.append(("crossings", f"{len(figures['crossings'])} values pass between target and host"))
        rows.extend(("", _crossing(crossing)) for crossing in figures["crossings"])
    if "check_float" in figures:
        checked = figures["check_float"]
        rows.append(("float check", f"passed: {_decibels(checked['bypassed_db'])} without quantization, "
                                    f"{_decibels(checked['wide_db'])} at 32 bits"))
    if program.native is not None:
        rows.append(("native code", program.native.cpu))
    rows.append(("warnings", str(len(figures["warnings"])) if figures["warnings"] else "none"))
    rows.append(("program", str(output)))
    if dumps is not None:
        rows.append(("IR dumps", str(dumps)))
    return rows


def _crossing(crossing: dict[str, Any]) -> str:
    layer = crossing["layer"] or "added by the compiler"
    value = f"{crossing['value']} " if crossing["value"] else ""
    return f"{crossing['direction']}, behind {layer}: {value}{crossing['type']}, {readable_size(crossing['bytes'])}"


def _errors(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A row for each output: how far the program lies from float."""
    for name, decibels in figures.get("sqnr_db", {}).items():
        text = f"SQNR {_decibels(decibels)}"
        if name in figures["agreement"]:
            text += f" and class agreement {figures['agreement'][name]:.1%}"
        yield f"output {name}", f"{text} with float, on {figures['samples']} calibration samples"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else "exact" if value > 0 else "no signal"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} ({part} of {whole})" if whole else "none"
