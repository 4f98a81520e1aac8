"""Activations of 16 bits: what the passes make for tpu-int16x8 and hexagon-u16a8w."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from float_programs import FloatProgram, N, op_names, random_feeds

import qcompiler
from qcompiler.backends import reference
from qcompiler.compare import sqnr_db
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Graph, OpTypeError, TensorType, Value, walk
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.scalar import I16, I32, I64, U16
from qcompiler.numerics.interpolated_table import INTERPOLATED_ENTRIES, LARGEST_SLOPE
from qcompiler.ops.activation import Gelu, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.contraction import Contraction, Conv2D, Matmul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.reduction import Mean
from qcompiler.ops.table import LookupTable

TARGETS = {"tpu-int16x8": I16, "hexagon-u16a8w": U16}
every_target = pytest.mark.parametrize("target", sorted(TARGETS))


def every_kind_of_layer() -> Graph:
    """A graph with all arithmetic on activations that the two targets have."""
    p = FloatProgram()
    x = p.input(N, 3, 8, 8)
    y = p(Relu(), p(Conv2D(pads=(1, 1, 1, 1)), x, p.normal(8, 3, 3, 3), p.normal(8)))
    y = p(Add(), y, p(Sigmoid(), y))
    y = p(Sub(), y, p(Tanh(), p(Conv2D(groups=8), y, p.normal(8, 1, 1, 1))))
    y = p(Mul(), y, p(Gelu(), y))
    y = p(Mean((2, 3), False), p(AveragePool2D((2, 2), (2, 2)), y))
    return p.finish(p(Softmax(-1), p(Matmul(), y, p.normal(8, 5), p.normal(5))))


@every_target
def test_every_kind_of_layer(target: str) -> None:
    """All run on the target, and next to nothing is lost but by the weights, which are exact here but for rounding."""
    graph = every_kind_of_layer()
    feeds = random_feeds(graph, 32)
    program = qcompiler.compile(graph, target=target, data=feeds, native=False)
    assert program.coverage.host_nodes == 0
    storages = {
        v.type.storage for n in walk(program.graph) if not isinstance(n.op, Contraction) and n.op.name != "constant"
        for v in n.results if isinstance(v.type.elem, Affine)
    }
    assert storages == {TARGETS[target]}
    assert {n.result.type.storage for n in walk(program.graph) if isinstance(n.op, Contraction)} == {I64}
    real, found = reference.run(graph, feeds)["y0"], program.run(feeds)["y0"]
    eight = qcompiler.compile(graph, target="tpu-int8", data=feeds, native=False)
    assert sqnr_db(real, found) > 40
    assert sqnr_db(real, found) > sqnr_db(real, eight.run(feeds)["y0"]) + 6


@every_target
def test_functions_are_interpolated_to_a_few_steps(target: str) -> None:
    p = FloatProgram()
    graph = p.finish(p(Tanh(), p.input(N, 1)))
    data = np.linspace(-3, 3, 64, dtype=np.float32).reshape(-1, 1)
    program = qcompiler.compile(graph, target=target, data={"x": data}, native=False)
    (node,) = (n for n in walk(program.graph) if isinstance(n.op, LookupTable))
    assert isinstance(node.op, LookupTable)
    assert node.op.table.shape == (INTERPOLATED_ENTRIES,)
    x = np.random.default_rng(0).uniform(-3, 3, (4000, 1)).astype(np.float32)
    # A step of the input at slope 1, and some of the result: both ranges are twice what calibration saw.
    np.testing.assert_allclose(program.run({"x": x})["y0"], np.tanh(x), atol=12 / 65535 + 4 * 4 / 65535)


@every_target
def test_what_exceeds_the_data_by_less_than_the_margin_is_not_cut_off(target: str) -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 1)))
    data = {"x": np.linspace(-1, 1, 9, dtype=np.float32).reshape(-1, 1)}
    beyond = {"x": np.array([[1.9], [30.0]], np.float32)}
    program = qcompiler.compile(graph, target=target, data=data, native=False)
    found = program.run(beyond)["y0"].reshape(-1)
    assert abs(found[0] - 1.9) < 1e-3
    assert abs(found[1] - 2.0) < 1e-3
    pipeline = "simplify,legalize,annotate,calibrate{margin=1.0},realize,fuse-requantize,dce,verify-legal"
    tight = qcompiler.compile(graph, target=target, data=data, native=False, pipeline=pipeline)
    assert np.abs(tight.run(beyond)["y0"] - 1.0).max() < 1e-3


def test_the_margin_is_for_formats_with_steps_to_spare() -> None:
    p = FloatProgram()
    graph = p.finish(p(Relu(), p.input(N, 1)))
    data = {"x": np.linspace(-1, 1, 9, dtype=np.float32).reshape(-1, 1)}
    program = qcompiler.compile(graph, target="tpu-int8", data=data, native=False)
    assert program.run({"x": np.array([[1.9]], np.float32)})["y0"] == pytest.approx(1.0, abs=0.01)


def test_a_product_of_unsigned_numbers_needs_the_wide_form(tmp_path: Path) -> None:
    """verify-legal counts the bits of (a - za) * (b - zb): 32 where a zero point lies at an end."""
    p = FloatProgram()
    graph = p.finish(p(Mul(), p.input(N, 4), p.input(N, 4, name="z")))
    feeds = {n: np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4) for n in "xz"}
    program = qcompiler.compile(graph, target="hexagon-u16a8w", data=feeds, native=False)
    assert "mul" in op_names(program.graph)
    text = 'schema = 1\nextends = "hexagon-u16a8w"\nname = "narrow"\nsummary = "s"\nsource = "s"\n'
    text += '[ops]\nmul = { arithmetic = "litert-mul{rounding=single}" }\n'
    path = tmp_path / "narrow.toml"
    path.write_text(text)
    with pytest.raises(QCompilerError, match=r"the product of litert-mul.rounding=single. must not overflow"):
        qcompiler.compile(graph, target=path, data=feeds, native=False)


@every_target
def test_a_bias_of_more_than_32_bits_is_kept(target: str) -> None:
    """Small weights on small activations: in steps of both scales the bias is beyond 2**32."""
    p = FloatProgram()
    x = p.input(N, 4)
    graph = p.finish(p(Matmul(), x, p.constant(np.full((4, 2), 1e-4)), p.constant([1.0, -1.0])))
    feeds = {"x": np.random.default_rng(0).uniform(-1, 1, (20, 4)).astype(np.float32) * 0.01}
    program = qcompiler.compile(graph, target=target, data=feeds, native=False)
    (node,) = (n for n in walk(program.graph) if isinstance(n.op, Matmul))
    assert node.operands[2].type.storage == I64
    found = program.run(feeds)["y0"]
    assert np.abs(found - reference.run(graph, feeds)["y0"]).max() < 1e-3
    assert not program.warnings


def lut(entries: np.ndarray, source: Affine, result: Affine) -> None:
    op = LookupTable(ConstantArray(entries))
    types = [TensorType((3,), source)], [TensorType((3,), result)]
    op.infer_elems(types[0])
    op.verify(*types)


def test_tables_that_hardware_cannot_interpolate_are_refused() -> None:
    elem = Affine.per_tensor(I16, 0.1, 0)
    entries = np.zeros(INTERPOLATED_ENTRIES, np.int16)
    lut(entries, elem, elem)
    with pytest.raises(OpTypeError, match="513 entries"):
        lut(entries[1:], elem, elem)
    with pytest.raises(OpTypeError, match="16, or at most 8 bits, found i32"):
        lut(entries, Affine.per_tensor(I32, 0.1, 0), elem)
    steep = entries.copy()
    steep[100], steep[101] = -16384, 16383
    lut(steep, elem, elem)
    steep[101] += 1
    with pytest.raises(OpTypeError, match=f"differ by {LARGEST_SLOPE + 1}"):
        lut(steep, elem, elem)


def test_calibration_fixes_softmax_of_16_bits() -> None:
    for target, scale in (("tpu-int16x8", 2.0**-15), ("hexagon-u16a8w", 2.0**-16)):
        p = FloatProgram()
        graph = p.finish(p(Softmax(-1), p.input(N, 9)))
        program = qcompiler.compile(graph, target=target, data=random_feeds(graph, 9), native=False)
        (node,) = (n for n in walk(program.graph) if isinstance(n.op, Softmax))
        held: Value = node.result
        assert isinstance(held.type.elem, Affine)
        assert float(held.type.elem.scale.array) == scale
        assert int(held.type.elem.zero_point.array) == 0
