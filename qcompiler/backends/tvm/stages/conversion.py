"""Casts between machine formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.element import Element, Stage
from qcompiler.backends.tvm.lanes import Expr, convert, element
from qcompiler.errors import QCompilerError
from qcompiler.ir import Node
from qcompiler.ops.quantization import Cast


@dataclass(frozen=True)
class Convert(Stage):
    """The operand in another format. Floats truncate; integers that do not fit keep their low bits.

    Attributes:
        dtype: the format, as numpy names it.
    """

    dtype: str

    def expression(self, operands: Sequence[Expr]) -> Expr:
        x = operands[0]
        narrow = self.dtype in ("int8", "uint8", "int16", "uint16")
        if narrow and element(x).startswith("float"):
            x = convert(x, "int32")
        return convert(convert(x, self.dtype), "int32") if narrow else convert(x, self.dtype)


@lowering("tvm-element", "cast")
def cast(node: Node) -> Element:
    """Operand: unquantized numbers.

    Raises:
        QCompilerError: a format that kernels do not compute in.
    """
    op, source = node.op, node.operands[0].type.storage
    assert isinstance(op, Cast)
    for storage in (source, op.to):
        if storage.name not in ("i8", "u8", "i16", "u16", "i32", "i64", "f32", "f64"):
            raise QCompilerError(
                "the native backend cannot cast this format", layer=node.layer, expected="i8, u8, i16, u16, i32, i64, "
                "f32 or f64", found=f"{source} to {op.to}", fix="keep the value in one of these formats",
            )
    return Element(Convert(str(op.to.dtype)))
