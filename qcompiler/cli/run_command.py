"""``qcompiler run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli.model_options import ThreadsOption


def run_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A compiled program.")],
    data: Annotated[
        Path,
        typer.Option("--data", "-d", metavar="X.npz", help="Inputs: .npz with an array for each, or .npy for one."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="Y.npz", help="File for the outputs.")],
    quantized: Annotated[
        bool,
        typer.Option(
            "--quantized",
            help="Write the stored integers, not the real numbers they stand for; of block floating point "
            "NAME.mantissas and NAME.exponents.",
        ),
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend", metavar="NAME",
            help="What runs the program: reference, or native. By default native code where there is some.",
        ),
    ] = None,
    threads: ThreadsOption = 1,
) -> None:
    """Run a compiled program on any number of samples."""
    from qcompiler.cli.array_files import check_output_file, named_arrays, read_arrays, write_arrays
    from qcompiler.cli.terminal import print_table
    from qcompiler.program import load

    check_output_file(output)
    program = load(folder, native=backend != "reference")
    inputs = read_arrays(data)
    if isinstance(inputs, dict) and len(inputs) == len(program.graph.inputs) == 1:
        # As for calibration data: the only array is for the only input, whatever its name.
        inputs = next(iter(inputs.values()))
    outputs = named_arrays(program.run(inputs, quantized=quantized, backend=backend, threads=threads))
    write_arrays(output, outputs)
    print_table(
        [(name, str(array.dtype), "x".join(map(str, array.shape)) or "scalar") for name, array in outputs.items()],
        ("output", "type", "shape"), title=f"wrote {output}",
    )
