/* How a shared library tells its loader which program it holds. QCOMPILER_PROGRAM names the description. */
#include "qcompiler_runtime.h"

extern const qcompiler_program QCOMPILER_PROGRAM;

QCOMPILER_PUBLIC int32_t qcompiler_library_version(void) { return QCOMPILER_RUNTIME_VERSION; }

QCOMPILER_PUBLIC const qcompiler_program *qcompiler_library_program(void) { return &QCOMPILER_PROGRAM; }
