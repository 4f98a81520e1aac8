"""Ranges of stored integers: no run leaves them, and what narrows a range is used."""

from __future__ import annotations

from functools import cache

import models
import numpy as np
import pytest
from contraction_programs import CASES, contraction_program
from hypothesis import given, settings
from hypothesis import strategies as st

import qcompiler
from qcompiler import numerics
from qcompiler.analysis.accumulators import Interval
from qcompiler.analysis.stored_ranges import body_ranges, narrowed, stored_ranges
from qcompiler.backends import reference
from qcompiler.calibration.data import open_data
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Arithmetic, Builder, ConstantArray, Graph, Tensor, TensorType, Value
from qcompiler.ir.scalar import I8, I32
from qcompiler.numerics import RequantizeForm
from qcompiler.ops.fused import Fused
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Clamp
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.ops.slicing import Gather, Pad
from qcompiler.ops.table import LookupTable

ELEM = Affine.per_tensor(I8, 0.1, 3)


def all_ranges(graph: Graph) -> dict[Value, Interval]:
    """Ranges of all values, those of fused bodies included."""
    ranges = stored_ranges(graph)
    inner = [body_ranges(node, ranges) for node in graph.nodes if isinstance(node.op, Fused)]
    return {key: interval for found in (ranges, *inner) for key, interval in found.items()}


@cache
def compiled(name: str, target: str) -> Graph:
    return qcompiler.compile(models.model(name), target=target, data=models.samples(name, 6), native=False).graph


@pytest.mark.parametrize("target", ["tpu-int8", "cpu-int8"])
@pytest.mark.parametrize("name", models.MODELS)
def test_no_run_leaves_the_ranges(name: str, target: str) -> None:
    graph = compiled(name, target)
    ranges = all_ranges(graph)
    seen: set[Value] = set()

    def observe(value: Value, tensor: Tensor) -> None:
        if value in ranges and tensor.data.size:
            low, high = ranges[value]
            seen.add(value)
            assert low <= int(tensor.data.min()), value.producer
            assert int(tensor.data.max()) <= high, value.producer

    rng = np.random.default_rng(11)
    for size in (1.0, 1e3, 1e30):
        feeds = {}
        for key, array in models.samples(name, 6).items():
            noise = rng.normal(0, size, array.shape) if array.dtype.kind == "f" else array
            feeds[key] = np.asarray(noise).astype(array.dtype)
        for batch in open_data(feeds, graph).batches(3):
            reference.run(graph, batch, observe)
    assert len(seen) > 5


class Chain:
    """Ops on an int8 input."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph("case")
        self.build = Builder(self.graph)
        self.x = self.graph.add_input("x", TensorType(shape or (1, 4, 4, 2), ELEM))

    def range_of(self, value: Value) -> Interval:
        return stored_ranges(self.graph)[value]


def test_clamp_and_what_moves_values_keep_it() -> None:
    c = Chain()
    limited = c.build(Clamp(-5, 90), c.x)
    assert c.range_of(c.x) == (-128, 127)
    assert c.range_of(limited) == (-5, 90)
    assert c.range_of(c.build(Clamp(-20, 7), limited)) == (-5, 7)
    assert c.range_of(c.build(Clamp(100, 120), limited)) == (100, 100)
    assert c.range_of(c.build(Reshape((1, 32)), limited)) == (-5, 90)
    assert c.range_of(c.build(Concat(3), limited, c.build(Clamp(-30, 0), c.x))) == (-30, 90)
    indices = c.graph.add_input("i", TensorType((2,), qcompiler.ir.scalar.I64))
    assert c.range_of(c.build(Gather(3), limited, indices)) == (-5, 90)


@pytest.mark.parametrize(
    ("pool", "kept"),
    [
        (MaxPool2D((2, 2), pads=(1, 1, 1, 1), layout="NHWC"), True),
        (MaxPool2D((2, 2), dilations=(5, 1), pads=(1, 0, 1, 0), layout="NHWC"), False),
        (AveragePool2D((2, 2), pads=(1, 1, 1, 1), layout="NHWC", arithmetic=Arithmetic("average-half-away")), True),
        (AveragePool2D((2, 2), layout="NHWC", arithmetic=Arithmetic.parse("average{rounding=half-up}")), True),
    ],
)
def test_pools(pool: MaxPool2D | AveragePool2D, kept: bool) -> None:
    c = Chain()
    assert c.range_of(c.build(pool, c.build(Clamp(-5, 90), c.x), elem=ELEM)) == ((-5, 90) if kept else (-128, 127))


@pytest.mark.parametrize(
    ("kernel", "strides", "pads", "sound"),
    [
        ((2, 2), (1, 1), (1, 1, 1, 1), True), ((3, 3), (2, 2), (2, 2, 2, 2), True),
        ((1, 1), (3, 3), (0, 0, 1, 1), True),
        ((1, 2), (1, 1), (1, 0, 0, 0), False), ((1, 2), (1, 1), (0, 0, 1, 0), False),
        ((3, 3), (1, 1), (0, 0, 0, 3), False), ((3, 3), (4, 4), (0, 3, 0, 0), False),
        ((1, 1), (2, 2), (0, 0, 1, 1), False),
    ],
)
def test_no_average_is_taken_of_padding_alone(
    kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, int, int, int], sound: bool
) -> None:
    """An average of no numbers would be none of those between the smallest and the largest."""
    c = Chain()
    pool = AveragePool2D(kernel, strides, pads, layout="NHWC", arithmetic=Arithmetic("average-half-away"))
    if not sound:
        with pytest.raises(QCompilerError, match="lies in the padding"):
            c.build(pool, c.x, elem=ELEM)
        return
    average = c.build(pool, c.build(Clamp(10, 90), c.x), elem=ELEM)
    c.graph.set_outputs([("y", average)])
    results = reference.run(c.graph, {"x": np.full((1, 4, 4, 2), -128, np.int8)})["y"]
    assert (results == 10).all()
    assert c.range_of(average) == (10, 90)


def test_pad_inserts_its_number() -> None:
    c = Chain()
    limited = c.build(Clamp(10, 90), c.x)
    pads = ((0, 1, 0, 0), (0, 0, 0, 0))
    assert c.range_of(c.build(Pad(*pads), limited)) == (3, 90)
    assert c.range_of(c.build(Pad(*pads, value=1e9), limited)) == (10, 127)
    assert c.range_of(c.build(Pad(*pads, mode="edge"), limited)) == (10, 90)


def test_a_table_gives_what_stands_where_it_is_read() -> None:
    c = Chain()
    table = np.full(256, 50, np.int8)
    table[128 - 3 : 128 + 2] = [9, 1, -4, 2, 7]
    made = c.build(LookupTable(ConstantArray(table)), c.build(Clamp(-3, 1), c.x), elem=ELEM)
    assert c.range_of(made) == (-4, 9)
    assert c.range_of(c.build(LookupTable(ConstantArray(table)), c.x, elem=ELEM)) == (-4, 50)


def test_a_narrowed_type_keeps_its_scale() -> None:
    c = Chain()
    limited = c.build(Clamp(-5, 90), c.x)
    elem = narrowed(limited, stored_ranges(c.graph)).elem
    assert isinstance(elem, Affine)
    assert (elem.qmin, elem.qmax, elem.scale, elem.zero_point) == (-5, 90, ELEM.scale, ELEM.zero_point)
    assert narrowed(limited, {}) == limited.type


FORMS = sorted(name for op, name in numerics.ARITHMETIC if op == "requantize")


@settings(max_examples=20, deadline=None)
@given(
    ratio=st.floats(2.0**-24, 2.0**4), seed=st.integers(0, 2**32 - 1), form=st.sampled_from(FORMS),
    width=st.integers(1, 27),
)
def test_every_form_of_requantize_is_monotone(ratio: float, seed: int, form: str, width: int) -> None:
    """So the ends of a range bound everything between."""
    rule = numerics.resolve("requantize", form, {})
    assert isinstance(rule, RequantizeForm)
    if form.startswith("shift"):
        ratio = 2.0 ** round(np.log2(ratio))
    constants = rule.from_ratio(np.array([ratio]))
    ends = (-(1 << width), 1 << width)
    x = np.sort(np.random.default_rng(seed).integers(*ends, 2000, endpoint=True))
    middle = np.arange(-500, 500)
    for numbers in (x, middle):
        assert bool((np.diff(rule.scale(numbers.astype(np.int64), constants)) >= 0).all())


def test_an_accumulator_has_the_range_of_its_sums() -> None:
    op, shape, weights_shape = CASES["matmul"]
    case = contraction_program(
        op, TensorType(shape, Affine.per_tensor(I8, 1.0)), np.ones(weights_shape, np.int64),
        np.array([0, 5, 0, -7, 0]), I8,
    )
    assert case.node.result.type.storage == I32
    assert stored_ranges(case.graph)[case.node.result] == (17 * -128 - 7, 17 * 127 + 5)
