"""The C header of a program in a static library: what its users need to know and to call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from qcompiler.backends.tvm.program_source import Interface, TensorDescription

_C_TYPES = {
    "bool": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t", "float32": "float",
    "float64": "double", "float16": "uint16_t", "bfloat16": "uint16_t",
}


def public_header(interface: Interface, notes: Mapping[str, str], instructions: Sequence[str] = ()) -> str:
    """The text of ``{name}.h``.

    Args:
        interface: what the program takes and gives.
        notes: for inputs and outputs by name, what their numbers mean, such as scale and zero point.
        instructions: instruction-set extensions that the program needs.
    """
    name, guard = interface.name, f"{interface.name.upper()}_H"
    inputs = _parameters("input", interface.inputs)
    outputs = _parameters("output", interface.outputs)
    taken = [f"const {_C_TYPES[t.dtype]} *{p}" for p, t in inputs.items()]
    taken += [f"{_C_TYPES[t.dtype]} *{p}" for p, t in outputs.items()]
    described = "\n".join(_description(p, t, notes) for p, t in [*inputs.items(), *outputs.items()])
    sizes = "\n".join(
        f"#define {name.upper()}_{p.upper()}_BYTES {t.bytes} /* {'one sample' if t.batched else 'all of it'} */"
        for p, t in [*inputs.items(), *outputs.items()]
    )
    return f"""\
/* {name}: written by qcompiler.
 *
 * Tensors are dense, row by row. Where the first size is N, axis 0 runs over samples.
 *
{described}
 *
 * Instructions that the processor must have: {" ".join(instructions) or "none beyond its basic ones"}.
 */
#ifndef {guard}
#define {guard}

#include "qcompiler_runtime.h"

#ifdef __cplusplus
extern "C" {{
#endif

{sizes}

/* The program's description of itself: sizes, shapes, names of its steps. */
extern const qcompiler_program {name}_program;

/* The instructions that this processor lacks, or NULL. Ask before the first run: without them it crashes. */
static inline const char *{name}_missing_instructions(void) {{
    return qcompiler_missing_instructions({name}_program.instructions);
}}

/* Bytes that {name}_run needs to work in, for a pool (qcompiler_pool_create) or, with NULL, for one thread. */
static inline int64_t {name}_workspace_bytes(const qcompiler_pool *pool) {{
    return {name}_program.workspace_bytes + qcompiler_pool_threads(pool) * {name}_program.scratch_bytes;
}}

/* Runs `samples` samples and returns 0, or does nothing and returns 1 where `workspace` is not aligned to
 * QCOMPILER_ALIGNMENT bytes. Its contents need no preparation. Calls at the same time take a workspace each. Inputs,
 * outputs and the workspace must not overlap. A NaN among the inputs leaves the outputs undefined. Floating-point
 * rounding must be to nearest, ties to even, as it is where a program starts. Allocates nothing. */
static inline int32_t {name}_run(
    {", ".join([*taken, "int64_t samples", "void *workspace", "qcompiler_pool *pool"])}) {{
    const void *inputs[] = {{{", ".join(inputs) or "0"}}};
    void *outputs[{max(3 * len(outputs), 1)}] = {{{", ".join(outputs) or "0"}}};
    return {name}_program.run(inputs, outputs, samples, workspace, pool, 0);
}}

#ifdef __cplusplus
}}
#endif

#endif
"""


def example_program(interface: Interface) -> str:
    """A C program that runs one sample: ``./example INPUT... OUTPUT...``, files of raw numbers."""
    name = interface.name
    inputs, outputs = _parameters("input", interface.inputs), _parameters("output", interface.outputs)
    sizes = {p: f"{name.upper()}_{p.upper()}_BYTES" for p in [*inputs, *outputs]}
    room = "\n".join(
        f"    {_C_TYPES[t.dtype]} *{p} = malloc({sizes[p]});" for p, t in [*inputs.items(), *outputs.items()]
    )
    read = "\n".join(f"    transfer(argv[{i}], {p}, {sizes[p]}, 0);" for i, p in enumerate(inputs, 1))
    write = "\n".join(
        f"    transfer(argv[{i}], {p}, {sizes[p]}, 1);" for i, p in enumerate(outputs, 1 + len(inputs))
    )
    files = " ".join(p.upper() for p in [*inputs, *outputs])
    return f"""\
/* Runs {name} on one sample. Build: cc example_{name}.c lib{name}.a -pthread -lm -o example */
#include <stdio.h>
#include <stdlib.h>

#include "{name}.h"

/* Reads a whole file, or writes one. */
static void transfer(const char *path, void *data, size_t bytes, int writing) {{
    FILE *file = fopen(path, writing ? "wb" : "rb");
    const size_t done = !file ? 0 : writing ? fwrite(data, 1, bytes, file) : fread(data, 1, bytes, file);
    if (!file || done != bytes || fclose(file)) {{
        fprintf(stderr, "%s: cannot %s %zu bytes\\n", path, writing ? "write" : "read", bytes);
        exit(1);
    }}
}}

int main(int argc, char **argv) {{
    if (argc != {len(inputs) + len(outputs) + 1}) {{
        fprintf(stderr, "usage: %s {files}\\n", argv[0]);
        return 2;
    }}
    const char *missing = {name}_missing_instructions();
    if (missing) {{
        fprintf(stderr, "this processor lacks instructions: %s\\n", missing);
        return 1;
    }}
{room}
{read}
    qcompiler_pool *pool = qcompiler_pool_create(2);
    const size_t bytes = (size_t){name}_workspace_bytes(pool);
    char *memory = malloc(bytes + QCOMPILER_ALIGNMENT);
    if (!memory) return 1;
    void *workspace = memory + (QCOMPILER_ALIGNMENT - (uintptr_t)memory % QCOMPILER_ALIGNMENT);
    const int32_t status = {name}_run({", ".join([*inputs, *outputs, "1", "workspace", "pool"])});
    qcompiler_pool_destroy(pool);
    free(memory);
    if (status) return 1;
{write}
    return 0;
}}
"""


def _parameters(role: str, tensors: Sequence[TensorDescription]) -> dict[str, TensorDescription]:
    """A C name for each tensor; those that differ only in case or in characters that C forbids get numbers."""
    names: dict[str, TensorDescription] = {}
    taken: set[str] = set()
    for index, tensor in enumerate(tensors):
        name = f"{role}_{re.sub('[^0-9A-Za-z_]', '_', tensor.name)}"
        # Macros are named in upper case.
        while name.upper() in taken:
            name += f"_{index}"
        taken.add(name.upper())
        names[name] = tensor
    return names


def _description(parameter: str, tensor: TensorDescription, notes: Mapping[str, str]) -> str:
    sizes = [str(size) for size in tensor.shape]
    if tensor.batched:
        sizes[0] = "N" if sizes[0] == "1" else f"N * {sizes[0]}"
    note = notes.get(tensor.name, "")
    # A comment must not end early.
    text = f"{parameter}: {tensor.name!r}, {tensor.dtype} ({', '.join(sizes)}){'; ' if note else ''}{note}"
    return " *   " + text.replace("*/", "* /").replace("\n", " ")
