"""``qcompiler bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qcompiler.cli.terminal import print_table, progress_bars
from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qcompiler.benchmark import Contender, Times
    from qcompiler.native_code import NativeCode

    Array = NDArray[Any]

_NAME_LENGTH = 72


def bench_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A compiled program with native code.")],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="MODEL.onnx", help="Time ONNX Runtime on this model in the same rounds."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", metavar="X.npz",
            help="Inputs, of which the first sample is taken: .npz, or .npy for one input. Random numbers by default.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            "--threads", metavar="N", min=1, max=1024, help="Threads that run each op. Repeatable; 1 and 2 by default."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=1, help="Turns that each contender has.")] = 15,
    profile: Annotated[bool, typer.Option("--profile", help="Print where the time goes, by layer.")] = False,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Layers that the profile lists.")] = 20,
) -> None:
    """Time a compiled program's native code on one sample."""
    from qcompiler.benchmark import NativeProgram, OnnxRuntimeModel, measure, one_sample_of, random_sample
    from qcompiler.cli.array_files import read_arrays
    from qcompiler.program import load

    program = load(folder)
    native = program.native
    if native is None:
        raise QCompilerError(f"{folder} holds no native code", fix=f"build it: 'qcompiler native {folder}'")
    feeds = one_sample_of(program.graph, read_arrays(data)) if data else random_sample(program.graph)
    counts = list(dict.fromkeys(threads or (1, 2)))
    by_count: dict[int, list[Times]] = {}
    working: dict[int, int] = {}
    with progress_bars() as progress:
        for count in counts:
            ours = NativeProgram(native, feeds, count)
            working[count] = ours.threads
            contenders: list[Contender] = [ours]
            if against:
                contenders.append(OnnxRuntimeModel(against, feeds, count))
            by_count[count] = measure(contenders, rounds, progress)
    what = f"the first sample of {data}" if data else "random numbers"
    _print_times(by_count, working, f"one inference on {what}, batch 1, {native.cpu}")
    for count in counts if profile else ():
        _print_profile(native, feeds, count, top)


def _print_times(by_count: Mapping[int, Sequence[Times]], working: Mapping[int, int], title: str) -> None:
    """A row for each contender, ours with the threads that there were. Ratios are those of its time over ours."""
    rows = []
    compared = any(len(times) > 1 for times in by_count.values())
    for count, times in by_count.items():
        ours = times[0]
        for entry in times:
            threads = working[count] if entry is ours else count
            row = [str(threads), entry.contender.name, f"{entry.median:.3f}", f"{entry.minimum:.3f}"]
            if compared:
                row += [f"{entry.median / ours.median:.2f}", f"{entry.minimum / ours.minimum:.2f}"]
            rows.append(row)
    ratios = ("median / ours", "minimum / ours") if compared else ()
    print_table(rows, ("threads", "runs", "median ms", "minimum ms", *ratios), title=title)


def _print_profile(native: NativeCode, feeds: Mapping[str, Array], threads: int, top: int) -> None:
    from qcompiler.benchmark import profile_steps

    steps = sorted(profile_steps(native, feeds, threads), key=lambda step: -step.microseconds)
    rows = [(f"{s.microseconds:.1f}", f"{s.share:.1%}", _shortened(s.layers)) for s in steps[:top]]
    if len(steps) > top:
        rest = steps[top:]
        rows.append((f"{sum(s.microseconds for s in rest):.1f}", f"{sum(s.share for s in rest):.1%}",
                     f"{len(rest)} more"))
    title = f"where the time goes: {threads} thread{'s' if threads > 1 else ''}, {len(steps)} steps"
    print_table(rows, ("us", "share", "layers"), title=title)


def _shortened(text: str) -> str:
    return text if len(text) <= _NAME_LENGTH else f"{text[:_NAME_LENGTH - 3]}..."
