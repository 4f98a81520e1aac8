/* The program as functions of a TVM module, through TVM's C interface:
 *
 *   library = tvm.runtime.load_module("lib.so")
 *   library["set_threads"](2)          # one, until this is called
 *   library["run"](x0, ..., y0, ...)   # inputs, then outputs, which are overwritten
 *
 * QCOMPILER_PROGRAM names the program's description. The library must also load where there is no TVM, so nothing of
 * TVM's is linked. */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

#include "qcompiler_runtime.h"

extern const qcompiler_program QCOMPILER_PROGRAM;
#define PROGRAM (&QCOMPILER_PROGRAM)

/* Workspaces that no call uses at the moment, kept so that the next call finds its pages in place. */
#define KEPT 4
static _Atomic(void *) kept[KEPT];

/* Calls in progress hold it for reading: the pool may not go away under them. */
static pthread_rwlock_t pool_lock = PTHREAD_RWLOCK_INITIALIZER;
static qcompiler_pool *pool;

/* TVM's runtime fills in variables of this form when it loads a library (library_module.cc, InitContextSymbols). */
typedef void (*raise_function)(const char *kind, const char *message);
QCOMPILER_PUBLIC raise_function __TVMFFIErrorSetRaisedFromCStr;

__attribute__((format(printf, 2, 3)))
static int failure(const char *kind, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    raise_function raise = __TVMFFIErrorSetRaisedFromCStr;
    /* A process may use TVM's function interface without its runtime. */
    if (!raise) raise = (raise_function)dlsym(RTLD_DEFAULT, "TVMFFIErrorSetRaisedFromCStr");
    if (raise) raise(kind, text);
    return -1;
}

static const struct {
    const char *name;
    uint8_t code, bits;
} formats[] = {
    {"bool", kDLBool, 8},      {"int8", kDLInt, 8},       {"int16", kDLInt, 16},     {"int32", kDLInt, 32},
    {"int64", kDLInt, 64},     {"uint8", kDLUInt, 8},     {"uint16", kDLUInt, 16},   {"uint32", kDLUInt, 32},
    {"uint64", kDLUInt, 64},   {"float16", kDLFloat, 16}, {"float32", kDLFloat, 32}, {"float64", kDLFloat, 64},
    {"bfloat16", kDLBfloat, 16},
};

static const char *format_of(DLDataType dtype) {
    if (dtype.lanes == 1)
        for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
            if (formats[i].code == dtype.code && formats[i].bits == dtype.bits) return formats[i].name;
    return "another format";
}

/* Sizes as text, such as (2, 8, 3); `batched` puts N times the rows first. */
static const char *shape_text(char *text, size_t room, const int64_t *shape, int32_t rank, int32_t batched) {
    size_t used = (size_t)snprintf(text, room, "(");
    for (int32_t i = 0; i < rank && used < room; i++) {
        const char *gap = i ? ", " : "";
        if (i == 0 && batched && shape[0] == 1) used += (size_t)snprintf(text + used, room - used, "N");
        else if (i == 0 && batched) used += (size_t)snprintf(text + used, room - used, "N * %lld", (long long)shape[0]);
        else used += (size_t)snprintf(text + used, room - used, "%s%lld", gap, (long long)shape[i]);
    }
    if (used < room) snprintf(text + used, room - used, rank == 1 ? ",)" : ")");
    return text;
}

static const DLTensor *tensor_of(const TVMFFIAny *argument) {
    if (argument->type_index == kTVMFFIDLTensorPtr) return argument->v_ptr;
    if (argument->type_index == kTVMFFITensor) return (const DLTensor *)(argument->v_obj + 1); /* behind the header */
    return NULL;
}

static int is_dense(const DLTensor *tensor) {
    if (!tensor->strides) return 1;
    for (int32_t i = 0; i < tensor->ndim; i++)
        if (tensor->shape[i] == 0) return 1;
    int64_t step = 1;
    for (int32_t i = tensor->ndim; i-- > 0;) {
        if (tensor->shape[i] != 1 && tensor->strides[i] != step) return 0;
        step *= tensor->shape[i];
    }
    return 1;
}

/* Checks one argument against its description. `samples`: -1 until an argument has told how many there are. */
static int take(const char *role, const qcompiler_tensor *expected, const TVMFFIAny *argument, int64_t *samples,
                char **data) {
    const char *name = expected->name;
    const DLTensor *tensor = tensor_of(argument);
    if (!tensor) return failure("TypeError", "%s '%s' takes a tensor, found another kind of object", role, name);
    if (tensor->device.device_type != kDLCPU)
        return failure("ValueError", "%s '%s' must lie in the CPU's memory, found device type %d", role, name,
                       (int)tensor->device.device_type);
    if (strcmp(format_of(tensor->dtype), expected->dtype))
        return failure("TypeError", "%s '%s' takes %s, found %s", role, name, expected->dtype,
                       format_of(tensor->dtype));
    int fits = tensor->ndim == expected->rank;
    for (int32_t i = 0; fits && i < expected->rank; i++) {
        if (i || !expected->batched) fits = tensor->shape[i] == expected->shape[i];
        else fits = expected->shape[0] ? tensor->shape[0] % expected->shape[0] == 0 : tensor->shape[0] == 0;
    }
    if (!fits) {
        char wanted[256], found[256];
        return failure("ValueError", "%s '%s' takes shape %s, found %s", role, name,
                       shape_text(wanted, sizeof wanted, expected->shape, expected->rank, expected->batched),
                       shape_text(found, sizeof found, tensor->shape, tensor->ndim, 0));
    }
    if (!is_dense(tensor)) return failure("ValueError", "%s '%s' must be contiguous, row by row", role, name);
    if (expected->batched && expected->shape[0]) {
        const int64_t count = tensor->shape[0] / expected->shape[0];
        if (*samples >= 0 && *samples != count)
            return failure("ValueError", "%s '%s' holds %lld samples, an argument before it %lld", role, name,
                           (long long)count, (long long)*samples);
        *samples = count;
    }
    *data = (char *)tensor->data + tensor->byte_offset;
    return 0;
}

static void *take_workspace(size_t size) {
    for (int i = 0; i < KEPT; i++) {
        void *found = atomic_exchange(&kept[i], NULL);
        if (found) return found;
    }
    void *fresh = NULL;
    return posix_memalign(&fresh, QCOMPILER_ALIGNMENT, size ? size : QCOMPILER_ALIGNMENT) ? NULL : fresh;
}

static void keep_workspace(void *workspace) {
    for (int i = 0; i < KEPT; i++) {
        void *none = NULL;
        if (atomic_compare_exchange_strong(&kept[i], &none, workspace)) return;
    }
    free(workspace);
}

static void free_workspaces(void) {
    for (int i = 0; i < KEPT; i++) free(atomic_exchange(&kept[i], NULL));
}

static int run_checked(const TVMFFIAny *arguments, char **data) {
    int64_t samples = -1;
    for (int32_t i = 0; i < PROGRAM->inputs; i++)
        if (take("input", &PROGRAM->input[i], &arguments[i], &samples, &data[i])) return -1;
    for (int32_t i = 0; i < PROGRAM->outputs; i++) {
        const int32_t place = PROGRAM->inputs + i;
        if (take("output", &PROGRAM->output[i], &arguments[place], &samples, &data[place])) return -1;
    }
    if (samples < 0) samples = 1;
    pthread_rwlock_rdlock(&pool_lock);
    const int64_t threads = qcompiler_pool_threads(pool);
    void *workspace = take_workspace((size_t)(PROGRAM->workspace_bytes + threads * PROGRAM->scratch_bytes));
    int32_t status = -1;
    if (workspace) {
        status = PROGRAM->run((const void *const *)data, (void *const *)(data + PROGRAM->inputs), samples, workspace,
                              pool, NULL);
        keep_workspace(workspace);
    }
    pthread_rwlock_unlock(&pool_lock);
    if (!workspace) return failure("MemoryError", "no memory for the workspace of '%s'", PROGRAM->name);
    if (status) return failure("RuntimeError", "'%s' stopped with status %d", PROGRAM->name, (int)status);
    return 0;
}

QCOMPILER_PUBLIC int __tvm_ffi_run(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result) {
    (void)self;
    result->type_index = kTVMFFINone;
    result->v_int64 = 0;
    const char *missing = qcompiler_missing_instructions(PROGRAM->instructions);
    if (missing)
        return failure("RuntimeError", "'%s' needs instructions that this processor lacks: %s", PROGRAM->name, missing);
    const int32_t expected = PROGRAM->inputs + PROGRAM->outputs;
    if (count != expected)
        return failure("TypeError", "'%s' takes %d inputs and %d outputs, found %d arguments", PROGRAM->name,
                       (int)PROGRAM->inputs, (int)PROGRAM->outputs, (int)count);
    /* Behind the outputs stand the places for what is stored behind them: nobody asks for it here. */
    char **data = calloc((size_t)(expected + 2 * PROGRAM->outputs + 1), sizeof *data);
    if (!data) return failure("MemoryError", "no memory for the arguments of '%s'", PROGRAM->name);
    const int status = run_checked(arguments, data);
    free(data);
    return status;
}

QCOMPILER_PUBLIC int __tvm_ffi_set_threads(void *self, const TVMFFIAny *arguments, int32_t count, TVMFFIAny *result) {
    (void)self;
    result->type_index = kTVMFFINone;
    result->v_int64 = 0;
    if (count != 1 || arguments[0].type_index != kTVMFFIInt)
        return failure("TypeError", "set_threads takes one integer");
    const int64_t threads = arguments[0].v_int64;
    if (threads < 1 || threads > 1024)
        return failure("ValueError", "set_threads takes 1 to 1024, found %lld", (long long)threads);
    pthread_rwlock_wrlock(&pool_lock);
    qcompiler_pool_destroy(pool);
    pool = qcompiler_pool_create((int32_t)threads);
    free_workspaces(); /* their size depends on the number of threads */
    pthread_rwlock_unlock(&pool_lock);
    return 0;
}

/* Threads must end before the code that they run is unloaded. */
__attribute__((destructor)) static void unload(void) {
    qcompiler_pool_destroy(pool);
    free_workspaces();
}
