"""Tables of 513 entries, against Python integers, fractions, and the functions that they stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.numerics import Quantization, tabulate_interpolated
from qcompiler.numerics.interpolated_table import INTERPOLATED_ENTRIES, LARGEST_SLOPE, interpolate
from qcompiler.ops.activation import Gelu, Log, Reciprocal, Sigmoid, Tanh, UnaryFunction

OFFSETS = np.arange(1 << 16, dtype=np.int64)


def signed(scale: float, zero_point: int = 0) -> Quantization:
    return Quantization(np.asarray(scale, np.float32), np.asarray(zero_point), -(1 << 15), (1 << 15) - 1)


def unsigned(scale: float, zero_point: int) -> Quantization:
    return Quantization(np.asarray(scale, np.float32), np.asarray(zero_point), 0, (1 << 16) - 1)


def entries_of(function: Callable[..., np.ndarray], source: Quantization, output: Quantization) -> np.ndarray:
    bounds = (output.qmin, output.qmax)
    result: np.ndarray = tabulate_interpolated(function, source, output, source.qmin, *bounds)
    return result


def results_of(function: Callable[..., np.ndarray], source: Quantization, output: Quantization) -> np.ndarray:
    return interpolate(entries_of(function, source, output), OFFSETS)


def real_arguments(source: Quantization) -> np.ndarray:
    """What the table is made for: its 512 intervals span 65,535 steps, so that an interval is a little short of 128."""
    return float(source.scale) * (OFFSETS * (65535 / 65536) + source.qmin - int(source.zero_point))


@given(seed=st.integers(0, 1 << 32))
def test_look_up_by_its_definition(seed: int) -> None:
    """Neighbours as far apart as they may be, either way, with ties of either sign."""
    rng = np.random.default_rng(seed)
    entries = rng.integers(-16384, 16384, INTERPOLATED_ENTRIES)
    entries[:4] = (-16384, 16383, -16384, 16383)
    table = [int(e) for e in entries]
    offsets = [*range(512), *(int(v) for v in rng.integers(0, 1 << 16, 200)), (1 << 16) - 1]
    expected = []
    for v in offsets:
        i, rest = divmod(v, 128)
        numerator = table[i] * 128 + (table[i + 1] - table[i]) * rest
        # The nearest whole number, ties upward.
        expected.append((2 * numerator + 128) // 256)
    assert interpolate(entries, np.array(offsets)).tolist() == expected


def test_every_result_lies_between_its_entries() -> None:
    entries = np.random.default_rng(3).integers(-(1 << 14), 1 << 14, INTERPOLATED_ENTRIES)
    found = interpolate(entries, OFFSETS)
    low, high = np.minimum(entries[:-1], entries[1:]), np.maximum(entries[:-1], entries[1:])
    assert (np.repeat(low, 128) <= found).all()
    assert (found <= np.repeat(high, 128)).all()


@pytest.mark.parametrize(
    ("op", "source", "output"),
    [
        (Sigmoid(), signed(8 / 32768), signed(1 / 32768)), (Tanh(), signed(4 / 32768), signed(1 / 32768)),
        (Sigmoid(), unsigned(20 / 65535, 40000), unsigned(1 / 65536, 0)),
        (Gelu(), unsigned(12 / 65535, 20000), unsigned(8.6 / 65535, 1500)),
        (Tanh(), signed(6 / 32768, -900), unsigned(2 / 65535, 32768)),
    ],
    ids=str,
)
def test_close_to_the_function_everywhere(op: UnaryFunction, source: Quantization, output: Quantization) -> None:
    """What remains: two roundings, the chord, and LiteRT's scale, which is half a step short at full scale."""
    found = results_of(op.tabulated, source, output)
    real = op.real(real_arguments(source)) / float(output.scale) + int(output.zero_point)
    assert np.abs(found - np.clip(real, output.qmin, output.qmax)).max() < 3
    assert found.min() >= output.qmin
    assert found.max() <= output.qmax


def test_the_error_of_the_chord_is_shared_out() -> None:
    """Entries lie off a curved function by half of what the chord errs in the middle; the middle is as far off."""
    source = signed(8 / 32768)

    def wave(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = 30000 * np.sin(20 * x)
        return result

    entries = entries_of(wave, source, signed(1.0))
    step = 16 / 512 * 65535 / 65536
    starts = -8 + step * np.arange(513)
    middle = wave(starts[:-1] + step / 2)
    error = (wave(starts[:-1]) + wave(starts[1:])) / 2 - middle
    assert np.abs(error).max() > 1000
    assert np.abs(entries[:-1] - (wave(starts[:-1]) - error / 2)).max() < 3


def test_poles_saturate_and_undefined_values_are_zero() -> None:
    output = signed(1 / 100, 7)
    entries = entries_of(Reciprocal().tabulated, signed(1 / 4096), output)
    assert np.abs(np.diff(entries)).max() == LARGEST_SLOPE
    assert entries[0] == 7 - 13
    logarithm = entries_of(Log().tabulated, signed(1 / 4096), output)
    assert set(logarithm[:256].tolist()) == {7}
    assert logarithm[-1] == 7 + round(100 * np.log(8))


def test_jumps_are_stretched_over_intervals() -> None:
    """A step over the whole range takes three entries."""
    entries = entries_of(lambda x: np.where(x < 0, -40000.0, 40000.0), signed(1.0), signed(1.0))
    assert entries[255:260].tolist()[0] == -32768
    assert np.abs(np.diff(entries)).max() == LARGEST_SLOPE
    assert entries[-1] == 32767
