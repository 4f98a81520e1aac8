"""verify-legal: numbers inside an arithmetic, the program's boundary, layouts, ranks, ranges, shapes of kernels."""

from __future__ import annotations

import numpy as np
import pytest
from float_programs import FloatProgram, N

from qcompiler import compile, plugins
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Arithmetic, Builder, Graph, Scalar, TensorType, Value
from qcompiler.ir.builder import infer_types
from qcompiler.ir.scalar import F32, F64, I8, I32, I64, U16
from qcompiler.ops.activation import Clip
from qcompiler.ops.binary import Mul
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.quantization import Clamp, Dequantize, Quantize, Requantize
from qcompiler.ops.quantized import ArithmeticOp
from qcompiler.ops.reduction import Mean
from qcompiler.ops.shape import Reshape
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import Target, load_target

plugins.load()
AFFINE = Arithmetic.parse("affine{rounding=half-away}")


def int8(scale: float = 0.1, zero_point: int = 3) -> Affine:
    return Affine.per_tensor(I8, scale, zero_point)


class IntegerProgram:
    """A program of int8 values between a quantize and a dequantize."""

    def __init__(self, *shape: object, elem: Affine | None = None) -> None:
        self.graph = Graph("case")
        self.build = Builder(self.graph, loc=("layer",))
        source = self.graph.add_input("x", TensorType(shape or (N, 4), F32))  # type: ignore[arg-type]
        self.x = self.build(Quantize(AFFINE), source, elem=elem or int8())

    def cited(self, op: ArithmeticOp, citation: str, elem: Affine, *operands: Value) -> Value:
        types = [v.type for v in operands]
        return self.build(
            op.citing(Arithmetic.parse(citation), types, infer_types(op, types, elem)), *operands, elem=elem
        )

    def prove(self, value: Value) -> None:
        self.graph.set_outputs([("y", self.build(Dequantize(), value))])
        Pipeline.parse("verify-legal").run(self.graph, Context(load_target("tpu-int8")))


@pytest.mark.parametrize(("scale", "legal"), [(1e-2, True), (1e-9, False)])
def test_a_product_that_is_shifted_out_of_32_bits(scale: float, legal: bool) -> None:
    p = IntegerProgram()
    product = p.cited(Mul(), "litert-mul", int8(scale), p.x, p.x)
    if legal:
        p.prove(product)
    else:
        with pytest.raises(QCompilerError, match="the product of litert-mul must not overflow"):
            p.prove(product)


@pytest.mark.parametrize(("size", "legal"), [(512, True), (4096, False)])
def test_a_sum_that_leaves_32_bits(size: int, legal: bool) -> None:
    p = IntegerProgram(N, size, size)
    mean = p.cited(Mean((1, 2), False), "litert-mean", int8(), p.x)
    if legal:
        p.prove(mean)
    else:
        with pytest.raises(QCompilerError, match="the sum of litert-mean must not overflow"):
            p.prove(mean)


@pytest.mark.parametrize(("scale", "legal"), [(1e-3, True), (1e-10, False)])
def test_a_requantize_that_shifts_its_operand_out_of_32_bits(scale: float, legal: bool) -> None:
    p = IntegerProgram()
    op = Requantize(Arithmetic("double"))
    elem = int8(scale)
    constants = op.form().constants([int8().scale.array], elem.scale.array)
    result = p.build(op.replace(constants=type(op.constants)(constants)), p.x, elem=elem)
    if legal:
        p.prove(result)
    else:
        with pytest.raises(QCompilerError, match="operands of double must fit its register"):
            p.prove(result)


@pytest.mark.parametrize(
    ("form", "terms", "legal"), [("single", 512, True), ("single", 8192, False), ("i64", 8192, True)]
)
def test_a_requantize_whose_product_leaves_64_bits(form: str, terms: int, legal: bool) -> None:
    """``single`` multiplies by 31 bits: a sum of 16-bit numbers of more than 32 does not fit beside them."""
    descriptor = load_target("tpu-int16x8").descriptor
    row = descriptor.ops["requantize"].model_copy(update={"arithmetic": form})
    target = Target(descriptor.model_copy(update={"ops": {**descriptor.ops, "requantize": row}}))
    program = FloatProgram()
    weights = program.constant(np.ones((terms, 3), np.float32))
    program.finish(program(Matmul(), program.input(N, terms), weights))
    data = {"x": np.random.default_rng(0).normal(0, 1, (8, terms)).astype(np.float32)}
    if legal:
        extreme = {"x": np.full((1, terms), 1e9, np.float32)}
        run = compile(program.graph, target=target, data=data, native=False).run(extreme, quantized=True)
        assert all((output == 32767).all() for output in run.values())
    else:
        with pytest.raises(QCompilerError, match="operands of single must fit its register"):
            compile(program.graph, target=target, data=data, native=False)


@pytest.mark.parametrize(
    ("elem", "legal"),
    [
        (F32, True), (I64, True), (int8(), True), (F64, False), (Affine.per_tensor(U16, 0.1), False),
        (Affine.per_tensor(I32, 0.1), False), (Affine.per_tensor(I8, 0.1, 0, -3, 5), False),
    ],
    ids=str,
)
def test_only_the_targets_types_pass_its_boundary(elem: Scalar | Affine, legal: bool) -> None:
    graph = Graph("case")
    graph.set_outputs([("y", graph.add_input("x", TensorType((N, 4), elem)))])
    run = Pipeline.parse("verify-legal").run
    if legal:
        run(graph, Context(load_target("tpu-int8")))
    else:
        with pytest.raises(QCompilerError, match="an input or output is not legal"):
            run(graph, Context(load_target("tpu-int8")))


@pytest.mark.parametrize(("layout", "legal"), [("NHWC", True), ("NCHW", False)])
def test_layout(layout: str, legal: bool) -> None:
    p = IntegerProgram(N, 4, 4, 4)
    pooled = p.build(MaxPool2D((2, 2), layout=layout), p.x)
    if legal:
        p.prove(pooled)
    else:
        with pytest.raises(QCompilerError, match="layout of max_pool2d must be NHWC"):
            p.prove(pooled)


def test_rank_of_results_counts() -> None:
    p = IntegerProgram(N, 4)
    with pytest.raises(QCompilerError, match="rank at most 6"):
        p.prove(p.build(Reshape((N, 1, 1, 1, 1, 1, 4)), p.x))


def test_a_result_that_limits_integers_in_secret() -> None:
    elem = int8()
    narrow = Affine.per_tensor(I8, 0.1, 3, -3, 5)
    p = IntegerProgram(elem=elem)
    op = Requantize(Arithmetic("double"))
    constants = op.form().constants([elem.scale.array], narrow.scale.array)
    with pytest.raises(QCompilerError, match=r"keeps integers within \[-128, 127\], not \[-3,5\]"):
        p.prove(p.build(op.replace(constants=type(op.constants)(constants)), p.x, elem=narrow))


def test_a_kernel_is_a_chain() -> None:
    p = IntegerProgram()
    body = Graph("body")
    inside = body.add_input("0", p.x.type)
    build = Builder(body)
    first, second = build(Clamp(-5, 5), inside), build(Clamp(-9, 9), inside)
    body.set_outputs([("0", first), ("1", second)])
    with pytest.raises(QCompilerError, match="takes in the one before it"):
        p.prove(p.build.create(Fused(body), [p.x]).results[0])


def test_a_kernel_is_not_empty() -> None:
    p = IntegerProgram()
    body = Graph("body")
    body.set_outputs([("0", body.add_input("0", p.x.type))])
    with pytest.raises(QCompilerError, match="holds ops, and no other kernel"):
        p.prove(p.build(Fused(body), p.x))


@pytest.mark.parametrize("form", ["double", "ruy", "i64", "float-rne"])
def test_a_kernel_that_begins_with_a_requantize(form: str) -> None:
    """Where only clamp may end a kernel, it joins the requantize: the accumulator then stands outside of the kernel."""
    base = "tpu-int16x8" if form == "i64" else "tpu-int8"
    descriptor = load_target(base).descriptor
    row = descriptor.ops["requantize"].model_copy(update={"arithmetic": form, "fuse": False})
    target = Target(descriptor.model_copy(update={"ops": {**descriptor.ops, "requantize": row}}))
    p = FloatProgram()
    p.finish(p(Clip(-1.0, 1.0), p(Matmul(), p.input(N, 40), p.normal(40, 16))))
    data = {"x": np.random.default_rng(1).normal(0, 1, (8, 40)).astype(np.float32)}
    program = compile(p.graph, target=target, data=data, native=False)
    kernels = [[part.op.name for part in n.op.body.nodes] for n in program.graph.nodes if isinstance(n.op, Fused)]
    assert kernels == [["requantize", "clamp"]]
