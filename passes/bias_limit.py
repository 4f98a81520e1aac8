"""How large a bias may be on a target."""

from __future__ import annotations

from qcompiler.ir import SCALARS, Node
from qcompiler.target import Target

_SPARE_BITS = 2
"""A bias has its sign, and leaves as much of the integer as it takes to the products."""


def bias_limit(target: Target, node: Node) -> float:
    """The largest magnitude, in steps of the accumulator's scale, that calibration leaves to a contraction's bias.

    It is half of what the narrowest of these integers holds: the storage of the bias, that of the result, and the
    accumulator, or where the target has one the home of partial sums, in which the bias is then added.

    Args:
        target: the target.
        node: a contraction of an annotated program.
    """
    row, limits = target.row_for(node.op), target.descriptor.limits.accumulator
    widths = [SCALARS[limits.home].bits if limits.home else limits.bits]
    bias = row.operand(2) if row else None
    for operand in (bias, row.out if row else None):
        if operand is not None:
            widths += [SCALARS[name].bits for name in operand.choices[0].storages[:1]]
    return 2.0 ** (min(widths) - _SPARE_BITS)
