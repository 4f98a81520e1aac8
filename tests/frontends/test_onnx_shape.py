"""Operators that move elements, and computed shapes, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_single_node import Dims, compare, model_of, node_model, op_names

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Original, SymbolicDim

F = np.float32
X: dict[str, tuple[Any, Dims]] = {"x": (F, ["N", 4, 6, 5])}
N = SymbolicDim("N")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def feed(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"x": rng.standard_normal((3, 4, 6, 5)).astype(F)}


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ([-1, 120], (N, 120)), ([0, -1], (N, 120)), ([0, 0, 30], (N, 4, 30)), ([-1, 6, 5], (SymbolicDim("N", 4), 6, 5)),
        ([-1], (SymbolicDim("N", 120),)), ([2, -1, 60], (2, N, 60)),
    ],
)
def test_reshape(rng: np.random.Generator, target: list[int], shape: tuple[Any, ...]) -> None:
    graph = compare(node_model("Reshape", X, {"s": np.asarray(target)}), feed(rng), exact=True)
    assert graph.outputs[0].value.type.shape == shape


@pytest.mark.parametrize("target", [[1, 120], [7, -1], [-1, -1], [0, 0, 0, 0, 0]])
def test_reshape_that_does_not_fit(target: list[int]) -> None:
    with pytest.raises(QCompilerError, match="layer 'layer': Reshape: "):
        import_model(node_model("Reshape", X, {"s": np.asarray(target)}))


def test_reshape_to_an_unknown_shape() -> None:
    model = node_model("Reshape", {**X, "s": (np.int64, [2])})
    with pytest.raises(QCompilerError, match=r"the target shape \('s'\) is computed at run time"):
        import_model(model)


@pytest.mark.parametrize("axis", [0, 1, 2, 4, -1, -2])
def test_flatten(rng: np.random.Generator, axis: int) -> None:
    compare(node_model("Flatten", X, axis=axis), feed(rng), exact=True)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axes", [[1], [-1, 1], [4, 1]])
def test_squeeze_and_unsqueeze(rng: np.random.Generator, opset: int, axes: list[int]) -> None:
    inputs: dict[str, tuple[Any, Dims]] = {"x": (F, ["N", 1, 3, 2, 1])}
    feeds = {"x": rng.standard_normal((2, 1, 3, 2, 1)).astype(F)}
    for op_type in ("Squeeze", "Unsqueeze"):
        if opset < 13:
            model = node_model(op_type, inputs, opset=opset, axes=axes)
        else:
            model = node_model(op_type, inputs, {"axes": np.asarray(axes)}, opset=opset)
        assert op_names(compare(model, feeds, exact=True)) == ["reshape"]


def test_squeeze_without_axes(rng: np.random.Generator) -> None:
    model = node_model("Squeeze", {"x": (F, [2, 1, 3, 1])})
    compare(model, {"x": rng.standard_normal((2, 1, 3, 1)).astype(F)}, exact=True)
    with pytest.raises(QCompilerError, match="name the axes"):
        import_model(node_model("Squeeze", {"x": (F, ["N", 1, 3])}))


@pytest.mark.parametrize("attributes", [{"perm": [0, 2, 3, 1]}, {"perm": [0, 1, 2, 3]}, {}])
def test_transpose(rng: np.random.Generator, attributes: dict[str, Any]) -> None:
    compare(node_model("Transpose", X, **attributes), feed(rng), exact=True)


@pytest.mark.parametrize("axis", [1, -1])
def test_concat(rng: np.random.Generator, axis: int) -> None:
    model = node_model("Concat", X, order=["x", "x", "x"], axis=axis)
    compare(model, feed(rng), exact=True)


@pytest.mark.parametrize(
    ("opset", "count", "sizes", "attributes"),
    [
        (11, 2, None, {}), (11, 2, [1, 5], {}), (13, 3, None, {}), (13, 2, [4, 2], {}),
        (18, 4, None, {"num_outputs": 4}), (18, 2, [5, 1], {}),
    ],
)
def test_split(
    rng: np.random.Generator, opset: int, count: int, sizes: list[int] | None, attributes: dict[str, Any]
) -> None:
    outputs = [f"y{i}" for i in range(count)]
    inputs: dict[str, tuple[Any, Dims]] = {"x": (F, ["N", 7 if count == 4 else 6])}
    constants = {"sizes": np.asarray(sizes)} if sizes and opset >= 13 else None
    extra = {"split": sizes} if sizes and opset < 13 else attributes
    model = node_model("Split", inputs, constants, opset=opset, outputs=outputs, axis=1, **extra)
    graph = compare(model, {"x": rng.standard_normal((3, 7 if count == 4 else 6)).astype(F)}, exact=True)
    assert [output.value.origin for output in graph.outputs] == [Original(name) for name in outputs]


BIG = 2**63 - 1
SLICES: list[tuple[list[int], list[int], list[int] | None, list[int] | None]] = [
    ([1], [3], [2], None),
    ([0, 1], [BIG, -1], [0, 1], None),
    ([0, 0, 2], [BIG, 2, 100], None, None),
    ([-1], [-BIG], [2], [-1]),
    ([4, 1], [0, 6], [3, 2], [-2, 3]),
    ([-2], [BIG], [-1], [1]),
    ([0], [BIG], [1], None),
]


@pytest.mark.parametrize(
    ("opset", "starts", "ends", "axes", "steps"),
    # Slice has no steps before opset 10.
    [(opset, *case) for opset in (9, 13) for case in SLICES if opset > 9 or case[3] is None],
)
def test_slice(
    rng: np.random.Generator, opset: int, starts: list[int], ends: list[int], axes: list[int] | None,
    steps: list[int] | None,
) -> None:
    if opset < 10:
        given: dict[str, Any] = {"starts": starts, "ends": ends, **({"axes": axes} if axes else {})}
        model = node_model("Slice", X, opset=opset, **given)
    else:
        lists = {"starts": starts, "ends": ends, "axes": axes, "steps": steps}
        constants = {name: np.asarray(values) for name, values in lists.items() if values is not None}
        order = ["x", *(name if name in constants else "" for name in lists)]
        model = node_model("Slice", X, constants, order=order, opset=opset)
    compare(model, feed(rng), exact=True)


def test_slice_of_the_batch_is_refused(rng: np.random.Generator) -> None:
    model = node_model("Slice", X, {"s": np.asarray([0]), "e": np.asarray([1])})
    with pytest.raises(QCompilerError, match=r"'layer' \(Slice\): it cuts axis 0, whose size N is free"):
        import_model(model)
    compare(model, feed(rng), exact=True, batch=3)


PADS = [[0, 0, 1, 2, 0, 0, 3, 0], [0, 1, 0, 0, 0, 0, 0, 2], [0, 0, -1, 2, 0, 0, 1, -2], [0, 0, 0, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("opset", [9, 11, 18])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", PADS)
def test_pad(rng: np.random.Generator, opset: int, mode: str, pads: list[int]) -> None:
    if opset < 11:
        model = node_model("Pad", X, opset=opset, mode=mode, pads=pads, value=1.5)
    else:
        model = node_model("Pad", X, {"pads": np.asarray(pads), "value": F(-2.5)}, opset=opset, mode=mode)
    if mode != "constant" and min(pads) < 0:
        with pytest.raises(QCompilerError, match="negative padding in mode"):
            import_model(model)
        return
    compare(model, feed(rng), exact=True)


def test_pad_with_axes_and_infinity(rng: np.random.Generator) -> None:
    constants = {"pads": np.asarray([1, 2, 0, 1]), "value": F(-np.inf), "axes": np.asarray([-1, 2])}
    compare(node_model("Pad", X, constants, opset=18), feed(rng), exact=True)


@pytest.mark.parametrize("indices", [[2], 1, -1, [[0, 3], [1, -4]]])
def test_gather(rng: np.random.Generator, indices: Any) -> None:
    compare(node_model("Gather", X, {"i": np.asarray(indices)}, axis=1), feed(rng), exact=True)


def test_gather_rows_of_a_table(rng: np.random.Generator) -> None:
    table = rng.standard_normal((10, 3)).astype(F)
    model = node_model("Gather", {"i": (np.int32, ["N", 7])}, {"table": table}, order=["table", "i"])
    compare(model, {"i": rng.integers(0, 10, (4, 7), np.int32)}, exact=True)


def test_gather_outside_is_refused() -> None:
    with pytest.raises(QCompilerError, match=r"an index lies outside \[-4, 4\)"):
        import_model(node_model("Gather", X, {"i": np.asarray([4])}, axis=1))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(rng: np.random.Generator, mode: str) -> None:
    model = node_model("DepthToSpace", {"x": (F, ["N", 12, 3, 2])}, blocksize=2, mode=mode)
    graph = compare(model, {"x": rng.standard_normal((2, 12, 3, 2)).astype(F)}, exact=True)
    assert op_names(graph) == ["reshape", "transpose", "reshape"]


def test_space_to_depth(rng: np.random.Generator) -> None:
    model = node_model("SpaceToDepth", {"x": (F, ["N", 3, 6, 4])}, blocksize=2)
    compare(model, {"x": rng.standard_normal((2, 3, 6, 4)).astype(F)}, exact=True)


# Computed shapes


def shape_chain(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model that reshapes x to "target", which ``nodes`` compute from "shape", the shape of x."""
    return model_of(
        [
            helper.make_node("Shape", ["x"], ["shape"], name="shape"), *nodes,
            helper.make_node("Reshape", ["x", "target"], ["y"], name="layer"),
        ],
        X, ["y"], constants,
    )


def integers(**values: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.int64) for name, value in values.items()}


node = helper.make_node
CHAINS: list[tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[Any, ...]]] = [
    (
        [node("Gather", ["shape", "i"], ["n"]), node("Unsqueeze", ["n", "axes"], ["n1"]),
         node("Concat", ["n1", "rest"], ["target"], axis=0)],
        integers(i=0, axes=[0], rest=[-1]), (N, 120),
    ),
    (
        [node("Slice", ["shape", "s", "e"], ["head"]), node("Slice", ["shape", "e", "end"], ["tail"]),
         node("ReduceProd", ["tail"], ["count"], keepdims=1), node("Concat", ["head", "count"], ["target"], axis=0)],
        integers(s=[0], e=[2], end=[9]), (N, 4, 30),
    ),
    (
        [node("Gather", ["shape", "i"], ["nc"]), node("ReduceProd", ["nc"], ["product"], keepdims=1),
         node("Concat", ["product", "rest"], ["target"], axis=0)],
        integers(i=[0, 1], rest=[6, 5]), (SymbolicDim("N", 4), 6, 5),
    ),
    (
        [node("Mul", ["shape", "factors"], ["m"]), node("Div", ["m", "divisors"], ["target"])],
        integers(factors=[4, 1, 1, 1], divisors=[1, 4, 1, 1]), (SymbolicDim("N", 4), 1, 6, 5),
    ),
    (
        [node("Cast", ["shape"], ["f"], to=1), node("Div", ["f", "half"], ["g"]), node("Floor", ["g"], ["h"]),
         node("Cast", ["h"], ["target"], to=7)],
        {"half": np.asarray([0.5, 2, 1, 1], F)}, (SymbolicDim("N", 2), 2, 6, 5),
    ),
    (
        [node("Equal", ["shape", "minus"], ["unset"]), node("Where", ["unset", "shape", "shape"], ["w"]),
         node("Identity", ["w"], ["target"])],
        integers(minus=[-1]), (N, 4, 6, 5),
    ),
    (
        [node("Add", ["shape", "shape"], ["twice"]), node("Sub", ["twice", "shape"], ["same"]),
         node("Max", ["same", "one"], ["target"])],
        integers(one=[1]), (N, 4, 6, 5),
    ),
    (
        [node("Reshape", ["shape", "square"], ["s22"]), node("Transpose", ["s22"], ["t"]),
         node("Reshape", ["t", "flat"], ["target"])],
        integers(square=[2, 2], flat=[-1]), (N, 6, 4, 5),
    ),
    (
        [node("Slice", ["shape", "s", "e", "axes", "step"], ["reversed"]),
         node("Slice", ["reversed", "s", "e", "axes", "step"], ["target"])],
        integers(s=[-1], e=[-(2**31)], axes=[0], step=[-1]), (N, 4, 6, 5),
    ),
]


@pytest.mark.parametrize(("nodes", "constants", "shape"), CHAINS)
def test_computed_shapes(
    rng: np.random.Generator, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[Any, ...]
) -> None:
    graph = compare(shape_chain(nodes, constants), feed(rng), exact=True)
    assert graph.outputs[0].value.type.shape == shape
    assert "constant" not in {n.op.name for n in graph.nodes}


@pytest.mark.parametrize(("op_type", "number"), [("Add", 1), ("Sub", 1), ("Div", 3), ("Max", 2)])
def test_computed_shape_that_is_no_multiple_of_the_batch(rng: np.random.Generator, op_type: str, number: int) -> None:
    constants = integers(k=[number, 1, 1, 1])
    nodes = [helper.make_node(op_type, ["shape", "k"], ["target"], name="sum")]
    model = shape_chain(nodes, constants)
    with pytest.raises(QCompilerError, match="layer 'sum': "):
        import_model(model)


def test_values_computed_from_the_batch_are_refused() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Cast", ["shape"], ["f"], to=1),
        helper.make_node("MatMul", ["m", "f"], ["v"]), helper.make_node("Add", ["x", "v"], ["y"]),
    ]
    with pytest.raises(QCompilerError, match="'f', which depends on the batch size"):
        import_model(model_of(nodes, X, ["y"], {"m": np.ones((5, 4), F)}))


def test_expand_and_constant_of_shape(rng: np.random.Generator) -> None:
    fill = numpy_helper.from_array(np.asarray([2.5], F))
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["filled"], name="fill", value=fill),
        helper.make_node("Expand", ["row", "shape"], ["wide"], name="expand"),
        helper.make_node("Sum", ["x", "filled", "wide"], ["y"], name="layer"),
    ]
    model = model_of(nodes, X, ["y"], {"row": rng.standard_normal(5).astype(F)})
    assert op_names(compare(model, feed(rng))) == ["expand", "expand", "add", "add"]


def test_tile(rng: np.random.Generator) -> None:
    model = node_model("Tile", X, {"repeats": np.asarray([1] * (len(X["x"][1]) - 2) + [2, 3])})
    assert op_names(compare(model, feed(rng), exact=True)) == ["concat", "concat"]


def test_tile_by_one_is_the_identity(rng: np.random.Generator) -> None:
    model = node_model("Tile", X, {"repeats": np.ones(len(X["x"][1]), np.int64)})
    assert op_names(compare(model, feed(rng), exact=True)) == []


@pytest.mark.parametrize(
    ("repeats", "problem"), [([2, 1, 1, 1], "axis 0 has the free size N"), ([1, 0, 1, 1], r"repeats \[1, 0, 1, 1\]")],
)
def test_tile_that_is_refused(repeats: list[int], problem: str) -> None:
    with pytest.raises(QCompilerError, match=problem):
        import_model(node_model("Tile", {"x": (F, ["N", 2, 3, 4])}, {"repeats": np.asarray(repeats)}))


def test_fixed_shapes_are_evaluated(rng: np.random.Generator) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=1), helper.make_node("Size", ["x"], ["size"]),
        helper.make_node("Range", ["zero", "size", "step"], ["range"]),
        helper.make_node("Gather", ["range", "one"], ["forty"]),
        helper.make_node("Concat", ["forty", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
        helper.make_node("Identity", ["shape"], ["z"]),
    ]
    constants = integers(zero=0, step=40, one=[1], rest=[-1])
    model = model_of(nodes, {"x": (F, [2, 4, 5, 4])}, ["y", "z"], constants)
    compare(model, {"x": rng.standard_normal((2, 4, 5, 4)).astype(F)}, exact=True)
