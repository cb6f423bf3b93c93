/* Waiting without burning a core for ever, and without making a token wait.
 *
 *     up to 100 us    poll: the answer of a rank on the same host is mostly there by then
 *     up to 5 ms      yield between polls: costs nothing where cores are free, lets others run where they are not
 *     afterwards      naps, 50 us growing to 500 us, and up to 5 ms where that adds less than 1/500 to the wait so far:
 *                     a rank that waits for a user uses about 1 % of a core
 *
 * With sleep_at_once (more ranks or threads than cores) naps begin after 5 us: a sleeper that wakes up is scheduled
 * before a thread that has been computing, whereas one that yields waits for its whole time slice.
 */
#include "transport/internal.h"

#include <math.h>
#include <sched.h>
#include <time.h>

static const double POLL_FOR = 100e-6, YIELD_FOR = 5e-3; /* seconds since waiting began */
static const double NAP_FIRST = 50e-6, NAP_GROWTH = 1.25, NAP_LONGEST = 500e-6, NAP_SHARE = 1.0 / 500, NAP_MOST = 5e-3;
static const double POLL_FOR_AT_ONCE = 5e-6, NAP_FIRST_AT_ONCE = 10e-6; /* the same with sleep_at_once */

void cf__rest(const struct cf_transport *t, struct nap *nap, double now) {
    double waited = now - nap->since;
    if (waited < (t->sleep_at_once ? POLL_FOR_AT_ONCE : POLL_FOR)) return;
    if (!t->sleep_at_once && waited < YIELD_FOR) {
        sched_yield();
        return;
    }
    if (nap->length <= 0) nap->length = t->sleep_at_once ? NAP_FIRST_AT_ONCE : NAP_FIRST;
    struct timespec sleep = {.tv_nsec = (long)(nap->length * 1e9)};
    nanosleep(&sleep, NULL);
    nap->length *= NAP_GROWTH;
    double longest = waited * NAP_SHARE < NAP_MOST ? waited * NAP_SHARE : NAP_MOST;
    if (longest < NAP_LONGEST) longest = NAP_LONGEST;
    if (nap->length > longest) nap->length = longest;
}

int cf_wait_for(
    struct cf_transport *t, bool (*ready)(void *ctx), void *ctx, double limit, double *waited, struct cf_error *e) {
    double begin = cf_now(), now = begin;
    struct nap nap = {.since = begin};
    int rc = 0;
    while (rc >= 0 && !ready(ctx) && now - begin < limit) {
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
