"""A program of two steps, written by hand: what libraries, loaders and compilers are tested with."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.library_build import LibraryParts
from qcompiler.backends.tvm.program_source import Interface, TensorDescription
from qcompiler.backends.tvm.toolchain import Toolchain

Array = NDArray[Any]

ROWS, COLUMNS = 3, 40
"""Sizes of one sample: rows of each sample follow one another along axis 0."""

INTERFACE = Interface(
    name="tiny",
    inputs=(
        TensorDescription("x:0", "int8", (ROWS, COLUMNS), True),
        TensorDescription("offset", "int32", (COLUMNS,), False),
    ),
    outputs=(TensorDescription("y", "float32", (ROWS, COLUMNS), True),),
    stored=(TensorDescription("y", "int32", (ROWS, COLUMNS), True),),
)

_KERNEL = """\
#include <stdint.h>
void qcompiler_handwritten_kernel(const int32_t *sums, float *y, int32_t begin, int32_t end) {
    for (int32_t i = begin; i < end; i++) y[i] = (float)sums[i] * 0.5f;
}
"""

_PROGRAM = """\
#include "qcompiler_runtime.h"

enum {{ ROWS = {rows}, COLUMNS = {columns}, SIZE = ROWS * COLUMNS, SUMS = 512, SCRATCH = 64 }};

extern const uint8_t {constants}[];
void qcompiler_handwritten_kernel(const int32_t *, float *, int32_t, int32_t);

struct frame {{
    const int8_t *x;
    const int32_t *offset;
    float *y;
    uint8_t *workspace;
}};

/* One row in an item: sums[row, c] = x[row, c] * weights[c] + offset[c], by way of the worker's own memory. */
static void weigh(const void *context, int32_t begin, int32_t end, int32_t worker) {{
    const struct frame *frame = context;
    const int32_t *weights = (const int32_t *)(const void *){constants};
    int32_t *sums = (int32_t *)(void *)frame->workspace;
    int32_t *row_sums = (int32_t *)(void *)(frame->workspace + SUMS + worker * SCRATCH * 4);
    for (int32_t row = begin; row < end; row++) {{
        for (int i = 0; i < COLUMNS; i++) row_sums[i] = frame->x[row * COLUMNS + i] * weights[i];
        for (int i = 0; i < COLUMNS; i++) sums[row * COLUMNS + i] = row_sums[i] + frame->offset[i];
    }}
}}

static void halve(const void *context, int32_t begin, int32_t end, int32_t worker) {{
    const struct frame *frame = context;
    (void)worker;
    qcompiler_handwritten_kernel((const int32_t *)(void *)frame->workspace, frame->y, begin, end);
}}

static int32_t run(const void *const *inputs, void *const *outputs, int64_t samples, void *workspace,
                   qcompiler_pool *pool, uint64_t *nanoseconds) {{
    if ((uintptr_t)workspace % QCOMPILER_ALIGNMENT) return 1;
    if ((uintptr_t){constants} % QCOMPILER_ALIGNMENT) return 2;
    struct frame frame = {{inputs[0], inputs[1], outputs[0], workspace}};
    int32_t *stored = outputs[1];
    for (int64_t sample = 0; sample < samples; sample++) {{
        uint64_t start = qcompiler_clock();
        qcompiler_parallel(pool, weigh, &frame, ROWS, 1);
        if (nanoseconds) nanoseconds[0] += qcompiler_clock() - start;
        start = qcompiler_clock();
        qcompiler_parallel(pool, halve, &frame, SIZE, 16);
        if (nanoseconds) nanoseconds[1] += qcompiler_clock() - start;
        for (int i = 0; stored && i < SIZE; i++) stored[i] = ((const int32_t *)workspace)[i];
        frame.x += SIZE;
        frame.y += SIZE;
        if (stored) stored += SIZE;
    }}
    return {status};
}}

static const int64_t shape[] = {{ROWS, COLUMNS}}, offset_shape[] = {{COLUMNS}};
static const qcompiler_tensor inputs_of[] = {{
    {{"x:0", "int8", 2, shape, 1, SIZE}}, {{"offset", "int32", 1, offset_shape, 0, COLUMNS * 4}}}};
static const qcompiler_tensor outputs_of[] = {{{{"y", "float32", 2, shape, 1, SIZE * 4}}}};
static const qcompiler_tensor stored_of[] = {{{{"y", "int32", 2, shape, 1, SIZE * 4}}}};
static const char *const step_names[] = {{"conv1", "se\\303\\261al"}};

const qcompiler_program {name}_program = {{
    "{name}", "{instructions}", 2, 1, inputs_of, outputs_of, SUMS, SCRATCH * 4, 2, step_names, run, stored_of}};
"""

STEP_NAMES = ("conv1", "señal")


def weights(seed: int = 0) -> Array:
    """The program's constants."""
    return np.random.default_rng(seed).integers(-1000, 1000, COLUMNS, np.int32)


def parts(
    toolchain: Toolchain, *, name: str = "tiny", seed: int = 0, instructions: str = "", status: int = 0,
    constants_symbol: str = "qcompiler_constants",
) -> LibraryParts:
    """The program, its kernel compiled.

    Args:
        toolchain: what compiles the kernel.
        name: the program's C name.
        seed: of the constants.
        instructions: what it claims to need.
        status: what its runs return.
        constants_symbol: the name of its constants.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, compiled = Path(folder) / "kernel.c", Path(folder) / "kernel.o"
        source.write_text(_KERNEL, encoding="utf-8")
        # As LLVM's through TVM: visible to everyone.
        toolchain.compile(source, compiled, flags=["-fvisibility=default"])
        code = compiled.read_bytes()
    text = _PROGRAM.format(
        rows=ROWS, columns=COLUMNS, name=name, instructions=instructions, status=status, constants=constants_symbol
    )
    kernels = {"qcompiler_handwritten_kernel": code}
    return LibraryParts(name, text, weights(seed).tobytes(), kernels, constants_symbol)


def feeds(samples: int, seed: int = 0) -> dict[str, Array]:
    """Random inputs."""
    rng = np.random.default_rng(seed)
    return {
        "x:0": rng.integers(-128, 128, (samples * ROWS, COLUMNS), np.int8),
        "offset": rng.integers(-1000, 1000, COLUMNS, np.int32),
    }


def expected(feeds: dict[str, Array], seed: int = 0) -> tuple[Array, Array]:
    """The output and the integers behind it."""
    sums = feeds["x:0"].astype(np.int32) * weights(seed) + feeds["offset"]
    return (sums * 0.5).astype(np.float32), sums
