"""What values of a program hold when it runs on samples, and how far that is from float."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.real_numbers import real_numbers
from qcompiler.analysis.value_description import HeldNumbers, held_numbers
from qcompiler.backends.ort import FloatSession
from qcompiler.calibration.data import CalibrationData
from qcompiler.compare import (
    ValueDifference,
    activations,
    check_float_original,
    compare,
    in_original_terms,
    is_limited,
    run_values,
    sqnr_db,
    within_range,
)
from qcompiler.ir import Graph, Original, Tensor, Value
from qcompiler.ops.constant import constant_value

Array = NDArray[Any]

SAMPLES = 64
"""At most so many samples are run."""
_BATCH = 8
_NOT_FLOAT = "give the ONNX model, or leave it out"


@dataclass(frozen=True)
class MeasuredValue:
    """What a value held.

    Attributes:
        samples: how many samples were run.
        numbers: the figures of the value's numbers on all of them.
        sqnr_db: SQNR to the original value in dB, infinite where they are equal; None where there is no original.
        max_error: largest absolute difference to the original value; None where there is no original.
    """

    samples: int
    numbers: HeldNumbers
    sqnr_db: float | None = None
    max_error: float | None = None


def measure_values(
    graph: Graph, values: Sequence[Value], data: CalibrationData, original: Graph | None = None
) -> dict[Value, MeasuredValue]:
    """Run a program on samples and look at some of its values.

    Args:
        graph: a program at any stage.
        values: computed values of it, those in fused bodies too; constants are left out.
        data: samples, of which at most :data:`SAMPLES` are run.
        original: the float program to compare with.

    Raises:
        QCompilerError: the program cannot be run, or ``original`` is not float or has other inputs.
    """
    if original is not None:
        check_float_original(original, graph, _NOT_FLOAT)
    wanted = [v for v in values if constant_value(v) is None]
    runs = list(_runs(data))
    held = [run_values(graph, wanted, feeds) for feeds in runs]
    originals = _originals(original, wanted, runs) if original is not None else {}
    count = sum(len(next(iter(feeds.values()), ())) for feeds in runs)
    found = {}
    for value in wanted:
        tensors = [run[value] for run in held]
        expected = originals.get(value)
        errors = _errors(value, tensors, expected) if expected is not None else (None, None)
        found[value] = MeasuredValue(count, held_numbers(tensors), *errors)
    return found


def recovered_values(original: Graph, graph: Graph, data: CalibrationData, name: str) -> list[ValueDifference]:
    """Differences of a value that ``graph`` does not hold but that follows from others; see :mod:`qcompiler.compare`.

    Raises:
        QCompilerError: ``original`` is not float or has other inputs.
    """
    check_float_original(original, graph, _NOT_FLOAT)
    return [d for d in compare(original, graph, data.first(_BATCH)) if d.name == name and d.recovered]


def _runs(data: CalibrationData) -> Iterator[Mapping[str, Array]]:
    count = 0
    for feeds in data.batches(_BATCH):
        yield feeds
        count += len(next(iter(feeds.values()), ()))
        if count >= SAMPLES:
            return


def _originals(
    original: Graph, values: Sequence[Value], runs: Sequence[Mapping[str, Array]]
) -> dict[Value, list[Array]]:
    """What the originals of values hold, run by run."""
    known = activations(original)
    pairs = [(v, known[v.origin.name]) for v in values if isinstance(v.origin, Original) and v.origin.name in known]
    if not pairs:
        return {}
    fetched = list(dict.fromkeys(source for _, source in pairs))
    session = FloatSession(original, fetched)
    held = [dict(zip(fetched, session.run(feeds), strict=True)) for feeds in runs]
    return {value: [run[source] for run in held] for value, source in pairs}


def _errors(value: Value, tensors: Sequence[Tensor], expected: Sequence[Array]) -> tuple[float, float]:
    """SQNR and largest error of a value against its original; as in :func:`qcompiler.compare.compare`, a value that
    is stored within the range of an activation is compared with its original in that range."""
    found, wanted = [], []
    for tensor, array in zip(tensors, expected, strict=True):
        found.append(in_original_terms(value, real_numbers(tensor)).reshape(-1))
        wanted.append((within_range(value, array) if is_limited(value) else array).reshape(-1))
    first, second = np.concatenate(wanted), np.concatenate(found)
    return sqnr_db(first, second), float(np.abs(first.astype(np.float64) - second).max(initial=0))
