/* Monotonic time, and processor time, in seconds. */
#ifndef COFFER_TRANSPORT_CLOCK_H
#define COFFER_TRANSPORT_CLOCK_H

#include <time.h>

static inline double cf_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Of the calling thread: while it had a core. */
static inline double cf_thread_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
