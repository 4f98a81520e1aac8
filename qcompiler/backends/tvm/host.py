"""What the processor that this runs on can do."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")

_LLVM_NAMES = {
    "sse4_1": "sse4.1", "sse4_2": "sse4.2", "pni": "sse3", "abm": "lzcnt", "avx512_vnni": "avx512vnni",
    "avx512_vbmi2": "avx512vbmi2", "avx512_bitalg": "avx512bitalg", "avx512_vpopcntdq": "avx512vpopcntdq",
    "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16", "avx_vnni": "avxvnni", "avx_vnni_int8": "avxvnniint8",
    "asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm",
}
"""LLVM's names of what Linux calls otherwise."""


@cache
def host_features() -> frozenset[str]:
    """Instruction-set extensions of this processor, as LLVM spells them; empty where the system does not tell."""
    return features_in(_CPU_INFO.read_text()) if _CPU_INFO.exists() else frozenset()


def features_in(cpu_info: str) -> frozenset[str]:
    """The extensions that Linux's ``/proc/cpuinfo`` lists, as LLVM spells them.

    Processors of one machine may differ; only what all of them have counts.
    """
    flags = [
        frozenset(line.partition(":")[2].split())
        for line in cpu_info.splitlines()
        if line.partition(":")[0].strip().lower() in ("flags", "features")
    ]
    return frozenset(_LLVM_NAMES.get(flag, flag) for flag in frozenset.intersection(*flags)) if flags else frozenset()


def host_architecture() -> str:
    """The first part of LLVM's target triple for this machine: ``x86_64``, ``aarch64``."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
