/* Waiting without burning a core for ever, and without making a token wait.
 *
 *     up to 100 us    poll: the answer of a rank on the same host is mostly there by then
 *     up to 5 ms      yield between polls: costs nothing where cores are free, lets others run where they are not
 *     afterwards      naps, from 50 us to a 200th of the wait so far, at most 5 ms: a message is never found much later
 *                     than it came, and a rank that waits for a user uses about 1 % of a core
 *
 * With sleep_at_once (more ranks or threads than cores) naps begin after 5 us, and grow to a 50th of the wait, at least
 * half a millisecond: a sleeper that wakes up is scheduled before a thread that has been computing, whereas one that
 * yields waits for its whole time slice; but each nap that ends in vain takes the core from the others.
 *
 * Ranks of a host that share a window have a bell in it each. Who naps does so at the bell (futex), and who has sent it
 * something rings. Only what comes from other hosts, or hangs inside MPI, is found by the end of a nap.
 */
#include "transport/internal.h"

#include <linux/futex.h>
#include <math.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const double POLL_FOR = 100e-6, YIELD_FOR = 5e-3; /* seconds since waiting began */
static const double NAP_FIRST = 50e-6, NAP_GROWTH = 1.25, NAP_SHARE = 1.0 / 200, NAP_MOST = 5e-3;
static const double POLL_FOR_AT_ONCE = 5e-6, NAP_FIRST_AT_ONCE = 10e-6; /* the same with sleep_at_once */
static const double NAP_SHARE_AT_ONCE = 1.0 / 50;
static const double NAP_LONG = 500e-6; /* where others want the core, or a bell ends it */

/* ---- bells ---- */

void cf__listen(const struct cf_transport *t, struct nap *nap) {
    const struct cf__bell *own = cf__window_bell(t, t->rank);
    nap->listens = own != NULL;
    if (own) nap->heard = atomic_load(&own->rung);
}

/* What was sent is there; then the bell rings; then one looks whether somebody sleeps at it. A sleeper says so before
 * it compares the bell with what it has heard (the kernel does), so one of the two sees the other. */
void cf__ring(const struct cf_transport *t, int rank) {
    struct cf__bell *b = cf__window_bell(t, rank);
    if (!b) return;
    atomic_fetch_add(&b->rung, 1);
    if (atomic_load(&b->asleep)) syscall(SYS_futex, &b->rung, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void sleep_for(const struct cf_transport *t, const struct nap *nap) {
    struct timespec time = {.tv_nsec = (long)(nap->length * 1e9)};
    struct cf__bell *own = nap->listens ? cf__window_bell(t, t->rank) : NULL;
    if (!own) {
        nanosleep(&time, NULL);
        return;
    }
    atomic_store(&own->asleep, 1);
    syscall(SYS_futex, &own->rung, FUTEX_WAIT, nap->heard, &time, NULL, 0);
    atomic_store(&own->asleep, 0);
}

/* ---- waiting ---- */

static double at_least(double a, double b) {
    return a > b ? a : b;
}

/* The longest nap after so many seconds. */
static double longest(const struct cf_transport *t, double waited, bool bell_is_enough) {
    double share = t->sleep_at_once ? NAP_SHARE_AT_ONCE : NAP_SHARE;
    double most = at_least(waited * share, t->sleep_at_once || bell_is_enough ? NAP_LONG : NAP_FIRST);
    return most < NAP_MOST ? most : NAP_MOST;
}

void cf__rest(const struct cf_transport *t, struct nap *nap, double now) {
    double waited = now - nap->since;
    if (waited < (t->sleep_at_once ? POLL_FOR_AT_ONCE : POLL_FOR)) return;
    if (!t->sleep_at_once && waited < YIELD_FOR) {
        sched_yield();
        return;
    }
    if (nap->length <= 0) nap->length = t->sleep_at_once ? NAP_FIRST_AT_ONCE : NAP_FIRST;
    bool bell_is_enough = nap->listens && t->hosts == 1;
    double most = longest(t, waited, bell_is_enough);
    if (nap->length > most || bell_is_enough) nap->length = most;
    sleep_for(t, nap);
    nap->length *= NAP_GROWTH;
}

int cf_wait_for(
    struct cf_transport *t, bool (*ready)(void *ctx), void *ctx, double limit, double *waited, struct cf_error *e) {
    double begin = cf_now(), now = begin;
    struct nap nap = {.since = begin};
    int rc = 0;
    for (;;) {
        cf__listen(t, &nap); /* before looking: what comes after this look rings */
        if (rc < 0 || ready(ctx) || now - begin >= limit) break;
        rc = cf_progress(t, e);
        now = cf_now();
        if (rc > 0)
            nap = (struct nap){.since = now};
        else if (rc == 0)
            cf__rest(t, &nap, now);
    }
    if (waited) *waited += cf_now() - begin;
    return rc < 0 ? -1 : 0;
}

int cf_wait(struct cf_transport *t, bool (*ready)(void *ctx), void *ctx, double *waited, struct cf_error *e) {
    return cf_wait_for(t, ready, ctx, INFINITY, waited, e);
}

void cf_transport_sleep_at_once(struct cf_transport *t, bool at_once) {
    t->sleep_at_once = at_once;
}
