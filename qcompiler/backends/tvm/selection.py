"""Which instruction set a program is compiled for, and which machine."""

from __future__ import annotations

import re
from typing import Any

from qcompiler.backends.tvm import instruction_sets as _definitions
from qcompiler.backends.tvm.host import host_architecture, host_features
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.errors import QCompilerError, did_you_mean

del _definitions

_ARCHITECTURES = (
    "aarch64", "arm", "i386", "loongarch64", "mips64el", "mipsel", "powerpc64le", "riscv32", "riscv64", "thumb",
    "x86_64",
)
"""Processors with byte addresses, little-endian: kernels take pairs of numbers apart, and constants are stored so."""

_RISCV64 = {"mattr": ["+m", "+a", "+f", "+d", "+c"], "mabi": "lp64d"}
"""What C compilers take for granted on 64-bit RISC-V with an operating system."""


def select_instruction_set(
    cpu: str | None = None, triple: str | None = None, processor: str | None = None
) -> InstructionSet:
    """The instruction set to compile for.

    Args:
        cpu: its name. By default the best one that this machine runs; for another machine the one that needs nothing.
        triple: another machine, as LLVM names it: ``aarch64-linux-gnu``.
        processor: what LLVM calls the other machine's processor: ``cortex-m55``. Only with the instruction set that
            needs nothing.

    Raises:
        QCompilerError: there is no such instruction set, machine or processor, or they do not fit together.
    """
    if triple is None:
        if processor is not None:
            raise QCompilerError(
                f"a processor, {processor!r}, without a machine", fix="name the machine too: --triple TRIPLE"
            )
        return runnable_instruction_sets()[0] if cpu is None else INSTRUCTION_SETS.require(cpu)
    architecture = architecture_of(triple)
    isa = INSTRUCTION_SETS.require("generic" if cpu is None else cpu)
    if isa.architecture not in ("", architecture):
        raise QCompilerError(
            f"instruction set {isa.name!r} is none of {triple!r}", expected=f"a machine of type {isa.architecture}",
            found=architecture, fix="choose another one with --cpu, or leave it out",
        )
    if isa.architecture:
        if processor is not None:
            raise QCompilerError(
                f"instruction set {isa.name!r} with processor {processor!r}", expected="one of the two",
                fix="leave out --processor, or --cpu",
            )
        return isa.retargeted(triple)
    attributes: dict[str, Any] = {"vector-width": 8 * isa.register_bytes}
    words = triple.split("-")
    if words[-1].endswith("hf"):
        attributes["mfloat-abi"] = "hard"
    if processor is not None:
        _check_processor(triple, processor)
        attributes["mcpu"] = processor
    elif architecture == "riscv64" and "linux" in words:
        attributes |= _RISCV64
    return isa.retargeted(triple, **attributes)


def architecture_of(triple: str) -> str:
    """The kind of processor that a triple names, as LLVM calls it: ``thumbv8.1m.main-none-eabi`` is ``thumb``.

    Raises:
        QCompilerError: native code does not run on such, or LLVM makes none for it.
    """
    first = triple.partition("-")[0]
    name = {"arm64": "aarch64", "amd64": "x86_64"}.get(first, re.sub("^i[456]86$", "i386", first))
    for known in _ARCHITECTURES:
        # Versions follow the name: armv7a, thumbv8.1m.main.
        if re.fullmatch(rf"{known}(v\d[\w.]*)?", name) and known in _llvm_architectures():
            return known
    raise QCompilerError(
        f"native code cannot be made for {triple!r}",
        expected=f"LLVM's name of a machine, which starts with one of {', '.join(_ARCHITECTURES)}",
        fix=did_you_mean(first, _ARCHITECTURES) or "such as aarch64-linux-gnu or thumbv8.1m.main-none-eabihf",
    )


def machine_of(isa: InstructionSet) -> str | None:
    """The triple of the machine that code of an instruction set is for; None for this one."""
    if not isa.is_retargeted and isa.architecture in ("", host_architecture()):
        return None
    triple: str = isa.llvm_target["mtriple"]
    return triple


def runnable_instruction_sets() -> list[InstructionSet]:
    """Those whose code this machine can run, the fastest first; none that has never been executed."""
    features = host_features()
    found = [i for i in INSTRUCTION_SETS.values() if i.executed and i.runs_on(host_architecture(), features)]
    return sorted(found, key=lambda i: -i.preference)


def check_runs_here(isa: InstructionSet) -> None:
    """Refuse code that this machine cannot run, and code that no machine has run yet.

    Raises:
        QCompilerError: it lacks instructions; the error names them. Or the instruction set is only compiled for others.
    """
    elsewhere = "choose another one with --cpu; for other machines there is 'qcompiler native DIR --triple TRIPLE'"
    missing = sorted(set(isa.features) - host_features())
    if missing:
        raise QCompilerError(
            f"this machine cannot run code for {isa.name}", found=f"no {', no '.join(missing)}", fix=elsewhere
        )
    if isa.architecture not in ("", host_architecture()):
        raise QCompilerError(
            f"this machine cannot run code for {isa.name}", expected=isa.architecture, found=host_architecture(),
            fix=elsewhere,
        )
    if not isa.executed:
        raise QCompilerError(
            f"code for {isa.name} has never been run on a processor by qcompiler's own tests", fix=elsewhere
        )


def _check_processor(triple: str, processor: str) -> None:
    # LLVM itself would go on with a default.
    from tvm.target import Target, codegen

    known = [str(name) for name in codegen.llvm_get_cpu_archlist(Target({"kind": "llvm", "mtriple": triple}))]
    if processor not in known:
        raise QCompilerError(
            f"LLVM knows no processor {processor!r} of {triple!r}", expected=f"one of {', '.join(known)}",
            fix=did_you_mean(processor, known),
        )


def _llvm_architectures() -> set[str]:
    """What TVM's LLVM makes code for. For any other it would crash."""
    from tvm.target import codegen

    return {str(name) for name in codegen.llvm_get_targets()}
