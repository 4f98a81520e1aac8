"""Softmax of 16-bit numbers, against Python integers and against the real function."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from numerics.exact_arithmetic import multiplier_of, scale_double
from qcompiler.errors import QCompilerError
from qcompiler.numerics import Quantization, resolve
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.numerics.interpolated_table import interpolate

RULE = resolve("softmax", "table-softmax")
OUTPUTS = {
    15: Quantization(np.asarray(2.0**-15, np.float32), np.asarray(0), -(1 << 15), (1 << 15) - 1),
    16: Quantization(np.asarray(2.0**-16, np.float32), np.asarray(0), 0, (1 << 16) - 1),
}


def source_of(scale: float) -> Quantization:
    return Quantization(np.asarray(scale, np.float32), np.asarray(0), -(1 << 15), (1 << 15) - 1)


def rows(rng: np.random.Generator, length: int) -> np.ndarray:
    """Random rows, equal rows, one winner at each end, and ties between winners."""
    random = rng.integers(-(1 << 15), 1 << 15, (12, length))
    near = rng.integers(-300, 300, (6, length))
    equal = np.repeat(np.array([[-32768], [0], [32767]]), length, 1)
    winners = np.full((2, length), -32768)
    winners[0, 0] = winners[1, -1] = 32767
    return np.concatenate([random, near, equal, winners])


def exact_row(row: list[int], scale: float, bits: int, exponentials: list[int], reciprocals: list[int]) -> list[int]:
    """The definition, one number at a time; the tables are given."""

    def look_up(table: list[int], offset: int) -> int:
        i, rest = divmod(offset, 128)
        return table[i] + ((table[i + 1] - table[i]) * rest + 64) // 128

    multiplier, shift = multiplier_of(Fraction(float(np.float32(scale)) / (10.0 / 65535)))
    largest = max(row)
    found = [look_up(exponentials, max(scale_double(v - largest, multiplier, shift) + 65535, 0)) for v in row]
    total = sum(found)
    headroom = 31 - total.bit_length()
    normalized = ((total << headroom) + (1 << 13)) >> 14
    reciprocal = look_up(reciprocals, min(normalized - (1 << 16), 65535))
    shift = 45 - bits - headroom
    largest_result = (1 << bits) - 1
    return [min((e * reciprocal + (1 << (shift - 1))) >> shift, largest_result) for e in found]


@pytest.mark.parametrize("bits", [15, 16])
@pytest.mark.parametrize("scale", [2.0**-16, 0.0003, 2.0**-10, 0.1])
@pytest.mark.parametrize("length", [1, 2, 7, 300])
def test_rows(length: int, scale: float, bits: int) -> None:
    x = rows(np.random.default_rng(length), length)
    constants = RULE.constants(source_of(scale), OUTPUTS[bits])
    tables = [[int(e) for e in constants[name]] for name in ("exponentials", "reciprocals")]
    found = RULE.apply(x, OUTPUTS[bits], constants)
    assert found.tolist() == [exact_row([int(v) for v in row], scale, bits, *tables) for row in x]


def test_tables_stand_for_their_functions() -> None:
    constants = RULE.constants(source_of(0.1), OUTPUTS[15])
    offsets = np.arange(1 << 16)
    functions = {"exponentials": np.exp(-10 + 10 / 65536 * offsets), "reciprocals": 1 / (1 + offsets / 65536)}
    for name, real in functions.items():
        assert np.abs(interpolate(constants[name], offsets) - np.minimum(32768 * real, 32767)).max() < 2


@pytest.mark.parametrize(("bits", "most"), [(15, 8), (16, 16)])
@pytest.mark.parametrize("scale", [2.0**-13, 2.0**-11, 2.0**-9])
def test_within_a_few_steps_of_the_real_function(scale: float, bits: int, most: int) -> None:
    # Each exponential is off by two steps at most, and so is the sum for each number of a row.
    x = rows(np.random.default_rng(1), 4)
    # What lies farther below the largest counts as exp(-10).
    exponentials = np.exp(np.maximum(scale * (x - x.max(-1, keepdims=True)), -10))
    real = exponentials / exponentials.sum(-1, keepdims=True)
    found = RULE.apply(x, OUTPUTS[bits], RULE.constants(source_of(scale), OUTPUTS[bits]))
    assert np.abs(found - np.minimum(real * 2**bits, 2**bits - 1)).max() <= most


def test_other_result_parameters_are_refused() -> None:
    for scale, zero_point in ((1 / 256, 0), (2.0**-15, 1)):
        output = Quantization(np.asarray(scale, np.float32), np.asarray(zero_point), -(1 << 15), (1 << 15) - 1)
        with pytest.raises(QCompilerError, match="fixed output parameters"):
            RULE.constants(source_of(0.1), output)


def test_the_sum_reaches_its_bound_and_fits_up_to_a_length() -> None:
    source = source_of(0.001)
    constants = RULE.constants(source, OUTPUTS[15])
    equal = RULE.exponentials(np.zeros(1000, np.int64), constants)
    bounds = {i.what: i for i in RULE.intermediates(1000, source, constants)}
    assert equal.sum() == bounds["the sum"].bound
    longest = INT32_MAX // int(equal[0])
    assert longest >= 65535
    assert all(i.bound <= i.limit for i in RULE.intermediates(longest, source, constants))
    assert any(i.bound > i.limit for i in RULE.intermediates(longest + 1, source, constants))


def test_a_coarse_input_scale_could_overflow_the_shifted_difference() -> None:
    for scale, fits in ((4.0, True), (40.0, False)):
        source = source_of(scale)
        constants = RULE.constants(source, OUTPUTS[15])
        assert all(i.bound <= i.limit for i in RULE.intermediates(10, source, constants)) == fits
