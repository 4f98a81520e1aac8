"""How a reduction is cut into parts that a narrow accumulator holds."""

from __future__ import annotations

from qcompiler.analysis.accumulators import ContractionSums


def split_reduction(sums: ContractionSums, bits: int) -> tuple[int, ...] | None:
    """Lengths of the fewest consecutive parts of a reduction of which each fits an accumulator, for every input.

    Each part is made as long as it can be, which gives the fewest: what fits still fits when terms are left out.

    Args:
        sums: bounds of the contraction's sums.
        bits: width of the accumulator.

    Returns:
        Positive lengths that add to ``sums.length``; None where a single product does not fit.
    """
    parts: list[int] = []
    start = 0
    while start < sums.length:
        fits, too_long = start, sums.length + 1
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if sums.part(start, middle).within(bits):
                fits = middle
            else:
                too_long = middle
        if fits == start:
            return None
        parts.append(fits - start)
        start = fits
    return tuple(parts)
