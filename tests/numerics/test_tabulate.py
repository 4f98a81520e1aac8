"""Tables, against fractions: all 256 inputs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from numerics.exact_arithmetic import Number, float32
from numerics.exact_kernels import Scaled, exact_table_entry
from qcompiler.numerics import Quantization, tabulate
from qcompiler.ops.activation import Abs, Clip, LeakyRelu, Log, Negate, Power, Reciprocal, UnaryFunction

# Functions whose value is a rational number, so that a fraction says exactly what the table must hold.
RATIONAL: dict[str, tuple[UnaryFunction, Callable[[Fraction], Number]]] = {
    "abs": (Abs(), abs),
    "negate": (Negate(), lambda x: -x),
    "square": (Power(2.0), lambda x: x * x),
    "relu6": (Clip(0.0, 6.0), lambda x: max(Fraction(0), min(x, Fraction(6)))),
    "leaky_relu": (LeakyRelu(0.25), lambda x: x if x >= 0 else x / 4),
}
# (scale, zero point) of input and result: ties, saturation at both ends, beside ties.
PAIRS = [((0.5, 0), (1.0, 0)), ((0.1, -20), (0.03, 44)), ((0.0471, 128), (0.8, -128)), ((0.3, 3), (0.6, 0))]


def quantization(parameters: tuple[float, int]) -> Quantization:
    return Quantization(np.asarray(parameters[0], np.float32), np.asarray(parameters[1]), -128, 127)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
@pytest.mark.parametrize("name", sorted(RATIONAL))
def test_all_inputs(name: str, pair: tuple[tuple[float, int], tuple[float, int]]) -> None:
    op, function = RATIONAL[name]
    found = tabulate(op.tabulated, quantization(pair[0]), quantization(pair[1]), -128, 127)
    scale = Fraction(float(np.float32(pair[0][0])))
    result = Scaled(Fraction(float(np.float32(pair[1][0]))), pair[1][1])
    arguments = [float32(scale * (q - pair[0][1])) for q in range(-128, 128)]
    assert found.tolist() == [exact_table_entry(float32(function(x)), result) for x in arguments]


def test_order_of_entries_is_that_of_the_stored_integers() -> None:
    same = quantization((0.25, 9))
    assert tabulate(lambda x: x, same, same, -128, 127).tolist() == list(range(-128, 128))
    unsigned = Quantization(same.scale, np.asarray(128), 0, 255)
    assert tabulate(lambda x: x, unsigned, unsigned, 0, 255).tolist() == list(range(256))


def test_poles_saturate_and_undefined_values_are_zero() -> None:
    source, output = quantization((0.1, 0)), quantization((0.05, 11))
    reciprocal = tabulate(Reciprocal().tabulated, source, output, -128, 127)
    assert reciprocal[128] == 127
    assert reciprocal[127] == -128
    logarithm = tabulate(Log().tabulated, source, output, -128, 127)
    assert logarithm[128] == -128
    assert set(logarithm[:128].tolist()) == {11}
