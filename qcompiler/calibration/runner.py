"""Runs the float program on calibration data and lets observers watch, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qcompiler.backends.ort import Bypass, FloatSession
from qcompiler.calibration.observers import Observer
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, SymbolicDim, Value
from qcompiler.ir.dimension import sample_elements
from qcompiler.pipeline import CalibrationSource, Progress

_ACTIVATION_BYTES = 64 << 20
"""Batches are as large as lets the watched values of one batch fit in this."""


def batch_size(graph: Graph, watched: Sequence[Value]) -> int:
    """Samples run at a time: the program's own batch, or what memory allows if that is free."""
    for value in graph.inputs:
        if value.type.shape and not isinstance(value.type.shape[0], SymbolicDim):
            return int(value.type.shape[0])
    sample = 4 * sum(sample_elements(v.type.shape) for v in watched)
    return max(1, min(32, _ACTIVATION_BYTES // max(sample, 1)))


def observe(
    graph: Graph, watched: Sequence[Value], observers: Sequence[Observer], data: CalibrationSource, progress: Progress
) -> None:
    """Run ``graph`` without quantization and show each watched value to its observer.

    Raises:
        QCompilerError: there are no samples, or a value becomes NaN or infinite; names the layer.
    """
    total = len(data)
    if not total:
        raise QCompilerError("the calibration data holds no samples", fix="give at least one; 100 are usual")
    session = FloatSession(graph, watched, bypass=Bypass(weights=True, activations=True))
    done = 0
    for feeds in data.batches(batch_size(graph, watched)):
        arrays = session.run(feeds)
        for value, observer, array in zip(watched, observers, arrays, strict=True):
            observer.update(array)
            if not all(map(math.isfinite, observer.interval())):
                raise _not_finite(value, done)
        done += len(next(iter(feeds.values())))
        progress("calibrate", done, total)


def _not_finite(value: Value, sample: int) -> QCompilerError:
    layer = value.producer.layer if value.producer else None
    name = getattr(value.origin, "name", None)
    return QCompilerError(
        f"calibration: value {name or 'of this layer'!r} becomes NaN or infinite", layer=layer,
        found=f"in or after sample {sample}", fix="check the model on this sample in float",
    )
