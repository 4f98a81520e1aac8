"""Targets with narrow accumulators, and float programs whose sums do not fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
from float_programs import FloatProgram, N

from qcompiler.ir import Graph, Value
from qcompiler.ops.activation import Relu
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.pipeline import Context
from qcompiler.target import Target, load_target

CALIBRATED = "simplify,legalize,canonicalize,fold-constants,cse,dce,annotate,calibrate"
REALIZED = "realize,fold-constants,fuse-requantize,dce"


def target_with(base: str = "tpu-int8", **accumulator: Any) -> Target:
    """A built-in target with other accumulators."""
    descriptor = load_target(base).descriptor
    limits = descriptor.limits.accumulator.model_copy(update=accumulator)
    changed = descriptor.limits.model_copy(update={"accumulator": limits})
    return Target(descriptor.model_copy(update={"limits": changed, "native": False}))


def wide_sums(p: FloatProgram) -> dict[str, Value]:
    """A layer of each kind, with sums of 19 to 22 bits on 8-bit operands; by the layer's name."""
    image = p.input(N, 16, 8, 8)
    x = p(Relu(), p(Conv2D(pads=(1, 1, 1, 1)), image, p.normal(8, 16, 3, 3), p.normal(8), layer="conv"))
    g = p(Conv2D(groups=2, pads=(1, 1, 1, 1)), x, p.normal(4, 4, 3, 3, seed=2), layer="grouped")
    t = p(ConvTranspose2D(strides=(2, 2)), g, p.normal(6, 4, 4, 4, seed=3), p.normal(6, seed=9), layer="transposed")
    d = p(Conv2D(groups=6), t, p.normal(6, 1, 9, 9, seed=4), layer="depthwise")
    rows = p.input(N, 5, 96, name="rows")
    m = p(Matmul(), rows, p.normal(96, 7, seed=5), p.normal(7, seed=6), layer="matmul")
    return {"depthwise": d, "matmul": m}


def wide_program() -> Graph:
    """:func:`wide_sums` as a program."""
    p = FloatProgram()
    p.graph.set_outputs(list(wide_sums(p).items()))
    return p.graph


def wide_data(samples: int = 6, seed: int = 1) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Inputs of :func:`wide_program`."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(0, 1, (samples, 16, 8, 8)).astype(np.float32),
        "rows": rng.normal(0, 1, (samples, 5, 96)).astype(np.float32),
    }


def without_data(target: Target) -> Context:
    """A context that has no calibration data."""
    return Context(target)
