"""One sample to run a program on: the first of the user's, or random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.batching import fixed_rows, takes_samples
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Value
from qcompiler.ir.dimension import bind_dim

Array = NDArray[Any]


def one_sample_of(graph: Graph, arrays: Mapping[str, Array] | Array) -> dict[str, Array]:
    """The first sample of each input.

    Args:
        graph: a program.
        arrays: an array for each input, samples along the first axis; one array for a program with one input.

    Raises:
        QCompilerError: an input is missing or unknown, or its array does not fit.
    """
    if isinstance(arrays, np.ndarray) or (len(arrays) == len(graph.inputs) == 1):
        if len(graph.inputs) != 1:
            names = ", ".join(v.name for v in graph.inputs)
            raise QCompilerError("one array for several inputs", fix=f"give an array for each: {names}")
        only = arrays if isinstance(arrays, np.ndarray) else next(iter(arrays.values()))
        arrays = {graph.inputs[0].name: only}
    unknown = set(arrays) - {v.name for v in graph.inputs}
    if unknown:
        raise QCompilerError(
            f"the program has no input {min(unknown)!r}", expected=", ".join(v.name for v in graph.inputs)
        )
    return {v.name: _first_of(v, arrays) for v in graph.inputs}


def _first_of(value: Value, arrays: Mapping[str, Array]) -> Array:
    if value.name not in arrays:
        raise QCompilerError(f"input {value.name!r} is missing", found=", ".join(arrays) or "no inputs")
    array = arrays[value.name]
    rows = fixed_rows(value)
    fits = takes_samples(value, array.shape) and (not array.ndim or array.shape[0] >= rows)
    if array.dtype != value.type.storage.dtype or not fits:
        raise QCompilerError(
            f"input {value.name!r} does not fit", expected=str(value.type), found=f"{array.dtype}{list(array.shape)}"
        )
    return np.ascontiguousarray(array[:rows]) if array.ndim else array


def random_sample(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random numbers for each input: normally distributed where it takes floats, of the whole range elsewhere."""
    rng = np.random.default_rng(seed)
    symbols = {d.symbol: 1 for v in graph.inputs for d in v.type.shape if not isinstance(d, int)}
    sample = {}
    for value in graph.inputs:
        shape, dtype = tuple(bind_dim(d, symbols) for d in value.type.shape), value.type.storage.dtype
        if dtype.kind == "f":
            sample[value.name] = rng.normal(size=shape).astype(dtype)
        else:
            # Random bits are integers of the whole range.
            count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            sample[value.name] = np.frombuffer(rng.bytes(count), dtype).reshape(shape)
    return sample
