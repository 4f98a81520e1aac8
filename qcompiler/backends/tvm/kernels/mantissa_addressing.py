"""Where the mantissas and exponents of a block floating-point tensor stand, for each place of an index space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AxisAddress:
    """One axis of an index space.

    Attributes:
        stride: elements from one mantissa to the next; 0 where the tensor is broadcast.
        block: places that share an exponent; 1 where all along the axis do.
        step: exponents from one block to the next; 0 where all along the axis share theirs.
    """

    stride: int
    block: int = 1
    step: int = 0


Address = tuple[AxisAddress, ...]
"""One entry for each axis of an index space."""


def address(shape: Sequence[int], blocks: Sequence[int] | None, target: Sequence[int]) -> Address:
    """A dense tensor of ``shape`` with exponents on the grid of ``blocks``, broadcast to the index space ``target``.

    Args:
        shape: of the tensor, of the rank of ``target`` at most.
        blocks: block length in each dimension; None for plain numbers.
        target: the index space.
    """
    missing = len(target) - len(shape)
    lengths = [max(size, 1) for size in shape] if blocks is None else list(blocks)
    counts = [-(-size // length) for size, length in zip(shape, lengths, strict=True)]
    found = [AxisAddress(0)] * missing
    for axis, (size, length) in enumerate(zip(shape, lengths, strict=True)):
        stride = math.prod(shape[axis + 1 :]) if size > 1 else 0
        step = math.prod(counts[axis + 1 :]) if counts[axis] > 1 else 0
        found.append(AxisAddress(stride, length if step else 1, step))
    return tuple(found)


def merged(shape: Sequence[int], addresses: Sequence[Address]) -> tuple[tuple[int, ...], tuple[Address, ...]]:
    """The same index space with neighbouring axes as one wherever all addresses allow; never without axes."""
    axes: list[tuple[int, list[AxisAddress]]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        entries = [a[axis] for a in addresses]
        if axes:
            outer, outer_entries = axes[-1]
            joined = [_joined(o, e, size) for o, e in zip(outer_entries, entries, strict=True)]
            if all(entry is not None for entry in joined):
                axes[-1] = outer * size, [entry for entry in joined if entry is not None]
                continue
        axes.append((size, entries))
    if not axes:
        return (1,), tuple((AxisAddress(0),) for _ in addresses)
    sizes = tuple(size for size, _ in axes)
    return sizes, tuple(tuple(entries[i] for _, entries in axes) for i in range(len(addresses)))


def _joined(outer: AxisAddress, inner: AxisAddress, size: int) -> AxisAddress | None:
    """An axis and the one behind it, of ``size``, as one; None where that has no address."""
    if outer.stride != inner.stride * size:
        return None
    if not inner.step:
        return AxisAddress(inner.stride, outer.block * size if outer.step else 1, outer.step)
    if outer.block == 1 and size % inner.block == 0 and outer.step == inner.step * (size // inner.block):
        return inner
    return None


def element_count(shape: Sequence[int], of: Address) -> int:
    """Mantissas from the first to the last that an address reaches."""
    return 1 + sum(axis.stride * (size - 1) for size, axis in zip(shape, of, strict=True))


def exponent_count(shape: Sequence[int], of: Address) -> int:
    """Exponents from the first to the last that an address reaches."""
    return 1 + sum(axis.step * ((size - 1) // axis.block) for size, axis in zip(shape, of, strict=True))
