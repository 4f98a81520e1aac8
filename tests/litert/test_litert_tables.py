"""Tables against LiteRT's LOGISTIC, TANH, GELU, ELU and EXP: all 256 inputs of each case.

Of the functions that may become a table here, these have an int8 table in LiteRT: sigmoid (LOGISTIC), tanh (TANH),
gelu (GELU), exp (EXP), and elu with alpha 1 (ELU). leaky_relu, hard_swish and relu have int8 kernels that are no
tables. The other functions are compared with nothing here.

LiteRT fills its tables with the C library's float32 functions when a model is loaded, so a table may vary between
machines by a near tie: glibc 2.36's ``tanhf`` is off by one unit in the last place at one of about 100,000 inputs,
and the table with it. The seeds below hit none of these.
"""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import OpResolverType

from litert.tflite_model import Operator
from litert.witness import SCALES, Program, Rng, Scales, assert_equals_litert, int8, seeds
from qcompiler import numerics
from qcompiler.ir import Affine, ConstantArray, TensorType
from qcompiler.ir.scalar import I8
from qcompiler.ops.activation import Elu, Exp, Gelu, Sigmoid, Tanh, UnaryFunction
from qcompiler.ops.quantized import tensor_parameters
from qcompiler.ops.table import LookupTable


def assert_table_equals_litert(
    function: UnaryFunction,
    operator: Operator,
    source: Affine,
    result: Affine,
    resolver: OpResolverType = OpResolverType.BUILTIN_REF,
) -> None:
    type = TensorType((256,), source)
    table = numerics.tabulate(
        function.tabulated, tensor_parameters(type), tensor_parameters(TensorType((), result)), -128, 127
    )
    program = Program()
    x = program.input(type, np.arange(-128, 128, dtype=np.int8))
    lookup = LookupTable(ConstantArray(table.astype(np.int8)), function.name)
    assert_equals_litert(program, program.build(lookup, x, elem=result), operator, resolver=resolver)


def free_result(rng: Rng, scales: Scales) -> Affine:
    return int8(rng, scales.draw(rng))


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_logistic(scales: Scales) -> None:
    for rng in seeds(24):
        result = Affine.per_tensor(I8, 1 / 256, -128)
        assert_table_equals_litert(Sigmoid(), Operator("LOGISTIC", 2), int8(rng, scales.draw(rng)), result)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_tanh(scales: Scales) -> None:
    for rng in seeds(24):
        result = Affine.per_tensor(I8, 1 / 128, 0)
        assert_table_equals_litert(Tanh(), Operator("TANH", 2), int8(rng, scales.draw(rng)), result)


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str, scales: Scales) -> None:
    operator = Operator("GELU", 2, "Gelu", {"approximate": approximate == "tanh"})
    for rng in seeds(24):
        source, result = int8(rng, scales.draw(rng)), free_result(rng, scales)
        assert_table_equals_litert(Gelu(approximate), operator, source, result)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_exp(scales: Scales) -> None:
    for rng in seeds(24):
        source, result = int8(rng, scales.draw(rng)), free_result(rng, scales)
        assert_table_equals_litert(Exp(), Operator("EXP", 2, "Exp"), source, result)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_elu(scales: Scales) -> None:
    """The reference resolver lacks ELU; the other resolvers hold the one kernel that LiteRT has for it."""
    for rng in seeds(24):
        source, result = int8(rng, scales.draw(rng)), free_result(rng, scales)
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        assert_table_equals_litert(Elu(), Operator("ELU", 1), source, result, resolver)


def test_rounding_the_logistic_once_gives_another_table() -> None:
    """The float32 steps of ``Sigmoid.tabulated`` matter; were this to pass with ``real`` they could go."""
    source = tensor_parameters(TensorType((), Affine.per_tensor(I8, 2**-7, 0)))
    result = tensor_parameters(TensorType((), Affine.per_tensor(I8, 1 / 256, -128)))
    once, stepwise = (
        numerics.tabulate(f, source, result, -128, 127) for f in (Sigmoid().real, Sigmoid().tabulated)
    )
    assert (once != stepwise).any()
