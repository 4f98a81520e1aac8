"""``qcompiler inspect --value``: everything about one value."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qcompiler.cli.terminal import print_table
from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.analysis.number_summary import Histogram, NumberSummary
    from qcompiler.analysis.value_description import (
        BlockDescription,
        HeldNumbers,
        QuantizationDescription,
        Spread,
        ValueDescription,
    )
    from qcompiler.compare import ValueDifference
    from qcompiler.ir import Graph, Value
    from qcompiler.value_measurement import MeasuredValue

ValueOption = Annotated[
    str | None,
    typer.Option(
        "--value", metavar="NAME",
        help="Show one value: its name in the text such as %17, an original value, an input, an output or a layer.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="With --value or --accumulators: print JSON, for machines.")]

_BAR = 40
Row = tuple[str, str]


def check_value_options(
    value: str | None, as_json: bool, text: bool, html: Path | None, against: Path | None, data: Path | None
) -> None:
    """Refuse options that do not go together, before any work is done.

    Raises:
        QCompilerError: ``--json`` without ``--value``, ``--value`` with another form of output, ``--against`` without
            ``--data``.
    """
    if value is None:
        if as_json:
            raise QCompilerError("--json belongs to --value or --accumulators", fix="add --value NAME")
        return
    if text or html is not None:
        raise QCompilerError(f"--value does not go with {'--text' if text else '--html'}", fix="leave one of them out")
    if against is not None and data is None:
        raise QCompilerError("--against needs samples to compare on", fix="add --data X.npz")


def report_value(
    graph: Graph, names: Mapping[Value, str], wanted: str, data: Path | None, original: Graph | None, as_json: bool
) -> None:
    """Print everything about the values that ``wanted`` names.

    Args:
        graph: the program.
        names: the name of each value in the text.
        wanted: what the user calls the value.
        data: samples to run, or None.
        original: the float program to compare with, or None; needs ``data``.
        as_json: print JSON.

    Raises:
        QCompilerError: there is no such value, or the program cannot be run on the data.
    """
    from qcompiler.analysis.value_description import describe_value
    from qcompiler.analysis.value_lookup import find_values

    recovered = _recovered(graph, wanted, data, original)
    values = [] if recovered else find_values(graph, names, wanted)
    measured = _measured(graph, values, data, original)
    descriptions = [(describe_value(graph, value, names), measured.get(value)) for value in values]
    if as_json:
        entries = [{**dataclasses.asdict(d), "measured": dataclasses.asdict(m) if m else None} for d, m in descriptions]
        typer.echo(json.dumps(_finite(entries + [dataclasses.asdict(r) for r in recovered]), indent=2))
        return
    for index, (description, held) in enumerate(descriptions):
        if index:
            typer.echo()
        _print_value(description, held)
    for difference in recovered:
        print_table([
            ("value", difference.name), ("held", "no: it follows from the values that the program holds"),
            ("layer", difference.layer), *_error_rows(difference.sqnr_db, difference.max_error),
        ])


def _recovered(graph: Graph, wanted: str, data: Path | None, original: Graph | None) -> list[ValueDifference]:
    """The difference of an original value that the program does not hold but that follows from others."""
    if data is None or original is None:
        return []
    from qcompiler.calibration.data import open_data
    from qcompiler.value_measurement import recovered_values

    return recovered_values(original, graph, open_data(data, graph), wanted)


def _measured(
    graph: Graph, values: list[Value], data: Path | None, original: Graph | None
) -> Mapping[Value, MeasuredValue]:
    if data is None or not values:
        return {}
    from qcompiler.calibration.data import open_data
    from qcompiler.value_measurement import measure_values

    return measure_values(graph, values, open_data(data, graph), original)


def _print_value(description: ValueDescription, measured: MeasuredValue | None) -> None:
    rows: list[Row] = [
        ("value", description.name), ("type", description.type), ("op", description.op),
        ("layer", " + ".join(description.layers) or "none"), ("original", description.origin),
        ("used by", ", ".join(description.users) or "nothing"),
    ]
    if description.kernel:
        rows.append(("inside of", description.kernel))
    if description.quantization:
        rows.extend(_quantization_rows(description.quantization))
    if description.block:
        rows.extend(_block_rows(description.block))
    if description.constant:
        rows.extend(_number_rows(description.constant))
    if measured:
        rows.append(("measured on", f"{measured.samples} samples"))
        rows.extend(_number_rows(measured.numbers))
        rows.extend(_error_rows(measured.sqnr_db, measured.max_error))
    print_table(rows)
    numbers = measured.numbers if measured else description.constant
    if numbers:
        _print_histograms(numbers, description.quantization)
    if description.text:
        typer.echo(f"\n{description.text}")


def _quantization_rows(quantization: QuantizationDescription) -> Iterator[Row]:
    yield "stored as", f"{quantization.storage}, {quantization.qmin} to {quantization.qmax}"
    if quantization.blocks:
        yield "blocks", f"{quantization.scale.count} of {quantization.blocks}"
    yield "scale (step)", _spread_text(quantization.scale)
    yield "zero point", _spread_text(quantization.zero_point)
    yield "real range", f"{_text(quantization.real_minimum)} to {_text(quantization.real_maximum)}"


def _block_rows(block: BlockDescription) -> Iterator[Row]:
    yield "stored as", f"{block.storage} mantissas, {block.smallest} to {block.largest}, and exponents"
    yield "format", block.format
    yield "blocks", f"of {block.blocks}"
    if block.fixed_exponents is None:
        yield "exponents", f"found at run time, {block.lowest_exponent} to {block.highest_exponent}"
    else:
        yield "exponents", f"fixed: {_spread_text(block.fixed_exponents)}"


def _spread_text(spread: Spread) -> str:
    if spread.minimum == spread.maximum:
        return repr(spread.minimum).removesuffix(".0")
    return f"{_text(spread.minimum)} to {_text(spread.maximum)}, median {_text(spread.median)}"


def _number_rows(held: HeldNumbers) -> Iterator[Row]:
    real, stored = held.real, held.stored
    yield "numbers", str(real.count)
    if real.not_finite:
        yield "infinite or NaN", str(real.not_finite)
    yield "range", _range_text(real)
    if stored is not None:
        yield "stored range" if held.exponents is None else "mantissas", _range_text(stored)
    if held.exponents is not None:
        yield "block exponents", f"{held.exponents.count}, {_range_text(held.exponents)}"
    yield "zeros", f"{real.zeros:.1%}"
    if held.at_minimum is not None and held.at_maximum is not None:
        yield "at the ends", f"{held.at_minimum:.1%} at the lowest integer, {held.at_maximum:.1%} at the highest"


def _range_text(numbers: NumberSummary) -> str:
    if numbers.minimum is None or numbers.maximum is None or numbers.mean is None:
        return "none"
    return f"{_text(numbers.minimum)} to {_text(numbers.maximum)}, mean {_text(numbers.mean)}"


def _error_rows(sqnr_db: float | None, max_error: float | None) -> Iterator[Row]:
    if sqnr_db is not None and max_error is not None:
        text = f"{sqnr_db:.1f} dB" if math.isfinite(sqnr_db) else "exact" if sqnr_db > 0 else "no signal"
        yield "SQNR to float", text
        yield "largest error", _text(max_error)


def _print_histograms(held: HeldNumbers, quantization: QuantizationDescription | None) -> None:
    if held.stored is not None and held.exponents is not None:
        _print_histogram("mantissas", held.stored.histogram, _stored_label)
        _print_histogram("block exponents", held.exponents.histogram, _stored_label)
        _print_histogram("real numbers", held.real.histogram, _real_label)
    elif held.stored is None or quantization is None:
        _print_histogram("numbers", held.real.histogram, _real_label)
    elif quantization.scale.count > 1:
        _print_histogram("stored integers", held.stored.histogram, _stored_label)
        _print_histogram("real numbers", held.real.histogram, _real_label)
    else:
        scale, zero_point = quantization.scale.minimum, quantization.zero_point.minimum

        def label(low: float, high: float) -> str:
            ends = (scale * (low - zero_point), scale * (high - 1 - zero_point))
            return f"{_stored_label(low, high)}: {' to '.join(dict.fromkeys(map(_text, ends)))}"

        _print_histogram("stored integers: real numbers", held.stored.histogram, label)


def _print_histogram(title: str, histogram: Histogram, label: Callable[[float, float], str]) -> None:
    if not histogram.counts:
        return
    total, largest = sum(histogram.counts), max(histogram.counts)
    rows = []
    for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        rows.append((label(low, high), f"{count / total:.1%}", "#" * round(_BAR * count / largest)))
    typer.echo()
    print_table(rows, (title, "share", ""))


def _stored_label(low: float, high: float) -> str:
    return f"{low:.0f}" if high - low <= 1 else f"{low:.0f} to {high - 1:.0f}"


def _real_label(low: float, high: float) -> str:
    return f"{_text(low)} to {_text(high)}"


def _text(number: float) -> str:
    return f"{number:.6g}"


def _finite(value: Any) -> Any:
    """``value`` with infinities and NaN, which JSON lacks, as null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
