/* The link to one peer, measured with the messages and queues that activations use: half the median round trip, or
 * how long it takes when both send at once, or when both also work in between. Every message also says what time it is
 * at the sender's: so the difference between two clocks comes out of the fastest round (Cristian's algorithm: the
 * answer's clock was read between sending and receiving). */
#include "transport/internal.h"

#include <stdlib.h>

enum { WARM_UP = 3, CLOCK_ROUNDS = 20 };

struct probing {
    int peer, arrived, awaited, pending;
    int expected;         /* messages of this probe: one more belongs to the next one, and waits */
    bool both;            /* both serve ... */
    void (*work)(void *); /* ... when they have done this; or NULL */
    void *work_ctx;
    uint64_t clock;         /* of the peer, in its last message */
    double fastest, offset; /* of the rounds so far: the shortest time, and what the clocks differed in it */
};

/* Time of day, ns. */
static uint64_t time_of_day(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int on_probe(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    (void)data;
    (void)e;
    struct probing *probing = ctx;
    if (from != probing->peer || env->body_case != CF__ENVELOPE__BODY_PROBE) return 1;
    if (probing->arrived == probing->expected) return 1;
    if (offset + n == env->payload_bytes) probing->arrived++;
    probing->clock = env->probe->clock;
    return 0;
}

static bool has_arrived(void *ctx) {
    const struct probing *probing = ctx;
    return probing->arrived >= probing->awaited;
}

static bool has_left(void *ctx) {
    return ((const struct probing *)ctx)->pending == 0;
}

/* The slowest tenth left out: a machine that stands still for once. */
static double mean(const double *ascending, int n) {
    double sum = 0;
    n -= n / 10;
    for (int i = 0; i < n; i++)
        sum += ascending[i];
    return sum / n;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A round is over: sent at `then` by our clock, answered in between, back now. */
static void compare_clocks(struct probing *probing, uint64_t then, double took) {
    if (took >= probing->fastest) return;
    uint64_t middle = then + (uint64_t)(took * 1e9 / 2);
    probing->fastest = took;
    probing->offset = (double)(int64_t)(probing->clock - middle) * 1e-9;
}

/* The lower rank serves, or both do; both see the time between their own message and the next one of the other. */
static int play(struct cf_transport *t, struct probing *probing, const void *payload, size_t bytes, int rounds,
    double *times, struct cf_error *e) {
    bool serves = probing->both || t->rank < probing->peer;
    double sent = 0;
    uint64_t clock = 0;
    for (int i = 0; i < rounds + WARM_UP; i++) {
        for (int half = 0; half < 2; half++) {
            if ((half == 0) == serves) {
                Cf__Probe probe = CF__PROBE__INIT;
                Cf__Envelope env = CF__ENVELOPE__INIT;
                probe.round = (uint32_t)i;
                probe.clock = clock = time_of_day();
                env.body_case = CF__ENVELOPE__BODY_PROBE;
                env.probe = &probe;
                sent = cf_now();
                if (probing->work) probing->work(probing->work_ctx);
                if (cf_post(t, probing->peer, &env, payload, bytes, &probing->pending, e)) return -1;
            } else {
                probing->awaited++;
                if (cf_wait(t, has_arrived, probing, NULL, e)) return -1;
                double took = cf_now() - sent;
                if (i >= WARM_UP) times[i - WARM_UP] = took;
                if (i >= WARM_UP && clock) compare_clocks(probing, clock, took);
            }
        }
    }
    return cf_wait(t, has_left, probing, NULL, e);
}

static int probe(struct cf_transport *t, int peer, size_t bytes, int rounds, double *seconds, struct probing *probing,
    struct cf_error *e) {
    if (peer < 0 || peer >= t->size || peer == t->rank || rounds < 1)
        return cf_fail(e, CF_ERR_USAGE, "no link from rank %d to rank %d to probe", t->rank, peer);
    double *times = calloc((size_t)rounds, sizeof *times);
    unsigned char *payload = calloc(1, bytes + 1);
    probing->peer = peer, probing->fastest = 1e9, probing->expected = rounds + WARM_UP;
    cf_on_message before = t->on_message;
    void *before_ctx = t->on_message_ctx;
    int rc = -1;
    if (!times || !payload) {
        cf_fail(e, CF_ERR_MEMORY, "no memory to probe a link with %zu bytes", bytes);
    } else {
        cf_transport_on_message(t, on_probe, probing);
        t->probing = true;
        rc = play(t, probing, payload, bytes, rounds, times, e);
        t->probing = false;
        cf_transport_on_message(t, before, before_ctx);
    }
    if (rc == 0) {
        qsort(times, (size_t)rounds, sizeof *times, compare);
        *seconds = probing->work ? mean(times, rounds) : times[rounds / 2] / (probing->both ? 1 : 2);
    }
    free(times);
    if (probing->pending == 0) free(payload); // after a failure MPI may still be reading it
    return rc;
}

int cf_transport_probe(
    struct cf_transport *t, int peer, size_t bytes, int rounds, double *seconds, struct cf_error *e) {
    struct probing probing = {0};
    return probe(t, peer, bytes, rounds, seconds, &probing, e);
}

int cf_transport_probe_both(
    struct cf_transport *t, int peer, size_t bytes, int rounds, double *seconds, struct cf_error *e) {
    struct probing probing = {.both = true};
    return probe(t, peer, bytes, rounds, seconds, &probing, e);
}

int cf_transport_rehearse(struct cf_transport *t, int peer, size_t bytes, int rounds, void (*work)(void *ctx),
    void *ctx, double *seconds, struct cf_error *e) {
    struct probing probing = {.both = true, .work = work, .work_ctx = ctx};
    return probe(t, peer, bytes, rounds, seconds, &probing, e);
}

int cf_transport_clock(struct cf_transport *t, int peer, double *offset, double *uncertainty, struct cf_error *e) {
    struct probing probing = {0};
    double seconds;
    if (probe(t, peer, 0, CLOCK_ROUNDS, &seconds, &probing, e)) return -1;
    *offset = probing.offset;
    *uncertainty = probing.fastest / 2;
    return 0;
}
