"""Quantized programs written by hand, with random weights and inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contraction_cases import contraction, filled, weights_of
from native_comparison import (
    assert_native_equals_reference,
)
from numpy.typing import NDArray
from op_writer import OpWriter

from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import Affine, Arithmetic, SymbolicDim, Value, verify
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import I8, U8
from qcompiler.ops.binary import Add
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.quantization import Quantize

Array = NDArray[Any]

N = SymbolicDim("N")
ISAS = runnable_instruction_sets()
ACT = Affine.per_tensor(I8, np.float32(0.125), -3)
BYTES = Affine.per_tensor(U8, np.float32(0.25), 131)


class Written:
    """A graph being written, with random weights and inputs from a fresh seed."""

    def __init__(self, batch: Dim = N) -> None:
        self.seed = int(np.random.SeedSequence().generate_state(1)[0])
        print("seed", self.seed)
        self.w = OpWriter(np.random.default_rng(self.seed), batch)
        self.batch = batch

    def input(self, *shape: Dim, elem: Any = ACT) -> Value:
        return self.w.input((self.batch, *shape), elem)

    def conv(self, x: Value, outputs: int = 9, groups: int = 1, scale: float = 1.0) -> Value:
        """A 3x3 convolution with requantize, same size."""
        channels = x.type.shape[3]
        assert isinstance(channels, int)
        op = Conv2D(pads=(1, 1, 1, 1), groups=groups, layout="NHWC")
        made = self.w.retried(lambda: filled(self.w, contraction(
            self.w, op, x, weights_of(self.w, op, (outputs, 3, 3, channels // groups))), I8))
        assert isinstance(made, Value)
        return made

    def add(self, a: Value, b: Value) -> Value:
        """Both sides in the arithmetic of tpu-int8."""
        elem = Affine.per_tensor(I8, np.float32(max(float(v.type.elem.scale.array) for v in (a, b))), 7)  # type: ignore[union-attr]
        return self.w.cite(Add(), Arithmetic.parse("litert-add{shift=20}"), [a, b], elem)

    def make(self, op: Any, *operands: Value, elem: Any = None) -> Value:
        return self.w.make(op, *operands, elem=elem)

    def quantize(self, x: Value, elem: Any = ACT) -> Value:
        return self.make(Quantize(Arithmetic.parse("affine{rounding=half-even}")), x, elem=elem)

    def check(
        self, outputs: Sequence[Value], folder: Path, kernels: KernelCache, samples: Sequence[int] = (1, 3)
    ) -> None:
        """Compare with the reference: on the first instruction set, and on another one, drawn afresh.

        A structure decides about memory and the order of calls, which differ little between sets; what kernels
        compute is tested set by set elsewhere.
        """
        graph = self.w.graph
        graph.set_outputs((f"y{i}", v) for i, v in enumerate(outputs))
        verify(graph)
        counts = (1,) if isinstance(self.batch, int) else samples
        sets = [ISAS[0], *([self.w.pick(*ISAS[1:])] if ISAS[1:] else [])]
        assert_native_equals_reference(graph, self.w.feeds, sets, folder, samples=counts, kernels=kernels)
