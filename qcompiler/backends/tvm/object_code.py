"""From kernels to machine code: TVM's passes without its calling convention, then LLVM."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.tirx import compilation_pipeline

from qcompiler.backends.tvm.code_sources import source_digest
from qcompiler.backends.tvm.host import host_architecture
from qcompiler.backends.tvm.impossible_instructions import impossible_instructions, may_be_impossible
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel

PIPELINE = "qcompiler"


def symbol_of(kernel: Kernel, isa: InstructionSet) -> str:
    """The name of a kernel's function: equal for kernels that compile to the same code, different otherwise.

    It stands for the kernel's fields, the instruction set and machine, the sources that make the code, and TVM's
    version.
    """
    # A folder may serve machines of several kinds, and LLVM compiles for its own where no triple names one.
    machine = "" if "mtriple" in isa.llvm_target else host_architecture()
    target = repr(sorted(isa.llvm_target.items()))
    text = "\n".join((repr(kernel), isa.name, machine, target, source_digest(kernel, isa), _toolchain()))
    return f"qcompiler_{_snake(type(kernel).__name__)}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def compile_kernel(kernel: Kernel, isa: InstructionSet) -> bytes:
    """A relocatable object file that holds the one function ``symbol_of(kernel, isa)``.

    Raises:
        RuntimeError: LLVM encodes an instruction that does not exist; see ``impossible_instructions``.
    """
    found: list[str] = []
    for options in ({}, _WITHOUT_MASKS):
        library = _build(kernel, isa, symbol_of(kernel, isa), options)
        code = _object_of(library)
        found = impossible_instructions(library.inspect_source("asm")) if may_be_impossible(code) else []
        if not found:
            return code
    raise RuntimeError(f"LLVM encodes an instruction that does not exist, in {kernel} for {isa.name}: {found[0]}")


_WITHOUT_MASKS = {"cl-opt": ["-vectorize-slp:bool=false"]}
"""Attributes of a target for which LLVM does not join the comparisons of single numbers into masks."""


def _object_of(library: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        library.write_to_file(str(path), "o")
        return path.read_bytes()


def assembly(kernel: Kernel, isa: InstructionSet) -> str:
    """The machine code as text, to look at."""
    text: str = _build(kernel, isa, "kernel").inspect_source("asm")
    return text


def _build(kernel: Kernel, isa: InstructionSet, symbol: str, options: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """TVM's module of one kernel's machine code; ``options`` are further attributes of TVM's LLVM target."""
    _register_pipeline()
    target = tvm.target.Target({"kind": "llvm", **isa.llvm_target, **options})
    module = tvm.IRModule({symbol: kernel.prim_func(isa, symbol).with_attr("target", target)})
    return tvm.tirx.build(module, target=target, pipeline=PIPELINE)


@cache
def _register_pipeline() -> None:
    """TVM's lowering of loops and buffers, but no packed arguments: kernels are plain C functions."""
    def pipeline() -> Any:
        @tvm.transform.module_pass(opt_level=0)  # type: ignore[untyped-decorator]
        def lower(module: Any, context: Any) -> Any:
            return tvm.ir.transform.Sequential([
                s_tir.transform.CanonicalizeLoop(), tirx.transform.FlattenBuffer(), tirx.transform.NarrowDataType(32),
                tirx.transform.VectorizeLoop(True), tirx.transform.StorageRewrite(), tirx.transform.UnrollLoop(),
                tirx.transform.StmtSimplify(), tirx.transform.RemoveNoOp(),
            ])(module)

        def finish() -> Any:
            return tvm.ir.transform.Sequential([tirx.transform.LowerIntrin()])

        return lower, finish, compilation_pipeline.finalize_device_passes

    compilation_pipeline.register_tir_pipeline(PIPELINE, pipeline)


@cache
def _toolchain() -> str:
    return f"apache-tvm {version('apache-tvm')}"


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
