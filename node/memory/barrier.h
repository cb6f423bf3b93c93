/* Private to this room: the signal that a team is built on. Thread 0 leads: it opens gates, and it waits at each other
 * thread's flag. libgomp's barriers are not used: how long they spin is OMP_WAIT_POLICY's business, and nobody could
 * poll MPI in them.
 *
 * A gate is a number that only thread 0 raises and all others wait for; a flag is a number that one thread raises and
 * only thread 0 waits for. Both are waited for by spinning, then in futex(2). Raising releases, waiting acquires: what
 * was written before is seen after.
 */
#ifndef COFFER_NODE_MEMORY_BARRIER_H
#define COFFER_NODE_MEMORY_BARRIER_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct cf__signal {
    _Atomic uint32_t value;
    _Atomic uint32_t sleepers; /* in futex: the raiser owes them a call */
};

/* Memory that the waiting thread will read next. */
struct cf__ahead {
    const char *at, *end;
};

/* Asks the caches for the next `lines` lines of it. */
void cf__ahead_fetch(struct cf__ahead *a, uint32_t lines);

/* Sets the signal to value and wakes who sleeps on it. */
void cf__signal_raise(struct cf__signal *s, uint32_t value);

/* Waits until the signal is no longer `old`, at most `spin` seconds of it spinning and at most `limit` seconds in all
 * (limit <= 0: for ever). Returns the value, which is `old` if the time is up. Spinning, it fetches what lies ahead. */
uint32_t cf__signal_wait(struct cf__signal *s, uint32_t old, double spin, double limit, struct cf__ahead *ahead);

#endif
