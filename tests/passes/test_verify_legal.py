"""verify-legal refuses every p' that is not what it says, or not what the target can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import models
import numpy as np
import pytest
from float_programs import FloatProgram, N

import qcompiler
from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    Affine,
    Arithmetic,
    Builder,
    ConstantArray,
    Constants,
    Graph,
    Node,
    TensorType,
    Untraced,
    Value,
    clone,
    structural_hash,
    verify,
    walk,
)
from qcompiler.ir.scalar import F32, I8, I16, I32
from qcompiler.ops.activation import Relu
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Quantize, Requantize
from qcompiler.ops.table import LookupTable
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import Target, load_target

REALIZED = "simplify,legalize,simplify,annotate,calibrate,realize,fold-constants,dce"


@cache
def _compiled(name: str, pipeline: str | None) -> Graph:
    return qcompiler.compile(
        models.model(name), target="tpu-int8", data=models.samples(name, 6), pipeline=pipeline
    ).graph


def legal(name: str, fused: bool = True) -> Graph:
    """A legal p' to spoil."""
    return clone(_compiled(name, None if fused else REALIZED))


def prove(graph: Graph, target: Target | None = None) -> None:
    Pipeline.parse("verify-legal").run(graph, Context(target or load_target("tpu-int8")))


def nodes(graph: Graph, name: str) -> Iterator[Node]:
    """Nodes of one op, those in kernels included."""
    return (node for node in walk(graph) if node.op.name == name)


def first(graph: Graph, name: str) -> Node:
    return next(nodes(graph, name))


@pytest.mark.parametrize("name", models.MODELS)
@pytest.mark.parametrize("fused", [False, True])
def test_compiled_models_are_legal(name: str, fused: bool) -> None:
    graph = legal(name, fused)
    before = structural_hash(graph)
    prove(graph)
    graph.pipeline = graph.pipeline.removesuffix(",verify-legal")
    assert structural_hash(graph) == before or fused


Spoil = Callable[[Graph], object]


def _set_type(value: Value, elem: object) -> None:
    value.type = TensorType(value.type.shape, elem)  # type: ignore[arg-type]


def _rescaled(elem: object, factor: float = 2.0) -> Affine:
    assert isinstance(elem, Affine)
    return Affine(
        elem.storage, ConstantArray(elem.scale.array * np.float32(factor)), elem.zero_point, elem.blocks, elem.qmin,
        elem.qmax,
    )


def float_op(graph: Graph) -> None:
    """A relu on real numbers behind a dequantize."""
    output = graph.outputs[0]
    real = Builder(graph, loc=("smuggled",))(Relu(), output.value)
    graph.set_outputs([(output.name, real), *((o.name, o.value) for o in graph.outputs[1:])])


def float_op_before_quantize(graph: Graph) -> None:
    quantize = first(graph, "quantize")
    quantize.set_operand(0, Builder(graph, quantize, ("smuggled",))(Relu(), quantize.operands[0]))


def float_op_in_a_kernel(graph: Graph) -> None:
    body = Graph("body")
    output = graph.outputs[0]
    inside = body.add_input("0", output.value.type)
    body.set_outputs([("0", Builder(body, loc=("smuggled",))(Relu(), inside))])
    real = Builder(graph, loc=("smuggled",))(Fused(body), output.value)
    graph.set_outputs([(output.name, real)])


def float_op_in_a_kernel_in_a_kernel(graph: Graph) -> None:
    """An illegal table in a kernel within a kernel."""
    value = first(graph, "quantize").result
    table = LookupTable(ConstantArray(np.zeros(256, np.int16)))
    outer, inner = Graph("body"), Graph("body")
    entry = Builder(inner)(table, inner.add_input("0", value.type), elem=Affine.per_tensor(I16, 1.0))
    inner.set_outputs([("0", entry)])
    outer.set_outputs([("0", Builder(outer)(Fused(inner), outer.add_input("0", value.type)))])
    Builder(graph, loc=("smuggled",))(Fused(outer), value)


def dead_float_op(graph: Graph) -> None:
    Builder(graph, next(graph.nodes), ("smuggled",))(Relu(), graph.inputs[0])


def real_output_of_a_real_input(graph: Graph) -> None:
    dequantize = first(graph, "dequantize")
    Builder(graph, loc=("smuggled",))(Quantize(Arithmetic.parse("affine{rounding=half-away}")), dequantize.result,
        elem=dequantize.operands[0].type.elem)


def renamed_storage(graph: Graph) -> None:
    """Weights claimed to be i8 that are stored as int32."""
    node = next(n for n in graph.nodes if isinstance(n.op, Constant) and n.op.value.array.dtype == np.int8)
    assert isinstance(node.op, Constant)
    node.set_op(Constant(ConstantArray(node.op.value.array.astype(np.int32) * 1000)))


def weight_outside_its_range(graph: Graph) -> None:
    node = next(n for n in graph.nodes if isinstance(n.op, Constant) and n.op.value.array.dtype == np.int8)
    assert isinstance(node.op, Constant)
    array = node.op.value.array.copy()
    array.reshape(-1)[0] = -128
    node.set_op(Constant(ConstantArray(array)))


def wider_weight_range(graph: Graph) -> None:
    """Weights whose type admits -128, which the target's does not."""
    for node in walk(graph):
        if isinstance(node.op, Contraction):
            elem = node.operands[1].type.elem
            assert isinstance(elem, Affine)
            _set_type(node.operands[1], Affine(elem.storage, elem.scale, elem.zero_point, elem.blocks, -128, 127))
            if node.operands[1].producer is None:
                continue
            return


def activation_of_i16(graph: Graph) -> None:
    for node in nodes(graph, "requantize"):
        elem = node.result.type.elem
        assert isinstance(elem, Affine)
        _set_type(node.result, Affine(I16, elem.scale, elem.zero_point, (), -32768, 32767))


def scale_of_a_result(graph: Graph) -> None:
    node = first(graph, "requantize")
    _set_type(node.result, _rescaled(node.result.type.elem))


def scale_of_an_accumulator(graph: Graph) -> None:
    node = next(n for n in walk(graph) if isinstance(n.op, Contraction))
    _set_type(node.result, _rescaled(node.result.type.elem))


def scale_of_a_bias(graph: Graph) -> None:
    node = next(n for n in walk(graph) if isinstance(n.op, Contraction) and len(n.operands) == 3)
    _set_type(node.operands[2], _rescaled(node.operands[2].type.elem))


def scale_of_a_quantize(graph: Graph) -> None:
    node = first(graph, "quantize")
    _set_type(node.result, _rescaled(node.result.type.elem))


def zero_point_of_a_result(graph: Graph) -> None:
    """A zero point changed behind a tied op."""
    node = first(graph, "max_pool2d")
    elem = node.result.type.elem
    assert isinstance(elem, Affine)
    _set_type(node.result, Affine.per_tensor(I8, float(elem.scale.array), int(elem.zero_point.array) + 1))


def _spoil_constant(graph: Graph, name: str, key: str, by: int) -> None:
    node = first(graph, name)
    arrays = node.op.attributes()["constants"].arrays()
    array = arrays[key].copy()
    array.reshape(-1)[-1] += by
    node.set_op(node.op.replace(constants=Constants({**arrays, key: array})))


def without_constants(graph: Graph) -> None:
    node = first(graph, "requantize")
    node.set_op(node.op.replace(constants=Constants()))


def swapped_arithmetic(graph: Graph) -> None:
    """The rounding of other kernels, with the constants that it has."""
    node = first(graph, "requantize")
    node.set_op(node.op.replace(arithmetic=Arithmetic("ruy")))


def swapped_quantize(graph: Graph) -> None:
    first(graph, "quantize").set_op(Quantize(Arithmetic.parse("affine{rounding=half-even}")))


def swapped_add(graph: Graph) -> None:
    node = first(graph, "add")
    types, results = [v.type for v in node.operands], [v.type for v in node.results]
    node.set_op(node.op.citing(Arithmetic.parse("litert-add{shift=15}"), types, results))  # type: ignore[attr-defined]


def no_arithmetic(graph: Graph) -> None:
    node = first(graph, "add")
    node.set_op(node.op.replace(arithmetic=None, constants=Constants()))


def _computed(graph: Graph, index: int) -> None:
    """A contraction whose weights or bias are an input of the program."""
    node = next(n for n in graph.nodes if isinstance(n.op, Contraction))
    value = node.operands[index]
    node.set_operand(index, graph.add_input(f"stream{index}", value.type))


def computed_weights(graph: Graph) -> None:
    _computed(graph, 1)


def computed_bias(graph: Graph) -> None:
    _computed(graph, 2)


def weights_fed_into_a_kernel(graph: Graph) -> None:
    node = next(n for n in graph.nodes if isinstance(n.op, Fused) and isinstance(next(n.op.body.nodes).op, Contraction))
    node.set_operand(1, graph.add_input("stream", node.operands[1].type))


def illegal_attribute(graph: Graph) -> None:
    node = first(graph, "softmax")
    node.set_op(node.op.replace(axis=0))


def kernel_of_two_contractions(graph: Graph) -> None:
    """A kernel that goes on behind its requantize with an op that the descriptor does not let end one."""
    fused = next(n for n in graph.nodes if isinstance(n.op, Fused))
    assert isinstance(fused.op, Fused)
    body = clone(fused.op.body)
    result = body.outputs[0].value
    table = LookupTable(ConstantArray(np.arange(-128, 128).astype(np.int8)))
    body.set_outputs([("0", Builder(body, loc=("smuggled",))(table, result, elem=result.type.elem))])
    fused.set_op(Fused(body))


def table_of_another_type(graph: Graph) -> None:
    node = first(graph, "lut")
    assert isinstance(node.op, LookupTable)
    node.set_op(node.op.replace(table=ConstantArray(node.op.table.array.astype(np.int16))))


SPOILED: list[tuple[Spoil, str, bool]] = [
    (float_op, "residual_cnn", True), (float_op_before_quantize, "residual_cnn", True),
    (float_op_in_a_kernel, "residual_cnn", True), (float_op_in_a_kernel_in_a_kernel, "residual_cnn", True),
    (dead_float_op, "residual_cnn", True), (real_output_of_a_real_input, "residual_cnn", True),
    (renamed_storage, "residual_cnn", True), (weight_outside_its_range, "residual_cnn", True),
    (wider_weight_range, "residual_cnn", False), (activation_of_i16, "residual_cnn", True),
    (scale_of_a_result, "residual_cnn", True), (scale_of_a_result, "residual_cnn", False),
    (scale_of_an_accumulator, "residual_cnn", True), (scale_of_an_accumulator, "residual_cnn", False),
    (scale_of_a_bias, "residual_cnn", False), (scale_of_a_quantize, "residual_cnn", True),
    (zero_point_of_a_result, "pooling_net", True),
    (lambda g: _spoil_constant(g, "requantize", "multiplier", 1), "residual_cnn", True),
    (lambda g: _spoil_constant(g, "requantize", "multiplier", -1), "residual_cnn", False),
    (lambda g: _spoil_constant(g, "requantize", "shift", 1), "residual_cnn", True),
    (lambda g: _spoil_constant(g, "mean", "multiplier", 1), "residual_cnn", True),
    (without_constants, "residual_cnn", True),
    (swapped_arithmetic, "residual_cnn", True), (swapped_quantize, "residual_cnn", True),
    (swapped_add, "residual_cnn", True), (no_arithmetic, "residual_cnn", True),
    (computed_weights, "residual_cnn", False), (computed_bias, "residual_cnn", False),
    (weights_fed_into_a_kernel, "residual_cnn", True), (illegal_attribute, "branching_net", True),
    (kernel_of_two_contractions, "residual_cnn", True), (table_of_another_type, "branching_net", True),
]


@pytest.mark.parametrize(("spoil", "name", "fused"), SPOILED, ids=lambda v: getattr(v, "__name__", str(v)))
def test_spoiled_programs_are_refused(spoil: Spoil, name: str, fused: bool) -> None:
    graph = legal(name, fused)
    before = structural_hash(graph)
    spoil(graph)
    assert structural_hash(graph) != before
    with pytest.raises(QCompilerError):
        prove(graph)


def test_the_error_names_layer_constraint_and_found() -> None:
    graph = legal("residual_cnn")
    node = first(graph, "requantize")
    _spoil_constant(graph, "requantize", "multiplier", 1)
    with pytest.raises(QCompilerError, match="requantize is not legal on target 'tpu-int8'") as caught:
        prove(graph)
    assert caught.value.layer == node.layer
    assert "multiplier must follow from the scales" in str(caught.value.expected)


def product(terms: int, weight: int, bias: int, zero_point: int) -> Graph:
    """x @ w + b on integers, requantized; every weight is ``weight``."""
    graph = Graph()
    x = graph.add_input("x", TensorType((N, terms), F32))
    build = Builder(graph, loc=("fc",))
    q = build(
        Quantize(Arithmetic.parse("affine{rounding=half-away}")), x, elem=Affine.per_tensor(I8, 0.5, zero_point)
    )
    weights = build(
        Constant(ConstantArray(np.full((terms, 1), weight, np.int8))), elem=Affine.per_tensor(I8, 0.25, 0, -127, 127)
    )
    op = Matmul()
    elem = op.accumulator([q.type, weights.type], (N, 1), I32)
    b = build(
        Constant(ConstantArray(np.array([bias], np.int32))),
        elem=op.accumulator([q.type, weights.type], (N, 1), I32, of_bias=True),
    )
    sums = build(op, q, weights, b, elem=elem)
    result = Affine.per_tensor(I8, 1024.0, 0)
    requantize = Requantize(Arithmetic("double"))
    constants = Constants(requantize.form().constants([q.type.elem.scale.array, weights.type.elem.scale.array],  # type: ignore[union-attr]
        result.scale.array))
    graph.set_outputs([("y", build(requantize.replace(constants=constants), sums, elem=result))])
    verify(graph)
    return graph


LARGEST = 2**31 - 1


@pytest.mark.parametrize("zero_point", [0, -128, 127])
@pytest.mark.parametrize("sign", [1, -1])
def test_accumulators_that_can_overflow_are_refused(zero_point: int, sign: int) -> None:
    """At the limit it is legal, one beyond it is not."""
    reach, direction = max((127 - zero_point, 1), (zero_point + 128, -1))
    weight, products = 127 * sign * direction, 1000 * 127 * reach
    prove(product(1000, weight, sign * (LARGEST - products), zero_point))
    # The requantize takes no -2**31, which the accumulator would hold.
    beyond = LARGEST + 1 if sign > 0 else LARGEST + 2
    with pytest.raises(QCompilerError, match="layer 'fc'") as caught:
        prove(product(1000, weight, sign * (beyond - products), zero_point))
    assert "32 bits" in str(caught.value.expected)
    assert f"{sign * beyond}" in str(caught.value.found)
    assert "1 bits too many" in str(caught.value.found)


def test_accumulator_bounds_are_reached() -> None:
    """The bound is the largest magnitude: some partial sum reaches it, and none exceeds it."""
    rng = np.random.default_rng(5)
    for zero_point in (-128, -3, 127):
        graph = product(9, 1, 77, zero_point)
        node = next(n for n in graph.nodes if isinstance(n.op, Contraction))
        constant = node.operands[1].producer
        assert constant is not None
        weights = rng.integers(-127, 128, (9, 1)).astype(np.int8)
        constant.set_op(Constant(ConstantArray(weights)))
        bound = int(accumulator_bounds(node).max())
        extremes = [np.where(weights[:, 0] > 0, high, low) - zero_point for high, low in ((127, -128), (-128, 127))]
        most, least = (int(np.int64(q) @ weights[:, 0].astype(np.int64)) for q in extremes)
        # The least sum is reached before the bias is added.
        assert bound == max(most + 77, -least)


def with_accumulator(**changes: object) -> Target:
    descriptor = load_target("tpu-int8").descriptor
    limits = descriptor.limits
    changed = limits.model_copy(update={"accumulator": limits.accumulator.model_copy(update=changes)})
    return Target(descriptor.model_copy(update={"limits": changed}))


def test_narrow_accumulators() -> None:
    graph = product(1000, 127, 0, 0)
    with pytest.raises(QCompilerError, match="layer 'fc'") as caught:
        prove(graph, with_accumulator(bits=20))
    # 1000 * 127 * 128 = 16,256,000 needs 25 bits with its sign.
    assert "5 bits too many" in str(caught.value.found)
    with pytest.raises(QCompilerError, match="layer 'fc'"):
        prove(graph, with_accumulator(bits=24))
    prove(graph, with_accumulator(bits=25))


@pytest.mark.parametrize("overflow", ["forbidden", "saturate", "wrap"])
def test_whatever_happens_on_overflow_there_is_none(overflow: str) -> None:
    with pytest.raises(QCompilerError, match="layer 'fc'") as caught:
        prove(product(1000, 127, 0, 0), with_accumulator(bits=24, overflow=overflow))
    assert "1 bits too many" in str(caught.value.found)
    prove(product(1000, 127, 0, 0), with_accumulator(bits=25, overflow=overflow))


def test_an_accumulator_that_wraps_has_to_hold_the_whole_sum_alone() -> None:
    """Products of 26 bits, and a bias that takes half of their range away."""
    products = 1000 * 127 * 255
    assert 2**24 < products < 2**25
    shifted = product(1000, 127, -products // 2, -128)
    for overflow, legal in (("wrap", True), ("saturate", False)):
        target = with_accumulator(bits=25, overflow=overflow)
        if legal:
            prove(shifted, target)
        else:
            with pytest.raises(QCompilerError, match="result would depend on the order of summation"):
                prove(shifted, target)


def test_a_float_program_is_not_legal() -> None:
    p = FloatProgram()
    with pytest.raises(QCompilerError, match="layer 'act'"):
        prove(p.finish(p(Relu(), p.input(N, 4), layer="act")))


def test_unproduced_values_are_refused() -> None:
    """A value whose producer stands in no graph."""
    graph = legal("residual_cnn")
    quantize = first(graph, "quantize")
    stray = Value(quantize.operands[0].type, Untraced("stray"))
    quantize.set_operand(0, stray)
    with pytest.raises(QCompilerError):
        prove(graph)
