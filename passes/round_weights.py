"""The pass ``round-weights``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.calibration.patch_moments import PatchMoments
from qcompiler.calibration.runner import observe
from qcompiler.calibration.weight_rounding import RoundTerm, round_weights
from qcompiler.ir import Builder, ConstantArray, Graph, Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics import block_conversion
from qcompiler.ops.block_conversion import FakeBlock, to_block
from qcompiler.ops.block_values import block_float, blocks_of
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.ops.quantization import FakeQuant
from qcompiler.passes.accumulator_fit import fit_accumulator
from qcompiler.passes.grouped_weights import is_grouped, set_group_scales
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass, option
from qcompiler.target import Target

Array = NDArray[Any]

_DAMPING = 0.01
"""Share of the mean variance that every weight's importance has at least, as in the rounding itself."""


@compiler_pass("round-weights")
class RoundWeights(Pass):
    """Round weights so that the results of their layers change least, and let biases make up for the means.

    Nearest rounding looks at each weight alone. This looks at what the inputs of a layer have in common, on the
    calibration data: what rounding one weight changes is made up for by the weights that are rounded after it. What
    is left changes the mean of a channel, which its bias takes up; a contraction without a bias keeps that. Weights
    end up on the same grid as before, so that nothing else changes. Weights in groups get their scales anew first,
    since the data tell how much an error of each weight matters. Without data, which block floating point can do
    without, nothing is done.

    Sources: Frantar et al., GPTQ, ICLR 2023, algorithm 1; Nagel et al., Data-Free Quantization Through Weight
    Equalization and Bias Correction, ICCV 2019, section 4.2, with means that are measured.
    """

    needs = Stage.CALIBRATED
    needs_data = True

    max_terms: int = option(4096, "layers that sum up more products are rounded to nearest", minimum=1)

    def run(self, graph: Graph, context: Context) -> PassResult:
        nodes = [n for n in graph.nodes if isinstance(n.op, Contraction) and self.can_be_rounded(n, n.op)]
        if not nodes:
            return PassResult(graph, False)
        if context.data is None:
            context.warn("without calibration data weights are rounded to nearest")
            return PassResult(graph, False)
        moments = [PatchMoments(node) for node in nodes]
        observe(graph, [node.operands[0] for node in nodes], moments, context.data, context.progress)
        for node, seen in zip(nodes, moments, strict=True):
            if is_grouped(_mark(node)):
                _choose_group_scales(graph, node, seen, context.target)
            _round(graph, node, seen)
        return PassResult(graph, True)

    def can_be_rounded(self, node: Node, op: Contraction) -> bool:
        """Whether operand 1 is a matrix or kernel known at compile time that is marked to be rounded."""
        mark = node.operands[1].producer
        if mark is None or not isinstance(mark.op, FakeBlock | FakeQuant) or constant_value(mark.operands[0]) is None:
            return False
        is_plain = isinstance(op, Conv2DBase) or mark.result.type.rank == 2
        return is_plain and op.reduction_length([v.type for v in node.operands]) <= self.max_terms


def _mark(node: Node) -> Node:
    """The mark of a contraction's weights."""
    mark = node.operands[1].producer
    assert mark is not None
    return mark


def _choose_group_scales(graph: Graph, node: Node, moments: PatchMoments, target: Target | None) -> None:
    """Scales and multipliers of groups anew: an error counts as much as the input varies that it is multiplied by."""
    shared = _mark(node)
    source = shared.operands[0]
    # Others may use the weights with other inputs.
    node.set_operand(1, Builder(graph, node, shared.loc)(shared.op, source, origin=shared.result.origin))
    variances = np.diagonal(moments.covariances, axis1=1, axis2=2)
    damped = variances + _DAMPING * variances.mean() + np.finfo(np.float64).tiny
    shape = static_shape(source.type.shape)
    outputs = _by_terms(node, np.zeros(shape)).shape[1]
    spread = np.broadcast_to(damped[:, None], (len(damped), outputs, damped.shape[1]))
    set_group_scales(_mark(node), _from_terms(node, spread, shape))
    if target is not None:
        fit_accumulator(node, target)
    _erase_unused(graph, shared)


def _round(graph: Graph, node: Node, moments: PatchMoments) -> None:
    mark = _mark(node)
    weights = constant_value(mark.operands[0])
    assert weights is not None
    wide = _by_terms(node, weights.astype(np.float64))
    rounded = round_weights(wide, moments.covariances, _rounding_of(node, mark, weights))
    shift = np.einsum("got,gt->go", rounded - wide, moments.means).reshape(-1)
    build = Builder(graph, mark, mark.loc)
    source = mark.operands[0]
    stored = _from_terms(node, rounded, weights.shape).astype(weights.dtype)
    made = build(Constant(ConstantArray(stored)), elem=source.type.elem, origin=source.origin)
    node.set_operand(1, Builder(graph, node, mark.loc)(mark.op, made, origin=mark.result.origin))
    _erase_unused(graph, mark)
    if len(node.operands) == 3:
        _shift_bias(graph, node, shift)


def _by_terms(node: Node, array: Array) -> Array:
    """An array on the weights' grid as ``[groups, outputs of a group, terms]``, terms in the order of patches."""
    op = node.op
    if isinstance(op, Conv2DBase):
        last = array if op.layout == "NHWC" else array.transpose(0, 2, 3, 1)
        flipped = op.as_convolution(np.zeros((1, 1, 1, op.groups)), last, 0)[1]
        return flipped.reshape(op.groups, len(array) // op.groups, -1)
    assert isinstance(op, Contraction)
    return np.moveaxis(array, op.weight_channel_axis(2), 0)[None]


def _from_terms(node: Node, array: Array, shape: tuple[int, ...]) -> Array:
    """The opposite of :func:`_by_terms`."""
    op = node.op
    if isinstance(op, Conv2DBase):
        last_shape = shape if op.layout == "NHWC" else (shape[0], shape[2], shape[3], shape[1])
        flipped = array.reshape(last_shape)
        last = op.as_convolution(np.zeros((1, 1, 1, op.groups)), flipped, 0)[1]
        return last if op.layout == "NHWC" else last.transpose(0, 3, 1, 2)
    assert isinstance(op, Contraction)
    return np.moveaxis(array[0], 0, op.weight_channel_axis(2))


def _rounding_of(node: Node, mark: Node, weights: Array) -> RoundTerm:
    """How a mark rounds the weights of a term, with the scales or exponents that all weights have."""
    op = mark.op
    if isinstance(op, FakeBlock):
        held = op.held
        blocks = blocks_of(held)
        grid = block_conversion.spread(to_block(weights, held).exponents, weights.shape, blocks)
        exponents = _by_terms(node, np.broadcast_to(grid, weights.shape))
        block_format = block_float(held).format

        def to_format(values: Array, term: int) -> Array:
            each = exponents[..., term]
            mantissas, _ = block_conversion.to_block(values, block_format, (1, 1), each)
            # The smallest integer of two's complement would ask for a larger exponent when it is written again.
            kept = np.maximum(mantissas.astype(np.float64), -block_format.largest)
            return np.asarray(np.ldexp(kept, each))

        return to_format
    assert isinstance(op, FakeQuant)
    elem = op.elem
    scale, zero_point = (
        _by_terms(node, np.broadcast_to(spread, weights.shape).astype(np.float64))
        for spread in (elem.scale_for(weights.shape), elem.zero_point_for(weights.shape))
    )

    def to_grid(values: Array, term: int) -> Array:
        step, zero = scale[..., term], zero_point[..., term]
        return np.asarray((np.clip(np.rint(values / step) + zero, elem.qmin, elem.qmax) - zero) * step)

    return to_grid


def _shift_bias(graph: Graph, node: Node, shift: Array) -> None:
    """Subtract a number from each element of a constant bias, behind its mark where it has one."""
    mark = node.operands[2].producer
    bias: Value = mark.operands[0] if mark is not None and isinstance(mark.op, FakeBlock) else node.operands[2]
    numbers = constant_value(bias)
    if numbers is None:
        return
    build = Builder(graph, node, node.loc)
    shifted = Constant(ConstantArray((numbers - shift).astype(numbers.dtype)))
    made = build(shifted, elem=bias.type.elem, origin=bias.origin)
    if mark is not None and bias is not node.operands[2]:
        made = build(mark.op, made, origin=bias.origin)
    node.set_operand(2, made)
    if mark is not None:
        _erase_unused(graph, mark)


def _erase_unused(graph: Graph, node: Node) -> None:
    """Erase a node that nobody uses any more, and what it alone used."""
    if any(value.uses for value in node.results):
        return
    sources = [v.producer for v in node.operands if v.producer is not None]
    graph.erase(node)
    for source in sources:
        _erase_unused(graph, source)
