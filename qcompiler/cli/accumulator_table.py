"""``qcompiler inspect --accumulators``: how wide the sums of each contraction are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.terminal import print_table
from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.accumulator_report import AccumulatorRow
    from qcompiler.ir import Graph
    from qcompiler.target import Target

AccumulatorsOption = Annotated[
    bool,
    typer.Option(
        "--accumulators", help="Show how many bits the sums of each contraction need; on data too, with --data."
    ),
]
AccumulatorTargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", "-t", metavar="NAME",
        help="With --accumulators: whose accumulators are meant, a target or the path of a .toml descriptor; by "
        "default those of the program's target.",
    ),
]


def check_accumulator_options(
    accumulators: bool, target: str | None, value: str | None, text: bool, html: Path | None, against: Path | None
) -> None:
    """Refuse options that do not go together, before any work is done.

    Raises:
        QCompilerError: ``--target`` without ``--accumulators``, or ``--accumulators`` with another form of output.
    """
    if not accumulators:
        if target is not None:
            raise QCompilerError("--target belongs to --accumulators", fix="add --accumulators")
        return
    others = (("--value", value), ("--text", text or None), ("--html", html), ("--against", against))
    other = next((name for name, given in others if given is not None), None)
    if other:
        raise QCompilerError(f"--accumulators does not go with {other}", fix="leave one of them out")


def print_accumulators(graph: Graph, target: str | None, data: Path | None, as_json: bool) -> None:
    """Print a row for each quantized contraction.

    Args:
        graph: an integer program.
        target: the target as the user named it; None for that of the program.
        data: samples to measure sums on, or None.
        as_json: print JSON.

    Raises:
        QCompilerError: there is no such target, or the program cannot be run on the data.
    """
    from qcompiler.accumulator_report import report_accumulators
    from qcompiler.calibration.data import open_data

    rows = report_accumulators(graph, _target(graph, target), open_data(data, graph) if data else None)
    if as_json:
        typer.echo(json.dumps([row.as_dict() for row in rows], indent=2))
        return
    if not rows:
        typer.echo("no sums of products of integers with a scale")
        return
    header = ("layer", "op", "terms", "bits worst case", "bits calibrated", "bits of target", "how")
    print_table([_cells(row) for row in rows], header)


def _target(graph: Graph, named: str | None) -> Target | None:
    from qcompiler import plugins
    from qcompiler.target import load_target
    from qcompiler.target.loader import TARGETS

    plugins.load()
    if named is not None:
        return load_target(named)
    # The descriptor of a target of one's own is not kept in the program.
    return load_target(graph.target) if graph.target in TARGETS else None


def _cells(row: AccumulatorRow) -> tuple[str, ...]:
    has = "-" if row.accumulator_bits is None else str(row.accumulator_bits)
    if row.home_bits is not None:
        has += f", home {row.home_bits}"
    seen = "-" if row.calibrated_bits is None else str(row.calibrated_bits)
    return row.layer, row.op, str(row.terms), str(row.worst_case_bits), seen, has, row.how
