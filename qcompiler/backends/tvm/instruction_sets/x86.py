"""What all instruction sets of x86 share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TUNING = ("fast-variable-crosslane-shuffle", "fast-variable-perlane-shuffle")
"""What LLVM should know about processors with AVX2; no instructions of their own."""


def x86_target(features: Sequence[str]) -> dict[str, Any]:
    """TVM's target for the baseline of x86-64 and some extensions, and nothing else that LLVM might use.

    Names of processors, such as ``haswell``, bring extensions that nobody would ask for.

    Args:
        features: extensions as LLVM spells them, those that others imply included.
    """
    tuning = TUNING if "avx2" in features else ()
    return {
        "mtriple": "x86_64-unknown-linux-gnu", "mcpu": "x86-64", "mattr": [f"+{name}" for name in (*features, *tuning)],
    }
