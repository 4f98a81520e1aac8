"""The integer kernels' definition in Python integers, one number or one row at a time; see ``exact_arithmetic``."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor, log2

from numerics.exact_arithmetic import (
    Number,
    clamp,
    divide_by_power,
    float32,
    float64,
    half_away,
    half_even,
    high_product,
    multiplier_of,
    scale_double,
    toward_zero,
)

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class Scaled:
    """Scale, zero point and bounds of a quantized number."""

    scale: Fraction
    zero_point: int
    low: int = -128
    high: int = 127

    def store(self, x: int) -> int:
        return clamp(x + self.zero_point, self.low, self.high)


class ExactSum:
    """LiteRT's ADD and SUB (``sign`` -1)."""

    def __init__(self, first: Scaled, second: Scaled, output: Scaled, shift: int, sign: int) -> None:
        self.first, self.second, self.output, self.shift, self.sign = first, second, output, shift, sign
        twice = float32(2 * max(first.scale, second.scale))
        self.left = multiplier_of(float64(first.scale / twice))
        self.right = multiplier_of(float64(second.scale / twice))
        self.total = multiplier_of(float64(twice / float32(2**shift * output.scale)))

    def __call__(self, a: int, b: int) -> int:
        left = scale_double((a - self.first.zero_point) << self.shift, *self.left)
        right = scale_double((b - self.second.zero_point) << self.shift, *self.right)
        return self.output.store(scale_double(left + self.sign * right, *self.total))


class ExactProduct:
    """LiteRT's MUL."""

    def __init__(self, first: Scaled, second: Scaled, output: Scaled) -> None:
        self.first, self.second, self.output = first, second, output
        self.multiplier = multiplier_of(float32(float32(first.scale * second.scale) / output.scale))

    def __call__(self, a: int, b: int) -> int:
        product = (a - self.first.zero_point) * (b - self.second.zero_point)
        return self.output.store(scale_double(product, *self.multiplier))


class ExactFloatSum:
    """ONNX Runtime's QLinearAdd on x86, and with ``sign`` -1 the subtraction; a fused step rounds once."""

    def __init__(self, first: Scaled, second: Scaled, output: Scaled, sign: int) -> None:
        self.output = output
        self.left = float32(first.scale / output.scale)
        self.right = sign * float32(second.scale / output.scale)
        zeros = float32(self.left * first.zero_point + float32(self.right * second.zero_point))
        self.offset = float32(output.zero_point - zeros)

    def __call__(self, a: int, b: int) -> int:
        total = float32(self.left * a + float32(self.right * b + self.offset))
        return clamp(half_even(total), self.output.low, self.output.high)


class ExactFloatProduct:
    """ONNX Runtime's QLinearMul on x86."""

    def __init__(self, first: Scaled, second: Scaled, output: Scaled) -> None:
        self.first, self.second, self.output = first, second, output
        self.ratio = float32(float32(first.scale * second.scale) / output.scale)

    def __call__(self, a: int, b: int) -> int:
        product = float32((a - self.first.zero_point) * (b - self.second.zero_point))
        total = float32(float32(product * self.ratio) + self.output.zero_point)
        return clamp(half_even(total), self.output.low, self.output.high)


def exact_mean(total: int, count: int, source: Scaled, output: Scaled) -> int:
    """LiteRT's MEAN of ``count`` stored integers with the sum ``total``."""
    multiplier, exponent = multiplier_of(float64(source.scale / output.scale))
    bits = min(floor(log2(count)), 32, 31 + exponent)
    folded = (multiplier << bits) // count
    return output.store(scale_double(total - count * source.zero_point, folded, exponent - bits))


def exact_sum(total: int, count: int, source: Scaled, output: Scaled) -> int:
    """A sum of ``count`` stored integers, requantized by ``double``."""
    multiplier = multiplier_of(float64(source.scale / output.scale))
    return output.store(scale_double(total - count * source.zero_point, *multiplier))


def saturated(x: int) -> int:
    return clamp(x, INT32_MIN, INT32_MAX)


def exact_exp(a: int, integer_bits: int) -> int:
    """gemmlowp's ``exp_on_negative_values`` of a Q(integer_bits) number, as Q0.31."""
    fraction_bits = 31 - integer_bits
    quarter = 2 ** (fraction_bits - 2)
    part = a % quarter - quarter
    x = (part << integer_bits) + 2**28
    square = high_product(x, x)
    cube = high_product(square, x)
    fourth = divide_by_power(high_product(square, square), 2)
    tail = divide_by_power(high_product(fourth + cube, 715827883) + square, 1)
    result = saturated(1895147668 + high_product(1895147668, x + tail))
    remainder = part - a
    factors = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
    for power, factor in factors.items():
        if integer_bits > power and remainder & 2 ** (fraction_bits + power):
            result = high_product(result, factor)
    return INT32_MAX if a == 0 else result


def exact_reciprocal(a: int) -> int:
    """gemmlowp's ``one_over_one_plus_x_for_x_in_0_1``, Q0.31."""
    half_denominator = half_away(Fraction(a + INT32_MAX, 2))
    x = 1515870810 + high_product(half_denominator, -1010580540)
    for _ in range(3):
        error = 2**29 - high_product(half_denominator, x)
        x += saturated(high_product(x, error) << 2)
    return saturated(x << 1)


def exact_softmax(row: list[int], scale: Fraction) -> list[int]:
    """LiteRT's int8 SOFTMAX of a row."""
    multiplier, exponent = multiplier_of(min(float64(scale * 2**26), Fraction(2**31 - 1)))
    smallest = -floor(Fraction(31 * 2**26, 2**exponent))
    largest = max(row)
    exponentials = {
        q: exact_exp(high_product((q - largest) << exponent, multiplier), 5)
        for q in set(row)
        if q - largest >= smallest
    }
    total = sum(divide_by_power(exponentials[q], 12) for q in row if q in exponentials)
    zeros = 32 - total.bit_length()
    reciprocal = exact_reciprocal((total << zeros) - 2**31)

    def probability(q: int) -> int:
        if q not in exponentials:
            return -128
        scaled = high_product(reciprocal, exponentials[q])
        return clamp(divide_by_power(scaled, 12 - zeros + 31 - 8) - 128, -128, 127)

    return [probability(q) for q in row]


def exact_resize(
    image: list[list[int]], height: int, width: int, half_pixel: bool, align_corners: bool
) -> list[list[int]]:
    """LiteRT's integer RESIZE_BILINEAR of one channel."""

    def axis(size: int, result: int) -> list[tuple[int, int, int]]:
        if align_corners and result > 1:
            step = toward_zero(Fraction(1024 * (size - 1) + (result - 1) // 2, result - 1))
        else:
            step = toward_zero(Fraction(1024 * size + result // 2, result))
        places = []
        for i in range(result):
            position = i * step + (toward_zero(Fraction(step, 2)) - 512 if half_pixel else 0)
            lower = max(toward_zero(Fraction(position, 1024)), 0)
            upper = min(toward_zero(Fraction(position + 1023, 1024)), size - 1)
            places.append((lower, upper, position - 1024 * lower))
        return places

    rows, columns = axis(len(image), height), axis(len(image[0]), width)
    return [
        [
            half_away(
                Fraction(
                    image[top][left] * (1024 - down) * (1024 - across) + image[bottom][left] * down * (1024 - across)
                    + image[top][right] * (1024 - down) * across + image[bottom][right] * down * across,
                    2**20,
                )
            )
            for left, right, across in columns
        ]
        for top, bottom, down in rows
    ]


def exact_table_entry(value: Number, output: Scaled) -> int:
    """The stored result for a function's float32 value."""
    inverse = float32(1 / output.scale)
    return output.store(half_away(float32(value * inverse)))
