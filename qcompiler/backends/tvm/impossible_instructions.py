"""A guard against a fault of LLVM 22: instructions whose registers their encoding cannot name.

For AVX-512 it selects ``vmovmskps`` (and the like: ``vmovmskpd``, ``vpmovmskb``) on registers from xmm16 on. These
instructions have no EVEX form (Intel Software Developer's Manual, volume 2: MOVMSKPS), so the encoder drops the highest
bit of the register's number: ``vmovmskps %xmm17, %r14d`` becomes the bytes ``c4 21 78 50 f1``, which read xmm1. Nothing
crashes; the signs are those of another value.

The dropped bit leaves a trace. Where both operands are registers, the X bit of a VEX prefix extends nothing and is 1
(it is stored inverted); the faulty encoding has 0 there.
"""

from __future__ import annotations

import re

_IMPOSSIBLE = re.compile(
    # The three-byte VEX prefix: map 0F, X stored as 0; W, no second source, 128 or 256 bits.
    rb"\xc4[\x01\x21\x81\xa1][\x78-\x7f\xf8-\xff]"
    # MOVMSKPS and MOVMSKPD, PMOVMSKB; two registers.
    rb"[\x50\xd7][\xc0-\xff]"
)
_IMPOSSIBLE_TEXT = re.compile(r"^\s*(v?p?movmsk\w+\s+%[xyz]mm(?:1[6-9]|2\d|3[01])\b.*)$", re.MULTILINE)


def may_be_impossible(code: bytes) -> bool:
    """Whether the bytes of such an instruction occur in an object file; in data they may do so by chance."""
    return _IMPOSSIBLE.search(code) is not None


def impossible_instructions(assembly: str) -> list[str]:
    """Such instructions in a text of assembler, AT&T syntax."""
    return [" ".join(text.split()) for text in _IMPOSSIBLE_TEXT.findall(assembly)]
