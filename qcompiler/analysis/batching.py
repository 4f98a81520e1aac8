"""How any number of samples is cut into runs of a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.boundary import before_dequantize
from qcompiler.analysis.sample_order import samples_in_order
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockArray, BlockFloat, Graph, Output, Stored, SymbolicDim, Value, walk
from qcompiler.ir.dimension import sample_elements
from qcompiler.ops.constant import constant_value

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Outputs = Mapping[str, Stored]
Run = Callable[[Feeds], Outputs]

_RUN_BYTES = 24 << 20
"""Samples run at a time are as many as keep the largest value below this."""


def run_in_batches(graph: Graph, feeds: Feeds, run: Run) -> Outputs:
    """Run a program on all samples, a few at a time where its outputs allow that.

    A program with a free batch is cut if every output has the samples along its first axis, one after the other. A
    program with a fixed batch is run as often as the samples fill it; the last run is filled up by repeating a sample.

    Args:
        graph: the program.
        feeds: checked inputs, samples along the first axis.
        run: runs the program once; an output is an array, or mantissas and exponents.

    Returns:
        Outputs by name, samples along the first axis; exponents of the runs stand one after the other, as the
        mantissas do.

    Raises:
        QCompilerError: inputs with different numbers of samples, or a number that the program's outputs do not allow.
    """
    if any(v.type.carries_batch for v in graph.inputs):
        return _run_free(graph, feeds, run)
    return _run_fixed(graph, feeds, run)


def _run_free(graph: Graph, feeds: Feeds, run: Run) -> Outputs:
    batched = [v.name for v in graph.inputs if v.type.carries_batch]
    counts = {name: len(feeds[name]) for name in batched}
    if len(set(counts.values())) > 1:
        raise QCompilerError("inputs have different numbers of samples", found=str(counts))
    count = next(iter(counts.values()))
    outputs = [o.value for o in graph.outputs if constant_value(o.value) is None]
    if not all(v.type.shape and isinstance(v.type.shape[0], SymbolicDim) for v in outputs):
        return run(feeds)
    step = _samples_at_a_time(graph)
    if count > step and not samples_in_order(graph):
        return run(feeds)
    parts = [
        run({k: v[start : start + step] if k in batched else v for k, v in feeds.items()})
        for start in range(0, max(count, 1), step)
    ]
    return _joined(graph, parts)


def _samples_at_a_time(graph: Graph) -> int:
    largest = max((sample_elements(v.type.shape) for n in walk(graph) for v in n.results), default=1)
    return max(1, min(64, _RUN_BYTES // (8 * largest)))


def _run_fixed(graph: Graph, feeds: Feeds, run: Run) -> Outputs:
    rows = {v.name: fixed_rows(v) for v in graph.inputs if v.type.shape}
    runs = {name: len(feeds[name]) / count for name, count in rows.items()}
    if all(r == 1 for r in runs.values()):
        return run(feeds)
    batch = set(rows.values())
    outputs = [o for o in graph.outputs if constant_value(o.value) is None]
    cut = next((o for o in outputs if len(batch) > 1 or o.value.type.shape[:1] != (min(batch),)), None)
    if cut is not None or len(set(runs.values())) > 1:
        raise QCompilerError(
            "these samples do not fill the program's fixed batch",
            expected=", ".join(f"{count} for input {name!r}" for name, count in rows.items()),
            found=", ".join(f"{len(feeds[name])} for {name!r}" for name in rows),
            fix=f"run one batch at a time: output {cut.name!r} has no axis of samples" if cut else None,
        )
    (step,) = batch
    count = len(feeds[next(iter(rows))])
    parts = [
        run({k: _filled(v[start : start + step], step) for k, v in feeds.items()})
        for start in range(0, max(count, 1), step)
    ]
    return {
        name: _first_rows(output, stored, count, step) if constant_value(output.value) is None else stored
        for (name, stored), output in zip(_joined(graph, parts).items(), graph.outputs, strict=True)
    }


def _first_rows(output: Output, stored: Stored, count: int, step: int) -> Stored:
    """The rows of ``count`` samples in what runs of ``step`` samples gave."""
    if not isinstance(stored, BlockArray):
        return stored[:count]
    elem = before_dequantize(output.value).type.elem
    assert isinstance(elem, BlockFloat)
    length = elem.blocks[0]
    assert isinstance(length, int)
    # Blocks begin anew with each run.
    full, rest = divmod(count, step)
    exponents = full * math.ceil(step / length) + math.ceil(rest / length)
    return BlockArray(stored.mantissas[:count], stored.exponents[:exponents])


def _filled(rows: Array, count: int) -> Array:
    """``rows``, with the last one repeated up to ``count``."""
    last = rows[-1:] if len(rows) else np.zeros((1, *rows.shape[1:]), rows.dtype)
    return np.concatenate([rows, np.repeat(last, count - len(rows), 0)]) if len(rows) < count else rows


def _joined(graph: Graph, parts: list[Outputs]) -> Outputs:
    if len(parts) == 1:
        return parts[0]
    return {
        o.name: _rows([p[o.name] for p in parts]) if constant_value(o.value) is None else parts[0][o.name]
        for o in graph.outputs
    }


def _rows(parts: Sequence[Stored]) -> Stored:
    """What several runs gave, one after the other along the first axis."""
    blocks = [part for part in parts if isinstance(part, BlockArray)]
    if blocks:
        return BlockArray(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))
    return np.concatenate([part for part in parts if not isinstance(part, BlockArray)])


def takes_samples(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether an array of ``shape`` holds samples for a graph input, any number of them along the first axis."""
    wanted = value.type.shape
    return len(shape) == len(wanted) and all(d == s for d, s in zip(wanted[1:], shape[1:], strict=True))


def fixed_rows(value: Value) -> int:
    """Rows of a graph input that one run takes; one where the batch is free."""
    leading = value.type.shape[0] if value.type.shape else 1
    return leading.coefficient if isinstance(leading, SymbolicDim) else leading
