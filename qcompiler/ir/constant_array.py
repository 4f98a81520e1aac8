"""Arrays as attributes: read-only, compared and hashed by content."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class ConstantArray:
    """A read-only array that is equal to another exactly when dtype, shape and every bit agree."""

    def __init__(self, values: ArrayLike, dtype: np.dtype[Any] | type[np.generic] | None = None) -> None:
        array = np.asarray(values, dtype=dtype)
        if array.flags.writeable or not array.flags.c_contiguous:
            array = np.array(array, order="C")
            array.setflags(write=False)
        self.array: NDArray[Any] = array

    @classmethod
    def adopt(cls, array: NDArray[Any]) -> ConstantArray:
        """Wrap ``array`` without copying it; the caller gives up the right to write to it."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        array.setflags(write=False)
        return cls(array)

    @cached_property
    def digest(self) -> str:
        """Content hash: 32 hex digits of BLAKE2b over dtype, shape and bytes."""
        state = hashlib.blake2b(f"{self.array.dtype.name}{self.array.shape}".encode(), digest_size=16)
        state.update(self.array.reshape(-1).view(np.uint8).data if self.array.size else b"")
        return state.hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConstantArray) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"ConstantArray({self.array!r})"
