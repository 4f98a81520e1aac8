"""From the accumulators of a depthwise convolution to stored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.kernels.depthwise_layout import VECTORS, Part, dot_order
from qcompiler.backends.tvm.kernels.epilogue import BoundEpilogue, Epilogue, InputKind, Lanes, store_part
from qcompiler.backends.tvm.lanes import Expr, reinterpret


def keeps_dot_order(epilogue: Epilogue) -> bool:
    """Whether an epilogue computes on permuted channels, which packing to bytes puts in order."""
    kinds = {entry.kind for entry in epilogue.inputs}
    return epilogue.result in ("int8", "uint8") and InputKind.TENSOR not in kinds


class Results(BoundEpilogue):
    """An epilogue for accumulators whose channels are permuted."""

    def __init__(self, epilogue: Epilogue, isa: InstructionSet, buffers: Mapping[str, Any]) -> None:
        super().__init__(epilogue, isa, buffers)
        self.permuted = keeps_dot_order(epilogue)
        self.inverse = [int(i) for i in np.argsort(dot_order(isa))]

    def pack_to_bytes(self, vectors: Sequence[Expr]) -> Expr:
        packed = super().pack_to_bytes(vectors)
        return _ordered(packed, self.inverse) if self.permuted else packed

    def finish_block(self, accumulators: Sequence[Expr], channel: Expr, offsets: Sequence[Expr], part: Part) -> None:
        """Compute and store the results of one block of channels at one column.

        Args:
            accumulators: four vectors.
            channel: where the block begins in packed constants.
            offsets: where each row's results begin in the output.
            part: how the block's channels and rows lie in the vectors.
        """
        width = self.isa.lanes
        if self.permuted:
            vectors = [Lanes(a, channel + q * width, offsets[0], 0, width) for q, a in enumerate(accumulators)]
            packed = self.packed(vectors)
            for row, offset in enumerate(offsets):
                store_part(self.output, offset, packed, row * part.width, part.used)
            return
        vectors = []
        for q in range(VECTORS):
            row, first = divmod(q * width, part.width)
            if row < len(offsets) and first < part.used:
                indices = [tirx.const(i, "int32") for i in self.inverse[q * width : (q + 1) * width]]
                ordered = named(tirx.Shuffle(list(accumulators), indices))
                vectors.append(Lanes(ordered, channel + q * width, offsets[row], first, min(width, part.used - first)))
        self.finish(vectors)


def _ordered(packed: Expr, inverse: Sequence[int]) -> Expr:
    """Bytes in another order; by the widest units that it keeps together, which LLVM joins with other such moves."""
    if list(inverse) == list(range(len(inverse))):
        return packed
    dtype = str(packed.ty)
    units = [inverse[i : i + 4] for i in range(0, len(inverse), 4)]
    if all(u[0] % 4 == 0 and list(u) == list(range(u[0], u[0] + 4)) for u in units):
        words = reinterpret(f"int32x{len(units)}", packed)
        return reinterpret(dtype, tirx.Shuffle([words], [tirx.const(u[0] // 4, "int32") for u in units]))
    return tirx.Shuffle([packed], [tirx.const(i, "int32") for i in inverse])
