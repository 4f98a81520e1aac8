"""compare on programs of block floating point: real numbers against float, and the layer that went wrong."""

from __future__ import annotations

from functools import cache
from typing import Any

import models
import numpy as np
import pytest
from block_sabotage import inner_nodes, swap_channels
from numpy.typing import NDArray

import qcompiler
from qcompiler import plugins
from qcompiler.analysis.real_numbers import real_numbers
from qcompiler.backends import reference
from qcompiler.backends.ort import FloatSession
from qcompiler.compare import ValueDifference, activations, check_float_original, compare, in_original_terms, sqnr_db
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockArray, BlockFloat, Graph, Original, Tensor, Value, clone
from qcompiler.ir.types import TensorType
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.contraction import Contraction
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

plugins.load()
Array = NDArray[Any]
TARGETS = ["dsp-bfp16", "npu-bfp16", "mx-int8"]
NETWORKS = ["residual_cnn", "depthwise_net"]


@cache
def original(name: str) -> Graph:
    return read_model(models.model(name))


@cache
def compiled(name: str, target: str) -> Graph:
    return qcompiler.compile(original(name), target=target, data=models.samples(name, 24), native=False).graph


def differences(name: str, graph: Graph) -> dict[str, ValueDifference]:
    feeds = {k: v[:8] for k, v in models.samples(name, 24).items()}
    return {e.name: e for e in compare(original(name), graph, feeds)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_nearly_every_activation_is_compared(name: str, target: str) -> None:
    wanted, found = set(activations(original(name))), differences(name, compiled(name, target))
    assert set(found) <= wanted
    assert len(found) >= 0.95 * len(wanted)
    least = 60 if target == "dsp-bfp16" else 25
    assert all(least < e.sqnr_db < 140 for e in found.values())


def test_differences_are_those_of_the_numbers_themselves() -> None:
    """Mantissas times powers of two, against what ONNX Runtime computes."""
    name, target = "residual_cnn", "npu-bfp16"
    feeds = {k: v[:8] for k, v in models.samples(name, 24).items()}
    wanted = activations(original(name))
    expected = dict(zip(wanted, FloatSession(original(name), list(wanted.values())).run(feeds), strict=True))
    held: dict[str, tuple[Value, Tensor]] = {}

    def observe(value: Value, tensor: Tensor) -> None:
        if isinstance(value.type.elem, BlockFloat) and isinstance(value.origin, Original):
            held[value.origin.name] = value, tensor

    reference.run(compiled(name, target), feeds, observe)
    found = differences(name, compiled(name, target))
    checked = 0
    for key, (value, tensor) in held.items():
        if key not in found or key == "gemm20":
            continue
        real = in_original_terms(value, spread_by_hand(tensor)).reshape(expected[key].shape)
        assert found[key].sqnr_db == sqnr_db(expected[key], real)
        assert found[key].max_error == np.abs(real - expected[key].astype(np.float64)).max()
        checked += 1
    assert checked > 10


def spread_by_hand(tensor: Tensor) -> Array:
    elem = tensor.type.elem
    assert isinstance(elem, BlockFloat)
    assert tensor.exponents is not None
    scales = 2.0 ** tensor.exponents.astype(np.float64)
    for axis, length in enumerate(elem.blocks):
        assert isinstance(length, int)
        scales = np.repeat(scales, length, axis).take(range(tensor.data.shape[axis]), axis)
    return np.asarray(tensor.data * scales)


def test_real_numbers_of_blocks_of_uneven_lengths() -> None:
    rng = np.random.default_rng()
    elem = BlockFloat(BlockFormat(40, 10), (2, 3))
    mantissas = rng.integers(-(1 << 39), 1 << 39, (3, 7))
    tensor = Tensor.of(
        TensorType((3, 7), elem), BlockArray(mantissas, rng.integers(-40, 40, (2, 3)).astype(np.int32))
    )
    found = real_numbers(tensor)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, spread_by_hand(tensor))


def test_a_program_with_marks_or_blocks_is_no_float_original() -> None:
    name = "residual_cnn"
    marked = Pipeline.parse("simplify,legalize,simplify,annotate").run(
        clone(original(name)), Context(load_target("npu-bfp16"))
    )
    for graph in (marked, compiled(name, "npu-bfp16")):
        with pytest.raises(QCompilerError, match="is not float"):
            check_float_original(graph, graph, "give the model")
    check_float_original(original(name), marked, "give the model")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_bad_value_is_the_spoiled_layers(name: str, target: str) -> None:
    before = differences(name, compiled(name, target))
    graph = clone(compiled(name, target))
    spoiled = swap_channels(graph, np.random.default_rng([*f"{name}{target}".encode()]))
    kernel = next(
        outer for outer in graph.nodes for node in inner_nodes(outer)
        if isinstance(node.op, Contraction) and node.loc == spoiled.layers
    )
    after = differences(name, graph)
    moved = [n for n in before if after[n] != before[n] and not after[n].recovered]
    assert moved
    # The contraction's own value, or that of the kernel which holds it.
    assert set(before[moved[0]].layer.split(" + ")) <= set(kernel.loc), (moved[0], spoiled)
    assert before[moved[0]].sqnr_db - after[moved[0]].sqnr_db > 6
