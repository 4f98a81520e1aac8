"""How any number of samples is cut into runs of a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.sample_order import samples_in_order
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, SymbolicDim, Value, walk
from qcompiler.ir.dimension import sample_elements
from qcompiler.ops.constant import constant_value

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Run = Callable[[Feeds], dict[str, Array]]

_RUN_BYTES = 24 << 20
"""Samples run at a time are as many as keep the largest value below this."""


def run_in_batches(graph: Graph, feeds: Feeds, run: Run) -> dict[str, Array]:
    """Run a program on all samples, a few at a time where its outputs allow that.

    A program with a free batch is cut if every output has the samples along its first axis, one after the other. A
    program with a fixed batch is run as often as the samples fill it; the last run is filled up by repeating a sample.

    Args:
        graph: the program.
        feeds: checked inputs, samples along the first axis.
        run: runs the program once.

    Returns:
        Outputs by name, samples along the first axis.

    Raises:
        QCompilerError: inputs with different numbers of samples, or a number that the program's outputs do not allow.
    """
    if any(v.type.carries_batch for v in graph.inputs):
        return _run_free(graph, feeds, run)
    return _run_fixed(graph, feeds, run)


def _run_free(graph: Graph, feeds: Feeds, run: Run) -> dict[str, Array]:
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


def _run_fixed(graph: Graph, feeds: Feeds, run: Run) -> dict[str, Array]:
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
        name: array[:count] if constant_value(output.value) is None else array
        for (name, array), output in zip(_joined(graph, parts).items(), graph.outputs, strict=True)
    }


def _filled(rows: Array, count: int) -> Array:
    """``rows``, with the last one repeated up to ``count``."""
    last = rows[-1:] if len(rows) else np.zeros((1, *rows.shape[1:]), rows.dtype)
    return np.concatenate([rows, np.repeat(last, count - len(rows), 0)]) if len(rows) < count else rows


def _joined(graph: Graph, parts: list[dict[str, Array]]) -> dict[str, Array]:
    if len(parts) == 1:
        return parts[0]
    return {
        o.name: np.concatenate([p[o.name] for p in parts]) if constant_value(o.value) is None else parts[0][o.name]
        for o in graph.outputs
    }


def takes_samples(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether an array of ``shape`` holds samples for a graph input, any number of them along the first axis."""
    wanted = value.type.shape
    return len(shape) == len(wanted) and all(d == s for d, s in zip(wanted[1:], shape[1:], strict=True))


def fixed_rows(value: Value) -> int:
    """Rows of a graph input that one run takes; one where the batch is free."""
    leading = value.type.shape[0] if value.type.shape else 1
    return leading.coefficient if isinstance(leading, SymbolicDim) else leading
