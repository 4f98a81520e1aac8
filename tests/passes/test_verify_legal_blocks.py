"""verify-legal on block floating point: accumulators that could overflow, and programs that are not the target's."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest

import qcompiler
from qcompiler import plugins
from qcompiler.analysis.block_growth import result_bounds
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, Graph, Node, TensorType, clone, walk
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.constant import constant_tensor
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import Target, load_target, read_descriptor

plugins.load()

REALIZED = "simplify,legalize,simplify,annotate,calibrate,align-exponents,realize,fold-constants,dce"


def narrow(folder: Path, bits: int, overflow: str = "forbidden") -> Target:
    """dsp-bfp16 with other accumulators for sums of products."""
    rows = 'normalize = { in = ["acc|long|x|point"], out = "x|point", fuse = true }\n'
    rows += "".join(
        f'{op} = {{ in = ["x"], out = "long", arithmetic = "{arithmetic}" }}\n'
        for op, arithmetic in (("mean", "reciprocal"), ("average_pool2d", "reciprocal"), ("reduce_sum", "align-larger"))
    )
    rows += "".join(
        f'{op} = {{ in = ["x", "{w}", "bias?"], out = "acc", arithmetic = "fixed-point{{overflow={overflow}}}" }}\n'
        for op, w in (("conv2d", "w"), ("conv_transpose2d", "w"), ("matmul", "w|x"))
    )
    (folder / "narrow.toml").write_text(
        'schema = 1\nextends = "dsp-bfp16"\nname = "narrow"\nsummary = "Few guard bits"\n'
        f'[limits]\naccumulator = {{ bits = {bits}, overflow = "{overflow}" }}\n'
        f'[types]\nacc = {{ kind = "block", mantissa = {bits}, exponent = 10 }}\n'
        f'long = {{ kind = "block", mantissa = 40, exponent = 10 }}\n[ops]\n{rows}'
    )
    return read_descriptor(folder / "narrow.toml")


@cache
def _realized(name: str, target: str) -> Graph:
    return qcompiler.compile(
        models.model(name), target=target, data=models.samples(name, 6), pipeline=REALIZED, native=False
    ).graph


def realized(name: str, target: str = "dsp-bfp16") -> Graph:
    """A legal program to spoil."""
    return clone(_realized(name, target))


def prove(graph: Graph, target: Target) -> None:
    Pipeline.parse("verify-legal").run(graph, Context(target))


def needed_bits(node: Node) -> int:
    """Bits that the sums of a convolution with one exponent of weights take, from the weights themselves.

    Every weight meets the end of the operand's range that suits its sign, and the bias has its own exponent at least.
    """
    x, w = node.operands[0].type.elem, constant_tensor(node.operands[1])
    assert isinstance(x, BlockFloat)
    assert w is not None
    channels = w.data.astype(object)
    if not isinstance(node.op, Conv2DBase):
        channels = channels if node.op.transpose_b else channels.T  # type: ignore[attr-defined]
    bias = constant_tensor(node.operands[2]) if len(node.operands) == 3 else None
    highest = lowest = 0
    for i, channel in enumerate(channels):
        products = [(m * x.format.smallest, m * x.format.largest) for m in channel.reshape(-1).tolist()]
        b = 0 if bias is None else int(bias.data[i])
        highest = max(highest, sum(max(p) for p in products) + max(b, 0))
        lowest = min(lowest, sum(min(p) for p in products) + min(b, 0))
    return bits_for(lowest, highest)


@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_net"])
def test_too_few_bits_are_refused_with_their_number(name: str, tmp_path: Path) -> None:
    """The widest sum decides: as many bits as it takes are legal, one less is refused by one bit."""
    graph = realized(name)
    sums = [node for node in walk(graph) if isinstance(node.op, Contraction)]
    widest = max(map(needed_bits, sums))
    assert 32 < widest <= 40
    for bits in (widest, widest - 1, 32):
        target = narrow(tmp_path, bits)
        arguments: dict[str, Any] = {"target": target, "data": models.samples(name, 6), "native": False}
        if bits == widest:
            assert qcompiler.compile(models.model(name), **arguments).coverage.host_nodes == 0
            continue
        with pytest.raises(QCompilerError, match="is not legal on target 'narrow'") as caught:
            qcompiler.compile(models.model(name), **arguments)
        # Nodes are judged in order; those that fit are passed over.
        first = next(node for node in sums if needed_bits(node) > bits)
        assert caught.value.layer == first.layer
        assert caught.value.expected == f"accumulators have {bits} bits and must not overflow"
        assert str(caught.value.found).endswith(f": {needed_bits(first) - bits} bits too many")


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_accumulators_that_may_overflow_are_legal(overflow: str, tmp_path: Path) -> None:
    program = qcompiler.compile(
        models.model("residual_cnn"), target=narrow(tmp_path, 32, overflow), data=models.samples("residual_cnn", 6),
        native=False,
    )
    arithmetic = {str(getattr(n.op, "arithmetic", None)) for n in walk(program.graph) if isinstance(n.op, Contraction)}
    assert arithmetic == {f"fixed-point{{overflow={overflow}}}"}


def test_bounds_are_those_of_the_weights() -> None:
    """Not those of the formats: the compiler looks at the numbers."""
    for node in walk(realized("residual_cnn")):
        if isinstance(node.op, Contraction):
            bounds = result_bounds(node, {})
            assert bounds is not None
            assert bits_for(*bounds) == needed_bits(node)


def test_a_narrow_sum_of_values_is_refused(tmp_path: Path) -> None:
    """Not sums of products alone: the mean of a whole image is a sum."""
    graph = realized("residual_cnn")
    node = next(n for n in walk(graph) if n.op.name == "mean")
    bounds = result_bounds(node, {})
    assert bounds is not None
    elem = node.result.type.elem
    assert isinstance(elem, BlockFloat)
    short = bits_for(*bounds) - 3
    (tmp_path / "mean.toml").write_text(
        'schema = 1\nextends = "dsp-bfp16"\nname = "mean"\nsummary = "A short mean"\n[types]\n'
        f'short = {{ kind = "block", mantissa = {short}, exponent = 10 }}\n[ops]\n'
        'mean = { in = ["x"], out = "short", arithmetic = "reciprocal" }\n'
        'normalize = { in = ["acc|x|point|short"], out = "x|point", fuse = true }\n'
    )
    node.result.type = TensorType(node.result.type.shape, BlockFloat(BlockFormat(short, 10), elem.blocks))
    with pytest.raises(QCompilerError, match="mean is not legal on target 'mean'") as caught:
        prove(graph, read_descriptor(tmp_path / "mean.toml"))
    assert str(caught.value.found).endswith("3 bits too many")


@pytest.mark.parametrize("target", ["dsp-bfp16", "dsp-bfp8", "npu-bfp16", "mx-int8"])
def test_realized_programs_are_legal(target: str) -> None:
    prove(realized("residual_cnn", target), load_target(target))


@pytest.mark.parametrize(
    "changes", [{"mantissa": 15}, {"rounding": "floor"}, {"overflow": "clamp"}, {"guard": 1}, {"highest_exponent": 126}]
)
def test_formats_are_those_of_the_target(changes: dict[str, Any]) -> None:
    """Contractions take operands of any format; the target does not."""
    graph = realized("residual_cnn")
    value = next(
        n.result for n in walk(graph)
        if n.op.name == "normalize" and all(isinstance(user.op, Contraction) for user in n.result.users)
    )
    elem = value.type.elem
    assert isinstance(elem, BlockFloat)
    value.type = TensorType(
        value.type.shape, dataclasses.replace(elem, format=dataclasses.replace(elem.format, **changes))
    )
    with pytest.raises(QCompilerError, match="normalize is not legal on target 'dsp-bfp16'"):
        prove(graph, load_target("dsp-bfp16"))


def test_a_bound_is_no_estimate() -> None:
    """The number of bits above, by logarithms of the exact sum: what the message says of one convolution."""
    node = next(n for n in walk(realized("residual_cnn")) if isinstance(n.op, Conv2DBase))
    w = constant_tensor(node.operands[1])
    assert w is not None
    total = max(int(np.abs(c.astype(np.int64)).sum()) for c in w.data.reshape(len(w.data), -1))
    assert needed_bits(node) >= (Fraction(total) * 32767).numerator.bit_length()
