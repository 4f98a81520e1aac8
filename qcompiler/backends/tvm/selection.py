"""Which instruction set a program is compiled for."""

from __future__ import annotations

from qcompiler.backends.tvm import instruction_sets as _definitions
from qcompiler.backends.tvm.host import host_architecture, host_features
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.errors import QCompilerError

del _definitions


def select_instruction_set(cpu: str | None = None) -> InstructionSet:
    """The instruction set of a name; without one, the best that this machine runs.

    Raises:
        QCompilerError: there is none of that name.
    """
    if cpu is not None:
        return INSTRUCTION_SETS.require(cpu)
    return runnable_instruction_sets()[0]


def runnable_instruction_sets() -> list[InstructionSet]:
    """Those whose code this machine can run, the fastest first."""
    features = host_features()
    found = [i for i in INSTRUCTION_SETS.values() if i.runs_on(host_architecture(), features)]
    return sorted(found, key=lambda i: -i.preference)


def check_runs_here(isa: InstructionSet) -> None:
    """Refuse code that this machine cannot run.

    Raises:
        QCompilerError: it lacks instructions; the error names them.
    """
    missing = sorted(set(isa.features) - host_features())
    if missing:
        raise QCompilerError(
            f"this machine cannot run code for {isa.name}", found=f"no {', '.join(missing)}",
            fix="choose another instruction set with --cpu, or run the program elsewhere",
        )
