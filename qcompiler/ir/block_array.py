"""The two arrays of a block floating-point value."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class BlockArray(NamedTuple):
    """Mantissas and the exponents of their blocks: value = mantissa * 2**exponent.

    Attributes:
        mantissas: signed integers, in the narrowest format of numpy that holds the format's mantissas.
        exponents: int32 on the grid of blocks.
    """

    mantissas: NDArray[Any]
    exponents: NDArray[np.int32]
