"""Every arithmetic on block floating point differs on its seeds from itself with another parameter or rounding.

Seeds hit ties, sums that overflow, and exponents that meet; what agrees on all of them would be a variant that no
test can tell apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from block_float.block_tensors import citing, run, wide
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, Constants, TensorType
from qcompiler.ir.op import Tensor
from qcompiler.numerics import ARITHMETIC, BlockArithmetic, block_arithmetic, block_table
from qcompiler.numerics.block_arithmetic import ReciprocalMean
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_table import BlockSoftmax
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.reduction import Mean, ReduceSum

BLOCK = {key: cls for key, cls in ARITHMETIC.items() if issubclass(cls, BlockArithmetic)}
EVERY = np.arange(-128, 128, dtype=np.int8)
Case = Callable[[str, str], Tensor]
"""Runs an op with an arithmetic and a rounding of its result."""


def tensor(mantissas: Any, exponents: Any, blocks: tuple[int, ...]) -> Tensor:
    array = np.asarray(mantissas, np.int8)
    return Tensor(TensorType(array.shape, BlockFloat(BlockFormat(8), blocks)), array, np.asarray(exponents, np.int32))


def case(op: Any, operands: list[Tensor], blocks: tuple[int, ...], bits: int = 40) -> Case:
    def run_it(arithmetic: str, rounding: str) -> Tensor:
        cited = citing(op, arithmetic)
        if isinstance(op, Softmax):
            cited = cited.replace(constants=Constants(BlockSoftmax().constants()))
        is_real = arithmetic.startswith("float32")
        elems = [] if is_real else [BlockFloat(wide(bits, rounding, 12), blocks)]
        return run(cited, operands, *elems)[0]

    return run_it


def sums(make: Any) -> list[Case]:
    """Two dots, the second some places below the first; ties in both directions; 7-bit sums that overflow."""
    found = []
    for gap in (1, 2, 4):
        rows = tensor(np.stack([np.resize([3, -3, 0, 1, -1], 256), EVERY], 1), [[gap, 0]] * 256, (1, 1))
        ones = tensor([[1], [1]], [[0], [0]], (1, 1))
        found += [case(make, [rows, ones], (256, 1), bits) for bits in (40, 7)]
    # 2**24 + 1 - 2**24 and more: the order of float32 additions shows.
    order = tensor(np.array([[64, 1, 1, 1, -64], [64, 3, -64, 1, 1]]), [[18, 0, 0, 0, 18], [18, 0, 18, 0, 0]], (1, 1))
    return [*found, case(make, [order, tensor([[1]] * 5, [[0]] * 5, (1, 1))], (1, 1))]


def as_convolution(seeds: list[Case], make: Callable[[], Any]) -> list[Case]:
    """The same sums as 1x1 convolutions of images ``[rows, 1, 1, K]``."""

    def reshaped(arguments: tuple[Any, list[Tensor], tuple[int, ...], int]) -> Case:
        _, (x, w), blocks, bits = arguments
        assert x.exponents is not None
        assert w.exponents is not None
        image = tensor(x.data[:, None, None], x.exponents[:, None, None], (1, 1, 1, 1))
        weights = tensor(w.data.T[:, None, None], w.exponents.T[:, None, None], (1, 1, 1, 1))
        return case(make(), [image, weights], (blocks[0], 1, 1, 1), bits)

    return [reshaped(arguments_of(seed)) for seed in seeds]


def arguments_of(seed: Case) -> Any:
    """The arguments with which ``case`` made a seed."""
    assert seed.__closure__ is not None
    found = dict(zip(seed.__code__.co_freevars, (cell.cell_contents for cell in seed.__closure__), strict=True))
    return found["op"], found["operands"], found["blocks"], found["bits"]


PAIR = [
    tensor(EVERY, [gap], (256,)) for gap in (0, 0)
], [tensor(EVERY, [0], (256,)), tensor(EVERY[::-1] // 2, [1], (256,))], [
    tensor(EVERY, [0], (256,)), tensor(EVERY[::-1] // 4, [2], (256,))
]

SEVENTHS = np.arange(1, 8)
"""Seven values, whose number has a reciprocal that is rounded up."""
ROWS = [tensor(np.stack([np.resize([1, -2, 5], 256), EVERY], 1), [[gap, 0]] * 256, (1, 1)) for gap in (1, 2)]

SEEDS: dict[tuple[str, str], list[Case]] = {
    **{("matmul", name): sums(Matmul()) for name in ("fixed-point", "float32")},
    **{
        ("conv2d", n): as_convolution(sums(Matmul()), lambda: Conv2D(layout="NHWC")) for n in ("fixed-point", "float32")
    },
    **{
        ("conv_transpose2d", n): as_convolution(sums(Matmul()), lambda: ConvTranspose2D(layout="NHWC"))
        for n in ("fixed-point", "float32")
    },
    ("add", "align-larger"): [case(Add(), pair, (256,)) for pair in PAIR],
    ("sub", "align-larger"): [case(Sub(), pair, (256,)) for pair in PAIR],
    ("reduce_sum", "align-larger"): [case(ReduceSum((1,)), [rows], (1, 1)) for rows in ROWS],
    ("mul", "exact-product"): [
        case(Mul(), [tensor([EVERY, EVERY], [[0], [gap]], (1, 256)), tensor([[1]], [[0]], (1, 1))], (2, 256))
        for gap in (1, 2)
    ],
    ("mean", "reciprocal"): [case(Mean((1,)), [rows], (1, 1)) for rows in ROWS] + [
        case(Mean((1,)), [tensor(EVERY.reshape(-1, 1) // SEVENTHS, [[0]], (256, 7))], (256, 1))
    ],
    ("average_pool2d", "reciprocal"): [
        case(AveragePool2D((1, 2), layout="NHWC"), [
            tensor(rows.data[:, None, :, None], rows.exponents[:, None, :, None], (1, 1, 1, 1))  # type: ignore[index]
        ], (1, 1, 1, 1)) for rows in ROWS
    ] + [
        case(AveragePool2D((1, 7), layout="NHWC"), [
            tensor((EVERY.reshape(-1, 1) // SEVENTHS)[:, None, :, None], [[[[0]]]], (256, 1, 7, 1))
        ], (256, 1, 1, 1))
    ],
    ("softmax", "block-exponential"): [
        case(Softmax(-1), [tensor([[0, -1, -3, -5, -6, -7], [9, 8, 3, 2, 1, 0]], [[e], [e]], (1, 6))], (1, 1))
        for e in (-12, -13)
    ] + [case(Softmax(-1), [tensor(np.stack([0 * EVERY, EVERY], 1), [[-11]], (256, 2))], (256, 2))],
}

PARAMETERS = {
    "fixed-point": [
        "fixed-point", "fixed-point{overflow=saturate}", "fixed-point{overflow=wrap}", "fixed-point{fraction=1}",
        "fixed-point{fraction=2}", "fixed-point{overflow=saturate fraction=1}",
    ],
    "float32": ["float32", "float32{order=pairwise}"],
    "reciprocal": ["reciprocal", "reciprocal{bits=15}", "reciprocal{bits=8}"],
}
"""Variants of an arithmetic by their citations; those without parameters have one."""


def results(key: tuple[str, str], arithmetic: str, rounding: str) -> list[Any]:
    """What each seed gives; an error is a result, too."""
    found: list[Any] = []
    for seed in SEEDS[key]:
        try:
            result = seed(arithmetic, rounding)
        except QCompilerError as error:
            found.append(error.problem)
        else:
            found.append((result.data.tolist(), None if result.exponents is None else result.exponents.tolist()))
    return found


def variants(key: tuple[str, str]) -> list[tuple[str, str]]:
    """Citations and roundings; float32 is rounded in one way alone."""
    roundings = ["half-even"] if key[1] == "float32" else sorted(SHIFT_ROUNDINGS)
    return [(text, rounding) for text in PARAMETERS.get(key[1], [key[1]]) for rounding in roundings]


def test_every_block_arithmetic_has_seeds() -> None:
    assert set(SEEDS) == set(BLOCK)


def test_every_parameter_is_varied() -> None:
    for (_, name), cls in BLOCK.items():
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            assert any(f"{field.name}=" in text for text in PARAMETERS[name]), (name, field.name)


@pytest.mark.parametrize("key", sorted(BLOCK))
def test_every_other_parameter_and_rounding_fails(key: tuple[str, str]) -> None:
    found = {variant: results(key, *variant) for variant in variants(key)}
    same = [(a, b) for a, b in combinations(found, 2) if found[a] == found[b]]
    assert same == []


@pytest.mark.parametrize("key", sorted(k for k in BLOCK if k[1] == "fixed-point"))
def test_seeds_saturate_and_wrap(key: tuple[str, str]) -> None:
    assert any(isinstance(result, str) for result in results(key, "fixed-point", "half-even"))
    for overflow in ("saturate", "wrap"):
        ends = [np.array(r[0]) for r in results(key, f"fixed-point{{overflow={overflow}}}", "half-even")]
        assert min(e.min() for e in ends if np.abs(e).max() <= 64) == -64
        assert max(e.max() for e in ends if np.abs(e).max() <= 64) == 63


def truncated(self: ReciprocalMean, counts: Any) -> Any:
    return np.floor(np.float64(2.0 ** self.places(counts)) / counts).astype(np.int64)


def without_rounding(entries: Any, offset: Any, places: int) -> Any:
    index = np.minimum(offset >> places, len(entries) - 2)
    return entries[index] + ((entries[index + 1] - entries[index]) * (offset - (index << places)) >> places)


# (what holds the function, its name, what stands in for it)
INTERNAL: dict[tuple[str, str], tuple[Any, str, Any]] = {
    ("mean", "reciprocal"): (block_arithmetic.ReciprocalMean, "reciprocals", truncated),
    ("average_pool2d", "reciprocal"): (block_arithmetic.ReciprocalMean, "reciprocals", truncated),
    ("softmax", "block-exponential"): (block_table, "interpolate", without_rounding),
}


@pytest.mark.parametrize("key", sorted(INTERNAL))
def test_every_other_internal_rounding_fails(key: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    holder, name, replacement = INTERNAL[key]
    right = results(key, key[1], "half-even")
    monkeypatch.setattr(holder, name, replacement)
    assert results(key, key[1], "half-even") != right
