/* Drives a pool from C, at speeds that Python cannot reach. Every function returns the number of faults it saw. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "qcompiler_runtime.h"

#ifdef DELAYED_CLAIMS
/* The pool itself, with threads held up between the look at a region and the claim of a piece: what a claim must
 * notice, happens within nanoseconds otherwise. */
static void hold_up(void) {
    static _Thread_local uint32_t state;
    if (!state) state = (uint32_t)(uintptr_t)&state | 1u;
    state = state * 1664525u + 1013904223u;
    if (state >> 24 < 48) nanosleep(&(struct timespec){0, state >> 16 & 0x7fff}, NULL);
}
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak_explicit(object, expected, desired, success, failure) \
    (hold_up(), atomic_compare_exchange_strong_explicit(object, expected, desired, success, failure))
#include "qcompiler_pool.c"
#endif

#define EXPORTED __attribute__((visibility("default")))
#define MOST_ITEMS 4096
#define MOST_THREADS 64

struct region {
    _Atomic int32_t runs[MOST_ITEMS];
    _Atomic int32_t inside[MOST_THREADS];
    _Atomic int32_t open, faults;
    int32_t items, piece, threads, slowness;
};

static uint32_t next(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void fault(struct region *region) { atomic_fetch_add(&region->faults, 1); }

static void count(const void *frame, int32_t begin, int32_t end, int32_t worker) {
    struct region *region = (struct region *)frame;
    if (!atomic_load(&region->open)) fault(region);
    if (worker < 0 || worker >= region->threads) {
        fault(region);
        return;
    }
    /* Nobody else may work under this number, whose scratch memory it would overwrite. */
    if (atomic_fetch_add(&region->inside[worker], 1)) fault(region);
    const int whole = begin == 0 && end == region->items; /* run by the caller alone */
    if (begin < 0 || end > region->items || begin >= end || (!whole && end - begin > region->piece)) fault(region);
    for (int32_t i = begin; i < end; i++) atomic_fetch_add(&region->runs[i], 1);
    if (region->slowness) {
        uint32_t state = (uint32_t)(begin * 2654435761u + (uint32_t)worker + 1u) | 1u;
        const uint32_t delay = next(&state) % (uint32_t)region->slowness;
        if (delay % 16 == 0) sched_yield();
        if (delay % 512 == 1) nanosleep(&(struct timespec){0, 200000}, NULL);
        for (volatile uint32_t i = 0; i < delay; i++) {
        }
    }
    atomic_fetch_sub(&region->inside[worker], 1);
}

static int32_t drive(qcompiler_pool *pool, int32_t regions, int32_t slowness, uint32_t seed) {
    uint32_t state = seed | 1u;
    int32_t faults = 0;
    /* Frames in turn: who still works on the last region while the next runs, meets a closed frame. */
    struct region *frames = calloc(3, sizeof *frames);
    for (int32_t number = 0; number < regions; number++) {
        struct region *region = &frames[number % 3];
        memset(region, 0, sizeof *region);
        region->items = (int32_t)(next(&state) % (next(&state) % 8 ? 64 : MOST_ITEMS));
        region->piece = 1 + (int32_t)(next(&state) % 16);
        region->threads = qcompiler_pool_threads(pool);
        region->slowness = slowness;
        atomic_store(&region->open, 1);
        qcompiler_parallel(pool, count, region, region->items, region->piece);
        atomic_store(&region->open, 0);
        for (int32_t i = 0; i < region->items; i++) faults += atomic_load(&region->runs[i]) != 1;
        faults += atomic_load(&region->faults);
        /* Now and then long enough for the other threads to fall asleep. */
        if (next(&state) % 256 == 0) nanosleep(&(struct timespec){0, 300000}, NULL);
    }
    for (int i = 0; i < 3; i++) faults += atomic_load(&frames[i].faults);
    free(frames);
    return faults;
}

EXPORTED int32_t stress(int32_t threads, int32_t regions, int32_t slowness, uint32_t seed) {
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    const int32_t faults = (qcompiler_pool_threads(pool) != threads) + drive(pool, regions, slowness, seed);
    qcompiler_pool_destroy(pool);
    return faults;
}

EXPORTED int32_t create_and_destroy(int32_t threads, int32_t times) {
    int32_t faults = 0;
    for (int32_t i = 0; i < times; i++) {
        qcompiler_pool *pool = qcompiler_pool_create(threads);
        if (i % 2) faults += drive(pool, 3, 0, (uint32_t)i);
        qcompiler_pool_destroy(pool);
    }
    return faults;
}

struct caller {
    qcompiler_pool *pool;
    int32_t regions, faults;
    uint32_t seed;
};

static void *caller_main(void *argument) {
    struct caller *caller = argument;
    caller->faults = drive(caller->pool, caller->regions, 100, caller->seed);
    return NULL;
}

EXPORTED int32_t several_callers(int32_t threads, int32_t callers, int32_t regions) {
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    struct caller each[16];
    pthread_t running[16];
    int32_t faults = 0;
    for (int32_t i = 0; i < callers; i++) {
        each[i] = (struct caller){pool, regions, 0, (uint32_t)i + 1};
        pthread_create(&running[i], NULL, caller_main, &each[i]);
    }
    for (int32_t i = 0; i < callers; i++) {
        pthread_join(running[i], NULL);
        faults += each[i].faults;
    }
    qcompiler_pool_destroy(pool);
    return faults;
}

/* A forked process has the pool, but none of its threads. -1: it did not end within ten seconds. */
EXPORTED int32_t forked(int32_t threads, int32_t regions, int32_t pause_microseconds) {
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    int32_t faults = drive(pool, 10, 0, 1);
    nanosleep(&(struct timespec){0, pause_microseconds * 1000}, NULL);
    const pid_t child = fork();
    if (!child) {
        const int32_t found = drive(pool, regions, 0, 2);
        qcompiler_pool_destroy(pool);
        _exit(found ? 1 : 0);
    }
    int status = 0, ended = 0;
    for (int i = 0; i < 10000 && !ended; i++) {
        ended = waitpid(child, &status, WNOHANG) == child;
        if (!ended) nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    if (!ended) {
        kill(child, 9);
        waitpid(child, &status, 0);
        return -1;
    }
    faults += !WIFEXITED(status) || WEXITSTATUS(status);
    faults += drive(pool, regions, 0, 3);
    qcompiler_pool_destroy(pool);
    return faults;
}

/* Processor time, in nanoseconds, that this process uses while a pool has nothing to do for a while. */
EXPORTED int64_t idle_cost(int32_t threads, int32_t milliseconds) {
    struct timespec before, after;
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    drive(pool, 10, 0, 1);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&(struct timespec){0, milliseconds * 1000000L}, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    qcompiler_pool_destroy(pool);
    return (after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec;
}

struct meeting {
    _Atomic int32_t arrived, faults;
    int32_t threads;
};

static void meet(const void *frame, int32_t begin, int32_t end, int32_t worker) {
    struct meeting *meeting = (struct meeting *)frame;
    (void)begin, (void)end, (void)worker;
    atomic_fetch_add(&meeting->arrived, 1);
    const uint64_t give_up = qcompiler_clock() + 5000000000u;
    while (atomic_load(&meeting->arrived) < meeting->threads) {
        if (qcompiler_clock() > give_up) {
            atomic_fetch_add(&meeting->faults, 1);
            return;
        }
        sched_yield();
    }
}

/* Regions whose items each wait for all the others: they end only if every thread takes one. */
EXPORTED int32_t meetings(int32_t threads, int32_t times, int32_t pause_microseconds) {
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    int32_t faults = 0;
    for (int32_t i = 0; i < times && !faults; i++) {
        struct meeting meeting = {.threads = threads};
        qcompiler_parallel(pool, meet, &meeting, threads, 1);
        faults += meeting.faults;
        if (pause_microseconds) nanosleep(&(struct timespec){0, pause_microseconds * 1000}, NULL);
    }
    qcompiler_pool_destroy(pool);
    return faults;
}

struct calls {
    _Atomic int32_t number;
};

static void count_calls(const void *frame, int32_t begin, int32_t end, int32_t worker) {
    (void)begin, (void)end, (void)worker;
    atomic_fetch_add(&((struct calls *)frame)->number, 1);
}

/* Into how many calls a region is divided. */
EXPORTED int32_t calls_of(int32_t threads, int32_t items, int32_t piece) {
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    struct calls calls = {0};
    qcompiler_parallel(pool, count_calls, &calls, items, piece);
    qcompiler_pool_destroy(pool);
    return calls.number;
}

static void nothing(const void *frame, int32_t begin, int32_t end, int32_t worker) {
    (void)frame, (void)begin, (void)end, (void)worker;
}

static void arithmetic(const void *frame, int32_t begin, int32_t end, int32_t worker) {
    (void)frame, (void)worker;
    for (volatile int32_t i = (end - begin) * 1000; i > 0; i--) {
    }
}

/* Mean nanoseconds of one region after another, empty or with work in each of its items. */
EXPORTED int64_t region_time(int32_t threads, int32_t regions, int32_t items, int32_t working, int64_t gap) {
    qcompiler_pool *pool = qcompiler_pool_create(threads);
    int64_t sum = 0;
    for (int32_t i = 0; i < regions; i++) {
        const uint64_t wait = qcompiler_clock() + (uint64_t)gap;
        if (gap >= 1000000) nanosleep(&(struct timespec){0, (long)gap}, NULL);
        while (qcompiler_clock() < wait) {
        }
        const uint64_t start = qcompiler_clock();
        qcompiler_parallel(pool, working ? arithmetic : nothing, NULL, items, 1);
        sum += (int64_t)(qcompiler_clock() - start);
    }
    qcompiler_pool_destroy(pool);
    return sum / regions;
}
