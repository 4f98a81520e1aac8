"""Native code of contractions whose reductions come in parts: the same integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contraction_programs import CASES, contraction_program, output_channels
from native_comparison import assert_native_equals_reference
from written_program import ISAS

from qcompiler.analysis.accumulators import contraction_sums
from qcompiler.analysis.reduction_parts import split_reduction
from qcompiler.ir import Affine, TensorType
from qcompiler.ir.scalar import I8


@pytest.mark.parametrize("name", ["conv", "depthwise", "transposed", "matmul"])
def test_native_code_equals_the_reference(name: str, tmp_path: Path) -> None:
    op, shape, weights_shape = CASES[name]
    rng = np.random.default_rng(6)
    x = TensorType(shape, Affine.per_tensor(I8, 1.0, -7))
    weights = rng.integers(-127, 128, weights_shape)
    bias = rng.integers(-(2**20), 2**20, output_channels(op, weights_shape))
    parts = split_reduction(contraction_sums(contraction_program(op, x, weights, bias, I8).node), 17)
    assert parts is not None
    assert len(parts) > 1
    case = contraction_program(op.replace(parts=parts), x, weights, bias, I8)
    samples = rng.choice([-128, 127, 0], shape).astype(np.int8)
    assert_native_equals_reference(
        case.graph, lambda count: {"x": samples}, ISAS[:1], tmp_path, samples=(1,), threads=(1,)
    )
