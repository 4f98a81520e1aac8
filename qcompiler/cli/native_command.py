"""``qcompiler native``."""

from __future__ import annotations

import re
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli.model_options import CpuOption, TuneOption
from qcompiler.cli.terminal import print_table, progress_bars, readable_size
from qcompiler.errors import QCompilerError


class Kind(StrEnum):
    """What native code is packed into."""

    SHARED = "shared"
    STATIC = "static"
    OBJECTS = "objects"


def native_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A compiled program.")],
    cpu: CpuOption = None,
    triple: Annotated[
        str | None,
        typer.Option(
            "--triple", metavar="TRIPLE", help="Another machine, as LLVM names it: aarch64-linux-gnu. By default this."
        ),
    ] = None,
    processor: Annotated[
        str | None,
        typer.Option("--processor", metavar="NAME", help="That machine's processor, as LLVM names it: cortex-m55."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(
            "--kind", help="A shared library within DIR; a static one for C; or object files and sources, to be built "
            "elsewhere.",
        ),
    ] = Kind.SHARED,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR2", help="Folder for a static library or objects.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The program's name in C; by default that of DIR.")
    ] = None,
    tune: TuneOption = False,
    no_threads: Annotated[
        bool, typer.Option("--no-threads", help="For a static library or objects: do without POSIX threads.")
    ] = False,
) -> None:
    """Build the native code of a compiled program, again or for another machine."""
    if kind is Kind.SHARED:
        _refuse_for_shared(output, name, no_threads=no_threads, processor=processor)
    elif output is None:
        raise QCompilerError(f"--kind {kind} needs a folder to write to", fix="--output DIR2")
    from qcompiler.backends.tvm.kernel_cache import KernelCache
    from qcompiler.backends.tvm.selection import select_instruction_set
    from qcompiler.program import load

    start = time.perf_counter()
    program = load(folder, native=False)
    cache = KernelCache()
    isa = select_instruction_set(cpu, triple, processor)
    with progress_bars() as progress:
        if output is None:
            program.build_native(isa, progress, cache, tune=tune)
            program.save(folder)
            files = [] if program.native is None else [folder / p.name for p in program.native.libraries]
        else:
            from qcompiler.backends.tvm.ahead_of_time import write_objects, write_static_library
            from qcompiler.backends.tvm.tile_tuning import tune_tiles

            if tune:
                tune_tiles(program.graph, isa, cache=cache, progress=progress)
            write = write_static_library if kind is Kind.STATIC else write_objects
            called = _c_name(folder.resolve().name if name is None else name, given=name is not None)
            files = write(
                program.graph, output, isa, called, threads=not no_threads, cache=cache, progress=progress
            )
    untried = "" if isa.executed else ", never run on such a processor by qcompiler's own tests"
    rows = [("instruction set", f"{isa.name}{untried}")]
    if triple is not None:
        rows.append(("machine", triple if processor is None else f"{triple}, {processor}"))
    rows += [
        ("kernels", f"{cache.compiled} compiled, {cache.found} from the cache"),
        ("size", readable_size(sum(file.stat().st_size for file in files))),
        ("time", f"{time.perf_counter() - start:.1f} s"),
    ]
    shown = [file for file in files if file.parent in (folder, output)]
    inner = len(files) - len(shown)
    rows += [("files" if i == 0 else "", str(file)) for i, file in enumerate(shown)]
    if inner:
        rows.append(("", f"and {inner} kernels"))
    print_table(rows)


def _refuse_for_shared(output: Path | None, name: str | None, *, no_threads: bool, processor: str | None) -> None:
    given = {
        "--output": output is not None, "--name": name is not None, "--no-threads": no_threads,
        "--processor": processor is not None,
    }
    for option in (option for option, is_given in given.items() if is_given):
        raise QCompilerError(
            f"{option} does not apply to a shared library, which goes into the compiled program's folder",
            fix=f"leave out {option}, or say --kind static or --kind objects",
        )


def _c_name(text: str, *, given: bool) -> str:
    """A C identifier.

    Args:
        text: what it is made of.
        given: whether the user chose it; it is then taken as it is.

    Raises:
        QCompilerError: it is none.
    """
    name = text if given else re.sub(r"\W", "_", text, flags=re.ASCII)
    # Names that begin so are the runtime's.
    is_free = not name.startswith("qcompiler")
    if not given and not (re.match("[A-Za-z]", name) and is_free):
        name, is_free = f"program_{name}", True
    if not re.fullmatch(r"[A-Za-z]\w*", name, flags=re.ASCII) or not is_free:
        raise QCompilerError(
            f"--name {text!r} cannot be used in C", expected="letters, digits and underscores, a letter first; "
            "names that begin with 'qcompiler' are the runtime's",
        )
    return name
