"""Random ops that move numbers, of quantized values and of plain indices."""

from __future__ import annotations

from typing import Any

from contraction_cases import tail
from elementwise_cases import any_shape
from op_writer import OpWriter

from qcompiler.ir import Arithmetic, Value
from qcompiler.ir.dimension import Dim, element_count
from qcompiler.ir.scalar import I32, I64
from qcompiler.ops.resize import NEAREST, Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split


def source(w: OpWriter, rank: int | None = None) -> Value:
    """Quantized numbers, or integers that are indices."""
    elem: Any = w.pick(w.activation(), w.activation(), w.activation(), w.pick(I32, I64))
    return w.input(any_shape(w, rank), elem)


def concat(w: OpWriter) -> Value:
    """Two to four operands, one of them perhaps twice."""
    x = source(w, int(w.rng.integers(2, 7)))
    axis = int(w.rng.integers(1, x.type.rank))
    operands = [x]
    for _ in range(int(w.rng.integers(1, 4))):
        shape = [w.size(9) if i == axis else d for i, d in enumerate(x.type.shape)]
        operands.append(x if w.maybe(4) else w.input(shape, x.type.elem))
    return w.make(Concat(w.pick(axis, axis - x.type.rank)), *w.shuffled(*operands))


def split(w: OpWriter) -> list[Value]:
    """Parts of any size, empty ones too; some of them come together again in another order."""
    x = source(w, int(w.rng.integers(2, 6)))
    axis = int(w.rng.integers(1, x.type.rank))
    length = x.type.shape[axis]
    assert isinstance(length, int)
    cuts = sorted(int(c) for c in w.rng.integers(0, length + 1, int(w.rng.integers(0, 3))))
    sizes = tuple(b - a for a, b in zip([0, *cuts], [*cuts, length], strict=True))
    parts = w.make_all(Split(axis, sizes), x)
    return [*parts, w.make(Concat(axis), *reversed(parts))] if w.maybe() else list(parts)


def cut(w: OpWriter) -> Value:
    """Any starts, ends and steps, negative ones too."""
    x = source(w)
    parts: list[tuple[int, int, int, int]] = []
    for axis, size in enumerate(x.type.shape):
        if not isinstance(size, int) or axis == 0 or w.maybe():
            continue
        step = int(w.pick(1, 1, 2, 3, -1, -2))
        start = int(w.rng.integers(0, size))
        end = int(w.rng.integers(start + 1, size + 1)) if step > 0 else int(w.rng.integers(-1, start))
        parts.append((axis, start, end, step))
    axes, starts, ends, steps = (tuple(part[i] for part in parts) for i in range(4))
    return w.make(Slice(axes, starts, ends, steps), x)


def padded(w: OpWriter) -> Value:
    """A border of a number, or of repeated elements."""
    x = w.input(any_shape(w), w.activation())
    mode = w.pick("constant", "constant", "reflect", "edge")
    most = [0 if i == 0 else min(d - 1, 3) if mode == "reflect" else 3 for i, d in enumerate(x.type.shape)  # type: ignore[operator]
            if i == 0 or isinstance(d, int)]
    before, after = (tuple(int(w.rng.integers(0, m + 1)) for m in most) for _ in range(2))
    return w.make(Pad(before, after, mode, float(w.pick(0.0, -3.5, 1e9, -1e9, 0.25))), x)


def reshaped(w: OpWriter) -> list[Value]:
    """Other shapes of the same numbers, the leading dimension a multiple of the batch."""
    x = source(w, int(w.rng.integers(2, 5)))
    flat = element_count(x.type.shape[1:])
    assert isinstance(flat, int)
    parts = [w.make(Reshape((w.batch, flat)), x), w.make(Reshape((w.batch, 1, flat, 1)), x)]
    if not isinstance(w.batch, int) or w.batch > 0:
        first: Dim = w.batch * flat
        parts.append(w.make(Reshape((first,)), x))
    return parts


def transposed(w: OpWriter) -> Value:
    """Any permutation that leaves the batch in front, or brings it back there."""
    x = source(w)
    rest = [int(i) + 1 for i in w.rng.permutation(x.type.rank - 1)]
    y = w.make(Transpose((0, *rest)), x)
    if x.type.rank > 1 and w.maybe(3):
        away = w.make(Transpose((1, 0, *range(2, x.type.rank))), y)
        y = w.make(Transpose((1, 0, *range(2, x.type.rank))), away)
    return y


def expanded(w: OpWriter) -> Value:
    """Axes of size 1 repeated."""
    shape = any_shape(w)
    elem: Any = w.pick(w.activation(), I64)
    return w.make(Expand(shape), w.input([d if i == 0 else w.pick(1, d) for i, d in enumerate(shape)], elem))


def gathered(w: OpWriter) -> Value:
    """Constant indices of rank 0 to 2, negative ones too."""
    x = source(w, int(w.rng.integers(2, 6)))
    axis = int(w.rng.integers(1, x.type.rank))
    size = x.type.shape[axis]
    assert isinstance(size, int)
    shape = w.pick((), (w.size(7),), (w.size(3), w.size(3)))
    scalar = w.pick(I32, I64)
    indices = w.constant(scalar, shape, w.rng.integers(-size, size, shape).astype(scalar.dtype))
    return w.make(Gather(w.pick(axis, axis - x.type.rank)), x, indices)


def resized(w: OpWriter) -> Value:
    """Nearest and bilinear, up and down, to and from size 1."""
    rank = int(w.rng.integers(3, 5))
    x = w.input(any_shape(w, rank), w.activation(w.storage(wide=False)))
    axes = w.pick((1, 2), (rank - 2, rank - 1))
    sizes = (w.size(17), w.size(17))
    if w.maybe():
        coordinates = w.pick("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
        return w.make(Resize(axes, sizes, "nearest", coordinates, w.pick(*NEAREST)), x)
    coordinates = w.pick("half_pixel", "asymmetric", "align_corners")
    op = Resize(axes, sizes, "linear", coordinates, arithmetic=Arithmetic("litert-resize-bilinear"))
    return w.make(op, x)


def mixed(w: OpWriter) -> list[Value]:
    """Movement between computing steps: concatenated slices, a transposed and reshaped image."""
    x = w.input((w.batch, w.size(6), w.size(6), w.size(20) + 2), w.activation(w.storage(wide=False)))
    *_, height, width, channels = x.type.shape
    assert isinstance(height, int)
    assert isinstance(width, int)
    assert isinstance(channels, int)
    low = int(w.rng.integers(1, channels))
    left = w.make(Slice((3,), (0,), (low,), (1,)), x)
    right = w.make(Slice((3,), (low,), (channels,), (1,)), x)
    swapped = w.make(Concat(3), right, left)
    moved = w.make(Transpose((0, 3, 1, 2)), swapped)
    flat = w.make(Reshape((w.batch, channels * height, width)), moved)
    return [tail(w, flat), w.make(Concat(3), swapped, x), *([swapped] if w.maybe() else [])]


CASES = (concat, split, cut, padded, reshaped, transposed, expanded, gathered, resized, mixed)
