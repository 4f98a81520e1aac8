"""What a program of block floating point returns: mantissas and exponents, of any number of samples."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import qcompiler
from qcompiler import BlockArray, Program
from qcompiler.analysis.boundary import before_dequantize
from qcompiler.ir import BlockFloat, Builder, ConstantArray, Graph, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FromBlock, ToBlock
from qcompiler.ops.shape import Reshape

Array = NDArray[Any]
TARGETS = ["dsp-bfp16", "dsp-bfp8"]
"""Targets that hold every result in blocks."""
MODELS = ["residual_cnn", "depthwise_net", "two_inputs_fixed_batch"]
N = SymbolicDim("N")
FORMAT = BlockFormat(8, overflow="raise")


@cache
def program(name: str, target: str) -> Program:
    return qcompiler.compile(models.model(name), target=target, data=models.samples(name, 6), native=False)


def elem_of(compiled: Program, name: str) -> BlockFloat:
    (output,) = (o for o in compiled.graph.outputs if o.name == name)
    elem = before_dequantize(output.value).type.elem
    assert isinstance(elem, BlockFloat)
    return elem


def values_of(pair: BlockArray, blocks: Any) -> Array:
    """The numbers that a pair stands for, one by one."""
    found = np.empty(pair.mantissas.shape, np.float64)
    for index in np.ndindex(*found.shape):
        block = tuple(i // length for i, length in zip(index, blocks, strict=True))
        found[index] = int(pair.mantissas[index]) * 2.0 ** int(pair.exponents[block])
    return found


def assert_same(found: BlockArray, expected: BlockArray) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_a_pair_stands_for_the_real_output(name: str, target: str) -> None:
    compiled = program(name, target)
    feeds = models.samples(name, 6, seed=int(np.random.default_rng().integers(1 << 30)))
    real, stored = compiled.run(feeds), compiled.run(feeds, quantized=True)
    assert list(real) == list(stored)
    for output, pair in stored.items():
        assert isinstance(pair, BlockArray)
        mantissas, exponents = pair
        elem = elem_of(compiled, output)
        assert mantissas.dtype == elem.format.mantissa_dtype
        assert exponents.dtype == np.int32
        np.testing.assert_array_equal(values_of(pair, elem.blocks).astype(np.float32), real[output])


@pytest.mark.parametrize("target", TARGETS)
def test_batches_are_joined(target: str) -> None:
    """More samples than one run takes, and of magnitudes far apart."""
    compiled = program("residual_cnn", target)
    image = models.samples("residual_cnn", 70, seed=3)["image"]
    image *= np.float32(2.0) ** np.random.default_rng().integers(-20, 20, (70, 1, 1, 1)).astype(np.float32)
    image[66] = 0
    (together,) = compiled.run(image, quantized=True).values()
    assert together.mantissas.shape == (70, 10)
    singles = [next(iter(compiled.run(image[i : i + 1], quantized=True).values())) for i in range(70)]
    joined = BlockArray(*(np.concatenate(parts) for parts in zip(*singles, strict=True)))
    assert_same(together, joined)


@pytest.mark.parametrize("target", TARGETS)
def test_no_samples_give_an_empty_pair(target: str) -> None:
    (pair,) = program("residual_cnn", target).run(np.zeros((0, 3, 12, 12), np.float32), quantized=True).values()
    assert [a.shape for a in pair] == [(0, 10), (0, 1)]


@pytest.mark.parametrize("target", ["npu-bfp16", "mx-fp4"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_pairs_where_the_target_holds_blocks(name: str, target: str) -> None:
    """Where sums are float32 and returned as they are, there is no pair."""
    compiled = program(name, target)
    feeds = models.samples(name, 6, seed=2)
    real, stored = compiled.run(feeds), compiled.run(feeds, quantized=True)
    for output in compiled.graph.outputs:
        elem, found = before_dequantize(output.value).type.elem, stored[output.name]
        assert isinstance(found, BlockArray) == isinstance(elem, BlockFloat)
        values = values_of(found, elem.blocks).astype(np.float32) if isinstance(elem, BlockFloat) else found
        np.testing.assert_array_equal(values, real[output.name])


def conversion(shape: tuple[Any, ...], blocks: tuple[int, ...], target_shape: tuple[Any, ...] | None = None) -> Program:
    """to_block, from_block, on float32; the second output is the operand itself."""
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType(shape, F32))
    value = x if target_shape is None else build(Reshape(target_shape), x)
    held = build(ToBlock(), value, elem=BlockFloat(FORMAT, blocks))
    graph.set_outputs([("y", build(FromBlock(), held)), ("x", x)])
    return Program(graph)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 5), length=st.integers(1, 6), width=st.integers(1, 5), count=st.integers(0, 12),
    seed=st.integers(0, 1 << 30),
)
def test_runs_of_a_fixed_batch_are_joined_and_cut(rows: int, length: int, width: int, count: int, seed: int) -> None:
    """Blocks of ``length`` rows begin anew with each run of ``rows`` rows; the last run is filled up."""
    compiled = conversion((rows, 4), (length, width))
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(count, 4)) * 2.0 ** rng.integers(-9, 9, (count, 1))).astype(np.float32)
    found = compiled.run(x, quantized=True)
    mantissas, exponents, real = found["y"].mantissas, found["y"].exponents, compiled.run(x)["y"]
    np.testing.assert_array_equal(found["x"], x)
    assert mantissas.shape == x.shape
    done = 0
    for start in range(0, count, rows):
        part = slice(start, min(start + rows, count))
        blocks = -(-(part.stop - start) // length)
        pair = BlockArray(mantissas[part], exponents[done : done + blocks])
        done += blocks
        np.testing.assert_array_equal(values_of(pair, (length, width)).astype(np.float32), real[part])
    assert len(exponents) == done


@pytest.mark.parametrize("count", [1, 7, 200])
def test_rows_of_a_sample_that_share_a_block_stay_together(count: int) -> None:
    """Six rows a sample, two in a block: three rows of exponents each."""
    compiled = conversion((N, 6, 4), (2, 4), (SymbolicDim("N", 6), 4))
    rng = np.random.default_rng()
    x = (rng.normal(size=(count, 6, 4)) * 2.0 ** rng.integers(-9, 9, (count, 6, 1))).astype(np.float32)
    pair = compiled.run(x, quantized=True)["y"]
    assert [a.shape for a in pair] == [(6 * count, 4), (3 * count, 1)]
    np.testing.assert_array_equal(values_of(pair, (2, 4)).astype(np.float32), compiled.run(x)["y"])
    last = compiled.run(x[-1:], quantized=True)["y"]
    assert_same(BlockArray(pair.mantissas[-6:], pair.exponents[-3:]), last)


def test_saved_programs_return_the_same_pairs(tmp_path: Path) -> None:
    compiled = program("depthwise_net", "dsp-bfp8")
    compiled.save(tmp_path / "build")
    feeds = models.samples("depthwise_net", 5, seed=8)
    again = qcompiler.load(tmp_path / "build").run(feeds, quantized=True)
    for name, pair in compiled.run(feeds, quantized=True).items():
        assert_same(again[name], pair)


@pytest.mark.parametrize("target", TARGETS)
def test_the_manifest_tells_how_a_pair_is_read(target: str, tmp_path: Path) -> None:
    """Enough to read the pair by, and to write one."""
    compiled = program("residual_cnn", target)
    compiled.save(tmp_path / "build")
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    (entry,) = manifest["outputs"]
    image = models.samples("residual_cnn", 3, seed=9)["image"]
    pair = compiled.run(image, quantized=True)[entry["name"]]
    held = entry["quantized"]
    assert held["storage"] == f"i{8 * pair.mantissas.itemsize}"
    assert BlockFormat(**held["format"]) == elem_of(compiled, entry["name"]).format
    assert held["exponents"] is None
    np.testing.assert_array_equal(
        values_of(pair, held["blocks"]).astype(np.float32), compiled.run(image)[entry["name"]]
    )
    (entry,) = manifest["inputs"]
    assert entry["type"] == "f32[N,3,12,12]"
    first = next(n for n in compiled.graph.nodes if n.op.name == "to_block").result.type.elem
    assert isinstance(first, BlockFloat)
    assert entry["quantized"]["blocks"] == list(first.blocks)


def test_the_manifest_names_fixed_exponents(tmp_path: Path) -> None:
    graph = Graph()
    build = Builder(graph)
    fixed = BlockFloat(FORMAT, (1, 2), ConstantArray(np.array([[-3, 5]], np.int32)))
    held = build(ToBlock(), graph.add_input("x", TensorType((N, 4), F32)), elem=fixed)
    graph.set_outputs([("y", build(FromBlock(), held))])
    Program(graph).save(tmp_path / "build")
    manifest = json.loads((tmp_path / "build" / "manifest.json").read_text())
    assert [e["quantized"]["exponents"] for e in manifest["inputs"] + manifest["outputs"]] == [[[-3, 5]]] * 2
    pair = qcompiler.load(tmp_path / "build").run(np.array([[1, 2, 3, 400]], np.float32), quantized=True)["y"]
    assert_same(pair, BlockArray(np.array([[8, 16, 0, 12]], np.int8), np.array([[-3, 5]], np.int32)))
