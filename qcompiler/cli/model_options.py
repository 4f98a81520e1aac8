"""Options that say how a model is read, shared by several commands."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.target import Target



class Fallback(StrEnum):
    """What becomes of a layer that the target lacks."""

    ERROR = "error"
    HOST = "host"


TargetOption = Annotated[
    str, typer.Option("--target", "-t", metavar="NAME", help="A target, or the path of a .toml descriptor.")
]
BatchOption = Annotated[int | None, typer.Option("--batch", metavar="N", help="Fix the batch to this size.")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape", metavar="NAME=1,3,224,224", help="Shape of an input that the model leaves open. Repeatable."
    ),
]
CpuOption = Annotated[
    str | None,
    typer.Option(
        "--cpu", metavar="NAME", help="Instruction set of native code; by default the best one that this machine runs."
    ),
]
TuneOption = Annotated[
    bool,
    typer.Option(
        "--tune", help="Measure which tiles are the fastest for its convolutions here. Later compilations use them too."
    ),
]
FallbackOption = Annotated[
    Fallback | None,
    typer.Option("--fallback", help="What becomes of layers that the target lacks, in place of what the target says."),
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", metavar="N", min=1, max=1024, help="Threads that run native code.")
]


def target_with_fallback(name: str, fallback: Fallback | None) -> str | Target:
    """The target that ``--target`` names, with the entry ``fallback`` that ``--fallback`` gives, where it gives one.

    Raises:
        QCompilerError: there is no such target.
    """
    if fallback is None:
        return name
    from qcompiler import plugins
    from qcompiler.target import load_target

    plugins.load()
    return load_target(name).with_fallback(fallback.value)


def parse_shapes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """The shapes that ``--shape`` options give, by input name.

    Raises:
        QCompilerError: malformed text, or an input named twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        # A name may hold "=", a shape may not.
        name, separator, sizes = text.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not separator or not name or not shape:
            raise QCompilerError(
                f"malformed --shape {text!r}", expected="NAME=1,3,224,224: an input, '=' and whole numbers",
                fix="'qcompiler inspect MODEL' lists the inputs",
            )
        if name in shapes:
            raise QCompilerError(f"--shape is given twice for input {name!r}")
        shapes[name] = shape
    return shapes


def refuse_shapes_of_program(model: Path, batch: int | None, shapes: dict[str, tuple[int, ...]]) -> None:
    """``.qir`` programs have their shapes already.

    Raises:
        QCompilerError: ``model`` is one and options would change its shapes.
    """
    if (model.is_dir() or model.suffix == ".qir") and (shapes or batch is not None):
        raise QCompilerError(
            f"--shape and --batch do not apply to {str(model)!r}, which has its shapes already",
            fix="leave them out, or give the ONNX model",
        )
