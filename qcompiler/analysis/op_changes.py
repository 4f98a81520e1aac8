"""What differs between two ops, types or arrays, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Affine, BlockFloat, ConstantArray, Constants, Op, Origin, Original, TensorType, scalar_of
from qcompiler.ir.dimension import format_shape
from qcompiler.ir.printer import INLINE_ELEMENTS, format_attribute, format_float32
from qcompiler.ir.structure import describe_attribute
from qcompiler.numerics.block_format import BlockFormat

Array = NDArray[Any]


@dataclass(frozen=True)
class Change:
    """One property that differs.

    Attributes:
        what: the property, such as ``attribute strides``, ``scale`` or ``operand 1``.
        before, after: it in each program; empty where the program lacks it.
        detail: how far the two lie apart, where numbers can say; the same in both directions.
    """

    what: str
    before: str
    after: str
    detail: str = ""

    def __str__(self) -> str:
        held = f"{self.before or 'none'} -> {self.after or 'none'}" if self.before != self.after else self.before
        return f"{self.what}: {held}" + (f" ({self.detail})" if self.detail else "")


def attribute_changes(before: Op, after: Op) -> Iterator[Change]:
    """The attributes of two ops of one name that differ, bodies aside; of constants, the arrays."""
    left, right = _attributes(before), _attributes(after)
    for name in dict.fromkeys([*left, *right]):
        first, second = left.get(name), right.get(name)
        if name in left and name in right and describe_attribute(first) == describe_attribute(second):
            continue
        if isinstance(first, ConstantArray) and isinstance(second, ConstantArray):
            yield _array_change(name, first.array, second.array)
        else:
            yield Change(
                f"attribute {name}",
                _attribute_text(first) if name in left else "", _attribute_text(second) if name in right else "",
            )


def type_changes(before: TensorType, after: TensorType, result: str = "") -> Iterator[Change]:
    """What differs between two types; ``result`` tells which of several results has them."""
    if before == after:
        return
    if before.shape != after.shape:
        yield Change(f"{result}shape", format_shape(before.shape), format_shape(after.shape))
    first, second = before.elem, after.elem
    if isinstance(first, BlockFloat) and isinstance(second, BlockFloat):
        yield from _block_changes(first, second, before.shape == after.shape, result)
        return
    if not isinstance(first, Affine) or not isinstance(second, Affine):
        if first != second:
            yield Change(f"{result}type", type_text(before), type_text(after))
        return
    if first.storage != second.storage:
        yield Change(f"{result}storage", str(first.storage), str(second.storage))
    if (first.qmin, first.qmax) != (second.qmin, second.qmax):
        yield Change(f"{result}range", f"[{first.qmin},{first.qmax}]", f"[{second.qmin},{second.qmax}]")
    # Blocks that follow the shape are no change by themselves.
    if first.blocks != second.blocks and (before.shape == after.shape or bool(first.blocks) != bool(second.blocks)):
        yield Change(f"{result}blocks", _blocks_text(first), _blocks_text(second))
    if first.scale != second.scale:
        yield _parameter_change(f"{result}scale", first.scale.array, second.scale.array, _ratio_text)
    if first.zero_point != second.zero_point:
        yield _parameter_change(f"{result}zero point", first.zero_point.array, second.zero_point.array, _distance_text)


def _block_changes(first: BlockFloat, second: BlockFloat, same_shape: bool, result: str) -> Iterator[Change]:
    """What differs between two types of block floating point."""
    fields = [asdict(elem.format) for elem in (first, second)]
    for name in fields[0]:
        if fields[0][name] != fields[1][name]:
            yield Change(f"{result}format {name}", *(str(f[name]) for f in fields))
    # Blocks that follow the shape are no change by themselves.
    if first.blocks != second.blocks and same_shape:
        yield Change(f"{result}blocks", format_shape(first.blocks), format_shape(second.blocks))
    if first.exponents is not None and second.exponents is not None:
        if first.exponents != second.exponents:
            grids = first.exponents.array, second.exponents.array
            yield _parameter_change(f"{result}exponents", *grids, _distance_text)
    elif first.exponents is not second.exponents:
        yield Change(f"{result}exponents", *(_exponents_text(elem) for elem in (first, second)))


def _exponents_text(elem: BlockFloat) -> str:
    return "found at run time" if elem.exponents is None else _grid_text(elem.exponents.array, " exponents")


def format_text(block_format: BlockFormat) -> str:
    """A block format as the program's text has it, such as ``m16e8, scale=headroom``."""
    return str(BlockFloat(block_format, ())).removeprefix("bf<").removesuffix(", blocks=[]>")


def type_text(tensor_type: TensorType) -> str:
    """A type in short: of many scales, zero points or exponents, how many there are and between what they lie."""
    elem = tensor_type.elem
    if isinstance(elem, BlockFloat) and elem.exponents is not None and elem.exponents.array.size > INLINE_ELEMENTS:
        text = f"bf<{format_text(elem.format)}, blocks={format_shape(elem.blocks)}, {_exponents_text(elem)}>"
        return text + format_shape(tensor_type.shape)
    if not isinstance(elem, Affine) or elem.scale.array.size <= INLINE_ELEMENTS:
        return str(tensor_type)
    storage = str(elem.storage) + ("" if elem.full_range else f"[{elem.qmin},{elem.qmax}]")
    text = f"q<{storage}, blocks={format_shape(elem.blocks)}, {_grid_text(elem.scale.array, ' scales')}"
    if not elem.symmetric:
        text += f", {_grid_text(elem.zero_point.array, ' zero points')}"
    return f"{text}>{format_shape(tensor_type.shape)}"


def origin_text(origin: Origin) -> str:
    """An origin as the program's text has it; arrays by their type alone."""
    if not isinstance(origin, Original):
        return f"none, {origin.reason}"
    text = origin.name
    if origin.permutation is not None:
        text += f", permutation = {format_attribute(origin.permutation)}"
    return text + (f", factor = {_array_text(origin.factor.array)}" if origin.factor is not None else "")


def attributes_text(op: Op) -> str:
    """``{name = value, ...}`` of the attributes that differ from their defaults; empty where none do."""
    defaults = {name: f.default for name, f in getattr(op, "__dataclass_fields__", {}).items()}
    items = [
        f"{name} = {_attribute_text(value)}" for name, value in _attributes(op).items()
        if name not in defaults or describe_attribute(value) != describe_attribute(defaults[name])
    ]
    return "{" + ", ".join(items) + "}" if items else ""


def _attributes(op: Op) -> dict[str, Any]:
    """Attributes by name; those of an arithmetic's constants one by one."""
    found: dict[str, Any] = {}
    for name, value in op.attributes().items():
        if isinstance(value, Constants):
            found.update(value)
        elif name != "body":
            found[name] = value
    return found


def _attribute_text(value: Any) -> str:
    return _array_text(value.array) if isinstance(value, ConstantArray) else format_attribute(value)


def _array_text(array: Array) -> str:
    if array.size <= INLINE_ELEMENTS:
        return "[" + ",".join(_number(v) for v in array.reshape(-1)) + "]" if array.ndim else _number(array[()])
    return scalar_of(array.dtype).name + format_shape(array.shape)


def _array_change(name: str, before: Array, after: Array) -> Change:
    if (before.dtype, before.shape) != (after.dtype, after.shape):
        first, second = (scalar_of(a.dtype).name + format_shape(a.shape) for a in (before, after))
        return Change(name, first, second)
    differs = _differing(before, after)
    detail = f"{int(differs.sum())} of {before.size} elements differ, {_distance_text(before, after)}"
    return Change(name, _array_text(before), _array_text(after), detail)


def _parameter_change(what: str, before: Array, after: Array, apart: Any) -> Change:
    """A change of scales or zero points, which stand on grids."""
    if before.shape != after.shape:
        return Change(what, _grid_text(before), _grid_text(after))
    detail: str = apart(before, after)
    if before.size > 1:
        detail = f"{int(_differing(before, after).sum())} of {before.size} differ, {detail}"
    return Change(what, _grid_text(before), _grid_text(after), detail)


def _blocks_text(elem: Affine) -> str:
    return format_shape(elem.blocks) if elem.blocks else "the whole tensor"


def _grid_text(grid: Array, noun: str = "") -> str:
    """All numbers of a small grid; of a larger one, how many there are and between what they lie."""
    numbers = grid.reshape(-1)
    if grid.size <= INLINE_ELEMENTS:
        text = ",".join(_number(v) for v in numbers)
        return text if grid.size == 1 else f"[{text}]"
    return f"{grid.size}{noun} from {_number(numbers.min())} to {_number(numbers.max())}"


def _differing(before: Array, after: Array) -> NDArray[np.bool_]:
    """Where two arrays of one dtype and shape hold other bits."""
    rows = [np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(a.size, -1) for a in (before, after)]
    return np.asarray((rows[0] != rows[1]).any(axis=1))


def _ratio_text(before: Array, after: Array) -> str:
    first, second = before.astype(np.float64), after.astype(np.float64)
    largest = float(np.maximum(first / second, second / first).max())
    return f"{'largest ratio' if before.size > 1 else 'ratio'} {largest:.6g}"


def _distance_text(before: Array, after: Array) -> str:
    """The largest distance of two numbers at one place. Differences of 64-bit integers need Python's integers."""
    exact = object if before.dtype.kind in "iu" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.abs(before.reshape(-1).astype(exact) - after.reshape(-1).astype(exact))
    if exact is object:
        return f"by at most {max(distances, default=0)}"
    known = distances[np.isfinite(distances)]
    text = f"by at most {float(known.max(initial=0)):.6g}"
    return text if len(known) == len(distances) else f"{text}, infinity and NaN aside"


def _number(value: Any) -> str:
    if isinstance(value, np.float32):
        return format_float32(value)
    if isinstance(value, np.bool_):
        return str(bool(value)).lower()
    return str(int(value)) if isinstance(value, np.integer) else repr(float(value))


