/* The link to one peer, measured with the messages and queues that activations use: half the median round trip. */
#include "transport/internal.h"

#include <stdlib.h>

enum { WARM_UP = 3 };

struct probing {
    int peer, arrived, awaited, pending;
};

static int on_probe(
    void *ctx, int from, const Cf__Envelope *env, const void *data, size_t offset, size_t n, struct cf_error *e) {
    (void)data;
    (void)e;
    struct probing *probing = ctx;
    if (from != probing->peer || env->body_case != CF__ENVELOPE__BODY_PROBE) return 1;
    if (offset + n == env->payload_bytes) probing->arrived++;
    return 0;
}

static bool has_arrived(void *ctx) {
    const struct probing *probing = ctx;
    return probing->arrived >= probing->awaited;
}

static bool has_left(void *ctx) {
    return ((const struct probing *)ctx)->pending == 0;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The lower rank serves; both see the time between their own message and the next one of the other. */
static int play(struct cf_transport *t, struct probing *probing, const void *payload, size_t bytes, int rounds,
    double *times, struct cf_error *e) {
    bool serves = t->rank < probing->peer;
    double sent = 0;
    for (int i = 0; i < rounds + WARM_UP; i++) {
        for (int half = 0; half < 2; half++) {
            if ((half == 0) == serves) {
                Cf__Probe probe = CF__PROBE__INIT;
                Cf__Envelope env = CF__ENVELOPE__INIT;
                probe.round = (uint32_t)i;
                env.body_case = CF__ENVELOPE__BODY_PROBE;
                env.probe = &probe;
                sent = cf_now();
                if (cf_post(t, probing->peer, &env, payload, bytes, &probing->pending, e)) return -1;
            } else {
                probing->awaited++;
                if (cf_wait(t, has_arrived, probing, NULL, e)) return -1;
                if (i >= WARM_UP) times[i - WARM_UP] = cf_now() - sent;
            }
        }
    }
    return cf_wait(t, has_left, probing, NULL, e);
}

int cf_transport_probe(
    struct cf_transport *t, int peer, size_t bytes, int rounds, double *seconds, struct cf_error *e) {
    if (peer < 0 || peer >= t->size || peer == t->rank || rounds < 1)
        return cf_fail(e, CF_ERR_USAGE, "no link from rank %d to rank %d to probe", t->rank, peer);
    double *times = calloc((size_t)rounds, sizeof *times);
    unsigned char *payload = calloc(1, bytes + 1);
    struct probing probing = {.peer = peer};
    cf_on_message before = t->on_message;
    void *before_ctx = t->on_message_ctx;
    int rc = -1;
    if (!times || !payload) {
        cf_fail(e, CF_ERR_MEMORY, "no memory to probe a link with %zu bytes", bytes);
    } else {
        cf_transport_on_message(t, on_probe, &probing);
        t->probing = true;
        rc = play(t, &probing, payload, bytes, rounds, times, e);
        t->probing = false;
        cf_transport_on_message(t, before, before_ctx);
    }
    if (rc == 0) {
        qsort(times, (size_t)rounds, sizeof *times, compare);
        *seconds = times[rounds / 2] / 2;
    }
    free(times);
    if (probing.pending == 0) free(payload); // after a failure MPI may still be reading it
    return rc;
}
