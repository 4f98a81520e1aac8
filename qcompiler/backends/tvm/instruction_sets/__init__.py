"""One instruction set a file."""

from qcompiler.backends.tvm.instruction_sets import (
    aarch64_dotprod,
    avx2,
    avx512_vbmi,
    avx512_vnni,
    avx_vnni,
    generic,
    sse2,
)

__all__ = ["aarch64_dotprod", "avx2", "avx512_vbmi", "avx512_vnni", "avx_vnni", "generic", "sse2"]
