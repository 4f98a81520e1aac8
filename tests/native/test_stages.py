"""Element-wise arithmetic of native code, against the arithmetic's own definition in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from element_runs import element_of, evaluate, node_of, run_element, run_node
from kernel_harness import NO_PRODUCTS, Array, isa_fixture, isa_parameters
from numerics.mutation_seeds import SEEDS, Results, binary_results

from qcompiler import numerics
from qcompiler.backends.lowering import LOWERINGS
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Arithmetic, Constants, Node, Scalar, TensorType
from qcompiler.ir.builder import infer_types
from qcompiler.ir.scalar import BF16, F32, I8, I16, I32, I64, U8, U16
from qcompiler.ir.types import channel_blocks
from qcompiler.numerics import Quantization
from qcompiler.numerics.fused_multiply_add import fused_multiply_add
from qcompiler.numerics.rounding import DIVISION_ROUNDINGS, REAL_ROUNDINGS, SHIFT_ROUNDINGS
from qcompiler.ops.binary import Add, BinaryArithmeticOp, Maximum, Minimum, Mul, Sub
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantization import Cast, Clamp, Dequantize, Quantize, Requantize
from qcompiler.ops.reduction import Mean, ReduceSum

FORMS = {
    **{name: ("requantize", name, {}) for op, name in numerics.ARITHMETIC if op == "requantize"},
    **{f"shift-{rounding}": ("requantize", "shift", {"rounding": rounding}) for rounding in SHIFT_ROUNDINGS},
}
"""Every requantize form, with every choice of its parameters."""

AFFINE = [key for key, found in numerics.ARITHMETIC.items() if not issubclass(found, numerics.BlockArithmetic)]
"""Arithmetic on affine types, by op and name; block floating point has lowerings of its own."""

BINARY: dict[str, type[BinaryArithmeticOp]] = {"add": Add, "sub": Sub, "mul": Mul}

TRIPLES = [(1.0, 1.0, 2.0), (0.5, 0.25, 1.0), (0.5, 0.5, 0.0625), (0.03, 0.11, 0.04), (1.0, 1.0, 4.0)]
"""Scales of two operands and a result: ties in every form, saturation, neither."""


isa = isa_fixture(but=NO_PRODUCTS)


@pytest.fixture(
    params=[
        pytest.param((*p.values, scalar), id=f"{p.id}-{'scalars' if scalar else 'vectors'}", marks=p.marks)
        for p in isa_parameters(but=NO_PRODUCTS) for scalar in ((False, True) if p.id == "generic" else (False,))
    ]
)
def isa_and_width(request: pytest.FixtureRequest) -> tuple[InstructionSet, bool]:
    """Instruction sets, and whether numbers are computed one at a time; that code is alike for all of them."""
    found: tuple[InstructionSet, bool] = request.param
    return found


def affine_of(q: Quantization, storage: Scalar = I8) -> Affine:
    return Affine.per_tensor(storage, np.float32(q.scale), int(q.zero_point), q.qmin, q.qmax)


def constants_of(arrays: Mapping[str, Array]) -> Constants:
    return Constants({name: np.asarray(a) for name, a in arrays.items()})


class Native:
    """A rule of arithmetic that computes its results by native code; everything else is the rule's own."""

    def __init__(self, citation: tuple[str, str, Mapping[str, Any]], isa: InstructionSet, scalar: bool = False) -> None:
        self.op, name, parameters = citation
        self.rule = numerics.resolve(self.op, name, parameters)
        self.arithmetic = Arithmetic(name, tuple(sorted(parameters.items())))
        self.isa, self.scalar = isa, scalar

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rule, name)

    def run(self, node: Node, operands: list[Array], backend: str = "tvm-element") -> Array:
        shape = np.broadcast_shapes(*(o.shape for o in operands))
        dtype = node.result.type.storage.dtype
        result = run_element(element_of(node, backend), operands, shape, dtype, self.isa, self.scalar)
        return result.astype(np.int64)


class NativeForm(Native):
    def scale(self, x: Array, constants: Mapping[str, Array]) -> Array:
        """The centered integers scaled; they and the results are stored in as many bits as they need."""
        storage = I32 if np.abs(x).max() < 1 << 31 else I64
        ratio = float(self.rule.to_ratio(constants))
        source = TensorType(x.shape, Affine.per_tensor(storage, ratio))
        node = node_of(
            Requantize(self.arithmetic, constants_of(constants)), [source], Affine.per_tensor(I64, 1.0)
        )
        return self.run(node, [x.astype(storage.dtype)])


class NativeBinary(Native):
    def apply(
        self, a: Array, b: Array, inputs: list[Quantization], output: Quantization, constants: Mapping[str, Array]
    ) -> Array:
        op = BINARY[self.op]().replace(arithmetic=self.arithmetic, constants=constants_of(constants))
        types = [TensorType(x.shape, affine_of(q)) for x, q in zip((a, b), inputs, strict=True)]
        return self.run(node_of(op, types, affine_of(output)), [a.astype(np.int8), b.astype(np.int8)])


class NativeReduction(Native):
    def apply(
        self, sums: Array, count: int, source: Quantization, output: Quantization, constants: Mapping[str, Array]
    ) -> Array:
        kind = Mean if self.op == "mean" else ReduceSum
        op = kind(axes=(1,), keepdims=False, arithmetic=self.arithmetic, constants=constants_of(constants))
        node = node_of(op, [TensorType((sums.size, count), affine_of(source))], affine_of(output))
        return self.run(node, [sums.astype(np.int32)], "tvm-sums")


class NativeAverage(Native):
    def apply(self, sums: Array, counts: Array, output: Quantization) -> Array:
        op = AveragePool2D(kernel=(1, int(counts)), layout="NHWC", arithmetic=self.arithmetic)
        node = node_of(op, [TensorType((1, sums.size, int(counts), 1), affine_of(output))])
        return self.run(node, [sums.astype(np.int32).reshape(1, -1, 1, 1)], "tvm-sums").reshape(-1)


class NativeQuantize(Native):
    def apply(self, x: Array, output: Quantization) -> Array:
        node = node_of(Quantize(self.arithmetic), [TensorType(x.shape, F32)], affine_of(output))
        return self.run(node, [x])


def assert_equal_results(found: Results, expected: Results) -> None:
    compared = 0
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            np.testing.assert_array_equal(ours, theirs)
            compared += 1
    assert compared


@pytest.mark.parametrize("form", FORMS)
def test_requantize_forms_on_their_seeds(form: str, isa_and_width: tuple[InstructionSet, bool]) -> None:
    isa, scalar = isa_and_width
    run = SEEDS["requantize", FORMS[form][1]]
    native = NativeForm(FORMS[form], isa, scalar)
    assert_equal_results(run(native), run(native.rule))


def test_every_element_wise_arithmetic_has_native_code() -> None:
    elsewhere = {"softmax", "resize"}
    for op, name in AFFINE:
        backends = {b for b, o, a in LOWERINGS if o == op and a in ("", name)}
        assert op in elsewhere or backends & {"tvm-element", "tvm-sums"}, f"{name} of {op}"


@pytest.mark.parametrize(
    ("op", "name"), [key for key in AFFINE if key[0] in ("add", "sub", "mul")]
)
def test_binary_arithmetic_on_all_pairs(op: str, name: str, isa: InstructionSet) -> None:
    native = NativeBinary((op, name, {}), isa)
    for run in (binary_results(TRIPLES), SEEDS[op, name]):
        assert_equal_results(run(native), run(native.rule))


@pytest.mark.parametrize("rounding", SHIFT_ROUNDINGS)
@pytest.mark.parametrize(("op", "name"), [("sub", "shift-add"), ("mul", "shift-mul")])
def test_shifted_arithmetic_with_every_rounding(op: str, name: str, rounding: str, isa: InstructionSet) -> None:
    native = NativeBinary((op, name, {"rounding": rounding}), isa)
    assert_equal_results(SEEDS[op, name](native), SEEDS[op, name](native.rule))


@pytest.mark.parametrize("form", sorted({name for op, name in numerics.ARITHMETIC if op == "requantize"}))
@pytest.mark.parametrize(("op", "name"), [("add", "litert-add"), ("mul", "litert-mul")])
def test_binary_arithmetic_with_every_form(op: str, name: str, form: str, isa: InstructionSet) -> None:
    native = NativeBinary((op, name, {"rounding": form}), isa)
    run = binary_results(TRIPLES[:2])
    assert_equal_results(run(native), run(native.rule))


@pytest.mark.parametrize(("op", "name"), [("mean", "litert-mean"), ("reduce_sum", "litert-sum")])
@pytest.mark.parametrize("form", ["double", "float-rne"])
def test_reductions_on_their_seeds(op: str, name: str, form: str, isa: InstructionSet) -> None:
    native = NativeReduction((op, name, {"rounding": form}), isa)
    assert_equal_results(SEEDS[op, name](native), SEEDS[op, name](native.rule))


@pytest.mark.parametrize("rounding", DIVISION_ROUNDINGS)
@pytest.mark.parametrize(("op", "name"), [("mean", "shift-mean"), ("reduce_sum", "shift-sum")])
def test_divided_sums_on_their_seeds(op: str, name: str, rounding: str, isa: InstructionSet) -> None:
    native = NativeReduction((op, name, {"rounding": rounding}), isa)
    assert_equal_results(SEEDS[op, name](native), SEEDS[op, name](native.rule))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("average-half-away", {}), *(("average", {"rounding": rounding}) for rounding in DIVISION_ROUNDINGS)],
)
def test_averages_on_their_seeds(
    name: str, parameters: dict[str, str], isa_and_width: tuple[InstructionSet, bool]
) -> None:
    isa, scalar = isa_and_width
    native = NativeAverage(("average_pool2d", name, parameters), isa, scalar)
    run = SEEDS["average_pool2d", name]
    assert_equal_results(run(native), run(native.rule))


@pytest.mark.parametrize("rounding", REAL_ROUNDINGS)
def test_quantize_on_its_seeds(rounding: str, isa_and_width: tuple[InstructionSet, bool]) -> None:
    isa, scalar = isa_and_width
    native = NativeQuantize(("quantize", "affine", {"rounding": rounding}), isa, scalar)
    run = SEEDS["quantize", "affine"]
    assert_equal_results(run(native), run(native.rule))


def rescaled(
    form: str, shape: tuple[int, ...], source: Affine, result: Affine
) -> Node:
    op, name, parameters = FORMS[form]
    rule = numerics.resolve(op, name, parameters)
    constants = rule.constants([source.scale.array], result.scale.array)
    arithmetic = Arithmetic(name, tuple(sorted(parameters.items())))
    return node_of(Requantize(arithmetic, constants_of(constants)), [TensorType(shape, source)], result)


def powers_of_two(rng: np.random.Generator, size: int) -> Array:
    return np.exp2(rng.integers(-12, -1, size)).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
def test_requantize_of_accumulators_by_channel(form: str, isa: InstructionSet) -> None:
    """8-bit results of accumulators, each channel with its own scale, up to the ends of 32 bits."""
    rng = np.random.default_rng([3, len(form)])
    channels = 37
    scales = powers_of_two(rng, channels)
    if not form.startswith("shift"):
        scales[::2] *= rng.uniform(0.6, 1.4, scales[::2].size).astype(np.float32)
    source = Affine.blocked(I32, scales.reshape(1, -1), 0, channel_blocks((50, channels), 1))
    x = rng.integers(-3000, 3000, (50, channels)).astype(np.int32)
    x[0], x[1], x[2, :3] = -(2**31), 2**31 - 1, (-1, 0, 1)
    for storage, zero_point in ((U8, 13), (I8, -128), (U8, 255)):
        node = rescaled(form, x.shape, source, Affine.per_tensor(storage, 1.0, zero_point))
        np.testing.assert_array_equal(run_node(node, [x], isa), evaluate(node, [x]))


@pytest.mark.parametrize("form", ["double", "single", "float-rne", "float64-away", "shift-half-even"])
@pytest.mark.parametrize(
    ("storage", "zero_point", "result"), [(U8, 200, I8), (I8, -7, U8), (I16, 0, I16), (U16, 40000, I8), (I32, 5, I32)]
)
def test_requantize_between_formats(
    form: str, storage: Scalar, zero_point: int, result: Scalar, isa: InstructionSet
) -> None:
    """Larger scales become smaller ones and the other way round; 32-bit differences leave 32 bits."""
    rng = np.random.default_rng(storage.bits)
    x = rng.integers(storage.minimum, storage.maximum + 1, 4000).astype(storage.dtype)
    x[:2] = storage.minimum, storage.maximum
    for scale in (4.0, 0.25, 1.0):
        source = Affine.per_tensor(storage, scale, zero_point)
        node = rescaled(form, x.shape, source, Affine.per_tensor(result, 1.0, 3, result.minimum, result.maximum - 1))
        np.testing.assert_array_equal(run_node(node, [x], isa), evaluate(node, [x]))


@pytest.mark.parametrize("form", ["double", "ruy", "single", "float-rne", "float64-away"])
def test_sums_with_a_zero_point_leave_32_bits(form: str, isa: InstructionSet) -> None:
    x = np.asarray([-(2**31), -(2**30), 0, 2**30, 2**31 - 1] * 4, np.int32)
    node = rescaled(form, x.shape, Affine.per_tensor(I32, 0.75), Affine.per_tensor(I32, 1.0, 2**30))
    found = run_node(node, [x], isa)
    assert found.max() == 2**31 - 1
    np.testing.assert_array_equal(found, evaluate(node, [x]))


def test_products_are_rounded_before_their_fraction_is_taken(isa: InstructionSet) -> None:
    """3/6 in float64 is a tie, though the product of 3 and the float64 nearest to 1/6 is not."""
    x = np.arange(-3000, 3000, dtype=np.int32)
    node = rescaled("float64-away", x.shape, Affine.per_tensor(I32, 1.0), Affine.per_tensor(I16, 6.0))
    assert evaluate(node, [x])[x == 3] == 1
    np.testing.assert_array_equal(run_node(node, [x], isa), evaluate(node, [x]))


def test_requantize_refuses_a_form_it_does_not_know() -> None:
    class Unknown(numerics.RequantizeForm):
        def from_ratio(self, ratio: Array) -> dict[str, Array]:
            return {"ratio": ratio}

        def to_ratio(self, constants: Mapping[str, Array]) -> Array:
            return np.asarray(constants["ratio"])

    with numerics.ARITHMETIC.temporary():
        numerics.arithmetic("requantize", "unknown")(Unknown)
        node = node_of(
            Requantize(Arithmetic("unknown"), constants_of({"ratio": np.asarray(1.0)})),
            [TensorType((3,), Affine.per_tensor(I8, 1.0))], Affine.per_tensor(I8, 1.0),
        )
        with pytest.raises(QCompilerError, match="no code for the requantize arithmetic Unknown"):
            element_of(node)


@pytest.mark.parametrize(
    ("op", "name"), [key for key in AFFINE if key[0] in ("add", "sub", "mul")]
)
def test_binary_arithmetic_with_any_scales_and_zero_points(op: str, name: str, isa: InstructionSet) -> None:
    rng = np.random.default_rng([7, len(op), len(name)])
    a, b = (rng.integers(0, 256, 3000).astype(np.uint8) for _ in range(2))
    for _ in range(20):
        zero_points = rng.choice([0, 255, int(rng.integers(256))], 3)
        scales = np.exp2(rng.integers(-7, 0, 3)) if name.startswith("shift") else np.exp(rng.uniform(-5, 0, 3))
        elems = [Affine.per_tensor(U8, s, int(z)) for s, z in zip(scales, zero_points, strict=True)]
        types = [TensorType(a.shape, e) for e in elems[:2]]
        cited = BINARY[op]()
        cited = cited.citing(Arithmetic(name), types, infer_types(cited, types, elems[2]))
        node = node_of(cited, types, elems[2])
        np.testing.assert_array_equal(run_node(node, [a, b], isa), evaluate(node, [a, b]))


def float_sum_unfused(a: Array, b: Array, arrays: Mapping[str, Array], zero_point: Array) -> Array:
    right = (b.astype(np.float32) * arrays["right_ratio"]).astype(np.float32) + arrays["offset"]
    return np.rint(fused_multiply_add(a, arrays["left_ratio"], right))


def float_product_fused(a: Array, b: Array, arrays: Mapping[str, Array], zero_point: Array) -> Array:
    return np.rint(fused_multiply_add(a.astype(np.float64) * b, arrays["ratio"], zero_point))


@pytest.mark.parametrize(
    ("op", "name", "other"),
    [("add", "onnxruntime-add", float_sum_unfused), ("mul", "onnxruntime-mul", float_product_fused)],
    ids=["add", "mul"],
)
def test_float_products_fuse_with_sums_where_they_should(
    op: str, name: str, other: Callable[..., Array], isa: InstructionSet
) -> None:
    """All pairs of operands, with scales for which the other way to round gives another result somewhere."""
    rng = np.random.default_rng(21)
    b, a = (x.reshape(-1).astype(np.uint8) for x in np.meshgrid(np.arange(256), np.arange(256)))
    differing = 0
    for draw in range(40):
        first, second = rng.integers(1, 512, 2) / 512 / [3, 5, 7, 9][draw % 4]
        scales_and_zero_points = ((first, 0), (second, 0), (1.0, 7 * draw % 100))
        elems = [Affine.per_tensor(U8, scale, zero_point) for scale, zero_point in scales_and_zero_points]
        types = [TensorType(a.shape, e) for e in elems[:2]]
        cited = BINARY[op]()
        cited = cited.citing(Arithmetic(name), types, infer_types(cited, types, elems[2]))
        node = node_of(cited, types, elems[2])
        expected = evaluate(node, [a, b])
        np.testing.assert_array_equal(run_node(node, [a, b], isa), expected)
        arrays = cited.constants.arrays()
        rounded_otherwise = np.clip(other(a, b, arrays, np.float32(7 * draw % 100)), 0, 255)
        differing += int(np.count_nonzero(rounded_otherwise != expected))
    assert differing


@pytest.mark.parametrize("rounding", ["half-away", "half-even"])
@pytest.mark.parametrize(("storage", "zero_point"), [(I8, -5), (U8, 255), (I16, 100), (I32, 7)])
def test_quantize(rounding: str, storage: Scalar, zero_point: int, isa: InstructionSet) -> None:
    """Ties, numbers beside them, infinities, and results beyond every format."""
    rng = np.random.default_rng(11)
    largest = np.finfo(np.float32).max
    near = np.nextafter(np.float32(0.5), [np.float32(0), np.float32(1)]).astype(np.float32)
    x = np.concatenate([
        np.arange(-600, 600).astype(np.float32) / 4, near, -near, rng.normal(0, 40, 2000).astype(np.float32),
        np.asarray([np.inf, -np.inf, largest, -largest, 2.0**31, -(2.0**31), 1e-45, -0.0], np.float32),
    ])
    for scale in (1.0, 0.5, 0.1, 1e-30):
        op = Quantize(Arithmetic("affine", (("rounding", rounding),)))
        node = node_of(op, [TensorType(x.shape, F32)], Affine.per_tensor(storage, scale, zero_point))
        np.testing.assert_array_equal(run_node(node, [x], isa), evaluate(node, [x]))


@pytest.mark.parametrize(("storage", "zero_point"), [(I8, -128), (U8, 0), (I16, 3), (I32, 0), (I32, -9)])
def test_dequantize(storage: Scalar, zero_point: int, isa_and_width: tuple[InstructionSet, bool]) -> None:
    isa, scalar = isa_and_width
    rng = np.random.default_rng(12)
    x = rng.integers(storage.minimum, storage.maximum + 1, 999).astype(storage.dtype)
    x[:2] = storage.minimum, storage.maximum
    for scale in (0.1, 3e-39 + np.finfo(np.float32).tiny, 1.7):
        node = node_of(Dequantize(), [TensorType(x.shape, Affine.per_tensor(storage, scale, zero_point))])
        found = run_element(element_of(node), [x], x.shape, np.float32, isa, scalar)
        np.testing.assert_array_equal(found, evaluate(node, [x]))


def test_dequantize_by_channel(isa: InstructionSet) -> None:
    rng = np.random.default_rng(13)
    x = rng.integers(-128, 128, (9, 21)).astype(np.int8)
    scales = rng.uniform(0.01, 1, (1, 21)).astype(np.float32)
    elem = Affine.blocked(I8, scales, rng.integers(-9, 9, (1, 21)), channel_blocks(x.shape, 1))
    node = node_of(Dequantize(), [TensorType(x.shape, elem)])
    np.testing.assert_array_equal(run_node(node, [x], isa), evaluate(node, [x]))


@pytest.mark.parametrize("storage", [I8, U8, I16, I32])
def test_clamp_maximum_and_minimum(storage: Scalar, isa: InstructionSet) -> None:
    rng = np.random.default_rng(14)
    a, b = (rng.integers(storage.minimum, storage.maximum + 1, 300).astype(storage.dtype) for _ in range(2))
    type = TensorType(a.shape, Affine.per_tensor(storage, 0.5, 3))
    low, high = int(np.quantile(a, 0.2)), int(np.quantile(a, 0.8))
    clamp = node_of(Clamp(minimum=low, maximum=high), [type])
    assert {low, high} <= set(evaluate(clamp, [a]).tolist())
    np.testing.assert_array_equal(run_node(clamp, [a], isa), evaluate(clamp, [a]))
    for op in (Maximum(), Minimum()):
        node = node_of(op, [type, type])
        np.testing.assert_array_equal(run_node(node, [a, b], isa), evaluate(node, [a, b]))


@pytest.mark.parametrize(
    ("source", "to"), [(I32, I8), (I64, U8), (I64, I32), (I8, I64), (U8, F32), (I64, F32), (F32, I32), (F32, U8)]
)
def test_cast(source: Scalar, to: Scalar, isa: InstructionSet) -> None:
    """Integers keep their low bits, floats truncate."""
    rng = np.random.default_rng(15)
    if source.is_float:
        x = rng.uniform(0, 256, 500).astype(np.float32)
    else:
        x = rng.integers(source.minimum, source.maximum, 500).astype(source.dtype)
    node = node_of(Cast(to=to), [TensorType(x.shape, source)])
    np.testing.assert_array_equal(run_node(node, [x], isa), evaluate(node, [x]))


def test_cast_of_an_unknown_format_names_the_layer() -> None:
    node = node_of(Cast(to=BF16), [TensorType((3,), F32)])
    node.loc = ("narrow",)
    with pytest.raises(QCompilerError, match="cannot cast this format") as raised:
        element_of(node)
    assert raised.value.layer == "narrow"


def test_averages_of_windows_whose_sums_leave_float32(isa: InstructionSet) -> None:
    cells = 140001
    op = AveragePool2D(kernel=(1, cells), layout="NHWC", arithmetic=Arithmetic("average-half-away"))
    output = Affine.per_tensor(I8, 0.1)
    sums = (np.arange(-127, 127)[:, None] * cells + cells // 2 + np.arange(-2, 3)).reshape(-1).astype(np.int32)
    node = node_of(op, [TensorType((1, sums.size, cells, 1), output)])
    found = run_element(element_of(node, "tvm-sums"), [sums.reshape(1, -1, 1, 1)], (1, sums.size, 1, 1), np.int8, isa)
    expected = [(abs(s) + cells // 2) // cells * (1 if s > 0 else -1) for s in sums.tolist()]
    np.testing.assert_array_equal(found.reshape(-1), expected)


def test_averages_count_only_the_cells_within_the_input(isa: InstructionSet) -> None:
    rng = np.random.default_rng(16)
    x = rng.integers(-128, 128, (1, 7, 9, 5)).astype(np.int8)
    op = AveragePool2D(
        kernel=(3, 4), strides=(2, 2), pads=(1, 2, 2, 1), layout="NHWC", arithmetic=Arithmetic("average-half-away")
    )
    node = node_of(op, [TensorType(x.shape, Affine.per_tensor(I8, 0.1, 3, -100, 100))])
    sums = op.padded_windows(x, 0).sum((-1, -2), dtype=np.int32)
    found = run_element(element_of(node, "tvm-sums"), [sums], sums.shape, np.int8, isa)
    np.testing.assert_array_equal(found, evaluate(node, [x]))
