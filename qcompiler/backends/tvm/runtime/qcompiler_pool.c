/* Threads that share the pieces of one region of work at a time. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sched_getcpu */
#endif
#include "qcompiler_runtime.h"

#ifdef QCOMPILER_NO_THREADS

qcompiler_pool *qcompiler_pool_create(int32_t threads) {
    (void)threads;
    return NULL;
}

void qcompiler_pool_destroy(qcompiler_pool *pool) { (void)pool; }

int32_t qcompiler_pool_threads(const qcompiler_pool *pool) {
    (void)pool;
    return 1;
}

void qcompiler_parallel(qcompiler_pool *pool, qcompiler_step step, const void *frame, int32_t items, int32_t piece) {
    (void)pool;
    (void)piece;
    if (items > 0) step(frame, 0, items, 0);
}

uint64_t qcompiler_clock(void) { return 0; }

#else

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* How long a thread looks for work before it sleeps. Regions of one program follow each other within a few
 * microseconds, and waking a sleeping thread takes tens. */
#ifndef QCOMPILER_SPIN_NANOSECONDS
#define QCOMPILER_SPIN_NANOSECONDS 50000
#endif

/* Pauses between two looks at the clock: a microsecond or less. */
#define PAUSES 16

/* Pieces of a region. */
#define MOST_PIECES 0xffff

struct worker {
    qcompiler_pool *pool;
    int32_t number;
    pthread_t thread;
    /* Where it last began to work. */
    _Atomic int32_t processor;
};

struct qcompiler_pool {
    /* The number of the region in the upper half; in the lower the first piece that nobody has claimed yet, and the
     * one behind the last, 16 bits each. Half of the threads claim from the front, half from the back: what a thread
     * wrote in one region it mostly reads in the next, and finds in its own cache.
     *
     * A claim is a compare-and-exchange of the whole word. It succeeds only if the word has not changed since the
     * claimer read it, thus only if the region that the claimer then read below is still the one it claims from:
     * a region's description is overwritten only when no piece is left, and no two regions have the same number. */
    _Alignas(64) _Atomic uint64_t open;
    /* The region. Atomic because a late worker may read it while it is overwritten; its claim then fails. */
    _Atomic(qcompiler_step) step;
    _Atomic(const void *) frame;
    _Atomic int32_t items, piece, pieces;
    /* Pieces that are done. */
    _Alignas(64) _Atomic int32_t finished;
    _Atomic int32_t caller_sleeps;
    _Alignas(64) _Atomic int32_t sleepers;
    _Atomic int32_t stopping;
    _Atomic int32_t busy;
    /* Where the caller last opened a region. */
    _Atomic int32_t caller_processor;
    pthread_mutex_t mutex;
    pthread_cond_t opened, done;
    pid_t process;
    int32_t threads;
    struct worker workers[];
};

uint64_t qcompiler_clock(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void pause_briefly(void) {
    for (int i = 0; i < PAUSES; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb"); /* `yield` is no delay on most cores */
#else
        __asm__ volatile("");
#endif
    }
}

/* The processor that this thread runs on, as far as the system tells; -1 where it does not. */
static int32_t this_processor(void) {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

/* Between two looks of a waiting thread. On the processor of a thread that it waits for, it gives way: it would keep
 * that thread from working. Systems put two threads on one processor when the others are busy. */
static void give_way_or_pause(int gives_way) {
    if (gives_way) sched_yield();
    else pause_briefly();
}

static int32_t first_piece(uint64_t open) { return (int32_t)(open >> 16 & MOST_PIECES); }
static int32_t end_piece(uint64_t open) { return (int32_t)(open & MOST_PIECES); }
static uint32_t region(uint64_t open) { return (uint32_t)(open >> 32); }

/* Claims pieces of the open region, if there is one, and runs them until none is left. */
static void work(qcompiler_pool *pool, int32_t worker) {
    const int from_back = worker % 2;
    int32_t count = 0, pieces = 0;
    uint64_t open = atomic_load_explicit(&pool->open, memory_order_acquire);
    while (first_piece(open) < end_piece(open)) {
        const qcompiler_step step = atomic_load_explicit(&pool->step, memory_order_relaxed);
        const void *frame = atomic_load_explicit(&pool->frame, memory_order_relaxed);
        const int32_t items = atomic_load_explicit(&pool->items, memory_order_relaxed);
        const int32_t piece = atomic_load_explicit(&pool->piece, memory_order_relaxed);
        const int32_t all = atomic_load_explicit(&pool->pieces, memory_order_relaxed);
        /* Release keeps the loads above it: once it has succeeded, they were of the region that it claimed from. */
        if (!atomic_compare_exchange_weak_explicit(
                &pool->open, &open, from_back ? open - 1 : open + (1 << 16), memory_order_acq_rel,
                memory_order_acquire))
            continue;
        const int64_t begin = (int64_t)(from_back ? end_piece(open) - 1 : first_piece(open)) * piece;
        const int64_t end = begin + piece < items ? begin + piece : items;
        step(frame, (int32_t)begin, (int32_t)end, worker);
        pieces = all;
        count++;
        open = atomic_load_explicit(&pool->open, memory_order_acquire);
    }
    /* Until this sum is complete, no other region can open: all that were counted belong to one. */
    if (count && atomic_fetch_add(&pool->finished, count) + count == pieces && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
}

/* Returns when a region after `seen` has opened, or the pool stops. */
static void wait_for_region(qcompiler_pool *pool, uint32_t seen) {
    const uint64_t give_up = qcompiler_clock() + QCOMPILER_SPIN_NANOSECONDS;
    do {
        if (region(atomic_load_explicit(&pool->open, memory_order_acquire)) != seen) return;
        if (atomic_load_explicit(&pool->stopping, memory_order_relaxed)) return;
        const int32_t processor = this_processor();
        give_way_or_pause(
            processor >= 0 && processor == atomic_load_explicit(&pool->caller_processor, memory_order_relaxed));
    } while (qcompiler_clock() < give_up);
    /* Whoever opens a region looks at `sleepers` after it has opened: either that is seen here, or this there. */
    atomic_fetch_add(&pool->sleepers, 1);
    pthread_mutex_lock(&pool->mutex);
    while (region(atomic_load(&pool->open)) == seen && !atomic_load(&pool->stopping))
        pthread_cond_wait(&pool->opened, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void *worker_main(void *argument) {
    struct worker *self = argument;
    qcompiler_pool *pool = self->pool;
    while (!atomic_load(&pool->stopping)) {
        const uint32_t seen = region(atomic_load_explicit(&pool->open, memory_order_acquire));
        atomic_store_explicit(&self->processor, this_processor(), memory_order_relaxed);
        work(pool, self->number);
        wait_for_region(pool, seen);
    }
    return NULL;
}

/* Whether a worker shares the calling thread's processor. */
static int has_worker_here(const qcompiler_pool *pool) {
    const int32_t processor = this_processor();
    for (int32_t i = 0; processor >= 0 && i + 1 < pool->threads; i++)
        if (atomic_load_explicit(&pool->workers[i].processor, memory_order_relaxed) == processor) return 1;
    return 0;
}

static void wait_until_finished(qcompiler_pool *pool, int32_t pieces) {
    if (atomic_load_explicit(&pool->finished, memory_order_acquire) == pieces) return;
    const uint64_t give_up = qcompiler_clock() + QCOMPILER_SPIN_NANOSECONDS;
    do {
        give_way_or_pause(has_worker_here(pool));
        if (atomic_load_explicit(&pool->finished, memory_order_acquire) == pieces) return;
    } while (qcompiler_clock() < give_up);
    atomic_store(&pool->caller_sleeps, 1);
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->finished) != pieces) pthread_cond_wait(&pool->done, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, 0);
}

void qcompiler_parallel(qcompiler_pool *pool, qcompiler_step step, const void *frame, int32_t items, int32_t piece) {
    if (items <= 0) return;
    if (piece < 1) piece = 1;
    if (((int64_t)items + piece - 1) / piece > MOST_PIECES) piece = (items - 1) / MOST_PIECES + 1;
    if (!pool || piece >= items || atomic_exchange_explicit(&pool->busy, 1, memory_order_acquire)) {
        step(frame, 0, items, 0);
        return;
    }
    const int32_t pieces = (int32_t)(((int64_t)items + piece - 1) / piece);
    const uint64_t number = (uint64_t)(region(atomic_load_explicit(&pool->open, memory_order_relaxed)) + 1) << 32;
    atomic_store_explicit(&pool->finished, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->step, step, memory_order_relaxed);
    atomic_store_explicit(&pool->frame, frame, memory_order_relaxed);
    atomic_store_explicit(&pool->items, items, memory_order_relaxed);
    atomic_store_explicit(&pool->piece, piece, memory_order_relaxed);
    atomic_store_explicit(&pool->pieces, pieces, memory_order_relaxed);
    atomic_store_explicit(&pool->caller_processor, this_processor(), memory_order_relaxed);
    atomic_store(&pool->open, number | (uint32_t)pieces);
    /* A forked process has none of the threads, and its copy of the condition variable waits for them. */
    if (atomic_load(&pool->sleepers) && pool->process == getpid()) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->opened);
        pthread_mutex_unlock(&pool->mutex);
    }
    work(pool, 0);
    wait_until_finished(pool, pieces);
    atomic_store_explicit(&pool->busy, 0, memory_order_release);
}

qcompiler_pool *qcompiler_pool_create(int32_t threads) {
    if (threads <= 1) return NULL;
    const size_t size = sizeof(qcompiler_pool) + (size_t)(threads - 1) * sizeof(struct worker);
    void *memory = NULL;
    if (posix_memalign(&memory, 64, size)) return NULL;
    qcompiler_pool *pool = memory;
    atomic_init(&pool->open, 0);
    atomic_init(&pool->step, NULL);
    atomic_init(&pool->frame, NULL);
    atomic_init(&pool->items, 0);
    atomic_init(&pool->piece, 0);
    atomic_init(&pool->pieces, 0);
    atomic_init(&pool->finished, 0);
    atomic_init(&pool->caller_sleeps, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->stopping, 0);
    atomic_init(&pool->busy, 0);
    atomic_init(&pool->caller_processor, -1);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->opened, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->process = getpid();
    pool->threads = 1;
    while (pool->threads < threads) {
        struct worker *worker = &pool->workers[pool->threads - 1];
        worker->pool = pool;
        worker->number = pool->threads;
        atomic_init(&worker->processor, -1);
        if (pthread_create(&worker->thread, NULL, worker_main, worker)) break;
        pool->threads++;
    }
    if (pool->threads > 1) return pool;
    qcompiler_pool_destroy(pool);
    return NULL;
}

void qcompiler_pool_destroy(qcompiler_pool *pool) {
    if (!pool) return;
    if (pool->process == getpid()) {
        atomic_store(&pool->stopping, 1);
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_broadcast(&pool->opened);
        pthread_mutex_unlock(&pool->mutex);
        for (int32_t i = 0; i + 1 < pool->threads; i++) pthread_join(pool->workers[i].thread, NULL);
        pthread_cond_destroy(&pool->opened);
        pthread_cond_destroy(&pool->done);
        pthread_mutex_destroy(&pool->mutex);
    }
    free(pool);
}

int32_t qcompiler_pool_threads(const qcompiler_pool *pool) { return pool ? pool->threads : 1; }

#endif
