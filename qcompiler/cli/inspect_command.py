"""``qcompiler inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qcompiler.cli.accumulator_table import (
    AccumulatorsOption,
    AccumulatorTargetOption,
    check_accumulator_options,
    print_accumulators,
)
from qcompiler.cli.graph_page import AgainstOption, DataOption, HtmlOption, check_page_options, write_graph_page
from qcompiler.cli.model_options import BatchOption, ShapeOption, parse_shapes, refuse_shapes_of_program
from qcompiler.cli.program_files import read_named_program
from qcompiler.cli.terminal import counted, print_table, readable_size
from qcompiler.cli.value_report import JsonOption, ValueOption, check_value_options, report_value

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Node, Value


def inspect_command(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="The folder of a compiled program or of a crash reproducer, an ONNX or a .qir file."
        ),
    ],
    text: Annotated[bool, typer.Option("--text", help="Print the .qir text instead.")] = False,
    batch: BatchOption = None,
    shape: ShapeOption = None,
    value: ValueOption = None,
    as_json: JsonOption = False,
    html: HtmlOption = None,
    against: AgainstOption = None,
    data: DataOption = None,
    accumulators: AccumulatorsOption = False,
    target: AccumulatorTargetOption = None,
) -> None:
    """Show a program: inputs and outputs, ops, sizes, and every node with its layer and type; or one value."""
    shapes = parse_shapes(shape)
    refuse_shapes_of_program(path, batch, shapes)
    check_accumulator_options(accumulators, target, value, text, html, against)
    if accumulators:
        print_accumulators(read_named_program(path, batch, shapes)[0], target, data, as_json)
        return
    check_value_options(value, as_json, text, html, against, data)
    if value is None:
        check_page_options(html, against, data)

    def read(place: Path) -> Graph:
        # Sizes are for models that leave them open.
        is_text = place.suffix == ".qir"
        return read_named_program(place)[0] if is_text else read_named_program(place, batch, shapes)[0]

    graph, names = read_named_program(path, batch, shapes)
    if value is not None:
        report_value(graph, names, value, data, read(against) if against else None, as_json)
    elif html is not None:
        write_graph_page(html, path, graph, against, data, read)
    elif text:
        typer.echo(str(graph), nl=False)
    else:
        _print_program(path, graph, names)


def _print_program(path: Path, graph: Graph, names: Mapping[Value, str]) -> None:
    from qcompiler.analysis.boundary import before_dequantize, behind_quantize

    print_table(_header(path, graph))
    typer.echo()
    boundary = [("input", v.name, str(v.type), _held(v, behind_quantize(v))) for v in graph.inputs]
    outputs = [(o.name, o.value) for o in graph.outputs]
    boundary += [("output", name, str(v.type), _held(v, before_dequantize(v))) for name, v in outputs]
    print_table(boundary, ("", "name", "type", "stored as"))
    typer.echo()
    nodes = [
        (", ".join(names[v] for v in node.results), _op(node), " + ".join(node.loc),
         ", ".join(str(v.type) for v in node.results))
        for node in graph.nodes if node.op.name != "constant"
    ]
    print_table(nodes, ("value", "op", "layer", "type"))


def _header(path: Path, graph: Graph) -> list[tuple[str, str]]:
    from qcompiler.analysis.cost import constant_bytes, count_ops, measure_coverage

    coverage = measure_coverage(graph)
    rows = [("program", graph.name), ("read from", str(path))]
    if graph.target:
        rows.append(("target", graph.target))
    if graph.pipeline:
        rows.append(("pipeline", graph.pipeline))
    files = [f for f in path.iterdir() if f.is_file()] if path.is_dir() else [path]
    return [
        *rows,
        ("ops", counted(count_ops(graph)) or "none"),
        ("nodes", str(coverage.nodes)),
        ("multiplications", f"{coverage.macs:,} a sample"),
        ("constants", readable_size(constant_bytes(graph))),
        ("files", ", ".join(f"{f.name} {readable_size(f.stat().st_size)}" for f in sorted(files))),
    ]


def _held(value: Value, stored: Value) -> str:
    from qcompiler.ir import BlockFloat
    from qcompiler.ir.dimension import format_shape
    from qcompiler.ir.types import block_float_grid

    if stored is value:
        return "the same"
    elem = stored.type.elem
    if not isinstance(elem, BlockFloat):
        return str(stored.type)
    grid = format_shape(block_float_grid(stored.type.shape, elem.blocks))
    return f"{stored.type}: {elem.storage}{format_shape(stored.type.shape)} mantissas, i32{grid} exponents"


def _op(node: Node) -> str:
    """The op's name; for a fused kernel, those of its parts."""
    from qcompiler.ops.fused import Fused

    if not isinstance(node.op, Fused):
        return node.op.name
    return "fused(" + ", ".join(part.op.name for part in node.op.body.nodes) + ")"
