"""Target descriptors: what is read, what is refused and where, and how a target judges ops and types."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from qcompiler import plugins
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Arithmetic, Builder, ConstantArray, Graph, Node, Op, TensorType, Untraced, Value
from qcompiler.ir.scalar import F32, I8, I32, I64, U8
from qcompiler.numerics import resolve
from qcompiler.ops.activation import Clip, LeakyRelu, Relu
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.quantization import FakeQuant
from qcompiler.ops.reduction import ReduceProduct
from qcompiler.ops.shape import Reshape
from qcompiler.pipeline import Pipeline
from qcompiler.target import (
    Target,
    TypeSpec,
    built_in_targets,
    check_float_node,
    check_quantized_node,
    choose,
    load_target,
    read_descriptor,
    stored_range,
)
from qcompiler.target.target import admits_affine
from qcompiler.target.type_expression import parse_operand

plugins.load()

# One line of TOML.
SOFTMAX = (
    'softmax    = { in = ["act"], out = "act{scale=0.00390625 zero_point=-128}", arithmetic = "gemmlowp-softmax", '
    "last_axis = true, max_axis_length = 8 }"
)
GOOD = """\
schema = 1
name = "chip"
summary = "A chip"
source = "Its manual"
pipeline = "simplify,legalize"

[types]
real = { kind = "scalar", storage = "f32" }
act  = { kind = "affine", storage = "i8" }
wt   = { kind = "affine", storage = "i8", blocks = "channel", zero_point = 0, range = [-127, 127], constant = true }
acc  = { kind = "affine", storage = "i32", scale = "product(0,1)", zero_point = 0 }

[ops]
requantize = { in = ["acc|act"], out = "act", arithmetic = "double", fuse = true }
conv2d     = { in = ["act", "wt"], out = "acc", kernel = [1, 5], strides = [1, 2], dilations = [1, 1] }
max_pool2d = { in = ["act"], out = "act", ties = "all", kernel = [2, 3], attributes = { layout = ["NHWC"] } }
""" + SOFTMAX + """
clamp      = { in = ["act"], out = "act", max_rank = 2 }
"""


def write(folder: Path, text: str) -> Path:
    (folder / "chip.toml").write_text(text)
    return folder / "chip.toml"


@pytest.fixture
def chip(tmp_path: Path) -> Target:
    return read_descriptor(write(tmp_path, GOOD))


@pytest.mark.parametrize("name", sorted(built_in_targets()))
def test_built_in_targets_are_sound(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert Pipeline.parse(target.descriptor.pipeline).passes
    assert target.descriptor.source
    for row in target.rows.values():
        if row.arithmetic:
            resolve(row.name, row.arithmetic.name, row.arithmetic.options)


def test_a_file_is_a_target(tmp_path: Path) -> None:
    assert load_target(write(tmp_path, GOOD)).name == "chip"
    assert load_target(str(write(tmp_path, GOOD))).name == "chip"


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(QCompilerError, match="unknown target 'tpu-int9'") as caught:
        load_target("tpu-int9")
    assert "tpu-int8" in str(caught.value.fix)


BROKEN: dict[str, tuple[str, str, str]] = {
    # What is replaced, by what, and what the message says.
    "unknown key": ('summary = "A chip"', 'sumary = "A chip"', "line 3: sumary: unknown key"),
    "unknown key of a row": ("fuse = true", "fused = true", "line 14: ops.requantize.fused: unknown key"),
    "unknown key of a type": (
        'storage = "f32" }', 'storage = "f32", bits = 3 }', "line 8: types.real.bits: unknown key"
    ),
    "missing key": ('source = "Its manual"\n', "", "source: key is missing"),
    "another schema": ("schema = 1", "schema = 2", "line 1: schema"),
    "malformed name": ('name = "chip"', 'name = "My Chip"', "line 2: name"),
    "not toml": ("[types]", "[types", "not a TOML file: .*line 7"),
    "unknown op": ("clamp ", "clmap ", "line 18: ops.clmap: unknown op"),
    "unknown storage": (
        'storage = "f32"', 'storage = "f31"', "line 8: types.real.storage: unknown number format 'f31'"
    ),
    "float storage of an affine type": (
        'act  = { kind = "affine", storage = "i8"', 'act  = { kind = "affine", storage = "f32"',
        "line 9: types.act.storage",
    ),
    "range outside": ("range = [-127, 127]", "range = [-127, 128]", r"line 10: types.wt.range: \[-127, 128\]"),
    "range turned around": ("range = [-127, 127]", "range = [127, -127]", "line 10: types.wt.range"),
    "range of three": ("range = [-127, 127]", "range = [-127, 0, 127]", "line 10: types.wt.range"),
    "unknown type": ('in = ["act", "wt"]', 'in = ["act", "weight"]', "line 15: ops.conv2d.in: unknown type 'weight'"),
    "malformed type": ('in = ["act", "wt"]', 'in = ["act", "wt!"]', "line 15: ops.conv2d.in: malformed type 'wt!'"),
    "unknown parameter of a type": ("zero_point=-128}", "zero=-128}", "line 17: ops.softmax.out: a type takes scale"),
    "malformed parameter of a type": ("zero_point=-128}", "zero_point=x}", "softmax.out: zero_point must be a number"),
    "unknown arithmetic": ('"double"', '"dobule"', "line 14: ops.requantize.arithmetic: .*no arithmetic 'dobule'"),
    "unknown parameter": ('"double"', '"double{x=1}"', "line 14: ops.requantize.arithmetic: .*no parameter 'x'"),
    "malformed arithmetic": ('"double"', '"double{"', "line 14: ops.requantize.arithmetic: not an arithmetic"),
    "unknown attribute": ("layout = [", "layouts = [", "line 16: ops.max_pool2d.attributes: .*'layouts'"),
    "no requantize": (GOOD.splitlines()[13], "", "need an op 'requantize'"),
    "no way to the host": ('source = "Its', 'fallback = "host"\nsource = "Its', "line 4: fallback: .*'quantize'"),
    "unknown fallback": ('source = "Its', 'fallback = "gpu"\nsource = "Its', "line 4: fallback"),
    "unknown ties": ('ties = "all"', 'ties = "some"', "line 16: ops.max_pool2d.ties"),
    "unknown layout": ("[types]", 'layout = "CHWN"\n[types]', "layout"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_descriptors_name_line_and_key(case: str, tmp_path: Path) -> None:
    old, new, message = BROKEN[case]
    assert old in GOOD
    with pytest.raises(QCompilerError, match=message) as caught:
        read_descriptor(write(tmp_path, GOOD.replace(old, new)))
    assert "chip.toml" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match="there is no target descriptor"):
        load_target(tmp_path / "absent.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(QCompilerError, match="cannot read target descriptor"):
        load_target(tmp_path / "bytes.toml")


def node_of(op: Op, *types: TensorType, constants: tuple[int, ...] = ()) -> Node:
    """A float node; operands whose index is in ``constants`` are constants."""
    graph = Graph()
    build = Builder(graph, loc=("layer",))
    operands = []
    for index, type in enumerate(types):
        if index in constants:
            array = np.zeros([int(str(d)) for d in type.shape], type.storage.dtype)
            operands.append(build(Constant(ConstantArray(array)), elem=type.elem))
        else:
            operands.append(graph.add_input(f"x{index}", type))
    return build.create(op, operands)


def real(*shape: int) -> TensorType:
    return TensorType(shape, F32)


@pytest.mark.parametrize(
    ("node", "constraint"),
    [
        (node_of(Conv2D(), real(1, 4, 9, 9), real(2, 4, 5, 1), constants=(1,)), None),
        (node_of(Conv2D(), real(1, 4, 9, 9), real(2, 4, 6, 1), constants=(1,)), r"kernel of conv2d .* \[1, 5\]"),
        (node_of(Conv2D(strides=(1, 3)), real(1, 4, 9, 9), real(2, 4, 1, 1), constants=(1,)), "strides of conv2d"),
        (node_of(Conv2D(dilations=(2, 1)), real(1, 4, 9, 9), real(2, 4, 1, 1), constants=(1,)), "dilations of conv2d"),
        (node_of(Conv2D(), real(1, 4, 9, 9), real(2, 4, 1, 1)), "operand 1 of conv2d must be a constant"),
        (node_of(Conv2D(), real(1, 4, 9, 9), real(2, 4, 1, 1), real(2), constants=(1, 2)), "conv2d takes 2 operands"),
        (node_of(MaxPool2D((2, 3), layout="NHWC"), real(1, 9, 9, 4)), None),
        (node_of(MaxPool2D((1, 3), layout="NHWC"), real(1, 9, 9, 4)), "kernel of max_pool2d"),
        (node_of(MaxPool2D((2, 3)), real(1, 4, 9, 9)), "layout of max_pool2d must be one of"),
        (node_of(Softmax(-1), real(3, 8)), None),
        (node_of(Softmax(1), real(3, 8)), None),
        (node_of(Softmax(-1), real(3, 9)), "at most 8 elements"),
        (node_of(Softmax(0), real(3, 8)), "last axis only"),
        (node_of(Relu(), real(3, 8)), None),
        (node_of(Clip(0.0, 6.0), real(3, 8)), None),
        (node_of(Relu(), real(1, 3, 8)), "rank at most 2"),
        (node_of(LeakyRelu(), real(3, 8)), "no op 'leaky_relu'"),
        (node_of(ReduceProduct((0,)), real(3, 8)), "no op 'reduce_product'"),
        (node_of(Reshape((8, 3)), real(3, 8)), "no op 'reshape'"),
    ],
    ids=str,
)
def test_float_nodes_are_judged(node: Node, constraint: str | None, chip: Target) -> None:
    violation = check_float_node(chip, node)
    if constraint is None:
        assert violation is None
    else:
        assert violation is not None
        assert violation.found
        assert re.search(constraint, violation.constraint)


def test_rows_of_functions(chip: Target) -> None:
    row = chip.row_for(Relu())
    assert row is not None
    assert row.name == "clamp"
    assert chip.row_for(LeakyRelu()) is None
    row = load_target("tpu-int8").row_for(LeakyRelu())
    assert row is not None
    assert row.name == "lut"


def test_accumulators_are_held_requantized(chip: Target) -> None:
    assert chip.result_type(chip.rows["conv2d"]).storage == "i8"
    assert chip.result_type(chip.rows["softmax"]).scale == 1 / 256
    assert stored_range(chip.descriptor.types["wt"]) == (-127, 127)
    assert stored_range(chip.descriptor.types["act"]) == (-128, 127)


def test_type_citations(chip: Target) -> None:
    types = chip.descriptor.types
    operand = parse_operand("wt|act{scale=0.5 zero_point=3}?", types)
    assert operand.optional
    assert [c.storage for c in operand.choices] == ["i8", "i8"]
    assert (operand.choices[1].scale, operand.choices[1].zero_point) == (0.5, 3)
    assert parse_operand("act...", types).variadic
    assert chip.rows["softmax"].out.text == "act{scale=0.00390625 zero_point=-128}"
    row = load_target("tpu-int8").rows["concat"]
    assert row.operand(0) is row.operand(7) is not None


def test_a_choice_depends_on_constness() -> None:
    row = load_target("tpu-int8").rows["matmul"]
    constant = node_of(Relu(), real(2, 2), constants=(0,)).operands[0]
    computed = node_of(Relu(), real(2, 2)).operands[0]
    assert choose(row, 1, constant).blocks == "channel"  # type: ignore[union-attr]
    assert choose(row, 1, computed).blocks == "tensor"  # type: ignore[union-attr]
    assert choose(row, 3, constant) is None
    assert constant.producer is not None
    held = Builder(constant.producer.graph or Graph())(FakeQuant(I8, -128, 127), constant)
    assert choose(row, 1, held).blocks == "channel"  # type: ignore[union-attr]


WT = TypeSpec.model_validate(
    {"kind": "affine", "storage": ["i8", "u8"], "zero_point": 0, "range": [-127, 127], "scale": 0.5}
)


@pytest.mark.parametrize(
    ("elem", "problem"),
    [
        (Affine.per_tensor(I8, 0.5, 0, -127, 127), None),
        (Affine.per_tensor(I8, 0.5, 0, -1, 1), r"keeps integers within \[-127, 127\], not \[-1,1\]"),
        (Affine.per_tensor(U8, 0.5, 0, 0, 127), None),
        (Affine.per_tensor(I32, 0.5, 0, -127, 127), "stores i8 or u8, not i32"),
        (Affine.per_tensor(I8, 0.5, 0), r"keeps integers within \[-127, 127\]"),
        (Affine.per_tensor(I8, 0.5, 1, -127, 127), "has zero point 0"),
        (Affine.per_tensor(I8, np.nextafter(np.float32(0.5), np.float32(1)), 0, -127, 127), "has scale 0.5"),
        (Affine.blocked(I8, [[0.5], [0.5]], 0, (1, 4), -127, 127), "one scale for the whole tensor"),
    ],
)
def test_affine_types_are_judged_by_their_parameters(elem: Affine, problem: str | None) -> None:
    found = admits_affine(WT, elem)
    assert (found is None) if problem is None else (found is not None and re.search(problem, found) is not None)


def test_channel_types_admit_several_scales() -> None:
    spec = TypeSpec.model_validate({"kind": "affine", "storage": "i8", "blocks": "channel", "zero_point": 0})
    assert admits_affine(spec, Affine.blocked(I8, [[0.5], [0.25]], 0, (1, 4))) is None


def test_quantized_nodes_are_judged_by_their_types() -> None:
    target = load_target("tpu-int8")
    elem = Affine.per_tensor(I8, 0.5, 3)
    pool = MaxPool2D((2, 2), layout="NHWC")
    graph = Graph()
    x = graph.add_input("x", TensorType((1, 4, 4, 2), elem))
    node = Builder(graph).create(pool, [x])
    assert check_quantized_node(target, node) is None
    for bad in (F32, I8, I64, Affine.per_tensor(U8, 0.5, 3), Affine.per_tensor(I32, 0.5, 0)):
        for value in (x, node.result):
            before = value.type
            value.type = before.__class__(before.shape, bad)
            violation = check_quantized_node(target, node)
            assert violation is not None, bad
            assert violation.found == str(value.type)
            value.type = before
    stray = Value(x.type, Untraced("test"))
    extra = Node(pool, [x, stray], ())
    extra.results = node.results
    assert "takes 1 operands" in check_quantized_node(target, extra).constraint  # type: ignore[union-attr]


def test_arithmetic_must_be_the_descriptors() -> None:
    target = load_target("tpu-int8")
    row = target.rows["add"]
    assert row.arithmetic == Arithmetic("litert-add", (("shift", 20),))
