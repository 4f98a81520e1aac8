"""Times of kernels that do the same work, each measured many times, in turns, in a process of its own."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel, Role
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.object_code import symbol_of
from qcompiler.backends.tvm.toolchain import Toolchain
from qcompiler.errors import QCompilerError

_ALIGNMENT = 64
_MOST_COPIES = 256
_LIMIT_SECONDS = 60


class TimingFailed(QCompilerError):
    """The process that times kernels crashed or hung."""


def time_kernels(
    kernels: Sequence[Kernel], isa: InstructionSet, cache: KernelCache, toolchain: Toolchain, constant_bytes: int = 0
) -> list[float]:
    """Nanoseconds of each kernel on made-up numbers: the least of the medians of its turns.

    Args:
        kernels: with equal arguments but for their sizes; at least one.
        isa: what they are compiled for; this machine runs it.
        cache: compiled kernels.
        toolchain: links the program that does the timing.
        constant_bytes: of the whole program that the kernels are for. Before a kernel runs again there, that many are
            read, so that it finds its own in no nearer cache than they fit into; here it takes turns on copies.

    Raises:
        CompilerFailed: the program does not link.
        TimingFailed: a kernel crashed.
    """
    with tempfile.TemporaryDirectory(prefix="qcompiler-tiles-") as name:
        folder = Path(name)
        source = folder / "timing.c"
        source.write_text(_source(kernels, isa, constant_bytes), encoding="utf-8")
        objects = []
        for kernel in dict.fromkeys(kernels):
            objects.append(folder / f"{symbol_of(kernel, isa)}.o")
            objects[-1].write_bytes(cache.object_code(kernel, isa))
        program = folder / "timing"
        toolchain.link_program([source, *objects], program)
        try:
            done = subprocess.run([program], capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=True)
            return [float(line) for line in done.stdout.split()]
        except (subprocess.SubprocessError, OSError) as error:
            raise TimingFailed(
                "kernels cannot be timed", found=str(error), fix="compile without --tune, and report this"
            ) from error


def _source(kernels: Sequence[Kernel], isa: InstructionSet, constant_bytes: int) -> str:
    """A C program that prints a number for each kernel."""
    arguments = [kernel.arguments(isa) for kernel in kernels]
    sizes = [max(a.bytes for a in same) for same in zip(*arguments, strict=True)]
    constant = [a.role is Role.CONSTANT for a in arguments[0]]
    own = sum(size for size, is_constant in zip(sizes, constant, strict=True) if is_constant)
    copies = min(max(1, constant_bytes // max(own, 1)), _MOST_COPIES)
    strides = [-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    pointers = ", ".join(["void *"] * len(sizes))
    places = ", ".join(
        f"place[{i}] + copy * {stride}" if is_constant else f"place[{i}]"
        for i, (stride, is_constant) in enumerate(zip(strides, constant, strict=True))
    )
    fields = ",\n".join(
        f"    {{{stride * (copies if is_constant else 1)}, '{_filling(argument.dtype)}'}}"
        for stride, is_constant, argument in zip(strides, constant, arguments[0], strict=True)
    )
    calls = [
        f"static void run_{i}(int64_t copy) {{ {symbol_of(kernel, isa)}({places}, 0, {kernel.items(isa)}); }}"
        for i, kernel in enumerate(kernels)
    ]
    declarations = {f"void {symbol_of(kernel, isa)}({pointers}, int32_t, int32_t);" for kernel in kernels}
    return f"""\
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {{ PLACES = {len(sizes)}, KERNELS = {len(kernels)}, COPIES = {copies} }};
static uint8_t *place[PLACES];
static const struct {{ int64_t bytes; char filling; }} buffers[PLACES] = {{
{fields}
}};

{chr(10).join(sorted(declarations))}
{chr(10).join(calls)}
static void (*const runs[KERNELS])(int64_t) = {{{", ".join(f"run_{i}" for i in range(len(kernels)))}}};
{_MAIN}"""


def _filling(dtype: str) -> str:
    """What a buffer holds: small floats, as random bits could be slow ones; any bytes; or zero, a harmless shift."""
    if dtype.startswith("float"):
        return "f" if dtype == "float32" else "d"
    return "r" if dtype.endswith(("int8", "int16")) else "0"


_MAIN = """
enum { ROUNDS = 24, TIMES = 5, NANOSECONDS = 30000, MOST_REPEATS = 256 };

static double clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static double time_of(int kernel, int repeats) {
    static int64_t copy;
    const double start = clock_now();
    for (int i = 0; i < repeats; i++) {
        runs[kernel](copy);
        copy = (copy + 1) % COPIES;
    }
    return (clock_now() - start) / repeats;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void) {
    for (int i = 0; i < PLACES; i++) {
        const size_t size = (size_t)buffers[i].bytes + 64;
        void *memory;
        if (posix_memalign(&memory, 64, (size + 63) / 64 * 64)) return 1;
        place[i] = memory;
        for (size_t j = 0; j < size; j++) place[i][j] = buffers[i].filling == 'r' ? (uint8_t)(rand() >> 7) : 0;
        if (buffers[i].filling == 'f') for (size_t j = 0; j < size / 4; j++) ((float *)memory)[j] = 1e-3f;
        if (buffers[i].filling == 'd') for (size_t j = 0; j < size / 8; j++) ((double *)memory)[j] = 1e-3;
    }
    double best[KERNELS];
    int repeats[KERNELS];
    for (int k = 0; k < KERNELS; k++) {
        best[k] = 1e300;
        double least = 1e300;
        for (int i = 0; i < 5; i++) {
            const double once = time_of(k, 1);
            if (once < least) least = once;
        }
        const double wanted = NANOSECONDS / (least + 1);
        repeats[k] = wanted < 1 ? 1 : wanted > MOST_REPEATS ? MOST_REPEATS : (int)wanted;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < KERNELS; i++) {
            const int k = (i + round) % KERNELS;
            double times[TIMES];
            time_of(k, 1);
            for (int t = 0; t < TIMES; t++) times[t] = time_of(k, repeats[k]);
            qsort(times, TIMES, sizeof *times, compare);
            if (times[TIMES / 2] < best[k]) best[k] = times[TIMES / 2];
        }
    }
    for (int k = 0; k < KERNELS; k++) printf("%.3f\\n", best[k]);
    return 0;
}
"""
