"""Windows over spatial axes: strides, dilations, padding; and one spatial axis treated as two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator, static_sizes
from qcompiler.ir import Value
from qcompiler.ops.shape import Reshape

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Window:
    """Attributes of a convolution or pooling, for two spatial axes; a lone axis is the second one.

    Attributes:
        pads: explicit padding: top, left, bottom, right.
        extension: rows and columns that ceil_mode adds after the end padding.
        output_padding: of a transposed convolution.
    """

    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: Pads
    extension: Pair = (0, 0)
    output_padding: Pair = (0, 0)

    @classmethod
    def read(cls, layer: Layer, x: Value, kernel: Sequence[int], transposed: bool = False) -> Window:
        """Read the attributes that Conv, ConvTranspose, MaxPool and AveragePool share.

        Args:
            layer: the ONNX node.
            x: its operand ``[N, C, spatial...]``.
            kernel: kernel sizes.
            transposed: whether the padding is that of a transposed convolution.

        Raises:
            UnsupportedOperator: not one or two spatial axes, or negative padding.
        """
        count = x.type.rank - 2
        if count not in (1, 2):
            raise UnsupportedOperator(f"{count} spatial axes; one or two are supported")
        sizes = static_sizes(layer, x.type.shape, range(2, x.type.rank))
        strides = layer.integers("strides") or [1] * count
        dilations = layer.integers("dilations") or [1] * count
        extra = (layer.integers("output_padding") or [0] * count) if transposed else [0] * count
        if not len(kernel) == len(strides) == len(dilations) == len(extra) == count:
            raise layer.invalid(f"attributes do not fit {count} spatial axes")
        if min(*kernel, *strides, *dilations) < 1:
            raise layer.invalid("kernel, strides and dilations must be positive")
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = _transposed_pads if transposed else _pads
        before, after = pads(layer, sizes, spans, strides, extra)
        if min(*before, *after) < 0:
            raise UnsupportedOperator(f"negative padding {before + after}")
        extension = [0] * count
        if layer.integer("ceil_mode", 0):
            padded = [b + s + a for b, s, a in zip(before, sizes, after, strict=True)]
            for i in range(count):
                extension[i] = -(padded[i] - spans[i]) % strides[i]
                # A last window that starts in the end padding is left out (ONNX 1.16, PyTorch, ONNX Runtime).
                if padded[i] + extension[i] - spans[i] >= sizes[i] + before[i]:
                    extension[i] = 0
        return cls(
            _pair(kernel, 1), _pair(strides, 1), _pair(dilations, 1), (*_pair(before, 0), *_pair(after, 0)),
            _pair(extension, 0), _pair(extra, 0),
        )

    @property
    def extended_pads(self) -> Pads:
        """``pads`` with ``extension``."""
        top, left, bottom, right = self.pads
        return top, left, bottom + self.extension[0], right + self.extension[1]


def _pair(values: Sequence[int], first: int) -> Pair:
    return (first, values[0]) if len(values) == 1 else (values[0], values[1])


def _explicit_pads(layer: Layer, count: int) -> tuple[list[int], list[int]]:
    pads = layer.integers("pads") or [0] * 2 * count
    if len(pads) != 2 * count:
        raise layer.invalid(f"pads {pads} do not fit {count} spatial axes")
    return pads[:count], pads[count:]


def _pads(
    layer: Layer, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], extra: Sequence[int]
) -> tuple[list[int], list[int]]:
    auto = layer.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        return _explicit_pads(layer, len(sizes))
    if auto == "VALID":
        return [0] * len(sizes), [0] * len(sizes)
    # SAME: as many results as ceil(size / stride).
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, spans, strides, strict=True)]
    return _share(layer, auto, totals)


def _transposed_pads(
    layer: Layer, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int], extra: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding of a transposed convolution: what is cut off the result."""
    auto = layer.text("auto_pad", "NOTSET")
    wanted = layer.integers("output_shape")
    if wanted is None:
        if auto == "NOTSET":
            return _explicit_pads(layer, len(sizes))
        if auto == "VALID":
            return [0] * len(sizes), [0] * len(sizes)
        wanted = [n * s for n, s in zip(sizes, strides, strict=True)]
    full = [(n - 1) * s + k + e for n, s, k, e in zip(sizes, strides, spans, extra, strict=True)]
    totals = [f - w for f, w in zip(full, wanted[-len(sizes) :], strict=True)]
    return _share(layer, "SAME_LOWER" if auto in ("NOTSET", "VALID") else auto, totals)


def _share(layer: Layer, auto: str, totals: list[int]) -> tuple[list[int], list[int]]:
    """Padding before and after; SAME_UPPER puts the odd one at the end."""
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise layer.invalid(f"unknown auto_pad {auto!r}")
    less = [t // 2 for t in totals]
    more = [t - t // 2 for t in totals]
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def to_image(layer: Layer, x: Value) -> Value:
    """``[A, B, L]`` as ``[A, B, 1, L]``; four axes stay as they are."""
    if x.type.rank == 4:
        return x
    first, second, length = x.type.shape
    return layer.emit(Reshape((first, second, 1, length)), x)


def as_two_dimensional(layer: Layer, x: Value, compute: Callable[[Value], Value]) -> Value:
    """``compute`` on ``x`` as an image; one spatial axis becomes an image of height 1 and is restored."""
    result = compute(to_image(layer, x))
    if x.type.rank == 4:
        return result
    batch, channels, _, width = result.type.shape
    return layer.emit(Reshape((batch, channels, width)), result)
