"""The C source of a program: its kernels called in order, on the places that the memory plan gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.backends.tvm.kernel import Kernel, Role
from qcompiler.backends.tvm.kernel_program import OVER_READ, Call, Home, KernelProgram, View
from qcompiler.backends.tvm.memory_plan import ALIGNMENT, MemoryPlan, aligned, plan_memory
from qcompiler.backends.tvm.object_code import symbol_of

_PIECE_WORK = 150_000
"""Elementary operations that are worth handing to another thread: some microseconds."""


@dataclass(frozen=True)
class TensorDescription:
    """An input or output of one sample, as the program describes it to its callers.

    Attributes:
        name: its name.
        dtype: format of its numbers.
        shape: for one sample.
        batched: whether the first axis runs over samples.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    batched: bool

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Interface:
    """What a program takes and gives.

    Attributes:
        name: a C identifier that the program's public names start with.
        inputs, outputs: in the order of the program's.
        stored: for each output the integers behind it, of block floating point the mantissas.
        stored_exponents: for each output those of its mantissas; None where it has none.
    """

    name: str
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    stored: tuple[TensorDescription, ...]
    stored_exponents: tuple[TensorDescription | None, ...] = ()

    @property
    def behind_outputs(self) -> tuple[TensorDescription, ...]:
        """What stands behind the outputs, then the exponents of that: one for each output, empty where it has none."""
        exponents = self.stored_exponents or (None,) * len(self.outputs)
        empty = TensorDescription("", "int32", (0,), False)
        return (*self.stored, *(exponent or empty for exponent in exponents))


@dataclass(frozen=True)
class ProgramSource:
    """A program ready for a C compiler.

    Attributes:
        text: ``program.c``.
        constants_symbol: what the program calls its constants; programs of different names can be linked into one
            executable.
        constants: the bytes behind it.
        kernels: the kernels that it calls, by symbol.
    """

    text: str
    constants_symbol: str
    constants: bytes
    kernels: dict[str, Kernel]


def write_program(program: KernelProgram, interface: Interface) -> ProgramSource:
    """The C source of a program and what it links with."""
    plan = plan_memory(program)
    constants, constant_offsets = _pack_constants(program)
    constants_symbol = f"{interface.name}_constants"
    kernels: dict[str, Kernel] = {}
    symbols: dict[Kernel, str] = {}
    for call in program.calls:
        if call.kernel not in symbols:
            symbols[call.kernel] = symbol_of(call.kernel, program.isa)
            kernels[symbols[call.kernel]] = call.kernel
    scratch = max((_scratch_bytes(call.kernel, program) for call in program.calls), default=0)

    def pointer(view: View) -> str:
        buffer, offset = view.buffer, view.offset
        if buffer.home is Home.INPUT:
            return f"frame->input[{buffer.index}] + {offset}"
        if buffer.home is Home.OUTPUT:
            return f"frame->output[{buffer.index}] + {offset}"
        if buffer.home is Home.CONSTANT:
            return f"{constants_symbol} + {constant_offsets[buffer.index] + offset}"
        return f"frame->workspace + {plan.offsets[buffer.index] + offset}"

    parts = [_preamble(constants_symbol), *_declarations(kernels, program)]
    for number, call in enumerate(program.calls):
        parts.append(_step(number, call, symbols[call.kernel], program, pointer_of=pointer, scratch=scratch))
    parts.append(_run(program, interface, plan, scratch, pointer))
    return ProgramSource("\n".join(parts), constants_symbol, constants, kernels)


def _preamble(constants_symbol: str) -> str:
    return f"""\
/* Written by qcompiler. Kernels called in order; no arithmetic happens here. */
#include <stdint.h>
#include <string.h>

#include "qcompiler_runtime.h"

extern const uint8_t {constants_symbol}[];

struct frame {{
    const uint8_t *const *input;
    uint8_t *const *output;
    uint8_t *workspace;
    uint8_t *scratch;
}};
"""


def _declarations(kernels: dict[str, Kernel], program: KernelProgram) -> list[str]:
    lines = []
    for symbol, kernel in kernels.items():
        pointers = ", ".join("const void *" if a.role in (Role.INPUT, Role.CONSTANT) else "void *"
                             for a in kernel.arguments(program.isa))
        lines.append(f"void {symbol}({pointers}, int32_t, int32_t);")
    return lines


def _step(
    number: int, call: Call, symbol: str, program: KernelProgram, *, pointer_of: Callable[[View], str], scratch: int
) -> str:
    views = iter(call.views)
    offset = 0
    arguments = []
    for argument in call.kernel.arguments(program.isa):
        if argument.role is Role.SCRATCH:
            arguments.append(f"frame->scratch + (int64_t)worker * {scratch} + {offset}")
            offset += aligned(argument.bytes)
        else:
            arguments.append(pointer_of(next(views)))
    lines = ",\n        ".join(arguments)
    return f"""
static void step_{number}(const void *context, int32_t begin, int32_t end, int32_t worker) {{
    const struct frame *frame = context;
    (void)worker;
    {symbol}(
        {lines},
        begin, end);
}}"""


def _run(
    program: KernelProgram, interface: Interface, plan: MemoryPlan, scratch: int, pointer_of: Callable[[View], str]
) -> str:
    rows = []
    for number, call in enumerate(program.calls):
        items = call.kernel.items(program.isa)
        piece = min(max(1, -(-items * _PIECE_WORK // max(call.kernel.work(), 1))), max(items, 1))
        rows.append(f"    {{step_{number}, {items}, {piece}}},")
    behind = list(enumerate(interface.behind_outputs, len(interface.outputs)))
    views = (*program.stored, *program.stored_exponents)
    stored = [
        f"        if (output[{i}]) memcpy(output[{i}], {pointer_of(view)}, {t.bytes});"
        for (i, t), view in zip(behind, views, strict=True) if view is not None
    ]
    advance = [
        f"        input[{i}] += {t.bytes};" for i, t in enumerate(interface.inputs) if t.batched
    ] + [
        f"        output[{i}] += {t.bytes};" for i, t in enumerate(interface.outputs) if t.batched
    ] + [
        f"        if (output[{i}]) output[{i}] += {t.bytes};" for i, t in behind if t.batched
    ]
    names = [call.label for call in program.calls]
    inputs, outputs = max(len(interface.inputs), 1), len(interface.outputs)
    features = " ".join(program.isa.features)
    return f"""
static const struct {{ qcompiler_step function; int32_t items, piece; }} steps[] = {{
{chr(10).join(rows) or "    {0, 0, 1},"}
}};

static int32_t run(const void *const *inputs, void *const *outputs, int64_t samples, void *workspace,
                   qcompiler_pool *pool, uint64_t *nanoseconds) {{
    if ((uintptr_t)workspace % QCOMPILER_ALIGNMENT) return 1;
    const uint8_t *input[{inputs}];
    uint8_t *output[{max(3 * outputs, 1)}];
    uint8_t *bytes = workspace;
    struct frame frames = {{input, output, bytes, bytes + {aligned(plan.size)}}};
    const struct frame *frame = &frames;
    for (int i = 0; i < {len(interface.inputs)}; i++) input[i] = inputs[i];
    for (int i = 0; i < {3 * outputs}; i++) output[i] = outputs[i];
    const int32_t threads = qcompiler_pool_threads(pool);
    for (int64_t sample = 0; sample < samples; sample++) {{
        for (int i = 0; i < {len(program.calls)}; i++) {{
            const uint64_t start = nanoseconds ? qcompiler_clock() : 0;
            const int32_t share = steps[i].items / (4 * threads);
            const int32_t piece = share > steps[i].piece ? share : steps[i].piece;
            if (threads == 1 || steps[i].items <= piece) steps[i].function(frame, 0, steps[i].items, 0);
            else qcompiler_parallel(pool, steps[i].function, frame, steps[i].items, piece);
            if (nanoseconds) nanoseconds[i] += qcompiler_clock() - start;
        }}
{chr(10).join(stored)}
{chr(10).join(advance)}
    }}
    return 0;
}}

{_tensors("inputs_of", interface.inputs)}
{_tensors("outputs_of", interface.outputs)}
{_tensors("stored_of", interface.behind_outputs[:outputs])}
{_tensors("stored_exponents_of", interface.behind_outputs[outputs:]) if any(interface.stored_exponents) else ""}
static const char *const step_names[] = {{
{chr(10).join(f"    {_c_string(name)}," for name in names) or "    0,"}
}};

const qcompiler_program {interface.name}_program = {{
    {_c_string(interface.name)}, {_c_string(features)},
    {len(interface.inputs)}, {outputs}, inputs_of, outputs_of,
    {aligned(plan.size)}, {scratch},
    {len(program.calls)}, step_names,
    run,
    stored_of,
    {"stored_exponents_of" if any(interface.stored_exponents) else "0"},
}};
"""


def _tensors(name: str, tensors: Sequence[TensorDescription]) -> str:
    shapes, rows = [], []
    for index, tensor in enumerate(tensors):
        sizes = ", ".join(map(str, tensor.shape)) or "1"
        shapes.append(f"static const int64_t {name}_{index}[] = {{{sizes}}};")
        rows.append(
            f"    {{{_c_string(tensor.name)}, {_c_string(tensor.dtype)}, {len(tensor.shape)}, {name}_{index}, "
            f"{int(tensor.batched)}, {tensor.bytes}}},"
        )
    return "\n".join([*shapes, f"static const qcompiler_tensor {name}[] = {{", *(rows or ["    {0, 0, 0, 0, 0, 0},"]),
                      "};"])


def _pack_constants(program: KernelProgram) -> tuple[bytes, list[int]]:
    blob = bytearray()
    offsets = []
    for array in program.constants:
        blob.extend(b"\0" * (-len(blob) % ALIGNMENT))
        offsets.append(len(blob))
        blob.extend(array.tobytes())
    blob.extend(b"\0" * OVER_READ)
    return bytes(blob), offsets


def _scratch_bytes(kernel: Kernel, program: KernelProgram) -> int:
    return sum(aligned(a.bytes) for a in kernel.arguments(program.isa) if a.role is Role.SCRATCH)


def _c_string(text: str) -> str:
    """A C string literal; characters outside of ASCII as UTF-8 bytes in octal, which no following digit can extend."""
    if text.isascii() and text.isprintable():
        return json.dumps(text).replace("??", '?""?')
    return '"' + "".join(f"\\{byte:03o}" for byte in text.encode()) + '"'
