"""Element types that hold one machine number: floats, integers, booleans."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True)
class Scalar:
    """A machine number format.

    Attributes:
        name: how the text format spells it, such as ``i8`` or ``f32``.
        bits: width in bits; 4-bit integers occupy a byte in numpy arrays.
        kind: ``"float"``, ``"int"``, ``"uint"`` or ``"bool"``.
    """

    name: str
    bits: int
    kind: str

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def minimum(self) -> int:
        """Smallest integer of the format; 0 for unsigned ones."""
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def maximum(self) -> int:
        """Largest integer of the format."""
        return (1 << (self.bits - 1)) - 1 if self.kind == "int" else (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The numpy dtype that holds values of this format."""
        return _DTYPES[self.name]

    def __str__(self) -> str:
        return self.name


F16, BF16, F32, F64 = (Scalar(n, b, "float") for n, b in (("f16", 16), ("bf16", 16), ("f32", 32), ("f64", 64)))
I4, I8, I16, I32, I64 = (Scalar(f"i{b}", b, "int") for b in (4, 8, 16, 32, 64))
U4, U8, U16, U32, U64 = (Scalar(f"u{b}", b, "uint") for b in (4, 8, 16, 32, 64))
BOOL = Scalar("bool", 1, "bool")

SCALARS: dict[str, Scalar] = {
    s.name: s for s in (F16, BF16, F32, F64, I4, I8, I16, I32, I64, U4, U8, U16, U32, U64, BOOL)
}

_DTYPES: dict[str, np.dtype[np.generic]] = {
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i4": np.dtype(np.int8),
    "u4": np.dtype(np.uint8),
    "bool": np.dtype(np.bool_),
    **{f"{k}{b}": np.dtype(f"{n}{b}") for k, n in (("i", "int"), ("u", "uint")) for b in (8, 16, 32, 64)},
}


def scalar_of(dtype: np.dtype[np.generic]) -> Scalar:
    """The scalar type that a numpy dtype stands for.

    Raises:
        KeyError: no scalar type has this dtype.
    """
    for name, candidate in _DTYPES.items():
        if candidate == dtype and SCALARS[name].bits != 4:
            return SCALARS[name]
    raise KeyError(f"no scalar type for numpy dtype {dtype}")
