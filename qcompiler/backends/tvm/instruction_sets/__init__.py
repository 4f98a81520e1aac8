"""One instruction set a file."""

from qcompiler.backends.tvm.instruction_sets import avx512_vbmi, avx512_vnni, generic

__all__ = ["avx512_vbmi", "avx512_vnni", "generic"]
