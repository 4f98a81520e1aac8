/* What a compiled program needs at run time: a description of itself, threads, and a look at the processor.
 *
 * C11; libc and POSIX threads are all it depends on. With QCOMPILER_NO_THREADS defined it needs no threads either:
 * every program then runs on its caller's thread.
 */
#ifndef QCOMPILER_RUNTIME_H
#define QCOMPILER_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QCOMPILER_PUBLIC __attribute__((visibility("default")))

/* Raised whenever a structure below changes, so that a loader never reads one that it does not know. */
#define QCOMPILER_RUNTIME_VERSION 2

/* Workspaces start at a multiple of this many bytes. */
#define QCOMPILER_ALIGNMENT 64

/* Part of an op: items [begin, end). `worker` is below the pool's number of threads, and no two calls that run at the
 * same time for the same frame have the same one. */
typedef void (*qcompiler_step)(const void *frame, int32_t begin, int32_t end, int32_t worker);

/* Threads that wait for work. NULL stands for the caller's thread alone. */
typedef struct qcompiler_pool qcompiler_pool;

/* `threads` counts the caller's, so this starts one fewer. NULL for one thread, and where none can be started; with
 * fewer than asked for where the system allows no more. */
QCOMPILER_PUBLIC qcompiler_pool *qcompiler_pool_create(int32_t threads);

/* Ends the threads. No region may be running. NULL is allowed. */
QCOMPILER_PUBLIC void qcompiler_pool_destroy(qcompiler_pool *pool);

/* The caller's thread included; 1 for NULL. */
QCOMPILER_PUBLIC int32_t qcompiler_pool_threads(const qcompiler_pool *pool);

/* Runs items [0, items), handed out in pieces of `piece` to whoever is free: the caller, as worker 0, and the pool's
 * other threads; workers of even numbers from the first item on, the others from the last one back. Pieces are larger
 * where there would be more than 65535. Returns when all are done; a thread that has taken no piece is not waited for, so one that the system
 * does not schedule costs nothing. Several threads may call this on one pool: whoever finds it busy works alone. So
 * does a process forked from the one that created the pool. A step must not call it. */
QCOMPILER_PUBLIC void qcompiler_parallel(
    qcompiler_pool *pool, qcompiler_step step, const void *frame, int32_t items, int32_t piece);

/* `required`: instruction-set extensions, separated by spaces, as LLVM spells them (avx2 fma avx512vnni dotprod).
 * Returns those that this processor, or its operating system, lacks, and those with unknown names; NULL where nothing
 * is missing. The text is valid until the same thread asks again. */
QCOMPILER_PUBLIC const char *qcompiler_missing_instructions(const char *required);

/* Nanoseconds of a clock that never goes back; 0 where there is none (QCOMPILER_NO_THREADS). */
QCOMPILER_PUBLIC uint64_t qcompiler_clock(void);

/* An input or output, dense, row by row. */
typedef struct {
    const char *name;
    const char *dtype;        /* as numpy names it: uint8, int32, float32 */
    int32_t rank;
    const int64_t *shape;     /* of one sample */
    int32_t batched;          /* whether axis 0 runs over samples; shape[0] is then the rows of one */
    int64_t sample_bytes;
} qcompiler_tensor;

typedef struct {
    const char *name;
    const char *instructions; /* what qcompiler_missing_instructions must not find missing */
    int32_t inputs, outputs;
    const qcompiler_tensor *input, *output;
    int64_t workspace_bytes;  /* shared by all threads */
    int64_t scratch_bytes;    /* for each thread */
    int32_t steps;
    const char *const *step_names;
    /* Runs `samples` samples. `outputs` holds three times as many pointers as there are outputs: behind them come places
     * for the integers that stand behind each output, then for their exponents, or NULL. `workspace` is aligned to QCOMPILER_ALIGNMENT bytes, and
     * has workspace_bytes + threads * scratch_bytes. `nanoseconds`: NULL, or one sum of time for each step, to which
     * this run's is added. Returns 0, or 1 for a workspace that is not aligned. Calls may run at the same time if each has a workspace of its own. */
    int32_t (*run)(const void *const *inputs, void *const *outputs, int64_t samples, void *workspace,
                   qcompiler_pool *pool, uint64_t *nanoseconds);
    const qcompiler_tensor *stored; /* the integers behind each output: of block floating point the mantissas */
    const qcompiler_tensor *stored_exponents; /* theirs, nameless and empty where there are none; or NULL */
} qcompiler_program;

#ifdef __cplusplus
}
#endif

#endif
