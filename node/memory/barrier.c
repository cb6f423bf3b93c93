/* See barrier.h. The sleepers' counter and the value are a Dekker pair: the raiser writes the value and then reads the
 * counter, the sleeper counts itself and then (inside futex) reads the value, all sequentially consistent, so that one
 * of them sees the other. */
#include "node/memory/barrier.h"

#include <linux/futex.h>
#include <limits.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "transport/clock.h"

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#elif defined(                                                                                                         \
    __powerpc64__) /* low, then medium priority of this thread among those of its core (Power ISA, or 1,1,1) */
    __asm__ volatile("or 1,1,1\n\tor 2,2,2" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

enum { LINE = 64, LINES_PER_LOOK = 8 }; /* as many as come in some 30 ns: the signal is not seen later than that */

void cf__ahead_fetch(struct cf__ahead *a, uint32_t lines) {
    for (; lines && a->at < a->end; lines--, a->at += LINE)
        __builtin_prefetch(a->at, 0, 2); /* into the second-level cache */
}

void cf__signal_raise(struct cf__signal *s, uint32_t value) {
    atomic_store(&s->value, value);
    if (atomic_load(&s->sleepers)) syscall(SYS_futex, &s->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static uint32_t sleep_on(struct cf__signal *s, uint32_t old, double limit, double start) {
    uint32_t now;
    atomic_fetch_add(&s->sleepers, 1);
    while ((now = atomic_load(&s->value)) == old) {
        struct timespec t, *timeout = NULL;
        if (limit > 0) {
            double left = limit - (cf_now() - start);
            if (left <= 0) break;
            t.tv_sec = (time_t)left;
            t.tv_nsec = (long)((left - (double)t.tv_sec) * 1e9);
            timeout = &t;
        }
        syscall(SYS_futex, &s->value, FUTEX_WAIT_PRIVATE, old, timeout, NULL, 0);
    }
    atomic_fetch_sub(&s->sleepers, 1);
    return now;
}

uint32_t cf__signal_wait(struct cf__signal *s, uint32_t old, double spin, double limit, struct cf__ahead *ahead) {
    uint32_t now = atomic_load_explicit(&s->value, memory_order_acquire);
    if (now != old) return now;
    double start = cf_now();
    if (limit > 0 && limit < spin) spin = limit;
    if (spin > 0) {
        do {
            for (int i = 0; i < 32; i++) {
                if (ahead->at < ahead->end)
                    cf__ahead_fetch(ahead, LINES_PER_LOOK);
                else
                    relax();
                now = atomic_load_explicit(&s->value, memory_order_acquire);
                if (now != old) return now;
            }
        } while (cf_now() - start < spin);
        if (spin == limit) return now;
    }
    return sleep_on(s, old, limit, start);
}
